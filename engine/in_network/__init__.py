"""Tweets of the people whom a viewer follows: who they are, where there are too many to look at all of them."""
