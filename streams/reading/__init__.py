"""Readers of the state: the state lock, the pool of reader threads, and their metrics."""
