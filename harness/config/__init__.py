"""What an experiment is: YAML, grids, runs and their identity. Knows nothing of torch."""
