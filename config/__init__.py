"""Configuration: one frozen tree of structs, composed of the parts' structs."""
