"""Digests of what the code computes: every component on its tiny examples, and the training loop.

Two versions of the code are compared by these numbers and not by the names of the files that were touched.
"""
