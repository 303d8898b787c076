"""Who may see which tweet, in plain Python: a dictionary of tweets, and one recursive rule.

A tweet may be seen by a viewer if it is known and not deleted, nothing between its author and the viewer hides it, and
the tweets that it retweets, quotes and answers, and the root of its conversation, may be seen as well.
"""

from collections.abc import Mapping
from typing import NamedTuple


class Tweet(NamedTuple):
    """A tweet that was created and not deleted; references are 0 where there is none."""

    author: int
    retweeted: int = 0
    quoted: int = 0
    reply_to: int = 0
    conversation: int = 0


Tweets = Mapping[int, Tweet]


def originals_of(tweets: Tweets, tweet: int) -> list[int]:
    """The links of a chain of retweets, from the tweet to its end; [] if the chain is a circle."""
    chain = [tweet]
    while chain[-1] in tweets and tweets[chain[-1]].retweeted:
        if tweets[chain[-1]].retweeted in chain:
            return []
        chain.append(tweets[chain[-1]].retweeted)
    return chain


def stands_for(tweets: Tweets, tweet: int) -> set[int]:
    """All tweets that are shown or named with a tweet, itself among them; some may be unknown."""
    found: set[int] = set()
    waiting = [tweet]
    while waiting:
        at = waiting.pop()
        if at and at not in found:
            found.add(at)
            if at in tweets:
                waiting += tweets[at][1:]
    return found


def why_missing(tweets: Tweets, tweet: int) -> set[str]:
    """Why a tweet cannot be judged: it or its original is missing, or else something that they quote or answer is."""
    chain = originals_of(tweets, tweet)
    if not chain or any(link not in tweets for link in chain):
        return {"unhydrated"}
    everything = stands_for(tweets, tweet)
    circular = any(not originals_of(tweets, at) for at in everything)
    return {"context_missing"} if circular or not everything <= set(tweets) else set()
