"""The list that a client of single entries keeps (docs/protocol.md, "Single entries"), and two pushes made one."""

from typing import Any

Frame = dict[str, Any]


class EntryList:
    """The entries of a subscription: as the last whole feed had them, with the single entries since at their places
    (newest first, at most ``limit``)."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._entries: dict[str, Frame] = {}

    def take(self, push: Frame) -> None:
        """Take in a ``new_tweets`` or a ``new_entries`` frame."""
        if push["type"] == "new_tweets":
            self._entries = {entry["tweet_id"]: entry for entry in push["entries"]}
            return
        for tweet in push.get("gone", ()):
            self._entries.pop(tweet, None)
        self._entries |= {entry["tweet_id"]: entry for entry in push["entries"]}
        newest = sorted(self._entries.values(), key=_newest_last, reverse=True)
        self._entries = {entry["tweet_id"]: entry for entry in newest[: self.limit]}

    @property
    def entries(self) -> list[Frame]:
        """All entries, in order."""
        return list(self._entries.values())


def joined(first: Frame, then: Frame, entries: list[Frame]) -> Frame:
    """One push of the whole list for a consumer that has read neither of two; ``entries`` is the list after both.

    Single entries cannot be joined to single entries: what fell off the end of the list in between would be unknown.
    """
    there = {entry["tweet_id"] for entry in entries}
    new = [*then["new"], *(tweet for tweet in first["new"] if tweet in there and tweet not in then["new"])]
    changed = dict.fromkeys([*then.get("edited", ()), *first.get("edited", ())])
    edited = [tweet for tweet in changed if tweet in there and tweet not in new]
    made = then | {"type": "new_tweets", "entries": entries, "new": new, "edited": edited}
    return {name: value for name, value in made.items() if name != "gone" and (value or name != "edited")}


def _newest_last(entry: Frame) -> tuple[int, int]:
    return entry["created_ms"], int(entry["tweet_id"])
