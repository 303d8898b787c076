"""What random edges of given people lead to."""
