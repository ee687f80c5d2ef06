"""Pretraining methods: networks and an objective that together turn a batch of views into a loss."""
