"""Reputation of accounts: PageRank over follows, from a prior of account facts to a score of 0 to 100 (tweepcred)."""
