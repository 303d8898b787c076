"""Benchmarks, one module a command of ``murmuration bench``."""
