"""Augmentations as functions of tensors: one module per kind of change, parameters as arguments."""
