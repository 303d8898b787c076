import hypothesis.strategies as st
import msgspec
import pytest
from hypothesis import given, settings

from engine.errors import EventError
from streams.events import Reason
from streams.events.decode import EventTypes
from streams.events.ids import ID_MAX
from tests.streams.events.conftest import FUTURE_MS_MAX, NOW_MS, SAMPLES, encode, events, topic_of

LIKE = SAMPLES["favorite"]
TWEET = SAMPLES["create"]
FOLLOW = SAMPLES["follow"]
WORD = SAMPLES["mute_word"]
INTERESTS = SAMPLES["interests"]
USER = SAMPLES["user"]
LATE = NOW_MS + FUTURE_MS_MAX + 1


def without(event: dict[str, object], field: str) -> dict[str, object]:
    return {name: value for name, value in event.items() if name != field}


CASES = [
    ("engagements", b"\xff", "not_utf8"),
    ("engagements", b'{"v":1,"id":1,"type":"favorite\xc3"}', "not_utf8"),
    ("tweets", b'{"v":1,"text":"\xed\xa0\x80"}', "not_utf8"),
    ("engagements", b"", "malformed_json"),
    ("engagements", b"{", "malformed_json"),
    ("engagements", b"nonsense", "malformed_json"),
    ("engagements", encode(LIKE) + b"x", "malformed_json"),
    ("engagements", encode(LIKE) + encode(LIKE), "malformed_json"),
    ("engagements", b'{"v":1,"value":NaN}', "malformed_json"),
    ("engagements", b"[" * 100_000, "malformed_json"),
    ("tweets", b'{"v":' * 100_000, "malformed_json"),
    ("engagements", b"[]", "foreign_format"),
    ("engagements", b"7", "wrong_type"),
    ("engagements", b"null", "wrong_type"),
    ("engagements", {}, "missing_field"),
    ("engagements", without(LIKE, "v"), "missing_field"),
    ("engagements", LIKE | {"v": "1"}, "wrong_type"),
    ("engagements", LIKE | {"v": 1.0}, "wrong_type"),
    ("engagements", LIKE | {"v": True}, "wrong_type"),
    ("engagements", LIKE | {"v": 2}, "unsupported_version"),
    ("engagements", without(LIKE, "type"), "missing_field"),
    ("engagements", LIKE | {"type": 3}, "wrong_type"),
    ("engagements", LIKE | {"type": "like"}, "unknown_type"),
    ("tweets", TWEET | {"type": "tweet"}, "unknown_type"),
    ("engagements", FOLLOW, "wrong_topic"),
    ("tweets", LIKE, "wrong_topic"),
    ("engagements", without(LIKE, "tweet_id"), "missing_field"),
    ("engagements", LIKE | {"colour": 1}, "unknown_field"),
    ("tweets", TWEET | {"user_id": 1}, "unknown_field"),
    ("engagements", LIKE | {"user_id": 0}, "id_out_of_range"),
    ("engagements", LIKE | {"user_id": "0"}, "id_out_of_range"),
    ("engagements", LIKE | {"user_id": -1}, "id_out_of_range"),
    ("engagements", LIKE | {"user_id": str(ID_MAX + 1)}, "id_out_of_range"),
    ("engagements", LIKE | {"user_id": "9" * 5000}, "id_out_of_range"),
    ("engagements", encode(LIKE).replace(b'"id":5', b'"id":18446744073709551616'), "id_out_of_range"),
    ("engagements", encode(LIKE).replace(b'"id":5', b'"id":' + b"9" * 5000), "id_out_of_range"),
    ("engagements", LIKE | {"user_id": 1.0}, "wrong_type"),
    ("engagements", LIKE | {"user_id": "1.0"}, "wrong_type"),
    ("engagements", LIKE | {"user_id": "12x"}, "wrong_type"),
    ("engagements", LIKE | {"user_id": " 12"}, "wrong_type"),
    ("engagements", LIKE | {"user_id": "1_2"}, "wrong_type"),
    ("engagements", LIKE | {"user_id": "012"}, "wrong_type"),
    ("engagements", LIKE | {"user_id": "１"}, "wrong_type"),
    ("engagements", LIKE | {"user_id": ""}, "wrong_type"),
    ("engagements", LIKE | {"user_id": True}, "wrong_type"),
    ("engagements", LIKE | {"user_id": None}, "wrong_type"),
    ("engagements", LIKE | {"author_id": -1}, "id_out_of_range"),
    ("tweets", TWEET | {"mentions": [0]}, "id_out_of_range"),
    ("tweets", TWEET | {"mentions": ["x"]}, "wrong_type"),
    ("tweets", TWEET | {"quoted_id": "-5"}, "wrong_type"),
    ("engagements", LIKE | {"timestamp_ms": "2025-10-09"}, "wrong_type"),
    ("engagements", LIKE | {"timestamp_ms": 0}, "timestamp_out_of_range"),
    ("engagements", LIKE | {"timestamp_ms": -NOW_MS}, "timestamp_out_of_range"),
    ("engagements", LIKE | {"timestamp_ms": NOW_MS * 1000}, "timestamp_out_of_range"),
    ("engagements", LIKE | {"timestamp_ms": LATE}, "timestamp_in_future"),
    ("tweets", TWEET | {"timestamp_ms": LATE}, "timestamp_in_future"),
    ("users", USER | {"timestamp_ms": LATE}, "timestamp_in_future"),
    ("engagements", LIKE | {"value": 1}, "value_out_of_range"),
    ("engagements", LIKE | {"value": 1e-60}, "value_out_of_range"),
    ("engagements", SAMPLES["dwell"] | {"value": -1}, "value_out_of_range"),
    ("engagements", SAMPLES["dwell"] | {"value": 1e10}, "value_out_of_range"),
    ("engagements", encode(SAMPLES["dwell"]).replace(b"2.5", b"1e400"), "value_out_of_range"),
    ("tweets", TWEET | {"text": "x" * 4001}, "text_too_long"),
    ("tweets", TWEET | {"urls": ["u" * 2049]}, "text_too_long"),
    ("tweets", TWEET | {"hashtags": [""]}, "text_too_short"),
    ("tweets", TWEET | {"mentions": list(range(1, 52))}, "too_many_items"),
    ("tweets", TWEET | {"media": ["photo"] * 9}, "too_many_items"),
    ("tweets", TWEET | {"media": ["painting"]}, "unknown_value"),
    ("users", USER | {"state": "asleep"}, "unknown_value"),
    ("tweets", TWEET | {"lang": 7}, "wrong_type"),
    ("tweets", TWEET | {"reply_to_id": TWEET["tweet_id"]}, "self_target"),
    ("relationships", FOLLOW | {"target_id": FOLLOW["user_id"]}, "self_target"),
    ("relationships", FOLLOW | {"user_id": "7", "target_id": 7}, "self_target"),
    ("relationships", without(FOLLOW, "target_id"), "missing_field"),
    ("relationships", FOLLOW | {"word": "x"}, "unknown_field"),
    ("relationships", without(WORD, "word"), "missing_field"),
    ("relationships", WORD | {"target_id": 4}, "unknown_field"),
    ("relationships", WORD | {"interests": ["x"]}, "unknown_field"),
    ("relationships", FOLLOW | {"languages": ["de"]}, "unknown_field"),
    ("relationships", INTERESTS | {"target_id": 4}, "unknown_field"),
    ("relationships", INTERESTS | {"word": "x"}, "unknown_field"),
    ("relationships", INTERESTS | {"interests": ["x"] * 33}, "too_many_items"),
    ("relationships", INTERESTS | {"languages": ["de"] * 5}, "too_many_items"),
    ("relationships", INTERESTS | {"interests": [""]}, "text_too_short"),
    ("promoted", SAMPLES["promote"] | {"ends_ms": NOW_MS - 2}, "value_out_of_range"),
    ("models", SAMPLES["model_part"] | {"content": "*"}, "wrong_type"),
    ("models", SAMPLES["model_part"] | {"content": ""}, "text_too_short"),
    ("models", SAMPLES["model_part"] | {"content": "YWJk"}, "wrong_digest"),
    ("models", SAMPLES["model_part"] | {"part": 4096}, "value_out_of_range"),
    ("models", SAMPLES["model_part"] | {"version": "0"}, "id_out_of_range"),
    ("models", SAMPLES["model_commit"] | {"version": 0}, "id_out_of_range"),
    ("models", SAMPLES["model_commit"] | {"parts": 2}, "malformed_model"),
    ("models", SAMPLES["model_commit"] | {"size_bytes": 524_289}, "malformed_model"),
    ("models", SAMPLES["model_commit"] | {"evaluation": {f"{i:0>100}": 0.5 for i in range(50)}}, "text_too_long"),
]


@pytest.mark.parametrize(("topic", "event", "reason"), CASES)
def test_each_fault_has_its_reason(topic: str, event: object, reason: str) -> None:
    value = event if isinstance(event, bytes) else encode(event)
    with pytest.raises(EventError) as caught:
        EventTypes(topic).checked(value, NOW_MS + FUTURE_MS_MAX)
    assert caught.value.reason == reason
    assert len(caught.value.detail) <= 300


def test_all_json_reasons_are_shown_above() -> None:
    elsewhere = {
        Reason.UNSUPPORTED_FORMAT,
        Reason.RECORD_TOO_LARGE,
        # At the entrances only (test_publish.py).
        Reason.DUPLICATE_KEY,
        Reason.BAD_PACKED_HEADER,
        Reason.TRUNCATED_BATCH,
        Reason.BAD_CHECKSUM,
        Reason.BAD_ROW,
        Reason.PIECE_SKIPPED,
        # Of a record without a value (test_decode.py).
        Reason.BAD_KEY,
        # When they are applied (tests/engine: tweet_store, muted_words, social_graph, suggestions, models).
        Reason.TOO_MANY_FOLLOWS,
        Reason.TOO_MANY_BLOCKS,
        Reason.TOO_MANY_MUTES,
        Reason.SOCIAL_GRAPH_FULL,
        Reason.SUGGESTIONS_FULL,
        Reason.TOO_MANY_CONTACTS,
        Reason.TOO_MANY_RETWEET_MUTES,
        Reason.LINKS_FULL,
        Reason.NOT_THE_AUTHOR,
        Reason.TOO_MANY_WORDS,
        Reason.UNKNOWN_MODEL,
        Reason.FOREIGN_SCHEMA,
        Reason.MODEL_TOO_LARGE,
        Reason.OLDER_VERSION,
        Reason.MISSING_PART,
    }
    assert {reason for _, _, reason in CASES} | elsewhere == set(Reason)


@settings(deadline=None)
@given(events, st.data())
def test_any_valid_event_is_accepted_and_any_cut_of_it_refused(event: dict[str, object], data: st.DataObject) -> None:
    value = msgspec.json.encode(event)
    types = EventTypes(topic_of(value))
    assert types.checked(value, NOW_MS + FUTURE_MS_MAX)
    with pytest.raises(EventError):
        types.checked(value[: data.draw(st.integers(0, len(value) - 1))], NOW_MS + FUTURE_MS_MAX)


def test_repeated_keys_count_with_their_last_value() -> None:
    value = encode(LIKE).replace(b'"id":5', b'"id":7,"id":5')
    assert EventTypes("engagements").checked(value, NOW_MS).id == 5
