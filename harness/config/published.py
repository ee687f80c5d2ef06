"""The paper's own numbers: ``paper/<paper>/<artefact>.yaml``, beside an experiment or built in."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from harness.config import builtin
from harness.config.errors import Complaint, SpecError, nearest
from harness.config.yaml_file import Document, read_yaml


def load_published(experiments: Path, name: str) -> dict[str, Any]:
    """``simclr/figure_5`` -> its numbers as a flat list of cells ``{"at", "metric", "value"}``.

    Raises :class:`SpecError` where the file is missing or a row is not as long as its header.
    """
    path = builtin.beside(experiments, f"paper/{name}.yaml")
    if not path.is_file():
        known = builtin.names(experiments, "paper/*/*.yaml")
        raise SpecError(f"no published numbers {name!r}: {nearest(name, known)}")
    document = read_yaml(path)
    about = {key: value for key, value in document.data.items() if key not in ("grid", "table")}
    try:
        return {**about, "cells": [*_grid_cells(document), *_table_cells(document)]}
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise SpecError([Complaint(f"{path}:1", f"not a table of published numbers: {error!r}")]) from None


def _grid_cells(document: Document) -> Iterable[dict[str, Any]]:
    grid = document.data.get("grid")
    if grid is None:
        return
    ((row_path, rows),) = grid["rows"].items()
    ((column_path, columns),) = grid["columns"].items()
    for row, values in zip(rows, grid["values"], strict=True):
        for column, value in zip(columns, values, strict=True):
            if value is not None:
                at = {**grid.get("at", {}), row_path: row, column_path: column}  # `at`: what all its cells share
                yield {"at": at, "metric": grid["metric"], "value": value}


def _table_cells(document: Document) -> Iterable[dict[str, Any]]:
    table = document.data.get("table")
    if table is None:
        return
    for row in table["rows"]:
        for metric, value in zip(table["metrics"], row["values"], strict=True):
            if value is not None:
                yield {"at": row["at"], "metric": metric, "value": value}
