# Two commands do everything from a bare checkout: `make demo` and `make test`.
PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
DEMO   := build/demo
DATA   ?= data
export PYTHONUNBUFFERED = 1
# Tests run two at a time, one thread each; the runs of a sweep set their own number of threads.
export OMP_NUM_THREADS ?= 1

.PHONY: demo test test-fast test-slurm check install data docs readme bench bench-rehearsal clean help

help:            ## this list
	@grep -hE '^[a-z-]+: .*##' $(MAKEFILE_LIST) | sed 's/:.*##/\t/' | expand -t 17

$(BIN)/installed: pyproject.toml setup.py constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
	touch $@

install: $(BIN)/installed  ## virtual environment with everything (about three minutes: torch)

data: install    ## CIFAR-10, verified
	$(BIN)/python -m harness.data cifar10 --root $(DATA)

demo: data       ## Figure 5 at smoke scale on CIFAR-10, and its report
	$(BIN)/python -m harness.sweep experiments/augmentation_pairs.yaml --scale smoke --cluster local \
	    --data $(DATA) --results $(DEMO)/results --yes
	$(BIN)/python -m harness.report $(DEMO)/results > $(DEMO)/index.html.tmp && mv $(DEMO)/index.html.tmp $(DEMO)/index.html
	@echo "The report is at $(abspath $(DEMO)/index.html)"

check: install   ## ruff and mypy --strict
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

test: check      ## everything that guards a change: linters, types, all tests but those of Slurm
	$(BIN)/python -m pytest -n 2 -m 'not slurm'

test-fast: install  ## the tests without the slow ones
	$(BIN)/python -m pytest -n 2 -m 'not slow and not slurm'

test-slurm: data ## the tests against a real Slurm of their own (root, Debian); HARNESS_REQUIRE_SLURM=1: never skipped
	tests/slurm/lab.sh install || test "$$HARNESS_REQUIRE_SLURM" != 1
	HARNESS_DATA=$(abspath $(DATA)) $(BIN)/python -m pytest -m slurm tests/slurm -rs --durations=10

$(BIN)/installed-docs: pyproject.toml constraints.txt $(BIN)/installed
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[docs]'
	touch $@

docs: $(BIN)/installed-docs  ## the documentation as a site in build/site; every warning is an error
	@NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict --quiet  # the variable hides an advertisement
	@echo "The documentation is at $(abspath build/site/index.html)"

readme: install  ## the result table of README.md, from the committed results
	$(BIN)/python -m docs.generate.readme

bench: install   ## speed beside lightly, kornia, timm, torchvision (installs what is missing)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[bench]'
	$(BIN)/python -m benchmarks

bench-rehearsal: install  ## every section of it on tiny sizes, without what is not installed; leaves no results
	$(BIN)/python -m benchmarks --rehearse

clean:           ## remove what `demo` built
	rm -rf build
