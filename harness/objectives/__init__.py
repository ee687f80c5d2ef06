"""Objectives: from the projections of a batch to a loss."""
