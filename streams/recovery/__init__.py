"""Rebuilding the last state after a start, from snapshot, journal and log."""
