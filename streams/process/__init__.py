"""How a process runs: its logs, signals, event loop, memory, and how it ends."""
