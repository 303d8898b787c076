"""Synthetic traffic: events, viewers, and servers in separate processes."""
