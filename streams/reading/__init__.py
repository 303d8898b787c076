"""Readers of the state: the state lock, the pool of reader threads, what they measure."""
