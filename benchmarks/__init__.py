"""Measurements, each one command: ``python -m benchmarks.NAME``. Variants alternate in one run; ratios count."""
