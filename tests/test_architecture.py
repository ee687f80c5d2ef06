"""The import rules of the design, kept by walking the syntax trees; and one interpreter that proves the lazy ones."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "harness"
MODULES = sorted(path.relative_to(ROOT).with_suffix("").as_posix().replace("/", ".") for path in PACKAGE.rglob("*.py"))

MAY_IMPORT = {
    "config": "",
    "arguments": "config",
    "runtime": "config",
    "store": "config",
    "distributed": "runtime",
    "optim": "config",
    "data": "arguments config",
    "models": "config data distributed",
    "objectives": "config distributed",
    "methods": "config data distributed models objectives optim",
    "evaluate": "config data methods models objectives optim",
    "components": "config data evaluate methods models objectives optim",
    "train": "components config data distributed evaluate methods models optim runtime store",
    "weights": "components config models store train",
    "digests": "components config data distributed evaluate models optim runtime store train",
    "report.stats": "",
    "report.read": "config digests report.stats store",
    "report.judge": "config report.read report.stats store",
    "report.render": "config report.judge report.read report.stats",
    "report.__main__": "arguments report.judge report.read report.render store",
    "sweep.worker": "components distributed runtime store train",
    "sweep.plan": "components config data digests optim runtime store train",
    "sweep.display": "config store sweep.plan",
    "sweep.local": "components config runtime store sweep.display sweep.plan sweep.worker",
    "sweep.slurm": "components config distributed runtime store sweep.display sweep.local sweep.plan sweep.worker",
    "sweep.status": "config store sweep.display sweep.local sweep.plan sweep.slurm",
    "sweep.arguments": "arguments config runtime store sweep.display sweep.status",
    "sweep.command": "config runtime store sweep.display sweep.local sweep.plan sweep.slurm",
    "sweep.__main__": "arguments config runtime store sweep.arguments sweep.command sweep.display sweep.plan "
    "sweep.status",
    "sweep.torchrun": "arguments config distributed runtime store sweep.arguments sweep.command sweep.display "
    "sweep.local sweep.plan sweep.worker",
    "doctor": "arguments config data store sweep.arguments sweep.display sweep.local sweep.plan sweep.slurm",
    "cli": "arguments config data doctor report.__main__ store sweep.arguments sweep.command sweep.display "
    "sweep.status",
}
"""Each package or module, and what it may import: only what stands above it, so there are no cycles."""

WITHOUT_TORCH = ("config", "store", "report", "digests.compare")
ONLY_IMPORTERS = {
    "argcomplete": {"harness.cli.completion"},
    "submitit": {"harness.sweep.slurm.submit", "harness.sweep.slurm.rendezvous"},
    "ruamel": {"harness.config.yaml_file"},
    "jinja2": {"harness.report.render.page"},
    "timm": {"harness.models.vit", "harness.models.foreign"},
}


def imports(module: str, *, top_level_only: bool = False) -> set[str]:
    """Full dotted names that a module imports (``from a import b`` counts as ``a`` and ``a.b``)."""
    tree = ast.parse((ROOT / (module.replace(".", "/") + ".py")).read_text(encoding="utf-8"))
    nodes = tree.body if top_level_only else list(ast.walk(tree))
    found: set[str] = set()
    for node in nodes:
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module)
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def package(name: str) -> str:
    """The key of :data:`MAY_IMPORT` that a dotted name belongs to; empty for other libraries."""
    parts = name.split(".")
    if parts[0] != "harness" or len(parts) == 1:
        return ""
    return ".".join(parts[1:3]) if parts[1] in ("sweep", "report") and len(parts) > 2 else parts[1]


def touches(found: set[str], *names: str) -> set[str]:
    return {one for one in found for name in names if one == name or one.startswith(name + ".")}


def test_every_package_stands_above_those_that_it_imports() -> None:
    names = list(MAY_IMPORT)
    for position, (name, allowed) in enumerate(MAY_IMPORT.items()):
        assert set(allowed.split()) <= set(names[:position]), name


@pytest.mark.parametrize("module", [one for one in MODULES if not one.endswith("__init__")])
def test_packages_import_only_what_they_may(module: str) -> None:
    own = package(module)
    found = {package(one) for one in imports(module)} - {"", own, "sweep", "report"}
    assert found <= set(MAY_IMPORT[own].split())


@pytest.mark.parametrize("module", MODULES)
def test_torch_and_libraries_stay_where_they_belong(module: str) -> None:
    found = imports(module)
    if module.removeprefix("harness.").startswith(WITHOUT_TORCH):
        assert not touches(found, "torch", "torchvision", "submitit")
    for library, importers in ONLY_IMPORTERS.items():
        assert not touches(found, library) or module in importers
    at_import = imports(module, top_level_only=True)
    if package(module) == "doctor":  # a broken torch is a finding, not a crash
        assert not touches(at_import, "torch", "torchvision", "harness.sweep.slurm.submit", "harness.sweep.plan.plan")
    if package(module).startswith("sweep"):  # a job imports the loop when it runs
        assert not touches(at_import, "harness.train.loop")
    if package(module).startswith("models"):  # timm takes a second to import, and brings torch's compiler
        assert not touches(at_import, "timm")


def test_no_junk_drawers() -> None:
    junk = {"utils.py", "common.py", "misc.py", "helpers.py"}
    assert not [path for path in PACKAGE.rglob("*.py") if path.name in junk]


def test_the_loop_names_no_component() -> None:
    """Law 1: variation is data or a component; a comparison with a registered name would fork the loop."""
    from harness import components
    from harness.config.registry import REGISTRIES

    assert components
    names = {name for registry in REGISTRIES.values() for name in registry.names()}
    for module in ("harness.train.loop", "harness.components"):
        tree = ast.parse((ROOT / (module.replace(".", "/") + ".py")).read_text(encoding="utf-8"))
        compared = {
            constant.value
            for node in ast.walk(tree)
            if isinstance(node, ast.Compare)
            for constant in ast.walk(node)
            if isinstance(constant, ast.Constant) and isinstance(constant.value, str)
        }
        assert not compared & names


@pytest.mark.parametrize("module", ["harness.report.render.page", "harness.config.grid", "harness.store.results"])
def test_importing_does_not_pull_in_torch(module: str) -> None:
    code = f"import sys, {module}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0


def test_help_with_data_does_not_pull_in_torch() -> None:
    code = (
        "import sys, contextlib; from harness.data.__main__ import main;\n"
        "with contextlib.suppress(SystemExit): main(['--help'])\n"
        "sys.exit('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0 and "usage: python -m harness.data DATASET" in done.stdout, done.stderr


def test_importing_the_sweep_does_not_pull_in_the_report_or_pandas() -> None:
    code = "import sys, harness.sweep.plan.plan; sys.exit('pandas' in sys.modules or 'matplotlib' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0


PICKLERS = ("pickle", "cPickle", "_pickle", "dill", "cloudpickle", "joblib", "shelve", "marshal", "pandas.read_pickle")


@pytest.mark.parametrize("module", MODULES)
def test_nothing_is_unpickled(module: str) -> None:
    """Whoever can write into results/ must not run code here. (submitit pickles a class and a path, in results/jobs.)

    ``torch.load`` is called in one place, for tensors and plain values only.
    """
    assert not touches(imports(module), *PICKLERS)
    tree = ast.parse((ROOT / (module.replace(".", "/") + ".py")).read_text(encoding="utf-8"))
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)]
    loads = [
        call for call in calls if ast.unparse(call.func) in ("torch.load", "numpy.load", "np.load", "torch.jit.load")
    ]
    for call in loads:
        arguments = {one.arg: ast.unparse(one.value) for one in call.keywords}
        assert module == "harness.train.checkpoint" and arguments.get("weights_only") == "True", ast.unparse(call)
