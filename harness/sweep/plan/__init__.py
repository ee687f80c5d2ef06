"""Experiment -> plan: which runs there are, which are done, what the rest costs, and what is wrong with it."""
