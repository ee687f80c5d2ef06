"""Results on disk -> experiments, arms, runs and their states, checked for integrity."""
