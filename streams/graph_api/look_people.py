"""Graph queries about people: shared circles, address books, and signals on read (docs/protocol.md)."""

from typing import Any

import msgspec
import numpy as np

from engine.home_mixer.config import HomeMixerConfig
from engine.pipeline.scratch import Scratch
from engine.profiles.bits import GONE
from engine.shared_circles import SharedCircles
from engine.social_graph.circles import LEFT, RIGHT
from engine.state import EngineState
from engine.user_signals import BY_NAME, NAMES, UserSignals, grouped
from engine.visibility.judge import Visibility
from streams.graph_api import queries as q
from streams.graph_api.answers import Columns, Shape, id_array, id_strings, rows
from streams.reading.graph_queries import Answer


def share_circles(query: q.Intersections, _: HomeMixerConfig, state: EngineState, __: Scratch) -> Shape:
    """``engine.shared_circles``. Nobody who may not be named to the user is counted, named, or a candidate."""
    query = msgspec.structs.replace(query, time_ms=query.time_ms or max(0, state.clock_ms))
    visibility, circles = Visibility(state), SharedCircles(state)
    left = [people[visibility.may_name(query.user, people)] for people in circles.left(query.user, query.time_ms)]
    candidates = id_array(query.users)
    candidates = candidates[visibility.may_name(query.user, candidates)]
    found = circles.shared(query.user, left, candidates, query.time_ms, query.names)
    normalized = found.pairs.normalized()

    def shape() -> Answer:
        pairs = [
            {
                f"{one}_{other}": {
                    "count": int(found.pairs.counts[row, i, j]),
                    "left": int(found.pairs.left[i]),
                    "right": int(found.pairs.right[row, j]),
                    "normalized": float(normalized[row, i, j]),
                }
                for i, one in enumerate(LEFT)
                for j, other in enumerate(RIGHT)
            }
            for row in range(len(candidates))
        ]
        names = [id_strings(named[named != 0]) for named in found.names]
        found_rows = rows(user_id=id_strings(candidates), pairs=pairs, followed_by=found.followed_by, names=names)
        return Answer(query.shown(), found_rows, {"candidates": len(candidates)})

    return shape


def list_contacts(query: q.Contacts, _: HomeMixerConfig, state: EngineState, __: Scratch) -> Shape:
    """``engine.links``: a person's address book, or in whose it is, of those who may be named to the person."""
    find = state.links.contacts_of if query.of == "own" else state.links.in_address_books_of
    found = find(query.user, query.limit)
    told = found[Visibility(state).may_name(query.user, found)]
    return lambda: Answer(query.shown(), rows(user_id=id_strings(told)), {"people": len(told)})


def read_signals(query: q.Signals, _: HomeMixerConfig, state: EngineState, __: Scratch) -> Shape:
    """``engine.user_signals``: of tweets and people that may be named to the person."""
    query = msgspec.structs.replace(query, time_ms=query.time_ms or max(0, state.clock_ms))
    visibility = Visibility(state)
    found = UserSignals(state).of(query.user, query.time_ms, [query.signal] if query.signal else NAMES)
    results: list[dict[str, Any]] = []
    if query.by != "signal":
        groups = grouped(found, query.by)
        ids = id_array([group.target_id for group in groups])
        told = visibility.may_mention(query.user, ids) if query.by == "tweet" else visibility.may_name(query.user, ids)
        key = "tweet_id" if query.by == "tweet" else "user_id"
        results = [
            {key: str(group.target_id), "score": group.score, "time_ms": group.time_ms, "signals": list(group.signals)}
            for group, may in zip(groups, told.tolist(), strict=True)
            if may
        ][: query.limit]
        return lambda: Answer(query.shown(), results, {"targets": len(results)})
    for name, targets in found.items():
        tweets, positive = BY_NAME[name].target == "tweet", BY_NAME[name].positive
        if tweets:
            told = visibility.may_mention(query.user, targets.ids)
        elif positive:
            told = visibility.may_name(query.user, targets.ids)
        else:
            # Whom somebody barred may be named to that person, as long as there is such an account.
            told = state.profiles.standings(targets.ids) & np.uint8(GONE) == 0
        key = "tweet_id" if tweets else "user_id"
        columns: Columns = {key: id_strings(targets.ids[told]), "time_ms": targets.times_ms[told]}
        rest = rows(**columns)[: query.limit]
        results += [{"signal": name, **row} for row in rest]
    return lambda: Answer(query.shown(), results, {"targets": len(results)})
