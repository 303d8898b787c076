"""The order in which records become versions: ``pieces`` (what a version is made of) and the sources of pieces."""
