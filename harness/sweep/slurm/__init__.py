"""Runs on SLURM, through submitit: what is asked for, submitted, waited for, and cleaned up."""
