"""Evaluation protocols, one file each: a component that is called with a trained run and yields (name, value)."""
