"""Configuration: one frozen tree of structs, composed from the rooms' own."""
