"""Every reason that drops a tweet has words, and the answer, the command line and the page say the same ones."""

import pytest

from engine.feed import Dropped, Feed, Product
from engine.home_mixer.config import ForYouConfig, HomeMixerConfig
from engine.home_mixer.products import build_products
from engine.home_mixer.selector import WithRoots
from engine.pipeline.late_stages import Selection, Verification
from engine.pipeline.stages import Filtering, Narrowing
from engine.rooms import small_rooms
from engine.state import EngineState
from streams.server.drop_words import WORDS, WORDS_OF_PEOPLE, drop_words, span_words


def test_every_reason_has_words_and_no_other():
    of_tweets, of_people = {WithRoots.reason}, set()
    for product, pipeline in build_products(EngineState(small_rooms()), HomeMixerConfig(), "hash").items():
        reasons = of_people if product is Product.WHO_TO_FOLLOW else of_tweets
        for stage in (*pipeline.under_lock, *pipeline.after_lock):
            match stage:
                case Filtering():
                    reasons |= {rule.name for rule in stage.filters}
                case Narrowing():
                    reasons.add(stage.reason)
                case Selection():
                    reasons.add(stage.selector.name)
                case Verification():
                    reasons |= {verifier.name for verifier in stage.verifiers}
    assert of_tweets == set(WORDS)
    assert of_people == set(WORDS_OF_PEOPLE)


def feed_without(dropped, product=Product.FOR_YOU):
    """A feed that lacks these candidates."""
    return Feed(
        request_id=1, viewer_id=1, product=product, version=1, seed=1, time_ms=1, config_hash="", model_version="",
        entries=(), dropped=tuple(dropped),
    )  # fmt: skip


def test_reasons_are_counted_and_said():
    dropped = [Dropped(i, reason, ()) for i, reason in enumerate(["seen", "too_old", "seen", "own"])]
    assert drop_words(feed_without(dropped), HomeMixerConfig()) == [
        {"filter": "seen", "count": 2, "words": "2 tweets were seen by the viewer before"},
        {"filter": "own", "count": 1, "words": "1 tweet is the viewer's own"},
        {"filter": "too_old", "count": 1, "words": "1 tweet is older than 48 h"},
    ]
    config = HomeMixerConfig(for_you=ForYouConfig(age_ms_max=90 * 60_000))
    many = feed_without(1200 * dropped[1:2])
    assert drop_words(many, config)[0]["words"] == "1,200 tweets are older than 90 min"
    people = feed_without([Dropped(1, "dismissed", ()), Dropped(2, "dismissed", ())], Product.WHO_TO_FOLLOW)
    assert drop_words(people, config)[0]["words"] == "2 people were dismissed by the viewer"


@pytest.mark.parametrize(
    ("span_ms", "words"), [(172_800_000, "48 h"), (5_400_000, "90 min"), (61_000, "61 s"), (1500, "1500 ms")]
)
def test_spans(span_ms: int, words: str):
    assert span_words(span_ms) == words


async def test_the_answer_says_them_where_all_is_explained(site):
    async with site.socket() as socket:
        feed = await socket.ask(type="feed", explain="all")
        assert feed["dropped_in_words"] == [
            {"filter": "seen", "count": 1, "words": "1 tweet was seen by the viewer before"}
        ]
        assert "dropped_in_words" not in await socket.ask(type="feed", explain="entries")
