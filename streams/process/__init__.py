"""How a process runs: its logs, its signals, its event loop, how it ends."""
