"""Whole runs: the demo, and servers that are killed under load."""
