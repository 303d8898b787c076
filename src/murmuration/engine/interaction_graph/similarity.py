"""Tweets that the same people engaged with: similarity by shared neighbours, after GraphJet."""
