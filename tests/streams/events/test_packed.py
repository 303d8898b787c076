from collections.abc import Callable
from typing import Any

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given, settings
from numpy.typing import NDArray

from engine.batch import DERIVED_KINDS, EVENT_COLUMNS, Kind
from streams.events import Decoded, Decoder, encode_events, make_rows, pack
from streams.events.ids import ID_MAX, text_hash, url_hash
from streams.events.json_types import VALUE_MAX
from streams.events.packed import HEADER, PACKED_KINDS, ROW
from streams.events.units import TIMESTAMP_MS_MIN
from streams.log.interface import Format
from tests.streams.events.conftest import FUTURE_MS_MAX, NOW_MS, SAMPLES, encode, make_run

ids = st.integers(1, ID_MAX)
times = st.integers(TIMESTAMP_MS_MIN, NOW_MS + FUTURE_MS_MAX)
values = st.floats(0, VALUE_MAX, width=32)


def rows_like(*records: dict[str, Any]) -> NDArray[np.void]:
    rows = make_rows(len(records))
    for row, record in zip(rows, records, strict=True):
        for name, value in ({"id": 5, "user_id": 1, "timestamp_ms": NOW_MS} | record).items():
            row[name] = value
    return rows


def decode_packed(topic: str, *records: bytes) -> Decoded:
    return Decoder(future_ms_max=FUTURE_MS_MAX).decode([make_run(topic, records, Format.PACKED)])


def columns_of(decoded: Decoded) -> dict[str, list[Any]]:
    return {name: getattr(decoded.batch, name).tolist() for name in EVENT_COLUMNS if name != "payload"}


engagement_rows = st.lists(
    st.tuples(ids, ids, ids, st.integers(0, ID_MAX), times, st.integers(0, ID_MAX), values), min_size=1, max_size=20
).map(
    lambda rows: make_rows(
        len(rows),
        **{
            name: np.array(column, ROW[name])
            for name, column in zip(ROW.names[:7], zip(*rows, strict=True), strict=True)
        },
        kind=int(Kind.DWELL),
    )
)


@settings(deadline=None)
@given(st.lists(engagement_rows, min_size=1, max_size=4))
def test_round_trip(batches: list[NDArray[np.void]]) -> None:
    decoded = decode_packed("engagements", *map(encode_events, batches))
    assert not decoded.dead
    rows = np.concatenate(batches)
    assert columns_of(decoded) == {name: rows[name].tolist() for name in columns_of(decoded)}
    assert decoded.record_row_counts.tolist() == [len(batch) for batch in batches]


@settings(deadline=None, max_examples=300)
@given(engagement_rows, st.data())
def test_damage_anywhere_is_noticed(rows: NDArray[np.void], data: st.DataObject) -> None:
    record = bytearray(encode_events(rows))
    place = data.draw(st.integers(0, len(record) - 1))
    record[place] ^= data.draw(st.integers(1, 255))
    (letter,) = decode_packed("engagements", bytes(record)).dead
    assert letter.row is None
    assert letter.value == bytes(record)
    assert letter.reason in ("bad_packed_header", "truncated_batch", "bad_checksum")


@settings(deadline=None)
@given(engagement_rows, st.data())
def test_cut_or_longer_records_are_noticed(rows: NDArray[np.void], data: st.DataObject) -> None:
    record = encode_events(rows)
    cut = data.draw(st.integers(1, len(record) - 1))  # nothing at all is null, and no packed record
    for damaged in (record[:cut], record + data.draw(st.binary(min_size=1, max_size=100))):
        decoded = decode_packed("engagements", damaged)
        assert decoded.batch.size == 0
        assert [letter.reason for letter in decoded.dead] == ["truncated_batch"]


@pytest.mark.parametrize(
    "header", [(b"MURN", 1, 1, 56), (b"MURM", 2, 1, 56), (b"MURM", 1, 2, 56), (b"MURM", 1, 1, 48), (b"MURM", 1, 1, 56)]
)
def test_other_headers_are_refused(header: tuple[bytes, int, int, int]) -> None:
    (letter,) = decode_packed("engagements", HEADER.pack(*header, 0, 0)).dead
    assert letter.reason == "bad_packed_header"


def test_json_only_topics_have_no_packed_form() -> None:
    record = encode_events(rows_like({"kind": Kind.USER}))
    for topic in ("users", "models"):
        (letter,) = decode_packed(topic, record).dead
        assert letter.reason == "unsupported_format"


LIKE = {"kind": Kind.FAVORITE, "subject_id": 2}
FOLLOW = {"kind": Kind.FOLLOW, "subject_id": 2}
CREATE = {"kind": Kind.CREATE, "subject_id": 2, "author_id": 1}
MENTION = {"kind": Kind.MENTION, "subject_id": 2, "author_id": 1, "user_id": 4}
HASHTAG = {"kind": Kind.HASHTAG, "subject_id": 2, "author_id": 1, "context_id": 6}

ROW_CASES: list[tuple[str, dict[str, Any], str | None]] = [
    ("engagements", LIKE, None),
    ("engagements", LIKE | {"author_id": 3, "context_id": 4}, None),
    ("engagements", LIKE | {"kind": Kind.IMPRESSION, "value": 3}, None),
    ("engagements", LIKE | {"kind": 0}, "wrong_topic"),
    ("engagements", LIKE | {"kind": 255}, "wrong_topic"),
    ("engagements", FOLLOW, "wrong_topic"),
    ("engagements", LIKE | {"id": 0}, "id_out_of_range"),
    ("engagements", LIKE | {"user_id": 0}, "id_out_of_range"),
    ("engagements", LIKE | {"subject_id": 0}, "id_out_of_range"),
    ("engagements", LIKE | {"timestamp_ms": 0}, "timestamp_out_of_range"),
    ("engagements", LIKE | {"timestamp_ms": NOW_MS // 1000}, "timestamp_out_of_range"),
    ("engagements", LIKE | {"timestamp_ms": NOW_MS * 1000}, "timestamp_out_of_range"),
    ("engagements", LIKE | {"timestamp_ms": -5}, "timestamp_out_of_range"),
    ("engagements", LIKE | {"timestamp_ms": 2**62}, "timestamp_out_of_range"),
    ("engagements", LIKE | {"timestamp_ms": NOW_MS + FUTURE_MS_MAX + 1}, "timestamp_in_future"),
    ("engagements", LIKE | {"value": 1}, "value_out_of_range"),
    ("engagements", LIKE | {"value": np.nan}, "value_out_of_range"),
    ("engagements", LIKE | {"kind": Kind.DWELL, "value": np.nan}, "value_out_of_range"),
    ("engagements", LIKE | {"kind": Kind.DWELL, "value": np.inf}, "value_out_of_range"),
    ("engagements", LIKE | {"kind": Kind.DWELL, "value": -1}, "value_out_of_range"),
    ("engagements", LIKE | {"reserved": (0, 0, 1)}, "bad_row"),
    ("relationships", FOLLOW, None),
    ("relationships", FOLLOW | {"subject_id": 1}, "self_target"),
    ("relationships", FOLLOW | {"author_id": 2}, "bad_row"),
    ("relationships", FOLLOW | {"context_id": 2}, "bad_row"),
    ("relationships", {"kind": Kind.MUTE_WORD, "context_id": 9}, "wrong_topic"),
    ("relationships", {"kind": Kind.UNMUTE_WORD, "context_id": 9}, "wrong_topic"),
    ("tweets", CREATE, None),
    ("tweets", CREATE | {"author_id": 0}, "bad_row"),
    ("tweets", CREATE | {"author_id": 3}, "bad_row"),
    ("tweets", CREATE | {"context_id": 3}, "bad_row"),
    ("tweets", CREATE | {"kind": Kind.DELETE}, None),
    ("tweets", CREATE | {"kind": Kind.EDIT}, "wrong_topic"),
    ("tweets", CREATE | {"kind": Kind.LABEL, "context_id": 4}, "wrong_topic"),
    ("engagements", LIKE | {"kind": Kind.SERVED}, "wrong_topic"),
]


@pytest.mark.parametrize(("topic", "row", "reason"), ROW_CASES)
def test_each_row_fault_has_its_reason(topic: str, row: dict[str, Any], reason: str | None) -> None:
    good = {"engagements": LIKE, "relationships": FOLLOW, "tweets": CREATE}[topic]
    rows = rows_like(good, row, good)
    decoded = decode_packed(topic, encode_events(rows))
    assert decoded.batch.size == (3 if reason is None else 2)
    if reason is not None:
        (letter,) = decoded.dead
        assert (letter.reason, letter.row, letter.value) == (reason, 1, rows[1].tobytes())


DERIVED_CASES: list[tuple[list[dict[str, Any]], list[int]]] = [
    ([CREATE, MENTION, HASHTAG], []),
    ([MENTION, CREATE], [0]),
    ([CREATE, MENTION, CREATE | {"id": 6}, MENTION], [3]),
    ([CREATE, CREATE | {"kind": Kind.DELETE}, MENTION], [2]),
    ([CREATE, MENTION | {"subject_id": 3}, HASHTAG], [1]),
    ([CREATE, MENTION | {"author_id": 9}], [1]),
    ([CREATE, MENTION | {"timestamp_ms": NOW_MS - 9}], [1]),
    ([CREATE, MENTION | {"user_id": 1}], [1]),
    ([CREATE | {"author_id": 8}, MENTION, HASHTAG], [0, 1, 2]),
    ([CREATE, HASHTAG | {"context_id": 0}, HASHTAG], [1]),
]


@pytest.mark.parametrize(("rows", "bad"), DERIVED_CASES)
def test_derived_rows_stand_behind_their_create(rows: list[dict[str, Any]], bad: list[int]) -> None:
    decoded = decode_packed("tweets", encode_events(rows_like(*rows)))
    assert [letter.row for letter in decoded.dead] == bad
    assert decoded.batch.size == len(rows) - len(bad)


def test_derived_rows_do_not_reach_into_another_record() -> None:
    decoded = decode_packed("tweets", encode_events(rows_like(CREATE)), encode_events(rows_like(MENTION)))
    assert [(letter.offset, letter.row) for letter in decoded.dead] == [(1, 0)]


def test_packed_rows_mean_what_their_json_means(decode_json: Callable[..., Decoded]) -> None:
    create = dict(SAMPLES["create"])
    for name in ("text", "lang", "media", "media_tags", "card", "reply_to_id", "quoted_id"):
        create.pop(name)
    create |= {"urls": ["https://a.b/c"], "hashtags": ["x"], "mentions": [10]}
    derived = {"subject_id": 70, "author_id": 9}
    rows = rows_like(
        {"kind": Kind.CREATE, "user_id": 9} | derived,
        {"kind": Kind.MENTION, "user_id": 10} | derived,
        {"kind": Kind.HASHTAG, "user_id": 9, "context_id": text_hash("x")} | derived,
        {"kind": Kind.URL, "user_id": 9, "context_id": url_hash("https://a.b/c")} | derived,
        {"kind": Kind.DELETE, "user_id": 9} | derived,
    )
    packed = decode_packed("tweets", encode_events(rows))
    assert not packed.dead
    assert columns_of(packed) == columns_of(decode_json("tweets", create, SAMPLES["delete"]))


@settings(deadline=None)
@given(st.lists(st.booleans(), min_size=1, max_size=60), st.integers(8, 16))
def test_pack_never_parts_a_create_from_its_rows(is_create: list[bool], rows_max: int) -> None:
    records, behind = [CREATE], 0
    for create in is_create:
        behind = 0 if create else behind + 1
        records.append(CREATE if create or behind > 6 else MENTION)
        behind = 0 if records[-1] is CREATE else behind
    rows = rows_like(*records)
    packed = list(pack(rows, rows_max))
    assert b"".join(record[HEADER.size :] for record in packed) == rows.tobytes()
    assert all(len(record) <= HEADER.size + rows_max * ROW.itemsize for record in packed)
    assert not decode_packed("tweets", *packed).dead


def test_pack_says_what_it_cannot_do() -> None:
    with pytest.raises(ValueError, match="derived rows"):
        list(pack(rows_like(CREATE, *[MENTION] * 4), 3))
    with pytest.raises(ValueError, match="non-empty"):
        encode_events(make_rows(0))
    with pytest.raises(ValueError, match="no field"):
        make_rows(1, colour=3)


def test_the_layout_is_what_the_documentation_says() -> None:
    assert HEADER.size == 16
    assert ROW.itemsize == 56
    assert not any(table[list(DERIVED_KINDS)].any() for topic, table in PACKED_KINDS.items() if topic != "tweets")
    row = rows_like(LIKE | {"user_id": 0x0102, "value": 0, "context_id": ID_MAX})
    assert encode_events(row)[16:].hex() == (
        "0500000000000000"
        "0201000000000000"
        "0200000000000000"
        "0000000000000000"
        "00c02cc899010000"
        "ffffffffffffffff"
        "00000000"
        "01"
        "000000"
    )


def test_json_and_packed_records_of_one_run_keep_their_order(decoder: Decoder) -> None:
    packed = encode_events(rows_like(LIKE | {"id": 8}, LIKE | {"id": 9}))
    run = make_run("engagements", [encode(SAMPLES["favorite"]), packed, encode(SAMPLES["favorite"] | {"id": 10})])
    run.formats[1] = Format.PACKED
    assert decoder.decode([run]).batch.id.tolist() == [5, 8, 9, 10]
