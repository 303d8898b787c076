"""The whole engine on a virtual clock, with faults drawn from a seed (docs/simulation.md)."""
