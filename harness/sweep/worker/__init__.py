"""One process that executes a run."""
