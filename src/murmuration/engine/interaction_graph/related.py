"""Tweets related to a tweet, to an author through their followers, or to a set of people."""
