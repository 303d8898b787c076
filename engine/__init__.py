"""Pure state and decisions: no wall clock, no unseeded randomness, no I/O, no asyncio (docs/architecture.md)."""
