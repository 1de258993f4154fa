"""Benchmark of threads at rest."""
