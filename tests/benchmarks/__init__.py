"""Benchmarks: `python -m tests.benchmarks`. Every figure is a ratio against a floor of the same run; no test."""
