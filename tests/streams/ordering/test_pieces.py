"""Pieces are cut by rows, before anything is decoded; what is counted is never less than what decoding gives."""

from itertools import pairwise

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.batch import Kind
from streams.events.decode import Decoder
from streams.events.packed import encode_events, make_rows
from streams.log.interface import Format, Records
from streams.ordering.pieces import arrange, cut, row_bounds

T0 = 1_760_000_000_000
#: What could mislead whoever counts commas and brackets.
TRICKY = st.text(alphabet='a,"]}\\:[{ é', max_size=30)
IDS = st.integers(1, 99)


def creates(**fields):
    return st.fixed_dictionaries(
        {
            "v": st.just(1),
            "id": st.integers(1, 2**64 - 1),
            "type": st.just("create"),
            "tweet_id": st.integers(100, 2**64 - 1).map(str),
            "author_id": IDS,
            "timestamp_ms": st.just(T0),
        },
        optional={
            "text": TRICKY,
            "lang": st.just("en"),
            "mentions": st.lists(IDS.map(str) | IDS, max_size=50),
            "media_tags": st.lists(IDS, max_size=10),
            "hashtags": st.lists(TRICKY.filter(bool), max_size=30),
            "urls": st.lists(TRICKY.filter(bool), max_size=10),
            "media": st.just(["photo"]),
            "reply_to_id": st.integers(1, 50),
            **fields,
        },
    )


def run_of(values, topic="tweets", form=Format.JSON):
    n = len(values)
    return Records(topic, 0, list(range(n)), [T0] * n, [form] * n, [b""] * n, values)


def decoded_rows(piece):
    decoded = Decoder(future_ms_max=1000).decode(piece)
    assert not decoded.dead, decoded.dead[0]
    return decoded.record_row_counts.tolist()


@given(st.lists(creates(), min_size=1, max_size=12), st.integers(1, 150))
def test_no_piece_has_more_rows_than_it_may(events, rows_max):
    run = run_of([msgspec.json.encode(event) for event in events])
    bounds, rows = row_bounds(run), decoded_rows([run])
    assert all(size <= bound for size, bound in zip(rows, bounds, strict=True))
    pieces = list(cut([run], rows_max))
    for piece in pieces:
        sizes = decoded_rows(piece)
        assert sum(sizes) <= rows_max or len(sizes) == 1
    assert [offset for (part,) in pieces for offset in part.offsets] == run.offsets


PACKED = make_rows(9, id=1, kind=Kind.FAVORITE, user_id=1, subject_id=2, timestamp_ms=T0)
PLAIN = {"v": 1, "id": "1", "type": "create", "tweet_id": "5", "author_id": "7", "timestamp_ms": T0}


@pytest.mark.parametrize("name", ["mentions", "media_tags"])
def test_the_bound_is_exact_where_there_is_nothing_else(name):
    run = run_of([msgspec.json.encode(PLAIN | {name: list(range(10, 10 + n))}) for n in range(1, 9)])
    assert row_bounds(run) == decoded_rows([run]) == list(range(2, 10))


def test_plain_creates_are_not_taken_for_rich_ones():
    assert row_bounds(run_of([msgspec.json.encode(PLAIN | {"text": "hello", "lang": "en"})])) == [3]


def test_long_texts_and_packed_records_count_for_what_they_take():
    assert row_bounds(run_of([msgspec.json.encode(PLAIN | {"text": "x" * 4000})])) == [2 + 8]
    rows = make_rows(300, id=1, kind=Kind.FAVORITE, user_id=1, subject_id=2, timestamp_ms=T0)
    record = encode_events(rows)
    run = run_of([record, record, record], "engagements", Format.PACKED)
    assert row_bounds(run) == [300] * 3
    assert [len(piece[0].values) for piece in cut([run], 600)] == [2, 1]
    assert [len(piece[0].values) for piece in cut([run], 100)] == [1, 1, 1]


def test_what_takes_long_counts_for_more():
    def bound(topic, **event):
        return row_bounds(run_of([msgspec.json.encode({"v": 1, "id": "1", "timestamp_ms": T0} | event)], topic))[0]

    assert bound("tweets", type="delete", tweet_id="1", author_id="2") == 512
    assert bound("tweets", type="edit", tweet_id="1", author_id="2", text='a "delete", or not') == 1
    assert bound("tweets", type="unlabel", tweet_id="1", author_id="2", label="delete") == 1
    assert bound("tweets", type="create", tweet_id="1", author_id="2", text="delete") == 2
    hidden = msgspec.json.encode(PLAIN).replace(b"create", b"\\u0064elete")
    assert row_bounds(run_of([hidden])) == [512]
    assert bound("engagements", type="unfavorite", tweet_id="1", user_id="2") == 1
    assert row_bounds(run_of([b"", b"{}"], "users")) == [1 << 16, 1]
    assert row_bounds(run_of([b"", b"{}"], "engagements")) == [1, 1]
    rows = make_rows(3, id=1, kind=[Kind.DELETE, Kind.CREATE, Kind.MENTION], user_id=1, subject_id=2, timestamp_ms=T0)
    assert row_bounds(run_of([encode_events(rows), b"MURM"], "tweets", Format.PACKED)) == [514, 1]


@given(st.lists(st.lists(st.integers(1, 9), max_size=6), max_size=4), st.integers(1, 20))
def test_pieces_are_filled_as_far_as_they_may_be(sizes, rows_max):
    """Every piece would be too large with the next record; nothing is lost, doubled or out of order."""
    runs = [run_of([encode_events(PACKED[:n]) for n in part], "engagements", Format.PACKED) for part in sizes if part]
    flat = [n for part in sizes for n in part]
    pieces = list(cut(runs, rows_max))
    counts = [[len(value) // PACKED.itemsize for part in piece for value in part.values] for piece in pieces]
    assert [n for piece in counts for n in piece] == flat
    for piece, following in pairwise(counts):
        assert sum(piece) <= rows_max or len(piece) == 1
        assert sum(piece) + following[0] > rows_max


@pytest.mark.parametrize("rows_max", [1, 7, 1000])
def test_pieces_are_whole_records_in_canonical_order(rows_max):
    runs = [run_of([b'"label"'] * 5, topic) for topic in ("engagements", "tweets", "users")]
    pieces = list(cut(runs, rows_max))
    assert sum(len(part.values) for piece in pieces for part in piece) == 15
    assert all(piece == arrange(piece) for piece in pieces)
    if rows_max == 1000:
        assert [part.topic for part in pieces[0]] == ["users", "tweets", "engagements"]


def favorite(event_id):
    event = {"v": 1, "id": event_id, "type": "favorite", "user_id": 1, "tweet_id": 2, "timestamp_ms": T0}
    return msgspec.json.encode(event)


@st.composite
def partitions(draw):
    """Runs of several partitions and topics, each with times that do not go back; ids number the records by time."""
    sizes = draw(st.lists(st.integers(1, 8), min_size=1, max_size=4))
    runs = []
    for partition, size in enumerate(sizes):
        times = sorted(draw(st.lists(st.integers(T0, T0 + 6), min_size=size, max_size=size)))
        values = [favorite(1 + 100 * partition + i) for i in range(size)]
        columns = (list(range(size)), times, [Format.JSON] * size, [b""] * size, values)
        runs.append(Records("engagements", partition, *columns))
    return runs


@given(partitions(), st.integers(1, 9), st.randoms())
def test_what_was_appended_first_is_applied_first_however_it_is_cut(runs, rows_max, random):
    """Records of different partitions: in whatever pieces they come, all are applied in the order of append times."""
    decoder = Decoder(future_ms_max=1 << 40)
    records = [(t, run.partition, v) for run in runs for t, v in zip(run.append_ms, run.values, strict=True)]
    expected = [msgspec.json.decode(value)["id"] for _, _, value in sorted(records, key=lambda record: record[:2])]
    shuffled = random.sample(runs, len(runs))
    pieces = list(cut(shuffled, rows_max))
    assert [i for piece in pieces for i in decoder.decode(piece).batch.id.tolist()] == expected
    assert all(piece == arrange(piece) and sum(len(run.values) for run in piece) <= rows_max for piece in pieces)
    # What is read one by one, as it is appended, gives the same.
    assert [i for piece in cut(runs, 1) for i in decoder.decode(piece).batch.id.tolist()] == expected


def test_follow_and_unfollow_in_two_partitions_end_as_they_were_appended():
    def relationship(kind, event_id):
        event = {"v": 1, "id": event_id, "type": kind, "user_id": 18, "target_id": 24, "timestamp_ms": T0}
        return msgspec.json.encode(event)

    def run(partition, *records):
        columns = ([t for t, _ in records], [Format.JSON] * len(records), [b""] * len(records))
        return Records("relationships", partition, list(range(len(records))), *columns, [v for _, v in records])

    first = run(0, (T0 + 2, relationship("unfollow", 1)), (T0 + 4, relationship("follow", 2)))
    second = run(1, (T0 + 1, relationship("follow", 3)), (T0 + 3, relationship("unfollow", 4)))
    (piece,) = cut([first, second], 100)
    decoded = Decoder(future_ms_max=1000).decode(piece)
    assert decoded.batch.id.tolist() == [3, 1, 4, 2]
    assert decoded.source.tolist() == [2, 0, 3, 1]
    assert decoded.append_ms.tolist() == [T0 + 1, T0 + 2, T0 + 3, T0 + 4]
