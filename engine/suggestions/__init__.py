"""Suggestions of people: whom each viewer dismissed, and who was suggested to the viewer lately."""
