"""The first difference is the first: every part of a feed, changed alone, is the one that is named."""

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.feed import Dropped, Entry, Explain, Factor, Feed, Product, Request, SourceHit, Why
from streams.audit.difference import first_difference
from streams.events.served_feed import EncodedFeed
from streams.events.served_records import decode_served, encode_served
from streams.log.interface import Format

REQUEST = Request(viewer_id=3, request_id=9, time_ms=1_760_000_000_000, seed=7, explain=Explain.ALL)
WHY = Why(
    sources=(SourceHit("own_walk", 0.5, 0), SourceHit("popular", 0.25, 4)),
    social_proof={"favorite": (9, 2**64 - 1), "reply": (8,)},
    scores={"walk": 0.25, "recency": 0.5},
    factors=(Factor("author_diversity", 0.5),),
    filters_passed=("own", "seen"),
)
ENTRIES = tuple(
    Entry(
        tweet_id=100 + i,
        author_id=2**63 + i,
        created_ms=1_750_000_000_000 + i,
        text=f"tweet {i}",
        position=5 + i,
        score=1.0 / (i + 1),
        in_network=i % 2 == 0,
        counts={"favorite": i, "reply": 2 * i},
        why=WHY,
    )
    for i in range(4)
)
FEED = Feed(
    request_id=9,
    viewer_id=3,
    product=Product.FOR_YOU,
    version=12,
    seed=7,
    time_ms=REQUEST.time_ms,
    config_hash="c0ffee",
    model_version="blend-2",
    models={"reputation": "17"},
    entries=ENTRIES,
    dropped=(Dropped(55, "seen", ("popular",)),),
    degraded=("popular_walk",),
    cursor="next",
    timings_ms={"total": 1.0},
)

replace = msgspec.structs.replace


def entry(i: int, **changes: Any) -> Feed:
    entries = list(ENTRIES)
    entries[i] = replace(entries[i], **changes)
    return replace(FEED, entries=tuple(entries))


def why(i: int, **changes: Any) -> Feed:
    return entry(i, why=replace(WHY, **changes))


#: What was changed, in the order of comparison: where the difference is, and what each side says.
CHANGES: list[tuple[Feed, str, Any, Any]] = [
    (replace(FEED, version=13), "version", 12, 13),
    (replace(FEED, config_hash="other"), "config_hash", "c0ffee", "other"),
    (replace(FEED, model_version="blend-3"), "model_version", "blend-2", "blend-3"),
    (replace(FEED, models={"reputation": "18"}), "models.reputation", "17", "18"),
    (replace(FEED, models={}), "models.reputation", "17", None),
    (replace(FEED, gap_records=4), "gap_records", 0, 4),
    (replace(FEED, degraded=("popular",)), "degraded[0]", "popular_walk", "popular"),
    (replace(FEED, degraded=()), "degraded[0]", "popular_walk", None),
    (entry(0, tweet_id=999), "entries[0].tweet_id", 100, 999),
    (entry(0, author_id=999), "entries[0].author_id", 2**63, 999),
    (entry(0, position=0), "entries[0].position", 5, 0),
    (why(1, sources=WHY.sources[:1]), "entries[1].why.sources[1]", None, None),
    (why(1, sources=(SourceHit("own_walk", 0.75, 0),)), "entries[1].why.sources[0].score", 0.5, 0.75),
    (why(1, social_proof={"favorite": (9, 7), "reply": (8,)}), "entries[1].why.social_proof.favorite[1]", 2**64 - 1, 7),
    (why(1, scores={"walk": 0.25, "recency": 0.6}), "entries[1].why.scores.recency", 0.5, 0.6),
    (why(1, scores={"walk": 0.25}), "entries[1].why.scores.recency", 0.5, None),
    (why(1, factors=(Factor("author_diversity", 0.25),)), "entries[1].why.factors[0].factor", 0.5, 0.25),
    (why(1, filters_passed=("own",)), "entries[1].why.filters_passed[1]", "seen", None),
    (entry(1, why=None), "entries[1].why", None, None),
    (entry(1, score=0.6), "entries[1].score", 0.5, 0.6),
    (replace(FEED, entries=ENTRIES[:2]), "entries[2]", {"tweet_id": 102}, None),
    (replace(FEED, entries=(*ENTRIES, ENTRIES[0])), "entries[4]", None, {"tweet_id": 100}),
]
#: What is recorded by a digest alone; the other side is told whole.
DIGESTED: list[tuple[Feed, str, Any]] = [
    (entry(2, created_ms=1), "entries[2].origin", {"created_ms": 1, "in_network": True}),
    (entry(2, in_network=False), "entries[2].origin", {"created_ms": 1_750_000_000_002, "in_network": False}),
    (entry(2, text="edited"), "entries[2].text", "edited"),
    (entry(2, counts={"favorite": 3, "reply": 4}), "entries[2].counts", {"favorite": 3, "reply": 4}),
    (replace(FEED, cursor="other"), "cursor", "other"),
    (replace(FEED, cursor=None), "cursor", "(absent)"),
    (replace(FEED, dropped=()), "dropped", "(absent)"),
]


def recorded(feed: Feed = FEED):
    part = EncodedFeed(feed).served_part(REQUEST, history="00c0ffee00c0ffee", incarnation=5)
    return decode_served(Format.PACKED, encode_served([part]))[0]


@pytest.mark.parametrize(("feed", "where", "was", "now"), CHANGES, ids=[where for _, where, *_ in CHANGES])
def test_each_part_is_named(feed, where, was, now):
    found = first_difference(recorded(), feed)
    assert found.where == where
    if was is not None or now is not None:
        assert (found.recorded, found.recomputed) == (was, now)
    # From the other side it is the same place.
    assert first_difference(recorded(feed), FEED).where == where


@pytest.mark.parametrize(("feed", "where", "now"), DIGESTED, ids=[where for _, where, _ in DIGESTED])
def test_what_is_recorded_by_its_digest_is_told_from_the_other_side(feed, where, now):
    found = first_difference(recorded(), feed)
    assert (found.where, found.recomputed) == (where, now)
    assert "digest" in found.recorded


@given(st.sets(st.sampled_from(range(len(CHANGES))), min_size=1))
def test_of_several_differing_terms_the_first_is_named(which):
    terms = [name for name in ("version", "config_hash", "model_version", "gap_records") for i in which
             if CHANGES[i][1] == name]  # fmt: skip
    feed = FEED
    for i in which:
        if CHANGES[i][1] in terms:
            feed = replace(feed, **{CHANGES[i][1]: CHANGES[i][3]})
    found = first_difference(recorded(), replace(feed, entries=()))
    assert found.where == (terms[0] if terms else "entries[0]")


def test_the_same_is_no_difference_whatever_time_it_took():
    assert first_difference(recorded(), replace(FEED, timings_ms={})) is None


def test_a_record_whose_digest_alone_was_changed_is_different():
    served = replace(recorded(), digest="0" * 64)
    assert first_difference(served, FEED).where == "digest"
