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

TENSOR_ROOMS = ("data", "models", "methods", "evaluate")
FILES = ("store", "liveness", "causes")
PARTS = (*TENSOR_ROOMS, "train.optim", "train.checkpoint", "train.distributed")
ABOVE_PARTS = (
    "harness.config.experiment",
    "harness.config.grid",
    "harness.config.run",
    "harness.components",
    "harness.digests",
    "harness.sweep",
    "harness.report",
    "harness.train.loop",
)


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


def inside(module: str, *rooms: str) -> bool:
    return any(module == f"harness.{room}" or module.startswith(f"harness.{room}.") for room in rooms)


def touches(found: set[str], *names: str) -> set[str]:
    return {one for one in found for name in names if one == name or one.startswith(name + ".")}


@pytest.mark.parametrize(
    "module", [one for one in MODULES if inside(one, "spec", *FILES, "report", "provenance", "digests.compare")]
)
def test_spec_store_and_report_know_nothing_of_torch(module: str) -> None:
    assert not touches(imports(module), "torch", "torchvision", "submitit")


@pytest.mark.parametrize("module", [one for one in MODULES if inside(one, "spec", *FILES)])
def test_level_zero_imports_nothing_above_itself(module: str) -> None:
    above = {one for one in imports(module) if one.startswith("harness.")}
    assert not {one for one in above if not one.startswith(("harness.spec", *(f"harness.{name}" for name in FILES)))}


@pytest.mark.parametrize("module", [one for one in MODULES if inside(one, *PARTS)])
def test_parts_know_tensors_never_experiments(module: str) -> None:
    assert not touches(imports(module), *ABOVE_PARTS)


@pytest.mark.parametrize("module", [one for one in MODULES if inside(one, *TENSOR_ROOMS)])
def test_tensor_rooms_do_not_touch_the_store(module: str) -> None:
    assert not touches(imports(module), "harness.store.results")


@pytest.mark.parametrize("module", MODULES)
def test_loop_sweep_and_report_are_siblings(module: str) -> None:
    found = imports(module)
    if inside(module, "train"):
        assert not touches(found, "harness.sweep", "harness.report")
    if inside(module, "sweep"):
        assert not touches(found, "harness.report")
        assert not touches(imports(module, top_level_only=True), "harness.train.loop")  # a job imports it when it runs
    if inside(module, "digests"):
        assert not touches(found, "harness.sweep", "harness.report")
    if inside(module, "report"):
        assert not {one for one in touches(found, "harness.digests") if not one.startswith("harness.digests.compare")}
        assert not touches(found, "harness.sweep", "harness.train", "harness.components", "harness.data")


@pytest.mark.parametrize("module", MODULES)
def test_the_doctor_looks_on_and_nothing_leans_on_it(module: str) -> None:
    found = imports(module)
    if not inside(module, "doctor"):
        assert not touches(found, "harness.doctor")
        return
    rooms = ("models", "methods", "train", "evaluate", "components", "report")
    assert not touches(found, *(f"harness.{room}" for room in rooms))
    at_import = imports(module, top_level_only=True)  # a torch that is broken is a finding, not a crash
    assert not touches(at_import, "torch", "torchvision", "harness.sweep.slurm.launch", "harness.sweep.plan.plan")


@pytest.mark.parametrize("module", MODULES)
def test_one_importer_each(module: str) -> None:
    found = imports(module)
    if touches(found, "submitit"):
        assert module in ("harness.sweep.slurm.launch", "harness.sweep.slurm.meeting")
    if touches(found, "ruamel"):
        assert module == "harness.config.document"
    if touches(found, "jinja2"):
        assert module == "harness.report.render.page"
    if touches(found, "timm"):
        assert module in ("harness.models.vit", "harness.models.foreign")
        assert not touches(imports(module, top_level_only=True), "timm")  # a second, and torch's compiler
    components = {"harness.data.views", "harness.models.encoders", "harness.methods.simclr", "harness.models.heads"}
    components |= {"harness.models.vit", "harness.models.foreign"}
    if not inside(module, *PARTS, "train"):
        assert not touches(found, *components) or module == "harness.components"


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


def test_planning_does_not_import_the_compiler() -> None:
    """Two seconds of every ``--plan``, which torch spends before an optimiser takes its first parameter."""
    code = (
        "import sys; from pathlib import Path; from harness import components; from harness.config.grid import expand;"
        "from harness.config.experiment import load_experiment;"
        "arms = expand(load_experiment(Path('experiments/temperature.yaml'), 'smoke'));"
        "components.check(components.resolve(arms[0].tree, seed=0)); sys.exit('torch._dynamo' in sys.modules)"
    )
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
