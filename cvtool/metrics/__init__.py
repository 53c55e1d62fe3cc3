"""Metrics: one a file, each ending in a flat dict of numbers. `_entries` and `_files` check what is to be measured."""
