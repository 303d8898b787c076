"""Profiles, labels and muted words count wherever a tweet or a person comes up, through the front door."""

import json

import pytest

from tests.support.front_door import World

LIKERS = [person for person in range(60, 90) if person not in range(71, 75)]


LIKERS = [person for person in range(60, 90) if person not in range(71, 75)]


def crowd(w: World) -> None:
    """1 follows 60 to 89 without 71 to 74, and these like what 71 and 72 wrote; 73 follows 72, and 74 follows 71."""
    w.follow(1, *LIKERS)
    w.follow(73, 72, 71)
    w.follow(74, 71)
    w.create(3001, by=71, at=-3000)
    w.create(3002, by=72, at=-3000)
    w.create(3003, by=60, retweets=3001, at=-2000)
    w.create(3004, by=60, quotes=3001, at=-2000)
    w.create(3005, by=60, retweets=3002, at=-2000)
    w.publish()
    for person in LIKERS:
        for tweet in (3001, 3002):
            w.act("favorite", person, tweet, at=-1000)
    w.publish()


OF_71 = (3001, 3003, 3004)


@pytest.mark.parametrize("state", ["suspended", "deactivated"])
def test_nobody_sees_an_author_who_is_suspended(w: World, state: str):
    crowd(w)
    assert 3001 in w.shown(2, "for_you") or 3001 in w.shown(1, "for_you")
    w.user(71, state=state)
    w.publish()
    for viewer in (1, 2, 73, 74):
        assert w.sees_none(viewer, *OF_71)
    w.user(71, state="active", at=1)
    w.publish()
    assert w.sees(74, 3001)


def test_a_profile_before_the_tweets(w: World):
    w.user(71, state="suspended", at=-9000)
    w.user(72, protected=True, at=-9000)
    w.publish()
    crowd(w)
    for viewer in (1, 2, 74):
        assert w.sees_none(viewer, 3001, 3002, 3003, 3004, 3005)
    assert w.sees(73, 3002)


def test_a_protected_author_is_seen_by_followers_only(w: World):
    crowd(w)
    w.user(72, protected=True)
    w.publish()
    for viewer in (1, 2, 74):
        assert w.sees_none(viewer, 3002, 3005)
    assert w.sees(73, 3002)
    w.relate("unfollow", 73, 72, at=1)
    w.publish()
    assert w.sees_none(73, 3002, 3005)
    w.user(72, at=2)
    w.publish()
    assert 3002 in w.shown(1, "for_you")


def test_an_older_profile_does_not_undo_a_newer_one(w: World):
    crowd(w)
    w.user(71, state="suspended")
    w.publish()
    w.user(71, state="active", at=-1)
    w.publish()
    assert w.sees_none(74, *OF_71)


def test_a_suspended_person_is_nobodys_social_proof(w: World):
    crowd(w)
    w.create(3010, by=9)
    w.follow(1, 9)
    w.act("favorite", 60, 3010)
    w.act("favorite", 61, 3010)
    w.publish()
    assert w.proof(1, 3010) == {60, 61}
    w.user(60, state="suspended", at=1)
    w.publish()
    assert w.proof(1, 3010) == {61}


@pytest.mark.parametrize("kind", ["block", "mute"])
def test_a_blocked_person_is_nobodys_social_proof_and_brings_no_tweet(w: World, kind: str):
    w.follow(1, 60, 61)
    w.create(3010, by=8)
    w.create(3011, by=9)
    w.act("favorite", 60, 3010)
    w.act("favorite", 60, 3011)
    w.act("favorite", 61, 3011)
    w.publish()
    assert w.proof(1, 3011) == {60, 61}
    w.relate(kind, 1, 60, at=1)
    w.publish()
    assert w.proof(1, 3011) == {61}
    feed = w.feed(1, "for_you")
    brought = [e for e in feed["entries"] if w.small([e["tweet_id"]]) == [3010]]
    assert "liked_by_followees" not in [s["name"] for e in brought for s in e["why"]["sources"]]


def test_who_blocks_the_viewer_is_nobodys_social_proof(w: World):
    w.follow(1, 60, 61, 9)
    w.create(3011, by=9)
    w.act("favorite", 60, 3011)
    w.act("favorite", 61, 3011)
    w.relate("block", 60, 1, at=1)
    w.publish()
    assert w.proof(1, 3011) == {61}
    assert w.proof(1, 3011, "following") == {61}


def test_an_opt_out_from_being_recommended_leaves_following(w: World):
    crowd(w)
    w.user(71, recommendable=False)
    w.publish()
    for viewer in (1, 2):
        assert 3001 not in w.shown(viewer, "for_you")
    assert w.sees(74, 3001)


# Erasing


def test_a_null_value_erases_a_person(w: World):
    crowd(w)
    w.user(72, protected=True)
    w.publish()
    key = str(w.base + 72).encode()
    w.append("users", b"", key=key)
    for viewer in (1, 2, 73, 74):
        assert w.sees_none(viewer, 3002, 3005)
    assert w.named(w.query("proof", user=1, tweets=[3002])) <= set(range(60, 90)) | {3002}


@pytest.mark.parametrize("topic", ["tweets", "relationships", "engagements"])
def test_a_null_value_on_another_topic_is_passed_over(w: World, topic: str):
    w.follow(1, 2)
    w.create(100, by=2)
    w.publish()
    letters = len(w.letters())
    w.append(topic, b"", key=str(w.base + 2).encode())
    assert len(w.letters()) == letters
    assert w.sees(1, 100)


# Muted words


MUTES = {
    # word, texts that are dropped, texts that are not
    "flock": (["the flock turns", "Flock!", "a #flock", "(flock)", "FLOCK"], ["a flocking", "flocks"]),
    "#Tern": (["a #tern", "#TERN"], ["#ternary"]),
    "straße": (["eine STRASSE", "Straße."], ["Straßen"]),
    "istanbul": (["ISTANBUL", "İstanbul", "İSTANBUL!"], ["istanbullu"]),
    "café": (["Cafe\u0301 noir", "CAFÉ"], ["cafeteria"]),
    "ｆｕｌｌ": (["full width", "ＦＵＬＬ width"], ["fullness"]),
    "two words": (["of two words.", "Two  Words"], ["two other words", "words two"]),
    "鳥": (["a 鳥 sings"], ["plain"]),
}


@pytest.mark.parametrize("word", MUTES)
def test_a_muted_word(w: World, word: str):
    dropped, kept = MUTES[word]
    w.follow(40, 41)
    w.word(40, word)
    for i, text in enumerate(dropped):
        w.create(4100 + i, by=41, text=text)
    for i, text in enumerate(kept):
        w.create(4200 + i, by=41, text=text)
    w.publish()
    for product in ("for_you", "following"):
        reasons = {text: w.why_not(40, 4100 + i, product) for i, text in enumerate(dropped)}
        assert reasons == dict.fromkeys(dropped, "muted_word"), product
        assert all(w.why_not(40, 4200 + i, product) == "shown" for i in range(len(kept))), product
    w.word(40, word.upper() if word == "flock" else word, "unmute_word", at=1)
    w.publish()
    for i in range(len(dropped)):
        assert w.sees(40, 4100 + i)


def test_a_muted_word_in_what_is_quoted_carried_and_answered(w: World):
    w.follow(40, 41)
    w.word(40, "flock")
    w.create(4101, by=43, text="Flock!", at=-5000)
    w.create(4102, by=41, text="look", quotes=4101, at=-4000)
    w.create(4103, by=41, text="", retweets=4101, at=-3000)
    w.create(4104, by=40, text="and a flock", at=-2500)
    w.create(4105, by=41, text="an answer", answers=4104, at=-2000)
    w.create(4106, by=44, text="a quote", quotes=4101, at=-1500)
    w.create(4107, by=41, retweets=4106, at=-1000)
    w.create(4108, by=41, text="tagged", hashtags=["Flock"])
    w.create(4109, by=41, text="tagged", hashtags=["flocking"])
    w.publish()
    for tweet in (4102, 4103, 4105, 4107, 4108):
        assert w.why_not(40, tweet) == "muted_word", tweet
        assert w.sees_none(40, tweet)
    assert w.sees(40, 4109)
    assert 4104 in w.shown(40, "following")
    assert w.why_not(42, 4101) != "muted_word"


def test_an_edit_brings_a_muted_word_in_and_takes_it_out(w: World):
    w.follow(40, 41)
    w.word(40, "flock")
    w.create(4100, by=41, text="a shoal")
    w.publish()
    assert w.sees(40, 4100)
    w.event("edit", tweet_id=4100, author_id=41, text="a flock", at=1)
    w.publish()
    assert w.why_not(40, 4100) == "muted_word"
    w.event("edit", tweet_id=4100, author_id=41, text="a shoal", at=2)
    w.publish()
    assert w.sees(40, 4100)


def test_a_word_muted_twice_is_unmuted_once_and_the_later_act_wins(w: World):
    w.follow(40, 41)
    w.create(4100, by=41, text="the flock turns")
    w.word(40, "Flock")
    w.word(40, "flock", at=1)
    w.word(40, "flock", "unmute_word", at=2)
    w.publish()
    assert w.sees(40, 4100)
    w.word(40, "flock", at=1)
    w.publish()
    assert w.sees(40, 4100)


def test_a_word_that_somebody_else_mutes(w: World):
    w.follow(40, 41)
    w.word(39, "flock")
    w.create(4100, by=41, text="the flock turns")
    w.publish()
    assert w.sees(40, 4100)


# Labels, and who may change a tweet


@pytest.mark.parametrize("label", ["Spam", "spam", "Pdna", "Bounce"])
def test_a_label_drops_a_tweet_and_its_retweets(w: World, label: str):
    w.follow(1, 2)
    w.create(100, by=9, at=-2000)
    w.create(101, by=2, retweets=100, at=-1000)
    w.create(102, by=2)
    w.publish()
    for tweet, author in ((100, 9), (102, 2)):
        w.event("label", tweet_id=tweet, author_id=author, label=label)
    w.publish()
    assert w.sees_none(1, 100, 101, 102)
    for tweet, author in ((100, 9), (102, 2)):
        w.event("unlabel", tweet_id=tweet, author_id=author, label=label, at=1)
    w.publish()
    assert w.sees(1, 101)
    assert w.sees(1, 102)


def test_a_label_before_its_tweet(w: World):
    w.follow(1, 2)
    w.event("label", tweet_id=100, author_id=2, label="Spam", at=1)
    w.publish()
    w.create(100, by=2)
    w.publish()
    assert w.sees_none(1, 100)


def test_a_label_for_recommendations_leaves_followers(w: World):
    crowd(w)
    w.event("label", tweet_id=3001, author_id=71, label="DoNotAmplify")
    w.publish()
    for viewer in (1, 2):
        assert 3001 not in w.shown(viewer, "for_you")
    assert w.sees(74, 3001)


@pytest.mark.parametrize("kind", ["delete", "edit"])
def test_only_the_author_changes_a_tweet(w: World, kind: str):
    w.follow(1, 2)
    w.create(100, by=2, text="as written")
    w.publish()
    fields = {"text": "put into the mouth"} if kind == "edit" else {}
    w.event(kind, tweet_id=100, author_id=3, at=1, **fields)
    w.publish()
    assert w.entry(1, 100)["text"] == "as written"
    w.event(kind, tweet_id=100, author_id=2, at=2, **fields)
    w.publish()
    if kind == "delete":
        assert w.sees_none(1, 100)
    else:
        assert w.entry(1, 100)["text"] == "put into the mouth"


def test_a_strangers_delete_before_the_create_deletes_nothing(w: World):
    w.follow(1, 2)
    w.delete(100, by=3)
    w.publish()
    w.create(100, by=2)
    w.publish()
    assert w.sees(1, 100)


def test_a_stranger_cannot_take_a_tweets_id(w: World):
    w.follow(1, 2)
    w.create(100, by=2, text="as written")
    w.publish()
    w.create(100, by=3, text="put into the mouth", at=1)
    w.publish()
    assert w.entry(1, 100)["text"] == "as written"
    assert int(w.entry(1, 100)["author_id"]) == w.base + 2


# Refreshing


def test_two_refreshes_at_one_version_show_the_same(w: World):
    w.follow(1, *range(60, 70))
    for i in range(40):
        w.create(100 + i, by=60 + i % 10)
        for person in range(80, 85):
            w.act("favorite", person, 100 + (i * 7 + person) % 40)
    for i in range(5):
        w.act("favorite", 1, 100 + i)
    w.publish()
    lists = [w.shown(1, "for_you", limit=20, explain="none") for _ in range(3)]
    assert lists[0] == lists[1] == lists[2], json.dumps(lists)


def test_a_newcomers_interests_make_the_feed_until_they_are_taken_back(w: World):
    birds, tea = f"birds{w.base}", f"Tea{w.base}"
    for at in range(15):
        w.create(3100 + at, by=20 + at, hashtags=[birds.upper()], at=-3000)
        w.create(3200 + at, by=40 + at, hashtags=[f"#{tea}"], at=-2000)
    w.event("interests", user_id=5, interests=[birds])
    w.event("user", user_id=6, interests=[tea], languages=["de"])
    w.publish()
    feeds = {viewer: w.feed(viewer, limit=10) for viewer in (5, 6)}
    assert {feed["tier"]["name"] for feed in feeds.values()} == {"interests_or_language"}
    assert {*w.small([e["tweet_id"] for e in feeds[5]["entries"]])} <= {*range(3100, 3115)}
    assert {*w.small([e["tweet_id"] for e in feeds[6]["entries"]])} <= {*range(3200, 3215)}
    w.event("interests", user_id=5, interests=[tea], at=-1)  # older: nothing changes
    w.event("interests", user_id=6, interests=None, at=1)
    w.publish()
    assert {*w.shown(5, "for_you", limit=10)} <= {*range(3100, 3115)}
    assert w.feed(6)["tier"]["reason"].endswith("the language is known")


def test_muted_retweets_leave_the_feed_at_once_and_come_back(w: World):
    w.follow(1, 60, 61)
    w.create(3300, by=9, at=-3000)
    w.create(3301, by=60, retweets=3300, at=-2000)
    w.create(3302, by=60, at=-2000)
    w.publish()
    assert w.sees(1, 3301)
    w.relate("mute_retweets", 1, 60)
    w.publish()
    assert {w.why_not(1, 3301, product) for product in ("for_you", "following")} == {"muted_retweets"}
    assert w.sees(1, 3302)
    w.relate("unmute_retweets", 1, 60, at=-1)
    w.publish()
    assert w.why_not(1, 3301, "following") == "muted_retweets"
    w.relate("unmute_retweets", 1, 60, at=1)
    w.publish()
    assert w.sees(1, 3301)
