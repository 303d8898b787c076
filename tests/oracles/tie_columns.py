"""The columns of a pair by plain counting over its acts."""

from collections.abc import Mapping

from engine.real_graph.arrays import Feature

LOOKS = {Feature.INSPECTED, Feature.DWELL_S}
IMPLICIT = {Feature.TWEET_CLICK, Feature.PROFILE_VIEW, Feature.THROUGH_CLICK}


def columns(acts: Mapping[Feature, set[int]], day: int, follow_day: int | None, tweets: int) -> list[float]:
    """``acts``: by kind, the days on which it was done. ``follow_day``: of the follow in force. The order of the
    model's columns."""
    window = range(day - 29, day + 1)
    days = {kind: {d for d in on if d in window} for kind, on in acts.items() if kind not in LOOKS}
    kinds: dict[Feature | str, set[int]] = {kind: on for kind, on in days.items() if on}
    if follow_day in window:
        kinds["follow"] = {follow_day}
    on_any = set().union(*kinds.values()) if kinds else set()
    return [
        len(on_any), tweets if follow_day is not None else 0, len(kinds.get("follow", ())),
        len(days.get(Feature.FAVORITE, ())), len(days.get(Feature.TWEET_CLICK, ())),
        len(days.get(Feature.PROFILE_VIEW, ())), min((day - d for d in on_any), default=30), len(kinds),
    ]  # fmt: skip


def label(acts: Mapping[Feature, set[int]], day: int, follow_day: int | None) -> tuple[bool, bool]:
    """Whether anything was done on a day, and anything explicit."""
    done = {kind for kind, on in acts.items() if day in on and kind not in LOOKS}
    return bool(done) or follow_day == day, bool(done - IMPLICIT) or follow_day == day
