"""Recorded data sets: reading them, and replaying them into the log."""
