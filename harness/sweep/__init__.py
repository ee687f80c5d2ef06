"""From an experiment to jobs: plan, local pool, SLURM arrays, status. Run as ``python -m harness.sweep``."""
