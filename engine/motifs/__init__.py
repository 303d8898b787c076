"""Motifs: several people whom somebody follows have just done the same: followed a person, or liked a tweet."""
