"""The later act wins and a person counts once, whatever the order of arrival, through the front door and the log."""

from collections.abc import Callable

import pytest

from tests.support.front_door import HOUR, World

#: An act and its undoing.
BONDS = [("block", "unblock"), ("mute", "unmute"), ("follow", "unfollow")]
GAPS = [-HOUR, -1000, -1]


def ground(w: World, act: str) -> None:
    """A tweet by 24, whom 18 follows if there is something to mute."""
    w.create(2400, by=24, at=-3 * HOUR)
    if act == "mute":
        w.follow(18, 24, at=-2 * HOUR)


def stands(w: World, act: str) -> bool:
    """Whether the act of 18 on 24 stands. A block is seen in that 18 cannot follow 24."""
    if act == "block":
        w.follow(18, 24, at=10)
        w.publish(accepted=False)
    return (2400 in w.shown(18, "following")) == (act == "follow")


@pytest.mark.parametrize("gap", GAPS)
@pytest.mark.parametrize(("act", "undo"), BONDS)
def test_an_older_undoing_undoes_nothing(w: World, act: str, undo: str, gap: int):
    ground(w, act)
    w.relate(act, 18, 24)
    w.publish()
    w.relate(undo, 18, 24, at=gap)
    w.publish()
    assert stands(w, act)


@pytest.mark.parametrize("gap", GAPS)
@pytest.mark.parametrize(("act", "undo"), BONDS)
def test_an_older_act_does_not_come_back(w: World, act: str, undo: str, gap: int):
    ground(w, act)
    w.relate(undo, 18, 24)
    w.publish()
    w.relate(act, 18, 24, at=gap)
    w.publish()
    assert not stands(w, act)
    w.relate(act, 18, 24, at=1)
    w.publish()
    assert stands(w, act)


@pytest.mark.parametrize(("act", "undo"), BONDS)
def test_in_one_piece_and_the_wrong_way_round(w: World, act: str, undo: str):
    ground(w, act)
    w.relate(act, 18, 24, at=5)
    w.relate(undo, 18, 24, at=3)
    w.relate(act, 18, 24, at=1)
    w.publish()
    assert stands(w, act)


@pytest.mark.parametrize(("act", "undo"), BONDS)
@pytest.mark.parametrize("later", ["act", "undo"])
def test_across_partitions(w: World, act: str, undo: str, later: str):
    """Two producers that partition differently: the records are in different partitions."""
    ground(w, act)
    w.publish()
    first = w.event(act, user_id=18, target_id=24, at=2 if later == "act" else 1)
    second = w.event(undo, user_id=18, target_id=24, at=1 if later == "act" else 2)
    w.append("relationships", first, partition=3)
    w.append("relationships", second, partition=0)
    assert stands(w, act) == (later == "act")


def test_a_block_and_a_follow_of_the_same_millisecond_is_a_block(w: World):
    w.create(2400, by=24, at=-HOUR)
    w.follow(18, 24)
    w.relate("block", 18, 24)
    w.publish()
    assert w.sees_none(18, 2400)


@pytest.mark.parametrize("last", ["act", "undo"])
@pytest.mark.parametrize(("act", "undo"), BONDS)
def test_of_the_same_millisecond_the_one_that_arrives_later_holds(w: World, act: str, undo: str, last: str):
    ground(w, act)
    for name in (act, undo) if last == "undo" else (undo, act):
        w.relate(name, 18, 24)
    w.publish_one_by_one()
    assert stands(w, act) == (last == "act")


# Engagements


UNDOABLE = [("favorite", "unfavorite"), ("retweet", "unretweet"), ("reply", "unreply"), ("quote", "unquote")]
#: Acts that no entry counts: by act, its undo and the filter that drops the tweet while the act holds.
UNCOUNTED = {
    "bookmark": ("unbookmark", "engaged"),
    "not_interested": ("undo_not_interested", "rejected"),
    "see_fewer": ("undo_see_fewer", "rejected"),
}


@pytest.mark.parametrize("gap", [-HOUR, -1])
@pytest.mark.parametrize(("act", "undo"), UNDOABLE)
def test_an_older_undoing_of_a_like(w: World, act: str, undo: str, gap: int):
    w.follow(2, 9)
    w.create(600, by=9, at=-2 * HOUR)
    w.act(act, 1, 600)
    w.publish()
    w.act(undo, 1, 600, at=gap)
    w.publish()
    assert w.entry(2, 600)["counts"][act] == 1
    w.follow(1, 9)
    w.publish()
    assert w.why_not(1, 600) == "engaged"
    assert 1 in w.named(w.query("proof", tweets=[600], users=[1]))


@pytest.mark.parametrize(("act", "undo"), UNDOABLE)
def test_an_undoing_that_arrives_before_its_act(w: World, act: str, undo: str):
    w.follow(1, 9)
    w.create(600, by=9, at=-HOUR)
    w.publish()
    w.act(undo, 1, 600, at=2)
    w.publish()
    w.act(act, 1, 600, at=1)
    w.publish()
    assert w.entry(1, 600)["counts"][act] == 0
    assert w.sees(1, 600)
    assert 1 not in w.named(w.query("proof", tweets=[600], users=[1]))


@pytest.mark.parametrize("act", UNCOUNTED)
def test_an_act_that_is_taken_back_drops_nothing(w: World, act: str):
    undo, filter_ = UNCOUNTED[act]
    w.follow(1, 9)
    w.create(600, by=9, at=-HOUR)
    w.create(601, by=9, at=-HOUR)
    w.create(650, by=4, at=-2, retweets=601)
    w.act(act, 1, 600)
    w.act(act, 1, 650)  # of a retweet: of its original
    w.publish()
    assert w.why_not(1, 600) == w.why_not(1, 601) == filter_
    w.act(undo, 1, 600, at=-1)  # older than the act
    w.publish()
    assert w.why_not(1, 600) == filter_
    w.act(undo, 1, 600, at=2)
    w.act(undo, 1, 601, at=2)
    w.publish()
    assert w.sees(1, 600)
    assert w.sees(1, 601)
    factors = [factor["name"] for factor in w.entry(1, 600)["why"]["factors"]]
    assert "author_not_interested" not in factors  # nor is its author held back any more
    w.act(act, 1, 600, at=1)  # comes late
    w.publish()
    assert w.sees(1, 600)
    w.act(act, 1, 600, at=3)
    w.publish()
    assert w.why_not(1, 600) == filter_


def test_a_person_counts_once(w: World):
    w.follow(2, 9)
    w.create(600, by=9, at=-HOUR)
    w.publish()
    for i in range(5):
        w.act("favorite", 1, 600, at=i)
        w.act("retweet", 1, 600, at=i)
    w.publish()
    w.act("favorite", 1, 600, at=9)
    w.act("favorite", 3, 600, at=9)
    w.publish()
    counts = w.entry(2, 600)["counts"]
    assert (counts["favorite"], counts["retweet"]) == (2, 1)
    w.act("unfavorite", 1, 600, at=10)
    w.act("unfavorite", 1, 600, at=11)
    w.act("unfavorite", 4, 600, at=12)
    w.publish()
    assert w.entry(2, 600)["counts"]["favorite"] == 1


@pytest.mark.parametrize("later", ["favorite", "unfavorite"])
def test_likes_across_partitions(w: World, later: str):
    w.follow(2, 9)
    w.create(600, by=9, at=-HOUR)
    w.publish()
    like = w.event("favorite", user_id=1, tweet_id=600, at=2 if later == "favorite" else 1)
    unlike = w.event("unfavorite", user_id=1, tweet_id=600, at=1 if later == "favorite" else 2)
    w.append("engagements", unlike, partition=0)
    w.append("engagements", like, partition=2)
    assert w.entry(2, 600)["counts"]["favorite"] == (1 if later == "favorite" else 0)


def test_acts_that_arrive_before_the_tweet_count_once(w: World):
    w.follow(2, 9)
    w.act("favorite", 1, 600, at=1)
    w.act("favorite", 1, 600, at=2)
    w.act("favorite", 3, 600, at=2)
    w.act("unfavorite", 3, 600, at=3)
    w.publish()
    w.create(600, by=9, at=-HOUR)
    w.publish()
    assert w.entry(2, 600)["counts"]["favorite"] == 1


def test_ones_own_likes_do_not_make_one_popular(w: World):
    w.create(600, by=9, at=-1000)
    w.create(601, by=10, at=-1000)
    w.publish()
    for _ in range(50):
        w.act("favorite", 9, 600)
        w.act("share", 9, 600)
    w.act("favorite", 11, 601)
    w.publish()
    shown = w.shown(2, "for_you")
    assert 601 in shown
    assert 600 not in shown


def test_repeated_acts_do_not_add_up_to_popularity(w: World):
    w.create(600, by=9, at=-1000)
    w.create(601, by=10, at=-1000)
    w.publish()
    for _ in range(50):
        w.act("favorite", 12, 600)
    w.act("favorite", 11, 601)
    w.act("favorite", 13, 601)
    w.publish()
    shown = w.shown(2, "for_you")
    assert shown.index(601) < shown.index(600)


# Retweets as tweets, deletes, and ids


def test_a_delete_that_arrives_before_the_create(w: World):
    w.follow(1, 2)
    w.delete(2400, by=2, at=1)
    w.publish()
    w.create(2400, by=2)
    w.publish()
    assert w.sees_none(1, 2400)


@pytest.mark.parametrize("how", ["one body", "one by one"])
def test_a_create_and_its_delete_with_the_same_event_id(w: World, how: str):
    w.follow(1, 2)
    w.create(2400, by=2, event_id=2400)
    w.delete(2400, by=2, event_id=2400, at=1)
    w.publish() if how == "one body" else w.publish_one_by_one()
    assert w.sees_none(1, 2400)


def test_events_of_different_people_with_one_id(w: World):
    w.create(2400, by=24)
    w.create(2500, by=25)
    w.follow(2, 24, at=-1000)
    w.publish()
    w.follow(1, 24, event_id=77)
    w.relate("block", 2, 24, event_id=77)
    w.act("favorite", 3, 2500, event_id=77)
    w.act("favorite", 4, 2500, event_id=77)
    w.act("favorite", 4, 2400, event_id=77)
    w.act("retweet", 4, 2400, event_id=77)
    w.publish()
    assert w.sees(1, 2400)
    assert w.sees_none(2, 2400)
    w.follow(1, 25)
    w.publish()
    assert w.entry(1, 2500)["counts"]["favorite"] == 2
    assert w.entry(1, 2400)["counts"] == {"favorite": 1, "retweet": 1, "reply": 0, "quote": 0}


def test_a_retry_is_a_duplicate_and_says_so(w: World):
    w.create(2400, by=24)
    w.publish()
    w.act("favorite", 3, 2400, event_id=78)
    w.act("favorite", 3, 2400, event_id=78)
    w.publish()
    w.act("favorite", 3, 2400, event_id=78)
    (again,) = w.publish()
    w.follow(1, 24)
    w.publish()
    assert w.entry(1, 2400)["counts"]["favorite"] == 1
    assert again["status"] == "duplicate" or again.get("duplicate") is True


# After a restart


def test_all_of_it_after_a_restart(w: World):
    """From a snapshot, and by what arrives after it: undoings that are older than what stands."""
    w.follow(1, 2, 3, 4, at=-HOUR)
    w.create(100, by=2, at=-HOUR)
    w.create(300, by=3, at=-HOUR)
    w.create(400, by=4, at=-HOUR)
    w.create(401, by=9, at=-HOUR)
    w.create(402, by=4, retweets=401, at=-HOUR)
    w.create(501, by=4, retweets=500, at=-HOUR)
    w.relate("block", 1, 2)
    w.relate("mute", 1, 3)
    w.act("favorite", 1, 400)
    w.act("unfavorite", 7, 400)
    w.word(1, "flock")
    w.create(403, by=4, text="a flock", at=-HOUR)
    w.user(9, state="suspended")
    w.publish()
    w.front.restart()
    w.relate("unblock", 1, 2, at=-1)
    w.relate("unmute", 1, 3, at=-1)
    w.act("unfavorite", 1, 400, at=-1)
    w.act("favorite", 7, 400, at=-1)
    w.word(1, "flock", "unmute_word", at=-1)
    w.user(9, at=-1)
    w.create(500, by=2, at=-HOUR)
    w.publish()
    assert w.sees_none(1, 100, 300, 402, 403, 501, 500)
    assert w.why_not(1, 400) == "engaged"
    assert w.entry(1, 400, "following")["counts"]["favorite"] == 1


def test_an_older_edit_changes_nothing_and_an_early_edit_waits_for_its_tweet(w: World):
    w.follow(18, 24)
    w.create(2400, by=24, text="first")
    w.event("edit", tweet_id=2400, author_id=24, text="the later edit", at=2)
    w.publish_one_by_one()
    w.event("edit", tweet_id=2400, author_id=24, text="the older edit", at=1)
    w.event("edit", tweet_id=2401, author_id=24, text="edited before it came", at=5)
    w.event("edit", tweet_id=2402, author_id=25, text="put into the mouth", at=5)
    w.publish()
    w.create(2401, by=24, text="at first", at=3)
    w.create(2402, by=24, text="what 24 said", at=3)
    w.publish()
    said = {2400: "the later edit", 2401: "edited before it came", 2402: "what 24 said"}
    assert {tweet: w.entry(18, tweet, "following")["text"] for tweet in said} == said


#: Original, retweet, retweet of the retweet; likes by one person of two of them, and by another of the third.
STEPS: dict[str, Callable[[World], None]] = {
    "original": lambda w: w.create(100, by=9, at=-5000),
    "retweet": lambda w: w.create(101, by=2, retweets=100, at=-4000),
    "second retweet": lambda w: w.create(102, by=3, retweets=101, at=-3000),
    "like of the retweet": lambda w: w.act("favorite", 50, 101, at=-2000),
    "like of the original": lambda w: w.act("favorite", 50, 100, at=-1900),
    "like of the second": lambda w: w.act("favorite", 51, 102, at=-1800),
}


@pytest.mark.parametrize("order", ["345210", "523104", "430215", "052314", "251304"])
def test_likes_count_for_the_original_whatever_arrives_first(w: World, order: str):
    w.follow(1, 2, 3, 9)
    for at in order:
        list(STEPS.values())[int(at)](w)
    w.publish_one_by_one()

    def likes() -> int:
        (shown,) = (tweet for tweet in w.shown(1, "following") if tweet in (100, 101, 102))
        counts: dict[str, int] = w.entry(1, shown, "following")["counts"]
        return counts["favorite"]

    assert likes() == 2
    assert w.why_not(50, 100) == "engaged"
    w.act("unfavorite", 50, 100, at=-100)
    w.publish()
    assert likes() == 1
    assert w.why_not(50, 100) != "engaged"
    # Nor does the like that was taken back prove anything.
    w.follow(4, 50)
    w.publish()
    assert {tweet for tweet in w.shown(4, "for_you") if tweet in (100, 101, 102) and 50 in w.proof(4, tweet)} == set()


def test_an_unlike_of_a_retweet_before_its_create_counts_for_the_original(w: World):
    w.follow(1, 9)
    w.act("unfavorite", 50, 101, at=2)
    w.create(100, by=9, at=-1000)
    w.create(101, by=2, retweets=100, at=-900)
    w.act("favorite", 50, 100, at=1)
    w.publish_one_by_one()
    assert w.entry(1, 100, "following")["counts"]["favorite"] == 0
    assert w.why_not(50, 100) != "engaged"
