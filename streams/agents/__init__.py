"""Faust workers for the keyed slow path."""
