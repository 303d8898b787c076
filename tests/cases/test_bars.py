"""Who blocks, mutes, is suspended, protected or does not want to be recommended: the very next answer knows, wherever
somebody or their tweets can come up.

A table of places by a table of bars. Whoever builds another place adds a row to ``PLACES``, and to ``NAMED`` when it
names the person before the bar.
"""

from collections.abc import Callable

import pytest

from tests.support.front_door import World

VIEWER, PERSON, STRANGER = 1, 50, 9
FRIENDS = range(60, 66)
#: The person's tweet, a friend's retweet of it, and a stranger's tweet that the person and friends like.
TWEET, CARRIER, LIKED = 500, 501, 700


def feed_of(product: str) -> Callable[[World], set[int]]:
    return lambda w: {*w.shown(VIEWER, product)}


def push_of(product: str) -> Callable[[World], set[int]]:
    return lambda w: {*w.pushed(VIEWER, product)}


def query(name: str, **terms) -> Callable[[World], set[int]]:
    def named(w: World) -> set[int]:
        answer = w.query(name, **terms)
        assert answer["status"] == 200, answer
        return w.named(answer)

    return named


LOOSE = {"query_degree_min": 1, "degree_min": 1, "cooccurrence_min": 1, "score_above": 0}
#: Every place that names people or tweets to a viewer.
PLACES: dict[str, Callable[[World], set[int]]] = {
    "for_you": feed_of("for_you"),
    "following": feed_of("following"),
    "push_for_you": push_of("for_you"),
    "push_following": push_of("following"),
    "who_to_follow": lambda w: w.named({"results": w.feed(VIEWER, "who_to_follow", limit=100)["entries"]}),
    "social_proof": lambda w: w.proof(VIEWER, LIKED),
    "second_degree_tweets": query("second-degree", user=VIEWER),
    "second_degree_users": query("second-degree", user=VIEWER, of="users"),
    "proof": query("proof", tweets=[LIKED], user=VIEWER),
    "ties": query("ties", user=VIEWER),
    "ties_out_of_network": query("ties", user=VIEWER, of="out_of_network"),
    "intersections": query("intersections", user=VIEWER, users=[PERSON, STRANGER], names=10),
    "contacts": query("contacts", user=VIEWER),
    "held_by": query("contacts", user=VIEWER, of="held_by"),
    "signals": query("signals", user=VIEWER, by="author"),
    "signals_of_tweets": query("signals", user=VIEWER, by="tweet"),
    "related": query("related", tweet=LIKED, **LOOSE),
}
#: Places without a viewer: what is between two people does not matter there.
FOR_NOBODY = {"related"}
#: Which places name the person or the tweets before the bar, where the viewer follows the person and where not.
EVERYWHERE = {"for_you", "push_for_you", "following", "push_following", "social_proof", "second_degree_tweets"}
EVERYWHERE |= {
    "who_to_follow",
    "second_degree_users",
    "intersections",
    "contacts",
    "held_by",
    "signals",
    "signals_of_tweets",
    "related",
}
NAMED = {
    True: EVERYWHERE | {"proof", "ties"},
    False: EVERYWHERE - {"social_proof"} | {"ties_out_of_network"},
}
#: Name → whether the viewer follows the person, and what happens.
BARS: dict[str, tuple[bool, Callable[[World], None]]] = {
    "block": (True, lambda w: w.relate("block", VIEWER, PERSON, at=1)),
    "block_by_a_stranger": (False, lambda w: w.relate("block", PERSON, VIEWER, at=1)),
    "blocked_by": (True, lambda w: w.relate("block", PERSON, VIEWER, at=1)),
    "mute": (True, lambda w: w.relate("mute", VIEWER, PERSON, at=1)),
    "mute_of_a_stranger": (False, lambda w: w.relate("mute", VIEWER, PERSON, at=1)),
    "muted_by": (True, lambda w: w.relate("mute", PERSON, VIEWER, at=1)),
    "suspended": (True, lambda w: w.user(PERSON, state="suspended", at=1)),
    "deactivated": (False, lambda w: w.user(PERSON, state="deactivated", at=1)),
    "protected": (False, lambda w: w.user(PERSON, protected=True, at=1)),
    "opted_out": (False, lambda w: w.user(PERSON, recommendable=False, at=1)),
}


def crowd(w: World, follows: bool) -> None:
    """The viewer's friends follow and like the person, and so does the viewer in some way."""
    w.follow(VIEWER, *FRIENDS, *([PERSON] if follows else []), at=-5000)
    for friend in FRIENDS:
        w.follow(friend, PERSON, STRANGER, at=-5000)
    w.follow(PERSON, VIEWER, STRANGER, at=-5000)
    for one, other in ((VIEWER, PERSON), (PERSON, VIEWER)):
        w.relate("contact", one, other, at=-5000)
    w.create(TWEET, by=PERSON, at=-4000)
    w.create(CARRIER, by=FRIENDS[0], retweets=TWEET, at=-3000)
    w.create(LIKED, by=STRANGER, at=-4000)
    w.publish()
    for tweet in (TWEET, LIKED):
        for friend in FRIENDS[:4]:
            w.act("favorite", friend, tweet, at=-2000)
    w.act("favorite", PERSON, LIKED, at=-2000)
    w.act("video_50", VIEWER, TWEET, at=-2000)
    w.publish()


@pytest.mark.parametrize("bar", BARS)
def test_the_very_next_answer_knows(w: World, bar: str):
    follows, happens = BARS[bar]
    crowd(w, follows)
    them = {PERSON, TWEET, CARRIER}
    assert {place for place, names in PLACES.items() if names(w) & them} == NAMED[follows]
    happens(w)
    w.publish()
    between = bar.startswith(("block", "mute"))
    still = {place: found for place, names in PLACES.items() if (found := names(w) & them)}
    assert {place for place in still if not (between and place in FOR_NOBODY)} == set(), still
