"""The live engine: the log's tail, the one thread that writes the state, and snapshots."""
