"""The results folder: paths and atomic writes, run locks, attempts, snapshots of the code, provenance. No torch."""
