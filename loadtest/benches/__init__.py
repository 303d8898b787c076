"""Benchmarks: most modules are one command of ``murmuration bench``, the others help them."""
