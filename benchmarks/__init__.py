"""Timings, reported and never asserted: ``python -m benchmarks``."""
