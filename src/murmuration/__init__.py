"""Murmuration: a real-time "For You" feed engine that anybody can run, inspect and trust."""

__version__ = "0.1.0"
