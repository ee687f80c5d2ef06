"""Runs on this machine: the pool, its processes, GPUs and cores."""
