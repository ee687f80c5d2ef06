"""Figures that are drawn from an evaluation's arrays: points in the plane (Figure B.4) and spectra (Figure B.3).

One picture per arm that the block's ``where`` leaves: of the first seed that has the arrays, for such a figure shows
one network. Several seeds belong into a table.
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib.figure
import seaborn

from harness.config.matching import matches, plain
from harness.report.read.names import arm_name, slug
from harness.report.read.records import Arm, Experiment, Results
from harness.report.render.figures import METADATA, inline, style

Arrays = Mapping[str, Any]
_POINT_AREA = 9.0


@dataclass(frozen=True)
class Picture:
    """One drawing, or the reason why there is none."""

    title: str
    svg: str = ""
    absent: str = ""


def pictures(results: Results, experiment: Experiment) -> list[Picture]:
    """All ``scatter`` and ``spectrum`` blocks of an experiment, arm by arm."""
    found = []
    for number, block in enumerate(experiment.report):
        for kind, fields in block.items():
            if kind in ("scatter", "spectrum"):
                arms = [arm for arm in experiment.arms if matches(arm.settings, fields.get("where") or {})]
                found += [
                    _picture(results, experiment, arm, kind, fields, f"{number}-{i}") for i, arm in enumerate(arms)
                ]
    return found


def _picture(
    results: Results, experiment: Experiment, arm: Arm, kind: str, fields: Mapping[str, Any], key: str
) -> Picture:
    names = fields.get("panels") or fields.get("curves") or []
    varied = [path for path in arm.settings if len({str(plain(one.settings.get(path))) for one in experiment.arms}) > 1]
    title = (
        f"{fields['of']}: {' and '.join(map(_words, names))}; {arm_name({path: arm.settings[path] for path in varied})}"
    )
    handle = experiment.evaluations.get(str(fields["of"]), "")
    for seed, run in sorted(arm.runs.items()):
        arrays = results.runs[run].arrays.get(handle, {})
        if names and all(isinstance(arrays.get(name), list) and arrays[name] for name in names):
            titled = f"{title}, seed {seed}"
            draw = _scatter if kind == "scatter" else _spectrum
            return Picture(titled, inline(draw(arrays, fields), f"{slug(experiment.key)}-picture-{key}", titled))
    reasons = [results.runs[run].unavailable.get(handle) for run in arm.runs.values()]
    return Picture(title, absent=next((reason for reason in reasons if reason), "not run"))


def _words(name: str) -> str:
    return str(name).replace("_", " ")


def _svg(figure: matplotlib.figure.Figure) -> str:
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", metadata=METADATA)
    return buffer.getvalue()


def _scatter(arrays: Arrays, fields: Mapping[str, Any]) -> str:
    """One panel of points [N, 2] for each of ``panels``, coloured by class [N] if there is a ``color``."""
    panels: Sequence[str] = fields["panels"]
    labels = arrays.get(str(fields.get("color")), [])
    known = sorted(set(labels))
    palette = (
        seaborn.color_palette("tab10", 10).as_hex() if len(known) <= 10 else seaborn.husl_palette(len(known)).as_hex()
    )
    with style():
        figure = matplotlib.figure.Figure(figsize=(3.6 * len(panels), 3.7))
        for axes, name in zip(figure.subplots(1, len(panels), squeeze=False)[0], panels, strict=True):
            points = arrays[name]
            colours = [palette[known.index(label)] for label in labels] or [palette[0]] * len(points)
            axes.scatter([x for x, _ in points], [y for _, y in points], s=_POINT_AREA, c=colours, linewidths=0)
            axes.set_title(name, fontsize=10)
            axes.set_xticks([])
            axes.set_yticks([])
            axes.spines[:].set_visible(False)
        return _svg(figure)


def _spectrum(arrays: Arrays, fields: Mapping[str, Any]) -> str:
    """Each of ``curves`` [D], falling, as a share of its largest value, in a linear and in a logarithmic scale."""
    with style():
        figure = matplotlib.figure.Figure(figsize=(7.2, 3.0))
        for axes, scale in zip(figure.subplots(1, 2), ("linear", "log"), strict=True):
            for name, dashes in zip(fields["curves"], ("-", (0, (4, 2.5)), ":", "-."), strict=False):
                values = arrays[name]
                axes.plot(range(1, len(values) + 1), [one / values[0] for one in values], linestyle=dashes,
                          color="#3b6fb6", linewidth=1.6, label=_words(name))  # fmt: skip
            axes.set_yscale(scale)
            axes.set_xlabel("index, largest first")
        figure.axes[0].legend(frameon=False)
        figure.axes[0].set_ylabel("share of the largest")
        figure.subplots_adjust(bottom=0.17, left=0.09, right=0.98, top=0.97)
        return _svg(figure)
