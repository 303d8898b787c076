"""The interaction graph's queries for callers outside: parameters in, JSON answers out."""
