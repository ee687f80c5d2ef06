"""Evaluation protocols, one file each: a component that is called with a trained run and yields (name, value).

A component says which names it yields in ``metrics``; what it yields as tensors, for a figure, in ``arrays``; and,
where an experiment may ask for it in several forms, what tells them apart in ``variant``.
"""
