"""The models room against a plain model of what is in force: any order of parts and commits, any cuts."""

import struct
from hashlib import sha256
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.batch import EventBatch, Kind, make_batch
from engine.effects import EffectKind, Effects
from engine.errors import InvariantError
from engine.models import state as models_state
from engine.models.content import encode_commit, encode_part
from engine.models.specs import REPUTATION, SPECS, ModelsConfig, ModelSpec, reputation_bytes, stable_hash
from engine.models.state import ModelInForce, Models, Refusal
from engine.reputation.model import Reputations, decode, encode
from engine.reputation.score import GOODWILL
from engine.room import restore
from engine.rooms import small_rooms
from engine.state import EngineState

PART_BYTES = 4
CAPACITIES = {"left": 11, "right": 4}
#: A payload beginning with this byte is malformed.
BAD_START = 7


@pytest.fixture(autouse=True)
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Parts of a few bytes: the rules do not depend on how many."""
    monkeypatch.setattr(models_state, "PART_BYTES", PART_BYTES)


def specs() -> list[ModelSpec]:
    return [
        ModelSpec(name, f"bytes of {name}", lambda _, size=size: size, lambda payload: payload[0] != BAD_START)
        for name, size in CAPACITIES.items()
    ]


def small_room() -> Models:
    return Models(ModelsConfig(), specs())


class Row(NamedTuple):
    """One event: a part (``part`` ≥ 0) or a commit (-1). ``schema`` and ``spoilt`` are of commits."""

    model: str
    version: int
    part: int
    payload: bytes
    schema: str = ""
    spoilt: bool = False


def parts_of(payload: bytes) -> list[bytes]:
    return [payload[at : at + PART_BYTES] for at in range(0, len(payload), PART_BYTES)]


def digest_of(payload: bytes, *, spoilt: bool = False) -> bytes:
    whole = sha256(b"".join(sha256(part).digest() for part in parts_of(payload))).digest()
    return bytes(32) if spoilt else whole


def text_of(row: Row) -> bytes:
    if row.part >= 0:
        content = parts_of(row.payload)[row.part]
        return encode_part(row.version, row.part, sha256(content).digest(), content)
    return encode_commit(
        row.version,
        stable_hash(row.schema or f"bytes of {row.model}"),
        len(parts_of(row.payload)),
        len(row.payload),
        digest_of(row.payload, spoilt=row.spoilt),
        1000 + row.version % 100,
        b'{"auc":0.5}',
    )


def batch_of(rows: list[Row], *, start: int = 0) -> EventBatch:
    texts = [text_of(row) for row in rows]
    sizes = [len(text) for text in texts]
    return make_batch(
        b"".join(texts),
        kind=[Kind.MODEL_COMMIT if row.part < 0 else Kind.MODEL_PART for row in rows],
        id=[start + i + 1 for i in range(len(rows))],
        subject_id=[stable_hash(row.model) for row in rows],
        timestamp_ms=[50 + start + i for i in range(len(rows))],
        payload=list(range(len(rows))),
        tweet_text_start=np.cumsum([0, *sizes])[:-1],
        tweet_text_bytes=sizes,
    )


class Plain:
    """What is in force and what arrives, by model: dictionaries, and the rules one after the other."""

    def __init__(self) -> None:
        self.in_force: dict[str, tuple[int, bytes]] = {}
        self.arriving: dict[str, tuple[int, dict[int, bytes]]] = {}

    def take(self, row: Row) -> Refusal | None:
        if row.model not in CAPACITIES:
            return Refusal.UNKNOWN_MODEL
        in_force, payload = self.in_force.get(row.model, (0, b""))
        arriving, parts = self.arriving.get(row.model, (0, {}))
        if row.part >= 0:
            content = parts_of(row.payload)[row.part]
            if row.part * PART_BYTES + len(content) > CAPACITIES[row.model]:
                return Refusal.MODEL_TOO_LARGE
            if row.version <= in_force or row.version < arriving:
                return Refusal.OLDER_VERSION
            if row.version > arriving:
                parts = {}
            self.arriving[row.model] = row.version, parts | {row.part: content}
            return None
        if row.schema:
            return Refusal.FOREIGN_SCHEMA
        if len(row.payload) > CAPACITIES[row.model]:
            return Refusal.MODEL_TOO_LARGE
        if row.version == in_force and row.payload == payload and not row.spoilt:
            return None
        if row.version <= in_force or row.version < arriving:
            return Refusal.OLDER_VERSION
        wanted = {number: len(part) for number, part in enumerate(parts_of(row.payload))}
        there = {number: len(parts[number]) for number in parts if number in wanted}
        if row.version > arriving or there != wanted:
            return Refusal.MISSING_PART
        whole = b"".join(parts[number] for number in wanted)
        if row.spoilt or whole != row.payload:
            return Refusal.WRONG_DIGEST
        if whole[0] == BAD_START:
            return Refusal.MALFORMED_MODEL
        self.in_force[row.model] = row.version, whole
        self.arriving.pop(row.model)
        return None


payloads = st.binary(min_size=1, max_size=13)


@st.composite
def streams_of_rows(draw: st.DrawFn) -> list[Row]:
    """Versions of several models, their parts and commits interleaved, lost, repeated, spoilt."""
    rows: list[Row] = []
    for _ in range(draw(st.integers(1, 6))):
        model = draw(st.sampled_from([*CAPACITIES, *CAPACITIES, "nobody"]))
        version = draw(st.integers(1, 4) | st.just(2**64 - 1))
        payload = draw(payloads)
        events = [Row(model, version, number, payload) for number in range(len(parts_of(payload)))]
        commit = Row(model, version, -1, payload)
        fault = draw(st.integers(0, 9))
        if fault == 0:
            del events[draw(st.integers(0, len(events) - 1))]
        elif fault == 1:
            commit = commit._replace(spoilt=True)
        elif fault == 2:
            commit = commit._replace(schema="another")
        elif fault == 3:
            commit = commit._replace(payload=draw(payloads))
        events.append(commit)
        if fault == 4:
            events.append(draw(st.sampled_from(events)))
        if draw(st.booleans()):
            rows += events
        else:
            # Each goes in somewhere, in its own order.
            places = sorted(draw(st.lists(st.integers(0, len(rows)), min_size=len(events), max_size=len(events))))
            for place, event in reversed(list(zip(places, events, strict=True))):
                rows.insert(place, event)
    return rows


def bytes_of(room: Models) -> dict[str, bytes]:
    return {name: array.tobytes() for name, array in room.arrays().items()}


def taken(room: Models, rows: list[Row], start: int = 0) -> list[Refusal | None]:
    """Apply rows as one version of the state; what became of each."""
    return refusals_of(room.apply(batch_of(rows, start=start)), len(rows))


def refusals_of(effects: Effects | None, rows: int) -> list[Refusal | None]:
    """What became of each row, by the effects of applying them."""
    result: list[Refusal | None] = [None] * rows
    for i, row in enumerate([] if effects is None else effects.row.tolist()):
        assert effects is not None
        assert effects.kind[i] == EffectKind.REFUSED
        reason, detail = effects.text_of(i).split("\n")
        assert detail
        result[row] = Refusal[reason.upper()]
    return result


@settings(max_examples=200)
@given(rows=streams_of_rows())
def test_in_force_is_what_the_rules_say(rows: list[Row]) -> None:
    room, plain = small_room(), Plain()
    for number, row in enumerate(rows):
        assert taken(room, [row], number) == [plain.take(row)]
        assert room.versions() == {name: str(plain.in_force[name][0]) for name in CAPACITIES if name in plain.in_force}
        for name in CAPACITIES:
            assert room.payload(name).tobytes() == plain.in_force.get(name, (0, b""))[1]
        room.check()


@settings(max_examples=200)
@given(rows=streams_of_rows(), cuts=st.lists(st.integers(0, 60), max_size=4), restart=st.integers(0, 60))
def test_cuts_and_restarts_change_nothing(rows: list[Row], cuts: list[int], restart: int) -> None:
    whole, cut = small_room(), small_room()
    refused = taken(whole, rows)
    refused_cut: list[Refusal | None] = []
    borders = sorted({0, len(rows), *(c for c in [*cuts, restart] if c < len(rows))})
    for start, stop in pairwise(borders):
        if start == restart:
            again = small_room()
            restore(again, {name: array.copy() for name, array in cut.arrays().items()})
            cut = again
        refused_cut += taken(cut, rows[start:stop], start)
    assert refused_cut == refused
    assert bytes_of(cut) == bytes_of(whole)


def test_the_commit_says_what_is_in_force() -> None:
    room = small_room()
    payload = b"0123456789"
    rows = [Row("left", 3, part, payload) for part in (2, 0, 1)]
    assert taken(room, [*rows, Row("left", 3, -1, payload), Row("left", 3, -1, payload)]) == [None] * 5
    assert room.in_force() == [
        ModelInForce(
            "left", 3, 10, digest_of(payload), began_ms=50, created_ms=1003, committed_ms=53, evaluation=b'{"auc":0.5}'
        )
    ]
    assert room.counters()["commits"] == room.counters()["repeated"] == 1
    assert room.fill() == {"left": 10 / 11, "right": 0.0}


def test_what_is_refused_is_counted_by_model_and_reason() -> None:
    room = small_room()
    taken(room, [Row("nobody", 1, -1, b"x"), Row("right", 1, -1, b"x"), Row("right", 1, -1, b"x" * 5)])
    assert room.refusals()["unknown"]["unknown_model"] == 1
    assert room.refusals()["right"] == {reason.name.lower(): 0 for reason in Refusal} | {
        "missing_part": 1,
        "model_too_large": 1,
    }
    assert room.counters()["refused_missing_part"] == 1


def test_an_unfinished_version_is_pushed_out_by_a_later_one() -> None:
    room = small_room()
    taken(room, [Row("left", 1, 0, b"abcdef"), Row("left", 2, 0, b"xy"), Row("left", 2, -1, b"xy")])
    assert room.versions() == {"left": "2"}
    assert room.counters()["superseded"] == 1


def test_parts_of_another_version_are_not_there() -> None:
    """Even if they are the very bytes that are missing."""
    room = small_room()
    rows = [Row("left", 1, 0, b"abcdef"), Row("left", 1, 1, b"abcdef"), Row("left", 2, 0, b"abcdef")]
    commit = Row("left", 2, -1, b"abcdef")
    assert taken(room, [*rows, commit, rows[1]._replace(version=2), commit]) == [
        None, None, None, Refusal.MISSING_PART, None, None
    ]  # fmt: skip
    assert room.versions() == {"left": "2"}


def damage_bytes(room: Models) -> None:
    room.payload("left")[0] ^= 1


def damage_version(room: Models) -> None:
    room.arrays()["version"][0, 1 - room.arrays()["active"][0]] = 1


def damage_size(room: Models) -> None:
    room.arrays()["size"][0, room.arrays()["active"][0]] = 12


def damage_parts(room: Models) -> None:
    room.arrays()["part_bytes"][0, 0] = 1


@pytest.mark.parametrize("damage", [damage_bytes, damage_version, damage_size, damage_parts])
def test_the_check_finds_damage(damage: Any) -> None:
    room = small_room()
    taken(room, [Row("left", 3, 0, b"abc"), Row("left", 3, -1, b"abc")])
    room.check()
    damage(room)
    with pytest.raises(InvariantError):
        room.check()


def test_reputation_is_well_formed_when_its_size_fits_its_people() -> None:
    def well_formed(payload: bytes) -> bool:
        return REPUTATION.well_formed(np.frombuffer(payload, np.uint8))

    assert well_formed(struct.pack("<Q", 0))
    assert well_formed(struct.pack("<Q", 2) + bytes(26))
    assert not well_formed(struct.pack("<Q", 2) + bytes(25))
    assert not well_formed(struct.pack("<Q", 2**63) + bytes(26))
    assert not well_formed(b"short")
    assert REPUTATION.bytes_max(ModelsConfig(reputation_users_max=5)) == reputation_bytes(5) == 73


def test_every_model_has_a_name_of_its_own() -> None:
    assert len({spec.name_hash for spec in SPECS}) == len(SPECS)
    assert len({spec.name for spec in SPECS}) == len(SPECS)
    with pytest.raises(KeyError):
        Models(ModelsConfig(reputation_users_max=1)).payload("nobody")


def test_capacity_that_no_model_uses_takes_no_memory() -> None:
    """What is never written has no memory; a start that touches every other array leaves the halves alone."""
    state = EngineState(small_rooms(64))
    arrays = state.models.arrays()
    arrays["halves.reputation"].flags.writeable = False
    state.touch()
    arrays["version"].flags.writeable = False
    with pytest.raises(ValueError, match="read-only"):
        state.touch()


def reputation_rows(version: int, ids: list[int]) -> list[Row]:
    """The parts and the commit of a model in which every account scores its own id."""
    scores = np.array(ids, np.uint8)
    payload = encode(Reputations(np.array(ids, np.uint64), np.full(len(ids), 0.25, np.float32), scores))
    parts = range(len(parts_of(payload)))
    return [Row("reputation", version, part, payload, REPUTATION.schema) for part in [*parts, -1]]


def scores_in(room: Models, ids: list[int]) -> list[int]:
    return decode(room.payload("reputation")).reputation(np.array(ids, np.uint64)).tolist()


def names(room: Models, user_id: int) -> bool:
    """Whether any byte of the model, in either half, names a person."""
    halves = room.arrays()["halves.reputation"]
    return bool((halves.view(np.uint64) == user_id).any())


@pytest.mark.parametrize("arrived", range(5))
def test_an_erased_person_leaves_what_is_in_force_what_has_arrived_and_what_comes_later(
    arrived: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(models_state, "PART_BYTES", 16)
    monkeypatch.setitem(globals(), "PART_BYTES", 16)
    room = Models(ModelsConfig(reputation_users_max=8))
    room.apply(batch_of(reputation_rows(1, [5, 7, 9])))
    later = reputation_rows(2, [5, 7, 9, 11])
    room.apply(batch_of(later[:arrived], start=10))
    room.apply(make_batch(kind=[Kind.ERASE, Kind.ERASE], user_id=[7, 0]))
    room.check()
    assert not names(room, 7)
    assert scores_in(room, [5, 7, 9]) == [5, GOODWILL, 9]
    assert room.apply(batch_of(later[arrived:], start=20)) is None
    room.check()
    assert not names(room, 7)
    assert room.versions() == {"reputation": "2"}
    assert scores_in(room, [5, 7, 9, 11]) == [5, GOODWILL, 9, 11]
    # Whoever comes back is in the models again.
    room.apply(make_batch(kind=[Kind.USER], user_id=[7]))
    room.apply(batch_of(reputation_rows(3, [7, 9]), start=30))
    assert scores_in(room, [5, 7, 9]) == [GOODWILL, 7, 9]
    assert not names(room, 5)


def test_only_the_last_people_who_were_erased_are_remembered() -> None:
    room = Models(ModelsConfig(reputation_users_max=8))
    people = range(100, 100 + models_state.ERASED_MAX + 3)
    room.apply(make_batch(kind=[Kind.ERASE] * len(people), user_id=people))
    room.apply(make_batch(kind=[Kind.ERASE, Kind.USER], user_id=[people[5], people[-1]]))
    assert room.arrays()["erased"].tolist() == [*people[3:5], *people[6:-1], people[5], 0]


@pytest.mark.parametrize("users", [1, 1 << 10, 1 << 18])
def test_the_memory_is_what_the_page_says(users: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(models_state, "PART_BYTES", 1 << 19)
    capacities = (reputation_bytes(users), 214_068)
    parts = -(-max(capacities) // (1 << 19))
    room = Models(ModelsConfig(reputation_users_max=users))
    halves = sum(2 * 64 * -(-capacity // 64) for capacity in capacities)
    assert room.bytes_max == halves + 2 * (8480 + 40 * parts) + 8296
