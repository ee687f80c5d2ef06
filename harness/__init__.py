"""Reproduction harness for ablation studies.

Reading order: ``experiments/temperature.yaml`` (an ablation as a user writes it),
``harness.train.loop`` (what one run does), ``harness.objectives.contrastive`` (what it minimises).
``python -m harness.sweep`` runs experiments, ``python -m harness.report`` judges them.
"""

from __future__ import annotations

from typing import Any

__all__ = ["encoder"]
__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    """Import what needs torch when it is asked for: ``import harness`` itself takes a few milliseconds."""
    if name == "encoder":
        from harness.weights import encoder

        return encoder
    raise AttributeError(f"module 'harness' has no attribute {name!r}")
