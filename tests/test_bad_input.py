"""Whatever an experiment file says, a person gets a message and exit code 2, never a traceback."""

from __future__ import annotations

import copy
import io
import json
import random
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from ruamel.yaml import YAML

from harness.config.errors import SpecError
from harness.config.yaml_file import read_yaml
from harness.sweep.__main__ import main
from harness.sweep.slurm.config import load_cluster

EXPERIMENTS = Path(__file__).resolve().parent.parent / "experiments"
FILES = sorted(EXPERIMENTS.glob("*.yaml"))
BRANCHES: dict[str, Any] = {
    "title": "Two sizes of views",
    "fixed": {
        "views.both": [],
        "views.branches": [{"augment": ["crop", {"blur": {"p": 1.0}}], "count": 2, "size": 16}],
    },
    "vary": [{"views.branches": [[{"augment": ["crop"]}, {"augment": [], "count": 1}], []]}, {"norm.groups": [1]}],
    "seeds": 1,
    "runs": 3,
    "evaluate": ["linear"],
    "report": {
        "table": {"rows": {"Views": "views.branches", "Blur": "augmentations.blur.p"}, "columns": {"T": "linear/top1"}}
    },
}
BASES = [*(read_yaml(path).data for path in FILES), *[BRANCHES] * 4]

scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-5, 2**40),
    st.floats(allow_nan=True, allow_infinity=True),
    st.text(max_size=8),
    st.sampled_from(["crop", "linear", "h", "1e-6", "schedule.batch_size", "views.both", "smoke", "", ".", "a.b.c"]),
)
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)


def places(node: Any, trail: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Every place in a file at which something stands."""
    items = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
    return [trail] * bool(trail) + [one for key, value in items for one in places(value, (*trail, key))]


@st.composite
def spoiled(draw: st.DrawFn) -> str:
    """A real experiment with one to three places deleted, replaced or renamed; or hardly a file at all."""
    if draw(st.integers(0, 9)) == 0:
        return draw(st.text(max_size=60))
    data = copy.deepcopy(draw(st.sampled_from(BASES)))
    for _ in range(draw(st.integers(1, 3))):
        where = places(data)
        if not where:
            break
        *trail, last = draw(st.sampled_from(where))
        node = data
        for key in trail:
            node = node[key]
        action = draw(st.sampled_from(["delete", "replace", "rename"]))
        if action == "replace":
            node[last] = draw(values)
        elif action == "delete" or not isinstance(node, dict):
            del node[last]
        else:
            node[draw(st.text(min_size=1, max_size=8))] = node.pop(last)
    text = io.StringIO()
    YAML().dump(data, text)
    return text.getvalue()


@pytest.mark.slow
@settings(
    max_examples=150,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(text=spoiled())
def test_no_file_ends_in_a_traceback(text: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("scales", "paper", "clusters"):
        if not (tmp_path / name).exists():
            (tmp_path / name).symlink_to(EXPERIMENTS / name)
    path = tmp_path / "spoiled.yaml"
    path.write_text(text, encoding="utf-8", errors="replace")
    results = tmp_path / "results"
    code = main([str(path), "--plan", "--scale", "smoke", "--results", str(results), "--cluster", "local"])
    said = capsys.readouterr()
    assert code in (0, 2), said
    assert "Traceback" not in said.out + said.err
    assert code == 0 or said.err.strip()
    assert not results.exists()


NODES = (
    "!mine [linear]", "!mine {a: 1}", "!!omap [{a: 1}]", "!!set {a, b}", "!!binary aGk=", "{<<: {a: 1}}", "{<<: 3}",
    "&a [*a]", "&a {b: *a}", "2026-01-31", ".nan", "1e400", "null", "''", "-1", "1.5", "true", "[]", "{}", "[[]]",
    "[{}]", "[null]", "{1: 2}", "{null: 1}", "{str: 1}", "{'dict[': 1}", "{'': 1}", '"\\0"', '"\\ud800"', "{pairs: 3}",
    "999999999999999999999999", "100000000", "[" * 200 + "]" * 200, "{image_folder: {}}", "{linear: {}}", "'a\\nb'",
)  # fmt: skip
"""One of each kind of YAML node, and of what is most easily taken for something else."""


def planted(data: Any, draw: random.Random) -> str:
    """``data`` as YAML, with one of :data:`NODES` in the place of a value or, if it is one line, of a key."""
    data = copy.deepcopy(data)
    *trail, last = draw.choice(places(data))
    node = data
    for key in trail:
        node = node[key]
    planted, as_key = draw.choice(NODES), draw.random() < 0.2 and isinstance(node, dict)
    if as_key:
        node["@@"] = node.pop(last)
    else:
        node[last] = "@@"
    return json.dumps(data).replace('"@@"', f"? {planted}\n" if as_key else planted)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["experiment", "scale", "cluster"])
@pytest.mark.parametrize("seed", range(40))
def test_no_kind_of_node_ends_in_a_traceback(
    kind: str, seed: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    draw = random.Random(f"{kind} {seed}")
    for name in ("scales", "paper", "clusters"):
        (tmp_path / name).mkdir()
        for path in (EXPERIMENTS / name).iterdir():
            (tmp_path / name / path.name).symlink_to(path)
    path = tmp_path / "small.yaml"
    path.write_text((EXPERIMENTS / "temperature.yaml").read_text())
    spoilt = {"experiment": path, "scale": tmp_path / "scales/smoke.yaml", "cluster": tmp_path / "site.yaml"}[kind]
    whole = {"cluster": EXPERIMENTS / "clusters/example.yaml", "scale": EXPERIMENTS / "scales/smoke.yaml"}
    text = planted(read_yaml(whole.get(kind, EXPERIMENTS / "temperature.yaml")).data, draw)
    spoilt.unlink(missing_ok=True)
    spoilt.write_text(text, encoding="utf-8")
    if kind == "cluster":
        try:
            load_cluster(spoilt)
        except SpecError as error:
            assert all(f"{spoilt}:" in one.where for one in error.complaints), text
        return
    code = main([str(path), "--plan", "--scale", "smoke", "--results", str(tmp_path / "r"), "--cluster", "local"])
    said = capsys.readouterr()
    assert code in (0, 2) and "Traceback" not in said.out + said.err, text
    assert code == 0 or said.err.strip(), text
