"""Names by hash, against plain lists."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from engine.batch import EventBatch, Kind, make_batch
from engine.entity_names import EntityNames, EntityNamesConfig

NAMES = {1: "a", 2: "bé", 3: "ccc", 4: "dddd", 5: "eeeeeeeeee", 6: "ffffff"}
ALL = np.array(list(NAMES), np.uint64)
NAMES_MAX, TEXT_BYTES_MAX = 3, 9


def batch_of(seen: list[tuple[int, bool]]) -> EventBatch:
    """A row a hash; with its name or, as packed events are, without."""
    texts = [NAMES[name_hash].encode() for name_hash, named in seen if named]
    named = [named for _, named in seen]
    return make_batch(
        b"".join(texts),
        kind=[Kind.HASHTAG if name_hash % 2 else Kind.URL for name_hash, _ in seen],
        context_id=[name_hash for name_hash, _ in seen],
        payload=[sum(named[:i]) if is_named else -1 for i, is_named in enumerate(named)],
        tweet_text_start=[sum(map(len, texts[:i])) for i in range(len(texts))],
        tweet_text_bytes=list(map(len, texts)),
    )


class Model:
    """Names by first sight, and all that was ever written."""

    def __init__(self) -> None:
        self.names: dict[int, int] = {}
        self.written = 0

    def see(self, name_hash: int) -> None:
        size = len(NAMES[name_hash].encode())
        if size > TEXT_BYTES_MAX or self.has(name_hash):
            return
        if name_hash not in self.names and len(self.names) == NAMES_MAX:
            del self.names[next(iter(self.names))]
        self.names[name_hash] = self.written
        self.written += size

    def has(self, name_hash: int) -> bool:
        return name_hash in self.names and self.written - self.names[name_hash] <= TEXT_BYTES_MAX


@given(st.lists(st.lists(st.tuples(st.sampled_from(list(NAMES)), st.booleans()), max_size=12), max_size=5))
def test_is_the_model(batches: list[list[tuple[int, bool]]]) -> None:
    room, model = EntityNames(EntityNamesConfig(names_max=NAMES_MAX, text_bytes_max=TEXT_BYTES_MAX)), Model()
    for seen in batches:
        room.apply(batch_of(seen))
        for name_hash, named in seen:
            if named:
                model.see(name_hash)
        room.check()
        assert room.names_of(ALL) == [NAMES[h] if model.has(h) else None for h in NAMES]
    whole = EntityNames(room.config)
    whole.apply(batch_of([row for seen in batches for row in seen]))
    for name, array in whole.arrays().items():
        assert array.tobytes() == room.arrays()[name].tobytes(), name


def test_counts_what_it_loses() -> None:
    room = EntityNames(EntityNamesConfig(names_max=NAMES_MAX, text_bytes_max=TEXT_BYTES_MAX))
    room.apply(batch_of([(1, True), (2, True), (3, True), (4, True), (5, True), (2, True)]))
    assert room.counters() == {"names": 4, "rewritten": 1, "evicted": 1, "too_long": 1, "over_share": 0}
    assert room.fill() == {"names": 1.0, "text": 1.0}
    assert room.bytes_max == sum(array.nbytes for array in room.arrays().values())
    room.apply(make_batch(kind=[Kind.HASHTAG], context_id=[0]))
    assert room.names_of(np.zeros(2, np.uint64)) == [None, None]
