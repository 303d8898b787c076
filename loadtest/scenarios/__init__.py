"""Whole runs: the demo, and a server that is killed under load."""
