"""Tie strength: what each person did toward each other person, by day (docs/real_graph.md)."""
