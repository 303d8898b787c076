import hashlib
from collections.abc import Callable
from typing import Any

import hypothesis.strategies as st
import msgspec
import numpy as np
import pytest
from hypothesis import given, settings

from engine.batch import EVENT_COLUMNS, TWEET_COLUMNS, EventBatch, Kind, TweetFlag
from engine.errors import EventError
from engine.interests.state import InterestRoom, InterestsConfig
from engine.models.content import read_commit, read_part
from engine.models.specs import stable_hash
from engine.profiles.bits import ProfileBit, ProfileState, SensitiveMedia
from streams.events import APPLIED_TOPICS, Decoded, Decoder, encode_events, make_rows
from streams.events.decode import EventTypes
from streams.events.ids import ID_MAX, language_code, text_hash, url_hash
from streams.log.interface import Format, Records
from tests.streams.events.conftest import (
    FUTURE_MS_MAX,
    HEAD,
    NOW_MS,
    SAMPLES,
    encode,
    events,
    make_run,
    mutated,
    topic_of,
)

DecodeJson = Callable[..., Decoded]


def rows_of(batch: EventBatch) -> list[tuple[Any, ...]]:
    """Rows as tuples, a tweet's content in place of its payload index."""
    rows = []
    for i in range(batch.size):
        row: list[Any] = [getattr(batch, name)[i].item() for name in EVENT_COLUMNS]
        if (p := row.pop()) >= 0:
            content = [getattr(batch, name)[p].item() for name in TWEET_COLUMNS]
            start, size = content[-2:]
            row += [*content[:-2], batch.text[start : start + size].tobytes().decode(errors="surrogateescape")]
        rows.append(tuple(row))
    return rows


def check_shape(batch: EventBatch) -> None:
    """Exactly the dtypes and layout every room's kernels are compiled for."""
    for group in (EVENT_COLUMNS, TWEET_COLUMNS):
        sizes = {getattr(batch, name).size for name in group}
        assert len(sizes) == 1
        for name, dtype in group.items():
            column = getattr(batch, name)
            assert column.dtype == dtype
            assert column.dtype.isnative
            assert column.flags.c_contiguous
            assert column.flags.writeable
    assert batch.text.dtype == np.uint8
    assert batch.text.flags.writeable
    assert batch.text.size == batch.tweet_text_bytes.sum() + batch.tweet_hashtag_bytes.sum()


def test_engagement_rows(decode_json: DecodeJson) -> None:
    decoded = decode_json("engagements", SAMPLES["favorite"], SAMPLES["dwell"])
    assert rows_of(decoded.batch) == [
        (Kind.FAVORITE, 5, 1, 2, 3, NOW_MS, 4, 0.0),
        (Kind.DWELL, 5, 1, 2, 0, NOW_MS, 0, 2.5),
    ]
    check_shape(decoded.batch)
    assert decoded.append_ms.tolist() == [NOW_MS, NOW_MS]


def test_relationship_rows(decode_json: DecodeJson) -> None:
    decoded = decode_json("relationships", SAMPLES["follow"], SAMPLES["mute_word"])
    assert rows_of(decoded.batch) == [
        (Kind.FOLLOW, 5, 1, 2**64 - 1, 0, NOW_MS, 0, 0.0),
        (Kind.MUTE_WORD, 5, 1, 0, 0, NOW_MS, text_hash("Spoiler"), 0.0, *[0] * 7, "spoiler"),
    ]


def test_interests_are_an_event_and_part_of_a_profile(decode_json: DecodeJson) -> None:
    """They are compared as hashtags are; what names none takes back what was named."""
    room = InterestRoom(InterestsConfig(people_max=4))
    room.apply(decode_json("relationships", SAMPLES["interests"]).batch)
    tags = [text_hash("birds"), text_hash("machinelearning")]
    known = room.of(1)
    assert (known.tags.tolist(), known.languages.tolist()) == (tags, [language_code("pt"), language_code("de")])
    decoded = decode_json("users", SAMPLES["user"] | {"user_id": 2}, HEAD | {"type": "user", "user_id": 1, "id": 6})
    assert [decoded.batch.payload[0] >= 0, decoded.batch.payload[1] >= 0] == [True, False]
    room.apply(decoded.batch)
    assert room.of(1).tags.tolist() == tags
    assert (room.of(2).tags.tolist(), len(room.of(2).languages)) == ([text_hash("birds")], 2)
    nothing = {"type": "interests", "user_id": 1, "id": 7}
    room.apply(decode_json("relationships", HEAD | nothing | {"interests": None, "languages": []}).batch)
    assert room.of(1).tags.size == room.of(1).languages.size == 0


def test_tweet_rows(decode_json: DecodeJson) -> None:
    decoded = decode_json("tweets", *(SAMPLES[name] for name in ("create", "edit", "delete", "label", "unlabel")))
    flags = TweetFlag.REPLY | TweetFlag.QUOTE | TweetFlag.RETWEET | TweetFlag.PHOTO | TweetFlag.VIDEO | TweetFlag.LINK
    english, german = language_code("en"), language_code("de")
    assert rows_of(decoded.batch) == [
        (Kind.CREATE, 5, 9, 70, 9, NOW_MS, 0, 0.0, 60, 50, 40, 30, english, flags, 32, "Dusk 🐦 #Murmuration"),
        # Neither the author's mention of himself nor anything twice.
        (Kind.MENTION, 5, 10, 70, 9, NOW_MS, 0, 0.0),
        (Kind.MEDIA_TAG, 5, 11, 70, 9, NOW_MS, 0, 0.0),
        (Kind.MEDIA_TAG, 5, 12, 70, 9, NOW_MS, 0, 0.0),
        # Names come along, as they were first written.
        (Kind.HASHTAG, 5, 9, 70, 9, NOW_MS, text_hash("murmuration"), 0.0, *[0] * 7, "Murmuration"),
        (Kind.HASHTAG, 5, 9, 70, 9, NOW_MS, text_hash("dusk"), 0.0, *[0] * 7, "dusk"),
        (Kind.URL, 5, 9, 70, 9, NOW_MS, url_hash("https://example.org/A"), 0.0, *[0] * 7, "https://example.org/A"),
        (Kind.EDIT, 5, 9, 70, 9, NOW_MS, 0, 0.0, 0, 0, 0, 0, german, TweetFlag.VIDEO, 0, "Dawn"),
        (Kind.DELETE, 5, 9, 70, 9, NOW_MS, 0, 0.0),
        (Kind.LABEL, 5, 0, 70, 9, NOW_MS, text_hash("nsfw"), 0.0),
        (Kind.UNLABEL, 5, 0, 70, 9, NOW_MS, text_hash("nsfw"), 0.0),
    ]
    # Hashtags also come right after the text, where words are looked for.
    batch, content = decoded.batch, decoded.batch.payload[0]
    end = batch.tweet_text_start[content] + batch.tweet_text_bytes[content]
    assert batch.text[end : end + 32].tobytes() == b"\n#Murmuration\n#murmuration\n#dusk"
    check_shape(decoded.batch)
    assert decoded.record_row_counts.tolist() == [7, 1, 1, 1, 1]


def test_user_and_served_rows(decode_json: DecodeJson) -> None:
    batch = decode_json("users", SAMPLES["user"]).batch
    bits = int(batch.context_id[0])
    assert batch.kind.tolist() == [Kind.USER]
    assert bits & ProfileBit.VERIFIED
    assert bits & ProfileBit.PROTECTED
    assert bits >> ProfileBit.STATE_SHIFT & 3 == ProfileState.SUSPENDED
    assert bits >> ProfileBit.SENSITIVE_MEDIA_SHIFT & 3 == SensitiveMedia.HIDE
    assert bits >> ProfileBit.LANGUAGE_SHIFT & 0xFFFF == language_code("pt")
    assert bits >> ProfileBit.COUNTRY_SHIFT == language_code("br")
    decoded = decode_json("served", SAMPLES["served_feed"])
    (_, first, *columns), (_, second, *others) = rows_of(decoded.batch)
    assert decoded.batch.kind.tolist() == [Kind.SERVED] * 2
    assert columns == [1, 2, 3, NOW_MS, 2**64 - 1, -0.5]
    assert others == [1, 2**64 - 1, 0, NOW_MS, 2**64 - 1, np.float32(1.76e12)]
    assert decoded.record_row_counts.tolist() == [2]
    # Written again it is a duplicate, row by row; no row is another's.
    assert len({first, second, 5}) == 3
    assert decode_json("served", SAMPLES["served_feed"]).batch.id.tolist() == [first, second]


def test_nothing_gives_an_empty_batch(decoder: Decoder) -> None:
    for runs in ([], [make_run("tweets", [])], [make_run("nobody", [b"x"])]):
        decoded = decoder.decode(runs)
        check_shape(decoded.batch)
        assert decoded.batch.size == 0


def test_a_dead_letter_says_where_and_what(decoder: Decoder) -> None:
    good = encode(SAMPLES["favorite"])
    run = make_run("engagements", [good, b"{", good], first=100, partition=3)
    decoded = decoder.decode([run])
    (letter,) = decoded.dead
    assert (letter.topic, letter.partition, letter.offset, letter.row) == ("engagements", 3, 101, None)
    assert (letter.reason, letter.append_ms, letter.value) == ("malformed_json", NOW_MS, b"{")
    assert decoded.record_row_counts.tolist() == [1, 0, 1]


@pytest.mark.parametrize("topic", ["promoted", "dead-letters", "examples", "no-such-topic"])
def test_topics_that_are_not_applied_give_dead_letters(decoder: Decoder, topic: str) -> None:
    (letter,) = decoder.decode([make_run(topic, [encode(SAMPLES["promote"])])]).dead
    assert letter.reason == "wrong_topic"


def test_event_times_are_held_against_the_append_time_of_their_record(decoder: Decoder) -> None:
    values = [encode(SAMPLES["favorite"] | {"timestamp_ms": NOW_MS + d}) for d in (FUTURE_MS_MAX, FUTURE_MS_MAX + 1)]
    run = make_run("engagements", [*values, values[1]])
    run.append_ms[2] += 1
    decoded = decoder.decode([run])
    assert [letter.offset for letter in decoded.dead] == [1]
    assert decoded.append_ms.tolist() == [NOW_MS, NOW_MS + 1]


packed_rows = st.lists(
    st.tuples(st.integers(0, 3), st.integers(0, 3), st.sampled_from([Kind.FAVORITE, Kind.SHARE, Kind.FOLLOW])),
    min_size=1,
).map(
    lambda rows: make_rows(
        len(rows),
        id=[row[0] for row in rows],
        user_id=7,
        subject_id=[row[1] for row in rows],
        timestamp_ms=NOW_MS,
        kind=[int(row[2]) for row in rows],
    )
)
json_values = events.map(encode) | mutated().map(encode) | st.binary(max_size=10)
records = json_values.map(lambda value: (topic_of(value), Format.JSON, value)) | st.tuples(
    st.sampled_from(APPLIED_TOPICS),
    st.sampled_from(list(Format)),
    json_values | packed_rows.map(encode_events) | st.binary(max_size=40).map(lambda tail: b"MURM\1\1" + tail),
)


@st.composite
def record_runs(draw: st.DrawFn) -> list[Records]:
    """Runs of mixed formats, some partitions coming in several runs."""
    runs: list[Records] = []
    next_offset: dict[tuple[str, int], int] = {}
    for topic, format_, value in draw(st.lists(records, max_size=12)):
        partition = draw(st.integers(0, 1))
        offset = next_offset.get((topic, partition), 0)
        next_offset[topic, partition] = offset + draw(st.integers(1, 3))
        if runs and (runs[-1].topic, runs[-1].partition) == (topic, partition) and draw(st.booleans()):
            run = runs[-1]
        else:
            runs.append(run := make_run(topic, [], partition=partition))
        run.offsets.append(offset)
        run.append_ms.append(NOW_MS)
        run.formats.append(format_)
        run.keys.append(b"")
        run.values.append(value)
    return runs


def one_by_one(runs: list[Records]) -> list[Records]:
    """Every record as a run of its own."""
    return [
        Records(run.topic, run.partition, [o], [a], [f], [k], [v])
        for run in runs
        for o, a, f, k, v in zip(run.offsets, run.append_ms, run.formats, run.keys, run.values, strict=True)
    ]


@settings(deadline=None, max_examples=300)
@given(record_runs())
def test_decoding_together_is_decoding_alone(runs: list[Records]) -> None:
    decoder = Decoder(future_ms_max=FUTURE_MS_MAX)
    together = decoder.decode(runs)
    check_shape(together.batch)
    alone = [decoder.decode([run]) for run in one_by_one(runs)]
    assert rows_of(together.batch) == [row for decoded in alone for row in rows_of(decoded.batch)]
    assert together.dead == [letter for decoded in alone for letter in decoded.dead]
    assert together.record_row_counts.tolist() == [decoded.batch.size for decoded in alone]
    # Every record is accounted for: JSON gives rows or one dead letter; of a packed one every row does.
    for decoded, run in zip(alone, one_by_one(runs), strict=True):
        if not run.values[0]:
            assert len(decoded.dead) + decoded.batch.size == (run.topic == "users")
        elif run.formats[0] is Format.JSON:
            assert (decoded.batch.size > 0) != (len(decoded.dead) == 1) or is_empty_feed(run.values[0])
        else:
            assert decoded.batch.size + len(decoded.dead) >= 1


def is_empty_feed(value: bytes) -> bool:
    """A served feed without entries is sound and gives no rows."""
    try:
        event = msgspec.json.decode(value)
        return bool(event["type"] == "served_feed" and event["entries"] == [])
    except (msgspec.DecodeError, UnicodeDecodeError, TypeError, KeyError):
        return False


def is_refused(types: EventTypes, value: bytes) -> bool:
    try:
        types.checked(value, NOW_MS + FUTURE_MS_MAX)
    except EventError:
        return True
    return False


@settings(deadline=None, max_examples=300)
@given(st.lists(events | mutated(), min_size=1, max_size=6))
def test_columns_accept_exactly_what_the_single_check_accepts(candidates: list[dict[str, Any]]) -> None:
    """The bulk checks of a topic and the check of one event are written twice: they must agree."""
    values = [encode(event) for event in candidates]
    for topic in APPLIED_TOPICS:
        mine = [value for value in values if topic_of(value) == topic]
        types = EventTypes(topic)
        refused = sum(is_refused(types, value) for value in mine)
        decoded = Decoder(future_ms_max=FUTURE_MS_MAX).decode([make_run(topic, mine)])
        assert len(decoded.dead) == refused
        empty = sum(not is_refused(types, value) and is_empty_feed(value) for value in mine)
        assert np.count_nonzero(decoded.record_row_counts) == len(mine) - refused - empty


@settings(deadline=None)
@given(st.lists(events, min_size=1, max_size=5))
def test_ids_read_the_same_as_numbers_and_as_strings(candidates: list[dict[str, Any]]) -> None:
    def respell(event: dict[str, Any], spell: Callable[[Any], Any]) -> dict[str, Any]:
        spelt = dict(event)
        for name, value in event.items():
            if name == "id" or name.endswith("_id"):
                spelt[name] = spell(value)
            elif name in ("mentions", "media_tags"):
                spelt[name] = [spell(person) for person in value]
        return spelt

    decoder = Decoder(future_ms_max=FUTURE_MS_MAX)
    for topic in APPLIED_TOPICS:
        mine = [event for event in candidates if topic_of(encode(event)) == topic]
        spellings = [[encode(respell(event, spell)) for event in mine] for spell in (int, str)]
        numbers, strings = (decoder.decode([make_run(topic, values)]) for values in spellings)
        assert not numbers.dead
        assert rows_of(numbers.batch) == rows_of(strings.batch)


def test_surrogate_pairs_and_long_texts_come_through(decode_json: DecodeJson) -> None:
    text = "🐦" * 4000
    raw = encode(HEAD | {"type": "create", "tweet_id": 70, "author_id": 9, "text": "\\ud83d\\udc26"}).replace(
        b"\\\\", b"\\"
    )
    decoded = decode_json("tweets", raw, SAMPLES["create"] | {"text": text})
    assert not decoded.dead
    contents = [row[-1] for row in rows_of(decoded.batch) if row[0] == Kind.CREATE]
    assert contents == ["🐦", text]


def test_models_and_tweets_in_one_batch_keep_their_own_text(decoder: Decoder) -> None:
    part, create = SAMPLES["model_part"], SAMPLES["create"]
    values = [encode(part), encode(part | {"part": 1, "id": 6})]
    decoded = decoder.decode([make_run("models", values), make_run("tweets", [encode(create)], partition=1)])
    both = [read_part(decoded.batch, row) for row in (0, 1)]
    assert [(part.version, part.part, part.content.tobytes()) for part in both] == [(7, 0, b"abc"), (7, 1, b"abc")]
    assert both[0].digest == hashlib.sha256(b"abc").digest()
    assert rows_of(decoded.batch)[2][-1] == create["text"]


def test_a_commit_row(decode_json: DecodeJson) -> None:
    batch = decode_json("models", SAMPLES["model_commit"]).batch
    assert rows_of(batch)[0][:8] == (Kind.MODEL_COMMIT, 5, 0, stable_hash("light"), 0, NOW_MS, 0, 0.0)
    commit = read_commit(batch, 0)
    assert commit[:6] == (ID_MAX, 0x00C0FFEE00C0FFEE, 1, 3, bytes(32), NOW_MS)
    assert commit.evaluation.tobytes() == b'{"auc":0.75}'


def nulls(topic: str, keys: list[bytes], append_ms: int = NOW_MS) -> Records:
    n = len(keys)
    return Records(topic, 0, list(range(n)), [append_ms] * n, [Format.JSON] * n, keys, [b""] * n)


def test_a_null_value_on_users_erases_the_person_of_its_key(decoder: Decoder) -> None:
    keys = [b"7", str(ID_MAX).encode(), b'"12"', b"", b"user-7", b"07", b"\xff"]
    decoded = decoder.decode([nulls("users", keys)])
    check_shape(decoded.batch)
    assert decoded.batch.kind.tolist() == [Kind.ERASE] * 3
    assert decoded.batch.user_id.tolist() == [7, ID_MAX, 12]
    assert decoded.batch.timestamp_ms.tolist() == [NOW_MS] * 3
    assert decoded.record_row_counts.tolist() == [1, 1, 1, 0, 0, 0, 0]
    assert [(letter.offset, letter.reason) for letter in decoded.dead] == [(i, "bad_key") for i in range(3, 7)]


@pytest.mark.parametrize("topic", sorted({*APPLIED_TOPICS, "promoted", "nobodys"} - {"users"}))
def test_a_null_value_on_another_topic_is_passed_over(decoder: Decoder, topic: str) -> None:
    decoded = decoder.decode([nulls(topic, [b"7", b""])])
    assert not decoded.dead
    assert decoded.batch.size == 0
    assert decoded.record_row_counts.tolist() == [0, 0]


def test_null_values_stand_among_others_in_the_order_of_the_log(decoder: Decoder) -> None:
    run = make_run("users", [encode(SAMPLES["user"]), b"", encode(SAMPLES["user"]), b""])
    run = Records(run.topic, 0, run.offsets, run.append_ms, run.formats, [b"1"] * 4, run.values)
    batch = decoder.decode([run]).batch
    assert batch.kind.tolist() == [Kind.USER, Kind.ERASE, Kind.USER, Kind.ERASE]
