"""Recorded data sets: read, and played into the log."""
