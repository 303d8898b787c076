"""What people said they want to read about: a room of state (docs/interests.md)."""
