"""The society's promises: repeatable, whole, in time order, bounded; and people who behave as the model says."""

from collections import Counter

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.batch import Kind
from loadtest.society import behavior
from loadtest.society.events import to_events
from loadtest.society.people import make_follows, make_people, similarity
from loadtest.society.society import Event, Society, SocietyConfig, encode
from loadtest.society.tweets import SeenTable
from streams.events import json_types

NOW_MS = 1_760_000_000_000


def bytes_of(society: Society, events: list[Event]) -> bytes:
    shown = [event.body for event in events if event.topic == "tweets"][-20:]
    for viewer in society.viewer_ids(5):
        events += society.react(viewer, shown, NOW_MS + 4000, request_id=9)
    events += society.tick(NOW_MS + 4000, NOW_MS + 6000)
    return b"\n".join(encode(event) for event in events)


def test_same_seed_and_calls_give_the_same_bytes(make_society, live):
    first, second, other = (make_society(seed=seed, people=120) for seed in (11, 11, 12))
    story = bytes_of(first, live(first, seconds=3))
    assert story == bytes_of(second, live(second, seconds=3))
    assert story != bytes_of(other, live(other, seconds=3))


def test_columns_and_events_are_the_same_story(make_society):
    one, other = make_society(), make_society()
    for from_ms in (NOW_MS, NOW_MS + 700):
        assert to_events(one.tick_columns(from_ms, from_ms + 700)) == other.tick(from_ms, from_ms + 700)


def test_every_event_is_valid_on_its_topic(lived):
    decoder = msgspec.json.Decoder(dict)
    for event in lived[1]:
        struct = json_types.STRUCT_BY_TYPE[event.body["type"]]
        parsed = msgspec.convert(decoder.decode(encode(event)), struct)
        assert json_types.TOPIC_BY_TYPE[event.body["type"]] == event.topic
        assert event.key == str(getattr(parsed, json_types.TOPICS[event.topic].key)).encode()


def test_ids_are_unique_and_tweet_ids_carry_their_time(lived):
    events = lived[1]
    assert len({event.body["id"] for event in events}) == len(events)
    for event in events:
        if event.topic == "tweets":
            assert (int(event.body["tweet_id"]) >> 22) + 1_288_834_974_657 == event.body["timestamp_ms"]


def test_events_come_in_time_order(lived):
    times = [event.body["timestamp_ms"] for event in lived[1]]
    assert times == sorted(times)
    assert times[-1] < NOW_MS + 20_000


def test_everything_refers_to_something_that_exists(lived):
    """Replayed against a plain model: no dangling id, no second like, nothing undone that was not done."""
    people: set[str] = set()
    author_of: dict[str, str] = {}
    follows: set[tuple[str, str]] = set()
    blocks: set[tuple[str, str]] = set()
    likes: set[tuple[str, str]] = set()
    for _, _, body in lived[1]:
        kind = body["type"]
        if kind == "user":
            people.add(body["user_id"])
        elif kind == "create":
            assert body["author_id"] in people
            for parent in ("reply_to_id", "quoted_id"):
                assert body.get(parent) is None or body[parent] in author_of
            author_of[body["tweet_id"]] = body["author_id"]
        elif "target_id" in body:
            pair = (body["user_id"], body["target_id"])
            assert set(pair) <= people
            assert pair[0] != pair[1]
            assert (pair in follows) == (kind == "unfollow")
            if kind == "block":
                assert pair not in blocks
                blocks.add(pair)
            (follows.discard if kind == "unfollow" else follows.add)(pair) if kind != "block" else None
        else:
            pair = (body["user_id"], body["tweet_id"])
            assert author_of[body["tweet_id"]] == body["author_id"] != body["user_id"]
            assert (body["user_id"], body["author_id"]) not in blocks
            if kind == "favorite":
                assert pair not in likes
                likes.add(pair)
            elif kind == "unfavorite":
                likes.remove(pair)
    assert len(likes) > 100


def test_all_that_people_do_happens(lived):
    counts = Counter(event.body["type"] for event in lived[1])
    acts = {"create", "impression", "click", "favorite", "unfavorite", "retweet", "reply", "quote", "not_interested"}
    assert acts | {"user", "follow", "unfollow"} <= counts.keys()
    assert sum(1 for event in lived[1] if "reply_to_id" in event.body) == counts["reply"]
    assert sum(1 for event in lived[1] if "quoted_id" in event.body) == counts["quote"]
    assert counts["favorite"] > counts["retweet"] > counts["quote"] > 0


def test_the_rate_is_what_was_asked_for(make_society):
    society = make_society(events_per_s=500.0)
    list(society.bootstrap(NOW_MS, 3_600_000))
    events = [e for t in range(20) for e in society.tick(NOW_MS + t * 1000, NOW_MS + t * 1000 + 1000)]
    assert len(events) == pytest.approx(500 * 20, rel=0.05)
    own = sum(1 for e in events if e.body["type"] == "create" and not {"reply_to_id", "quoted_id"} & e.body.keys())
    assert own == pytest.approx(0.1 * len(events), rel=0.1)


def test_memory_is_bounded(make_society):
    society = make_society(tweets_max=1024, events_per_s=4000.0)
    first = society.tick(NOW_MS, NOW_MS + 500)
    for from_ms in range(NOW_MS + 500, NOW_MS + 8000, 500):
        society.tick(from_ms, from_ms + 500)
    world = society.world
    assert world.tweets.count > 2 * 1024
    assert len(world.tweets) == len(world.tweets._number_by_id) == 1024
    old = next(event.body["tweet_id"] for event in first if event.topic == "tweets")
    with pytest.raises(KeyError):
        society.affinity(1, int(old))
    assert len(world.follows._changes) < 512


def test_in_degrees_have_a_power_law_tail():
    rng = np.random.default_rng(5)
    people = make_people(rng, 5000, 12, 2.3)
    keys = make_follows(rng, people, 40.0, 0.8, 0.3)
    followers = np.bincount(keys % 5000, minlength=5000)
    followees = np.bincount(keys // 5000, minlength=5000)
    assert followees.mean() == pytest.approx(40.0, rel=0.15)
    # Hill's estimate over the upper tail, and far above what random following (Poisson) would reach.
    tail = np.sort(followers)[-250:].astype(float)
    exponent = 1.0 + 1.0 / np.mean(np.log(tail / tail[0]))
    assert 1.9 < exponent < 2.9
    assert followers.max() > 20 * followers.mean()
    assert np.median(followers) < followers.mean()


def test_people_follow_their_like():
    rng = np.random.default_rng(6)
    people = make_people(rng, 2000, 12, 2.3)
    keys = make_follows(rng, people, 30.0, 0.8, 0.3)
    follower, followee = np.divmod(keys, 2000)
    strangers = rng.permutation(followee)
    assert similarity(people, follower, followee).mean() > 2.0 * similarity(people, follower, strangers).mean()
    mutual = np.isin(followee * 2000 + follower, keys).mean()
    assert mutual > 5 * keys.shape[0] / 2000**2


unit = st.floats(0.0, 1.0)


@given(a=unit, b=unit, quality=unit, age=st.integers(0, 10**9), later=st.integers(1, 10**8), place=st.integers(0, 99))
def test_chances_rise_with_affinity_and_fall_with_age_and_position(a, b, quality, age, later, place):
    low, high = sorted((a, b))
    tie = np.array([False, True])
    affine = behavior.affinity(np.array([low, high]), np.array([quality, quality]), tie[[0, 0]])
    assert 0 < affine[0] <= affine[1] <= 1
    tied = behavior.affinity(np.array([low, low]), np.array([quality, quality]), tie)
    assert tied[0] < tied[1]
    better = behavior.affinity(np.array([low, low]), np.array(sorted((quality, b))), tie[[0, 0]])
    assert better[0] <= better[1]
    chance = behavior.engagement(0.3, affine, np.ones(2))
    assert chance[0] <= chance[1]
    fresh = behavior.freshness(np.array([age, age + later]), 1_800_000.0)
    assert 1 >= fresh[0] >= fresh[1] >= 0
    seen = behavior.examination(np.array([place, place + 1]), 0.9)
    assert 1 >= seen[0] > seen[1] > 0


def test_reactions_follow_the_model():
    """Measured, not read off: the reactions to one feed of the whole society against the closed form."""
    config = SocietyConfig(people=4000, seed=2, history_events=0, seen_max=2**20)
    society = Society(config)
    created = society.tick_columns(NOW_MS, NOW_MS + 2000)
    tweets = created.subject_id[created.kind == Kind.CREATE].tolist()[:20]
    shown = [{"tweet_id": str(t), "author_id": "1"} for t in tweets]
    viewers = range(1, 4001)
    affinities = np.array([[society.affinity(v, t) for t in tweets] for v in viewers])
    seen, liked = np.zeros((4000, 20)), np.zeros((4000, 20))
    for viewer in viewers:
        for event in society.react(viewer, shown, NOW_MS + 2000):
            if event.body["type"] in ("impression", "favorite"):
                at = tweets.index(int(event.body["tweet_id"]))
                (seen if event.body["type"] == "impression" else liked)[viewer - 1, at] = 1
    np.testing.assert_allclose(seen.mean(axis=0), 0.9 ** np.arange(20), atol=0.05)
    order = np.argsort(affinities.ravel())
    shares = []
    for part in np.split(order, [40_000, 60_000, 72_000]):
        looked = seen.ravel()[part] > 0
        expected = (0.32 * affinities.ravel()[part][looked] ** 2).mean()
        shares.append(liked.ravel()[part][looked].mean())
        assert shares[-1] == pytest.approx(expected, rel=0.25, abs=0.003)
    assert 20 * max(shares[:2]) < shares[2] < shares[3]


def test_a_viewer_reacts_once_to_a_tweet(make_society):
    society = make_society(seed=8)
    created = [e.body for e in society.tick(NOW_MS, NOW_MS + 5000) if e.topic == "tweets"]
    viewer = society.viewer_ids(1)[0]
    society.react(viewer, created, NOW_MS + 5000)
    for again in range(20):
        events = society.react(viewer, created[:5] + created[:5], NOW_MS + 6000 + again, request_id=77)
        assert {event.body["type"] for event in events} <= {"impression"}
        assert all(event.body["request_id"] == "77" and event.body["value"] < 10 for event in events)


def test_strange_feeds_are_looked_at_and_no_more(make_society):
    society = make_society()
    shown = [{"tweet_id": str(2**64 - 1), "author_id": "5"}] * 10
    events = society.react(7, shown, NOW_MS)
    assert events
    assert {event.body["type"] for event in events} == {"impression"}
    assert society.react(7, [], NOW_MS) == []
    with pytest.raises(ValueError, match="nobody"):
        society.react(401, shown, NOW_MS)
    with pytest.raises(ValueError, match="nobody"):
        society.affinity(0, 1)


def test_affinity_is_nothing_across_a_block(lived):
    society, events = lived
    author_of = {int(e.body["tweet_id"]): int(e.body["author_id"]) for e in events if e.topic == "tweets"}
    tweet, author = next(reversed(author_of.items()))
    assert society.affinity(author, tweet) == 0.0
    viewer = next(v for v in society.viewer_ids(400) if v != author and society.affinity(v, tweet) > 0)
    society.world.blocks.put((viewer - 1) * 400 + author - 1, True)
    assert society.affinity(viewer, tweet) == 0.0


def test_people_like_what_their_interests_say(lived):
    """What was liked meets the viewer's interests far better than what was merely seen."""
    society, events = lived
    pairs: dict[str, set[tuple[int, int]]] = {"favorite": set(), "impression": set()}
    for event in events[-4000:]:
        if event.body["type"] in pairs:
            pairs[event.body["type"]].add((int(event.body["user_id"]), int(event.body["tweet_id"])))
    liked = [society.affinity(*pair) for pair in pairs["favorite"]]
    passed = [society.affinity(*pair) for pair in pairs["impression"] - pairs["favorite"]]
    assert np.mean(liked) > 1.5 * np.mean(passed)


@settings(max_examples=50)
@given(st.lists(st.tuples(st.integers(0, 2000), st.integers(0, 10**6)), max_size=60, unique=True))
def test_seen_table_never_invents(pairs):
    """A pair that was not added is never seen; the last one added always is."""
    table = SeenTable(1024)
    added = set()
    for person, number in pairs:
        one, two = np.array([person]), np.array([number])
        assert table.unseen(one, two)[0] or (person, number) in added
        table.add(one, two)
        added.add((person, number))
        assert not table.unseen(one, two)[0]


def test_config_is_checked():
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert({"people": 3}, SocietyConfig)
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert({"peple": 300}, SocietyConfig)
