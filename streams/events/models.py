"""A model's version as records of topic ``models``, in the order in which a trainer or a job appends them."""

import hashlib
from collections.abc import Mapping
from typing import Final

import msgspec

from engine.models.specs import PART_BYTES, PARTS_MAX, stable_hash
from streams.events.ids import hash64
from streams.events.json_types import ModelCommit, ModelPart
from streams.log.interface import NewRecord

TOPIC: Final = "models"


def schema_name(schema: str) -> str:
    """A schema's description as it stands in a commit: 16 hex digits of its hash."""
    return f"{stable_hash(schema):016x}"


def model_digest(payload: bytes) -> bytes:
    """SHA-256 over the SHA-256 of each part of a model's bytes."""
    return hashlib.sha256(b"".join(hashlib.sha256(part).digest() for part in _parts(payload))).digest()


def model_records(
    name: str, version: int, schema: str, payload: bytes, evaluation: Mapping[str, float], time_ms: int
) -> list[NewRecord]:
    """The parts and the commit of a model's version; to be appended to ``TOPIC`` in one call.

    Args:
        name: the model's name.
        version: 1 to 2⁶⁴−1, greater than any committed version.
        schema: what the bytes mean, in words (``ModelSpec.schema``).
        payload: the model, 1 byte to 2 GiB.
        evaluation: measured figures of the model, by name.
        time_ms: event time. The records' ids are computed from it, so that the same call gives duplicates, and a new
            try at a later time does not.

    Raises:
        ValueError: an empty or too large payload.
    """
    parts = _parts(payload)
    if not 1 <= len(parts) <= PARTS_MAX:
        raise ValueError(f"a model has 1 to {PARTS_MAX * PART_BYTES} bytes, not {len(payload)}")
    head = f"{name}\0{version}\0{time_ms}\0"
    events: list[ModelPart | ModelCommit] = []
    for number, part in enumerate(parts):
        digest = hashlib.sha256(part).hexdigest()
        events.append(
            ModelPart(
                v=1,
                id=str(hash64(f"{head}{number}\0{digest}".encode())),
                timestamp_ms=time_ms,
                model=name,
                version=str(version),
                part=number,
                sha256=digest,
                content=part,
            )
        )
    digest = model_digest(payload).hex()
    events.append(
        ModelCommit(
            v=1,
            id=str(hash64(f"{head}commit\0{digest}".encode())),
            timestamp_ms=time_ms,
            model=name,
            version=str(version),
            schema=schema_name(schema),
            parts=len(parts),
            size_bytes=len(payload),
            sha256=digest,
            created_ms=time_ms,
            evaluation=dict(evaluation),
        )
    )
    return [NewRecord(value=msgspec.json.encode(event), key=name.encode()) for event in events]


def _parts(payload: bytes) -> list[bytes]:
    return [payload[at : at + PART_BYTES] for at in range(0, len(payload), PART_BYTES)]
