"""Checks of a data set: the full one of ``tools/data/check_dataset.py``, and its quick part."""
