"""Slow-path processors: what is counted beside the feeds' path, with durable state (docs/processors.md).

A processor is a plain function of a batch and a ``MutableMapping`` of bytes to bytes. It reads no clock and draws no
chance; each value it writes is whole in itself, so that a crash between two writes leaves a state from which the same
records, read again, lead to the same totals. ``embedded`` runs it in the engine's process over a mapping in a file,
``streams.agents`` in Faust workers over Tables.
"""
