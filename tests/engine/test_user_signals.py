"""Signals on read against filtering and sorting the raw log."""

from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from engine.batch import UNDOES, Kind, make_batch
from engine.rooms import small_rooms
from engine.state import EngineState
from engine.user_signals import DAY_MS, FAVORITES_MIN, SIGNALS, UserSignals, grouped

NOW = 1_760_000_000_000
VIEWER = 1
#: Tweet 1000 + i is by person 100 + i // 3; the first two have many favorites.
TWEETS = range(1000, 1012)
FANS = range(50, 50 + FAVORITES_MIN)
TYPES = {
    Kind.FAVORITE: ["tweet_favorite", "tweet_favorite_90d"], Kind.RETWEET: ["retweet", "retweet_90d"],
    Kind.REPLY: ["reply", "reply_90d"], Kind.QUOTE: ["quote"], Kind.SHARE: ["share"], Kind.BOOKMARK: ["bookmark"],
    Kind.DWELL: ["good_tweet_click"], Kind.VIDEO_50: ["video_view_50"], Kind.NOT_INTERESTED: ["dont_like"],
    Kind.SEE_FEWER: ["see_fewer"], Kind.REPORT: ["report"], Kind.PROFILE_CLICK: [],
}  # fmt: skip
NEGATIVE = (Kind.NOT_INTERESTED, Kind.SEE_FEWER, Kind.REPORT)
DAYS = {signal.name: signal.days for signal in SIGNALS}


def author_of(tweet):
    return 100 + (tweet - 1000) // 3


#: Days around every window's end.
AGES = st.sampled_from([0, 1, 13, 14, 15, 89, 90, 91, 179, 181, 539, 541])
ACTS = st.tuples(
    st.sampled_from([*TYPES, Kind.UNFAVORITE, Kind.UNRETWEET, Kind.UNBOOKMARK, Kind.PROFILE_CLICK]),
    st.sampled_from(TWEETS), AGES,
)  # fmt: skip
FOLLOWS = st.tuples(st.sampled_from([Kind.FOLLOW, Kind.FOLLOW, Kind.UNFOLLOW]), st.sampled_from(range(100, 104)), AGES)


def state_of(acts) -> EngineState:
    state = EngineState(small_rooms(1 << 9))
    rows = [(Kind.CREATE, author_of(t), t, author_of(t), NOW - 600 * DAY_MS) for t in TWEETS]
    rows += [(Kind.FAVORITE, fan, tweet, 0, NOW - 590 * DAY_MS) for fan in FANS for tweet in TWEETS[:2]]
    rows += [(Kind.CREATE, VIEWER, 2000 + age, VIEWER, NOW - age * DAY_MS) for age in (80, 600)]
    rows += [(kind, VIEWER, what, 0, time_ms) for kind, what, time_ms in acts]
    n = len(rows)
    state.apply(
        make_batch(
            b"x" * n, kind=[row[0] for row in rows], id=range(1, n + 1), user_id=[row[1] for row in rows],
            subject_id=[row[2] for row in rows], author_id=[row[3] for row in rows],
            timestamp_ms=[row[4] for row in rows], value=[3.0 if row[0] == Kind.DWELL else 0.0 for row in rows],
            payload=range(n), tweet_text_start=range(n), tweet_text_bytes=[1] * n,
        )
    )  # fmt: skip
    return state


def expected(acts):
    """By signal: targets with their times, newest first."""
    newest = {}
    for kind, what, time_ms in sorted(acts, key=lambda act: act[2]):
        newest[UNDOES.get(kind, kind), what] = (time_ms, kind not in UNDOES)
    stands = {key: time_ms for key, (time_ms, holds) in newest.items() if holds}
    found = {}
    for kind, names in TYPES.items():
        times = {what: time_ms for (k, what), time_ms in stands.items() if k == kind}
        for name in names:
            since_ms = NOW - DAYS[name] * DAY_MS if DAYS[name] else 0
            kept = {what: time_ms for what, time_ms in times.items() if time_ms >= since_ms}
            if name.endswith("_90d"):
                kept = times if kept else {}
            elif kind in (Kind.FAVORITE, Kind.RETWEET):
                kept = {what: time_ms for what, time_ms in kept.items() if what in TWEETS[:2]}
            found[name] = kept
    young = {key: time_ms for key, time_ms in stands.items() if key[0] in NEGATIVE and time_ms >= NOW - 90 * DAY_MS}
    found["negative_tweet"] = {}
    for (_, what), time_ms in young.items():
        found["negative_tweet"][what] = max(time_ms, found["negative_tweet"].get(what, 0))
    found["follow"] = {w: t for (k, w), t in stands.items() if k == Kind.FOLLOW and t >= NOW - 90 * DAY_MS}
    for days, least in ((14, 2), (90, 6), (180, 6)):
        visits = {}
        for (kind, what), time_ms in stands.items():
            if kind == Kind.PROFILE_CLICK and time_ms >= NOW - days * DAY_MS:
                visits.setdefault(author_of(what), []).append(time_ms)
        found[f"repeated_profile_visit_{days}d"] = {p: max(times) for p, times in visits.items() if len(times) >= least}
    return {name: sorted(kept.items(), key=lambda item: (-item[1], -item[0])) for name, kept in found.items()}


@settings(max_examples=25, deadline=None)
@given(st.lists(ACTS, max_size=24), st.lists(FOLLOWS, max_size=6), st.randoms(use_true_random=False))
def test_every_signal_is_the_raw_log_filtered_and_sorted(acts, follows, chance):
    acts = [(kind, what, NOW - age * DAY_MS - at) for at, (kind, what, age) in enumerate([*acts, *follows])]
    # What is exactly as old as the window counts, one millisecond more does not.
    acts = [
        (kind, what, time_ms + at) if at % 2 else (kind, what, time_ms) for at, (kind, what, time_ms) in enumerate(acts)
    ]
    acts = [act for at, act in enumerate(acts) if act[2] not in [other[2] for other in acts[:at]]]
    chance.shuffle(acts)
    found = UserSignals(state_of(acts)).of(VIEWER, NOW)
    for name, targets in expected(acts).items():
        assert list(zip(targets_of(found[name]), found[name].times_ms.tolist(), strict=True)) == targets, name
    assert targets_of(found["original_tweet"]) == targets_of(found["original_tweet_90d"]) == [2080]
    for by in ("tweet", "author"):
        assert [tuple(group) for group in grouped(found, by)] == by_hand(found, by)


def targets_of(targets):
    return targets.ids.tolist()


def by_hand(found, by):
    groups = {}
    for signal in SIGNALS:
        if signal.positive and (by == "author" or signal.target == "tweet"):
            ids = found[signal.name].ids if by == "tweet" else found[signal.name].author_ids
            for target in set(ids.tolist()) - {0}:
                groups.setdefault(target, []).append(
                    (signal.name, int(found[signal.name].times_ms[ids == target].max()))
                )
    rows = [(target, len(v), max(t for _, t in v), tuple(n for n, _ in v)) for target, v in groups.items()]
    return sorted(rows, key=lambda row: (-row[1], -row[2], -row[0]))


def test_whom_somebody_barred_and_to_whom_they_are_tied():
    acts = [(Kind.BLOCK, 100, NOW - 3), (Kind.MUTE, 101, NOW - 2), (Kind.FAVORITE, 1006, NOW - DAY_MS)]
    acts += [(Kind.BLOCK, 103, NOW - 5), (Kind.UNBLOCK, 103, NOW - 4), (Kind.FAVORITE, 1000, NOW - DAY_MS - 1)]
    found = UserSignals(state_of(acts)).of(VIEWER, NOW)
    assert targets_of(found["block"]) == [100]
    assert targets_of(found["mute"]) == [101]
    assert {*targets_of(found["negative_user"])} == {100, 101}
    assert targets_of(found["tie_out_of_network"]) == [102]
    only = UserSignals(state_of(acts)).of(VIEWER, NOW, ["block"])
    assert list(only) == ["block"]


def rows_of_the_page():
    yield "| signal | events | target | days | rule |"
    yield "|---|---|---|---|---|"
    for signal in SIGNALS:
        yield f"| `{signal.name}` | {signal.source} | {signal.target} | {signal.days or '–'} | {signal.rule or '–'} |"


def test_the_page_has_every_signal():
    page = (Path(__file__).parents[2] / "docs" / "signals.md").read_text()
    table = page.split("<!-- signals on read -->\n")[1].split("<!-- end of signals -->")[0]
    assert table.splitlines() == list(rows_of_the_page())
