"""Muted words: which words each person does not want to see, and whether a text has one of them."""
