"""Reproduction harness for ablation studies.

Reading order: ``experiments/temperature.yaml`` (an ablation as a user writes it),
``harness.train.loop`` (what one run does), ``harness.objectives.contrastive`` (what it minimises).
``python -m harness.sweep`` runs experiments, ``python -m harness.report`` judges them.
"""

__version__ = "0.1.0"
