"""Compares the world with a hostile viewer (``hostile.py``) with the same world without that person.

Everybody else must have the same follows, blocks, mutes, words, profile, lists and ties, the same Following feed, and
may see the same tweets; and their content must still be held. What the viewer may change: the viewer counts as one
person in the counts of a tweet, and so in what is popular (docs/fair_shares.md).
"""

from collections.abc import Sequence
from contextlib import nullcontext
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from config.schema import Config
from engine.feed import Explain, Feed, Product, Request
from engine.home_mixer.products import build_products
from engine.pipeline.execute import Unwatched, execute
from engine.pipeline.scratch import Scratch
from engine.signals.state import Acts
from engine.state import EngineState
from engine.tweet_store.state import Counter
from engine.visibility.judge import Visibility
from loadtest.simulation.hostile import HOSTILE, HOSTILE_KEY
from loadtest.simulation.lineage import MADE_UP, CheckError
from loadtest.simulation.workload import EPOCH_MS
from streams.events.dead_letters import DeadLetter

Ids = NDArray[np.uint64]
#: More than any list of a run has.
_ALL = 1000


class Held(NamedTuple):
    """The tweets of others that the world without the viewer holds, with their authors (uint64, n each)."""

    tweet_id: Ids
    author_id: Ids


class Bystanders:
    """Compares what everybody else has and sees in both worlds."""

    def __init__(self, config: Config, people: int) -> None:
        self._config = config
        self._people = np.arange(1, people + 1, dtype=np.uint64)
        self._scratch = Scratch()

    def refused(self, whole: Sequence[DeadLetter], without: Sequence[DeadLetter]) -> None:
        """Compare what was refused of a piece.

        Raises:
            CheckError: something of somebody else is refused in one world only.
        """
        theirs = [letter for letter in whole if not is_hostile(letter)]
        if theirs != [letter for letter in without if not is_hostile(letter)]:
            reasons = {letter.reason for letter in theirs}
            raise CheckError(f"the hostile viewer has changed what is refused of others: {sorted(reasons)}")

    def compare(self, state: EngineState, without: EngineState) -> None:
        """Compare the states of the two worlds.

        Raises:
            CheckError: the hostile viewer has changed something for somebody else.
        """
        held = self._compare_tweets(state, without)
        self._compare_entities(state, without, held)
        time_ms = max(without.clock_ms, EPOCH_MS)
        for person in self._people.tolist():
            self._compare_person(state, without, person, held, time_ms)

    def _compare_person(self, state: EngineState, without: EngineState, person: int, held: Held, time_ms: int) -> None:
        one, other = (self._own(world, person, held, time_ms) for world in (state, without))
        if changed := [name for name in one if one[name] != other[name]]:
            raise CheckError(f"the hostile viewer has changed what {person} has: {', '.join(changed)}")
        may, might = (Visibility(world).may_see(person, held.tweet_id) for world in (state, without))
        if len(changed := held.tweet_id[may != might].tolist()):
            raise CheckError(f"the hostile viewer has changed whether {person} may see {changed}")
        feed, feed_without = (self._ask(world, person, Product.FOLLOWING, time_ms) for world in (state, without))
        if _shown(feed) != _shown(feed_without):
            raise CheckError(f"the hostile viewer has changed what {person} sees of followees")
        for_you = self._ask(state, person, Product.FOR_YOU, time_ms)
        theirs = np.array([entry.tweet_id for entry in for_you.entries if entry.author_id != HOSTILE], np.uint64)
        hidden = theirs[~Visibility(without).may_see(person, theirs)]
        if len(hidden):
            raise CheckError(f"the hostile viewer shows {person} the tweets {hidden.tolist()}")

    def _compare_tweets(self, state: EngineState, without: EngineState) -> Held:
        """Compare others' tweets, texts and counts: the viewer may be one more in each count."""
        store, other = state.tweet_store, without.tweet_store
        ids = other.tweets.ids.keys
        tweets = other.columns(other.lookup(np.sort(ids[ids != 0])))
        known = tweets.servable & (tweets.author_id != HOSTILE)
        theirs = tweets.tweet_id[known]
        slots, slots_without = store.lookup(theirs), other.lookup(theirs)
        found = store.columns(slots)
        if lost := theirs[~found.servable].tolist():
            raise CheckError(f"the hostile viewer has pushed out the tweets {lost}")
        if [store.text(s) for s in slots.tolist()] != [other.text(s) for s in slots_without.tolist()]:
            raise CheckError("the hostile viewer has changed what others say")
        more = found.totals - tweets.totals[known]
        # Others' impressions before the create count where the viewer made a stub; they do not make popular.
        more[:, Counter.IMPRESSION] = more[:, Counter.IMPRESSION].clip(max=1)
        # A stub that the viewer made gives way to the viewer's next ones, with what others did to it.
        if store.counters()["stubs_evicted"] > other.counters()["stubs_evicted"]:
            more = more.clip(min=0)
        # Whoever acts again after having been erased is somebody else.
        if more.size and (more.min() < 0 or more.max() > 1 + state.profiles.counters()["erased"]):
            raise CheckError(f"the hostile viewer counts as {more.min()} to {more.max()} people for a tweet")
        return Held(theirs, tweets.author_id[known])

    def _compare_entities(self, state: EngineState, without: EngineState, held: Held) -> None:
        """Compare the names and hashtags of others' tweets."""
        names = without.entity_names.arrays()["ids.keys"]
        names = names[names != 0]
        if state.entity_names.names_of(names) != without.entity_names.names_of(names):
            raise CheckError("the hostile viewer has pushed out names")
        one, other = (
            [world.entity_graph.tweet_degree(tweet_id) for tweet_id in held.tweet_id.tolist()]
            for world in (state, without)
        )
        if one != other:
            raise CheckError("the hostile viewer has changed which hashtags others' tweets have")

    def _own(self, state: EngineState, person: int, held: Held, time_ms: int) -> dict[str, object]:
        """What a person has and did, by what it is; what there is about the viewer's tweets left out."""
        graph, words, signals = state.social_graph, state.muted_words, state.signals
        muted = words.make_muted()
        words.of(person, muted)
        who = np.array([person], np.uint64)
        ages = self._config.home_mixer.signals
        lists = (signals.recent_engagements, signals.recent_implicit, signals.recent_negatives)
        followers = graph.followers(person, _ALL)
        return {
            "follows": graph.followees(person, _ALL).tolist(),
            "followers": followers[followers != HOSTILE].tolist(),
            "blocks and mutes": graph.relation(person, self._people).tolist(),
            "muted words": (sorted(muted.phrase.tolist()), words.knows(person)),
            "interests": [part.tolist() for part in state.interests.of(person)],
            "suggestions": [part.tolist() for part in state.suggestions.of(person, time_ms)],
            "profile": (state.profiles.standings(who).tolist(), [c.tolist() for c in state.profiles.known(who)]),
            "acts": [_of_others(acts(person, _ALL)) for acts in lists],
            "seen and served": signals.flags(person, *held, time_ms, ages).tolist(),
            "edges": _edges(state.interaction_graph.neighbors_of_user(person, _ALL)),
            "edges to people": _edges(state.user_graph.neighbors_of_user(person, _ALL)),
            "ties": [part.tobytes() for part in state.real_graph.statistics(person, self._people, time_ms)],
            "engagements by author": state.engagement_aggregates.of_pairs(person, self._people, time_ms).tobytes(),
        }

    def _ask(self, state: EngineState, person: int, product: Product, time_ms: int) -> Feed:
        request = Request(
            viewer_id=person,
            request_id=1,
            time_ms=time_ms,
            seed=1,
            product=product,
            limit=100,
            explain=Explain.ALL,
        )
        pipeline = build_products(state, self._config.home_mixer, "")[product]
        reading = nullcontext(state.version)
        return execute(pipeline, request, scratch=self._scratch, reading=reading, watcher=Unwatched())


def is_hostile(letter: DeadLetter) -> bool:
    """Whether a refused record is the hostile viewer's."""
    return HOSTILE_KEY in letter.value


def _of_others(acts: Acts) -> list[tuple[int, ...]]:
    """Acts on others' tweets, the oldest last."""
    rows = zip(*(column.tolist() for column in acts), strict=True)
    return [row for row in rows if row[0] < MADE_UP and row[3] != HOSTILE]


def _edges(edges: tuple[Ids, NDArray[np.uint8], NDArray[np.int64]]) -> list[tuple[int, ...]]:
    """A person's edges to others' tweets, or to others."""
    return [edge for edge in zip(*(part.tolist() for part in edges), strict=True) if edge[0] < MADE_UP]


def _shown(feed: Feed) -> object:
    """What a viewer sees of a feed, but for what counts everybody's acts."""
    entries = [(e.tweet_id, e.author_id, e.created_ms, e.text, e.in_network) for e in feed.entries]
    return entries, sorted((d.tweet_id, d.filter) for d in feed.dropped)
