"""A hostile viewer: floods the log with whatever one person may send, and must change nothing for anybody else.

``Hostile`` makes the events. ``Bystanders`` is the same world without that person. After a run, everybody else must
have the same follows, blocks and mutes and the same Following feed as there, and a For You feed without any tweet that
the other world hides from them.
"""

from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from typing import Any, Final

import numpy as np
import orjson

from config.schema import Config
from engine.feed import Explain, Feed, Product, Request
from engine.home_mixer.products import build_products
from engine.pipeline.execute import Unwatched, execute
from engine.pipeline.scratch import Scratch
from engine.state import EngineState
from engine.visibility.judge import Visibility
from loadtest.simulation.chance import Chance
from loadtest.simulation.lineage import CheckError
from loadtest.simulation.workload import EPOCH_MS, Publication, Workload
from streams.events.dead_letters import DeadLetter
from streams.log.interface import NewRecord

#: The viewer's id. Nobody follows it.
HOSTILE: Final = 1 << 62
HOSTILE_KEY: Final = str(HOSTILE).encode()
_MADE_UP: Final = 1 << 61
_FIRST_ID: Final = 3 << 62
#: What a flood consists of; a flood has one kind, or all of them.
_OF_TWEETS: Final = ("favorite", "unfavorite", "retweet", "reply", "bookmark", "impression", "see_fewer", "report")
_OF_PEOPLE: Final = ("follow", "unfollow", "block", "unblock", "mute", "unmute", "report_user", "dismiss")
#: What only a tweet's author may do.
_OF_AUTHORS: Final = ("edit", "delete")
_FLOODS: Final = (
    ("engagements", _OF_TWEETS),
    ("relationships", _OF_PEOPLE),
    ("relationships", ("mute_word",)),
    ("tweets", _OF_AUTHORS),
)


class Hostile:
    """Makes the floods of one run: of tweets and people that exist and of others that nobody ever heard of."""

    def __init__(self, workload: Workload, chance: Chance) -> None:
        self._workload = workload
        self._chance = chance
        self._made = 0

    def floods(self, seconds: float) -> Iterator[tuple[float, Publication]]:
        """Publications, each with the virtual second in which it is made, in the order of these."""
        count = self._chance.integer(2, 5)
        for time_s in sorted(self._chance.seconds(0.0, seconds) for _ in range(count)):
            kinds: tuple[str, ...]
            topic, kinds = self._chance.choice(_FLOODS)
            kinds = (self._chance.choice(kinds),) if self._chance.happens(0.5) else kinds
            size = self._chance.integer(20, 120)
            self._chance.note(f"a flood of {size} events: {', '.join(kinds)}")
            now_ms = EPOCH_MS + int(time_s * 1000)
            events = [self._event(self._chance.choice(kinds), now_ms) for _ in range(size)]
            ids = [int(event["id"]) for event in events]
            yield time_s, Publication(topic, [NewRecord(orjson.dumps(e), key=HOSTILE_KEY) for e in events], ids, 0)

    def _event(self, kind: str, time_ms: int) -> dict[str, Any]:
        self._made += 1
        who = "author_id" if kind in _OF_AUTHORS else "user_id"
        event: dict[str, Any] = {"v": 1, "id": str(_FIRST_ID + self._made), "type": kind, who: str(HOSTILE)}
        event["timestamp_ms"] = time_ms + self._chance.integer(-1000, 1000)
        real = self._chance.happens(0.3)
        if kind == "mute_word":
            event["word"] = self._chance.choice(["rain", "pier"]) if real else f"word{self._made}"
        elif kind in _OF_PEOPLE:
            people = self._workload.config.people
            event["target_id"] = str(self._chance.integer(1, people) if real else _MADE_UP + self._made)
        else:
            tweet_id, author_id = self._workload.some_tweet() if real else (_MADE_UP + self._made, 0)
            event["tweet_id"] = str(tweet_id)
            if kind == "edit":
                event |= {"text": "not what the author said", "lang": "en"}
            elif author_id and kind != "delete":
                event["author_id"] = str(author_id)
        return event


class Bystanders:
    """Compares what everybody else has and sees in a world with the hostile viewer and in one without."""

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
        time_ms = max(without.clock_ms, EPOCH_MS)
        for person in self._people.tolist():
            if self._bonds(state, person) != self._bonds(without, person):
                raise CheckError(f"the hostile viewer has changed whom or what {person} follows, blocks or mutes")
            one, other = (self._ask(world, person, Product.FOLLOWING, time_ms) for world in (state, without))
            if _shown(one) != _shown(other):
                raise CheckError(f"the hostile viewer has changed what {person} sees of followees")
            for_you = self._ask(state, person, Product.FOR_YOU, time_ms)
            shown = np.array([entry.tweet_id for entry in for_you.entries], np.uint64)
            hidden = shown[~Visibility(without).may_see(person, shown)]
            if len(hidden):
                raise CheckError(f"the hostile viewer shows {person} the tweets {hidden.tolist()}")

    def _bonds(self, state: EngineState, person: int) -> object:
        graph, words = state.social_graph, state.muted_words
        muted = words.make_muted()
        words.of(person, muted)
        return (
            graph.followees(person, 1000).tolist(),
            graph.relation(person, self._people).tolist(),
            sorted(muted.phrase.tolist()),
            words.knows(person),
        )

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


def _shown(feed: Feed) -> object:
    """What a viewer sees of a feed, but for what counts everybody's acts."""
    entries = [(e.tweet_id, e.author_id, e.created_ms, e.text, e.in_network) for e in feed.entries]
    return entries, sorted((d.tweet_id, d.filter) for d in feed.dropped)
