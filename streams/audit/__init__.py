"""Audits: what was served is asked again of the state it was served from (docs/audit.md)."""
