"""A model's version as records: they decode, they come into force, they fit a record, and ids follow from the call."""

import io
import itertools

import msgspec
import pytest

from engine.models.specs import PART_BYTES, REPUTATION, ModelsConfig, reputation_bytes
from engine.models.state import Models
from streams.events.decode import Decoder
from streams.events.models import TOPIC, model_digest, model_records, schema_name
from streams.events.publish import classify, publish_file
from streams.log.interface import Format, NewRecord, Records
from streams.ordering.pieces import cut
from tests.streams.server.conftest import FakeLog

T0 = 1_760_000_000_000
USERS = 90_000
PAYLOAD = USERS.to_bytes(8, "little") + bytes(13 * USERS)


def records(version: int = 3, time_ms: int = T0) -> list[NewRecord]:
    return model_records("reputation", version, REPUTATION.schema, PAYLOAD, {"residual": 1e-6}, time_ms)


def run_of(made: list[NewRecord]) -> Records:
    size = len(made)
    keys, values = [record.key for record in made], [record.value for record in made]
    return Records(TOPIC, 0, list(range(size)), [T0] * size, [Format.JSON] * size, keys, values)


def test_a_version_comes_into_force() -> None:
    decoded = Decoder(future_ms_max=0).decode([run_of(records())])
    assert decoded.dead == []
    room = Models(ModelsConfig(reputation_users_max=USERS))
    assert room.apply(decoded.batch) is None
    assert room.payload("reputation").tobytes() == PAYLOAD
    (model,) = room.in_force()
    assert (model.version, model.size, model.digest) == (3, reputation_bytes(USERS), model_digest(PAYLOAD))
    assert (model.created_ms, model.committed_ms, model.evaluation) == (T0, T0, b'{"residual":1e-6}')
    room.check()


def test_records_have_one_key_and_fit_the_log() -> None:
    made = records()
    assert {record.key for record in made} == {b"reputation"}
    assert max(len(record.value) for record in made) < 1_000_000
    assert len(made) == -(-len(PAYLOAD) // PART_BYTES) + 1


def test_ids_follow_from_what_is_published_and_when() -> None:
    def ids(made: list[NewRecord]) -> set[str]:
        return {msgspec.json.decode(record.value)["id"] for record in made}

    assert ids(records()) == ids(records())
    versions = [records(), records(4), records(time_ms=T0 + 1)]
    assert len(set().union(*map(ids, versions))) == sum(map(len, versions))


def test_a_piece_has_one_part_at_most_and_the_cut_is_in_order() -> None:
    pieces = list(cut([run_of(records())], 2048))
    offsets = [run.offsets for piece in pieces for run in piece]
    assert list(itertools.chain.from_iterable(offsets)) == list(range(len(records())))
    large = [sum(len(value) > PART_BYTES for run in piece for value in run.values) for piece in pieces]
    assert max(large) == 1


@pytest.mark.parametrize("payload", [b"", bytes(8)])
def test_an_empty_model_cannot_be_published(payload: bytes) -> None:
    if payload:
        assert len(model_records("reputation", 1, REPUTATION.schema, payload, {}, T0)) == 2
        return
    with pytest.raises(ValueError, match="not 0"):
        model_records("reputation", 1, REPUTATION.schema, payload, {}, T0)


async def test_the_lines_of_a_file_are_published_as_they_are() -> None:
    made, log = records(), FakeLog()
    lines = b"\n".join(record.value for record in made)
    result = await publish_file(io.BytesIO(lines), log, now_ms=lambda: T0, future_ms_max=0, record_bytes_max=1_000_000)
    assert (result.accepted, result.rejected) == (len(made), 0)
    assert [(record.key, record.value) for record in log.records[TOPIC]] == [(r.key, r.value) for r in made]
    assert classify(made[-1].value)[:2] == (TOPIC, b"reputation")


def test_a_schema_has_a_name_of_sixteen_digits() -> None:
    assert schema_name(REPUTATION.schema) == f"{REPUTATION.schema_hash:016x}"
    assert len(schema_name("")) == 16
