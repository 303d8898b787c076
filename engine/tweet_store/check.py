"""Checks the tweet store's invariants, in plain Python (slow)."""

import numpy as np

from engine.batch import Kind
from engine.errors import InvariantError
from engine.kernels.id_map import find
from engine.tweet_store import acts, labels
from engine.tweet_store import arrays as t


def _require(truth: object, message: str) -> None:
    if not truth:
        raise InvariantError(f"tweet_store: {message}")


def check(s: t.Tweets) -> None:
    """Verify the arrays against each other.

    Raises:
        InvariantError: names the first invariant that does not hold.
    """
    size = int(s.header[t.SIZE])
    count, stubs_from = (int(s.limits[at]) for at in (t.Limit.TWEETS, t.Limit.STUBS_FROM))
    used = int(np.count_nonzero(s.ids.keys))
    _require(int(s.ids.header[0]) == used, f"{used} slots in use, {s.ids.header[0]} ids mapped")
    _require(s.header[t.POSITION] == size % count or size == count, "the ring's position is off")
    _require(np.all(s.ids.keys[:size] != 0) and not s.ids.keys[size:count].any(), "slots in use are not the first ones")
    unused = s.ids.keys == 0
    _require(not s.row[unused].any() and not s.decayed[unused].any(), "an unused slot is not clear")
    stubs = s.row[stubs_from:, t.STATE][~unused[stubs_from:]]
    _require(np.all(stubs == t.STUB), "a tweet is among the stubs")
    found = [int(find(s.ids, key)) for key in s.ids.keys[~unused]]
    _require(found == np.flatnonzero(~unused).tolist(), "an id leads to another's slot")
    tweets = np.flatnonzero(~unused[:stubs_from])
    state = s.row[tweets, t.STATE]
    listed = (state & t.LISTED) != 0
    _require(not np.any(listed & ((state & t.DELETED) != 0)), "a deleted tweet is listed")
    _require(not np.any(listed & ((state & t.CREATED) == 0)), "a stub is listed")
    kinds = state & (t.CREATED | t.STUB)
    _require(np.all((kinds == t.CREATED) | (kinds == t.STUB)), "a tweet is neither created nor a stub")
    _require(np.all(s.row[:, : t.COUNTERS] >= 0) and np.all(s.decayed >= 0), "a counter is negative")
    weights = s.decayed.reshape(-1, t.HALF_LIVES, t.COUNTERS) @ s.weights
    scale = s.decayed.reshape(-1, t.HALF_LIVES, t.COUNTERS) @ np.abs(s.weights)
    _require(np.all(np.abs(weights - s.weight) <= 1e-9 * scale), "weights are not those of the counters")
    _require(not used or s.row[~unused, t.EPOCH].max() <= s.header[t.EPOCH_MAX], "a landmark is past the newest")
    _check_chains(s, (s.row[:stubs_from, t.STATE] & t.LISTED) != 0)
    labels.check(s.labels)
    _check_acts(s.acts)
    _check_acts(s.looks)
    _check_acts(s.early.acts, by_arrival=False)
    stamps = s.early.acts.places[:, acts.STAMP]
    idle = stamps & (acts.KIND_MASK | acts.HOLDS) != Kind.EDIT | acts.HOLDS
    _require(
        not s.early.content[idle].any() and not s.early.text_start[idle].any(), "what is no early edit has content"
    )


def _check_chains(s: t.Tweets, listed: np.ndarray[tuple[int], np.dtype[np.bool_]]) -> None:
    """Check that every listed tweet is in its author's chain and no other, in order, linked both ways."""
    heads = np.flatnonzero(s.heads)
    _require(len(heads) == s.header[t.AUTHORS], f"{len(heads)} authors in the table")
    reached = 0
    for at in heads.tolist():
        slot, newer, last = int(s.heads[at]) - 1, -1, None
        author_id = s.author_id[slot]
        _require(t.find_head(s, author_id) == at, f"author {author_id} cannot be found")
        while slot >= 0:
            key = (int(s.created_ms[slot]), int(s.ids.keys[slot]))
            _require(listed[slot] and s.author_id[slot] == author_id, f"slot {slot} is in a chain it should not be in")
            _require(s.row[slot, t.NEWER] == newer, f"slot {slot} is not linked back")
            _require(last is None or key < last, f"slot {slot} is out of order")
            last, newer, slot = key, slot, int(s.row[slot, t.OLDER])
            reached += 1
            _require(reached <= len(listed), "a chain has a cycle")
    _require(reached == np.count_nonzero(listed), f"{reached} tweets in chains, {np.count_nonzero(listed)} listed")


def _check_acts(a: acts.Acts, *, by_arrival: bool = True) -> None:
    """Verify that tables, people and circles have exactly the entries that are held. ``by_arrival``: places are in the
    order of arrival, too."""
    held = np.flatnonzero(a.places[:, acts.OWNER])
    _require(len(held) == a.header[acts.SIZE], f"{a.header[acts.SIZE]} acts counted, {len(held)} held")
    _require(not a.places[a.places[:, acts.OWNER] == 0].any(), "an empty place of an act is not clear")
    places = (a.table[a.table != 0] & acts.LOW_32).astype(np.int64) - 1
    _require(np.array_equal(np.sort(places), held), "the table of acts has not every act once")
    entries = [tuple(row) for row in a.places[held][:, [acts.OWNER, acts.SUBJECT]].tolist()]
    kinds = (a.places[held, acts.STAMP] & acts.KIND_MASK).tolist()
    # Acts towards erased people have no subject any more.
    named = [entry for entry in zip(entries, kinds, strict=True) if entry[0][1] != 0]
    _require(len(set(named)) == len(named), "an act is held twice")
    people = a.people.reshape(-1, 2)
    people = people[people[:, 0] != 0]
    _require(len(people) == a.header[acts.PEOPLE], f"{a.header[acts.PEOPLE]} people counted, {len(people)} known")
    seen = 0
    size = len(a.places)
    for owner, packed in people.tolist():
        newest, count = packed >> 32, packed & 0xFFFFFFFF
        _require(count <= a.limits[acts.PERSON], f"person {owner} has {count} acts")
        circle, at = [], newest
        for _ in range(count):
            at = int(a.places[at, acts.LINK])
            circle.append(at)
            _require(int(a.places[at, acts.OWNER]) % 2**64 == owner, f"an act of person {owner} leads to another's")
        ages = [(at - int(a.header[acts.POSITION])) % size for at in circle]
        _require(at == newest and len(set(ages)) == count, f"the acts of person {owner} are no circle")
        _require(not by_arrival or ages == sorted(ages), f"the acts of person {owner} are not by arrival")
        seen += count
    _require(seen == len(held), "an act has no person")
