"""The log is the truth: the same log applied again gives the same state bytes and the same feeds."""

from collections.abc import Iterable
from contextlib import contextmanager

import numpy as np
import pytest

from engine.feed import FEEDS, Explain, Product, Request
from engine.home_mixer.config import ForYouConfig, HomeMixerConfig, RelatedConfig
from engine.home_mixer.products import build_products
from engine.interaction_graph.related import RelatedTweetsConfig, RelatedTweetsRequest, related_to_tweet
from engine.interaction_graph.similarity_kernels import CountScratch
from engine.pipeline.execute import Unwatched, execute
from engine.pipeline.scratch import Scratch
from engine.room import Observer, Room, restore
from engine.rooms import room_classes
from engine.state import EngineState, RoomsConfig
from loadtest.society.society import Society, SocietyConfig, encode
from streams.events.decode import Decoder
from streams.events.feed_fields import feed_digest
from streams.log.interface import Format, Records
from streams.ordering.pieces import Piece, cut
from streams.server.encode import encode_feed

NOW = 1_760_000_000_000


@pytest.fixture(scope="module")
def recorded() -> list[Records]:
    """A society's past as a log would give it back: runs of one topic, in the order of their append."""
    society = Society(SocietyConfig(seed=5, people=150, mean_followees=12, history_events=3000))
    events = [event for part in society.bootstrap(NOW, 6 * 3_600_000) for event in part]
    events += society.tick(NOW, NOW + 5000)
    runs: list[Records] = []
    offsets = {}
    for event in events:
        if not runs or runs[-1].topic != event.topic:
            runs.append(Records(event.topic, 0, [], [], [], [], []))
        run = runs[-1]
        offsets[event.topic] = offset = offsets.get(event.topic, -1) + 1
        run.offsets.append(offset)
        run.append_ms.append(int(event.body["timestamp_ms"]))
        run.formats.append(Format.JSON)
        run.keys.append(event.key)
        run.values.append(encode(event))
    return runs


def applied(runs: list[Records], batch_events_max: int) -> EngineState:
    return applied_pieces(cut(runs, batch_events_max))


def applied_pieces(pieces: Iterable[Piece]) -> EngineState:
    state, decoder = EngineState(RoomsConfig()), Decoder(future_ms_max=300_000)
    for piece in pieces:
        decoded = decoder.decode(piece)
        assert not decoded.dead, decoded.dead[0]
        state.apply(decoded.batch)
    return state


def ask(state: EngineState, viewer: int, product=Product.FOR_YOU, config=HomeMixerConfig(), **fields):  # noqa: B008
    @contextmanager
    def reading():
        yield state.version

    request = Request(
        viewer_id=viewer, request_id=viewer, time_ms=NOW + 6000, seed=viewer * 31, product=product,
        explain=Explain.ALL, **fields,
    )  # fmt: skip
    products = build_products(state, config, "hash")
    return execute(products[product], request, scratch=Scratch(), reading=reading(), watcher=Unwatched())


@pytest.fixture(scope="module")
def state(recorded) -> EngineState:
    return applied(recorded, 500)


def test_the_same_log_gives_the_same_bytes_and_the_same_feeds(recorded, state):
    again = applied(recorded, 500)
    assert again.digest() == state.digest()
    for viewer in range(1, 40):
        for product in Product:
            first, second = ask(state, viewer, product), ask(again, viewer, product)
            assert encode_feed(first) == encode_feed(second)
            assert feed_digest(first) == feed_digest(second)


def test_where_batches_are_cut_changes_no_base_room(recorded, state):
    """Lessons are about the state before a piece, derived rooms about the state after it: both may differ. What lessons
    remember of acts may not."""
    other = applied(recorded, 37)
    assert other.version > state.version
    rooms = room_classes().items()
    base = {"deduplication"} | {n for n, room in rooms if issubclass(room, Room) and not issubclass(room, Observer)}
    for (name, one), (same, two) in zip(state.arrays(), other.arrays(), strict=True):
        assert name == same
        if name == "lessons.recent" or name.partition(".")[0] in base:
            assert one.tobytes() == two.tobytes(), name
    assert other.events == state.events
    assert other.clock_ms == state.clock_ms


def test_applying_everything_twice_changes_no_room(recorded, state):
    """Every event of the second pass is a duplicate by its id."""
    twice = applied_pieces([*cut(recorded, 500), *cut(recorded, 500)])
    assert twice.events == state.events
    assert twice.duplicates > 0
    for room, other in zip(state.parts, twice.parts, strict=True):
        if isinstance(room, Room):
            for name, array in room.arrays().items():
                assert array.tobytes() == other.arrays()[name].tobytes(), (room.name, name)


def test_a_state_restored_from_its_arrays_serves_the_same_feeds(state):
    copy = EngineState(RoomsConfig())
    for room, source in zip(copy.parts, state.parts, strict=True):
        restore(room, {name: array.copy() for name, array in source.arrays().items()})
    dict(copy.arrays())["engine.header"][:] = dict(state.arrays())["engine.header"]
    assert copy.digest() == state.digest()
    copy.check()
    for viewer in range(1, 20):
        assert encode_feed(ask(copy, viewer)) == encode_feed(ask(state, viewer))


def test_feeds_of_a_living_society_keep_their_promises(state):
    """No own, seen, engaged or unknown tweet; no author twice within the gap; parts and factors give the score."""
    served = 0
    for viewer in range(1, 60):
        feed = ask(state, viewer)
        served += len(feed.entries)
        assert len({e.tweet_id for e in feed.entries}) == len(feed.entries)
        followees = set(state.social_graph.followees(viewer, 1000).tolist())
        for position, entry in enumerate(feed.entries):
            assert entry.position == position
            assert entry.author_id != viewer
            assert entry.text
            assert entry.in_network == (entry.author_id in followees)
            assert NOW + 6000 - entry.created_ms <= 48 * 3_600_000
            product = np.prod([f.factor for f in entry.why.factors]) if entry.why.factors else 1.0
            assert entry.score == pytest.approx(sum(entry.why.scores.values()) * product, rel=1e-9)
            assert {u for users in entry.why.social_proof.values() for u in users} <= followees
            assert entry.why.sources
        dropped = {d.tweet_id for d in feed.dropped}
        assert not dropped & {e.tweet_id for e in feed.entries}
        authors = [e.author_id for e in feed.entries]
        left = [d for d in feed.dropped if d.filter == "not_selected"]
        if left:
            assert all(a not in authors[max(0, i - 2) : i] for i, a in enumerate(authors))
    assert served > 500


def test_pages_never_repeat_and_reach_the_end(state):
    for product in FEEDS:
        seen: list[int] = []
        cursor = None
        for _ in range(200):
            feed = ask(state, 3, product, limit=7, cursor=cursor)
            assert [e.position for e in feed.entries] == list(range(len(seen), len(seen) + len(feed.entries)))
            seen += [e.tweet_id for e in feed.entries]
            cursor = feed.cursor
            if cursor is None:
                break
        assert cursor is None
        assert len(seen) == len(set(seen)) > 20
        if product is Product.FOLLOWING:
            whole = ask(state, 3, product, limit=len(seen) + 5)
            assert [e.tweet_id for e in whole.entries] == seen
            times = [(e.created_ms, e.tweet_id) for e in whole.entries]
            assert times == sorted(times, reverse=True)


def test_somebody_nobody_knows_gets_what_is_popular(state):
    feed = ask(state, 987_654_321)
    assert feed.entries
    assert {hit.name for e in feed.entries for hit in e.why.sources} <= {"popular", "walk_popular"}


def test_what_followees_engaged_with_is_a_candidate(state):
    """``liked_by_followees`` brings every tweet a followee publicly engaged with, and nothing else."""
    public = {1, 2, 3, 7}
    for viewer in range(1, 30):
        feed = ask(state, viewer, limit=100)
        graph, brought = state.interaction_graph, set()
        for entry in feed.entries:
            if any(hit.name == "liked_by_followees" for hit in entry.why.sources):
                brought.add(entry.tweet_id)
        brought |= {d.tweet_id for d in feed.dropped if "liked_by_followees" in d.sources}
        expected = set()
        mine = set(graph.neighbors_of_user(viewer, 10_000)[0].tolist())
        for followee in state.social_graph.followees(viewer, 300).tolist():
            tweets, types, _ = graph.neighbors_of_user(followee, 500)
            own = {t for t, kind in zip(tweets.tolist(), types.tolist(), strict=True) if kind == 4}
            expected |= {
                t for t, kind in zip(tweets.tolist(), types.tolist(), strict=True) if kind in public and t not in own
            }
        assert brought == expected - mine


def test_related_tweets_come_from_the_newest_favorites(state):
    """With limits that fit a small society: what ``related_to_favorites`` brings is the sum over single look-ups."""
    counting = RelatedTweetsConfig(
        age_of="first_edge", query_degree_min=2, degree_min=2, tweet_cooccurrence_min=1, tweet_score_above=0.0
    )
    config = HomeMixerConfig(for_you=ForYouConfig(related=RelatedConfig(favorites_max=3, counting=counting)))
    brought_any = 0
    for viewer in range(1, 30):
        feed = ask(state, viewer, limit=100, config=config)
        acts = state.signals.recent_engagements(viewer, 12)
        liked = [t for t, k in zip(acts.tweet_ids.tolist(), acts.kinds.tolist(), strict=True) if k in (1, 3)]
        newest = list(dict.fromkeys(liked))
        expected: dict[int, float] = {}
        for tweet in newest[:3]:
            request = RelatedTweetsRequest(time_ms=NOW + 6000, seed=viewer * 31)
            found = related_to_tweet(state.interaction_graph, tweet, request, counting, CountScratch())
            for t, score in zip(found.tweet_ids.tolist(), found.scores.tolist(), strict=True):
                expected[t] = expected.get(t, 0.0) + score
        by_tweet = {
            e.tweet_id: hit.score for e in feed.entries for hit in e.why.sources if hit.name == "related_to_favorites"
        }
        best = dict(sorted(expected.items(), key=lambda item: (-item[1], item[0]))[:200])
        assert by_tweet == {t: pytest.approx(best[t]) for t in by_tweet}
        brought_any += len(by_tweet)
    assert brought_any > 20


def test_the_engine_learns_while_it_applies_and_a_replay_learns_the_same(recorded, state):
    learnt, again = applied(recorded, 20), applied(recorded, 20)
    assert learnt.blend_learner.counters()["updates"] > 10
    assert learnt.blend_learner.weights.std() > 0
    learnt.blend_learner.check()
    assert again.digest() == learnt.digest()
    feed = ask(state, 3)
    families = {"walk", "recent_walk", "popularity"}
    assert families <= set(feed.entries[0].why.scores)
    assert any(entry.why.scores[family] > 0 for entry in feed.entries for family in families)
