"""Audits: served feeds are computed again from the state that they were served from (docs/audit.md)."""
