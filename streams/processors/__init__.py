"""Slow-path processors: they count with durable state, beside the path that computes feeds (docs/processors.md).

A processor is a plain function of a batch and a ``MutableMapping`` of bytes to bytes. It reads no clock and draws no
random numbers. Each value that it writes is whole in itself: after a crash between two writes, reading the same records
again leads to the same totals. ``embedded`` runs it in the engine's process over a mapping in a file,
``streams.agents`` in Faust workers over a table.
"""
