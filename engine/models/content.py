"""The content of a model's row in ``EventBatch.text``: a fixed little-endian head, then bytes.

The decoder has checked the ranges of the fields, and each part's bytes against the part's digest.
"""

import struct
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from engine.batch import EventBatch

_PART = struct.Struct("<QI32s")
_COMMIT = struct.Struct("<QQIQ32sq")


class Part(NamedTuple):
    """A piece of a version's bytes: the ``part``-th (from 0), with the SHA-256 of ``content``."""

    version: int
    part: int
    digest: bytes
    content: NDArray[np.uint8]


class Commit(NamedTuple):
    """Ends a version. ``digest``: SHA-256 over the digests of its parts, in order. ``evaluation``: JSON."""

    version: int
    schema: int
    parts: int
    size: int
    digest: bytes
    created_ms: int
    evaluation: NDArray[np.uint8]


def encode_part(version: int, part: int, digest: bytes, content: bytes) -> bytes:
    """The text of a MODEL_PART row."""
    return _PART.pack(version, part, digest) + content


def encode_commit(
    version: int, schema: int, parts: int, size: int, digest: bytes, created_ms: int, evaluation: bytes
) -> bytes:
    """The text of a MODEL_COMMIT row."""
    return _COMMIT.pack(version, schema, parts, size, digest, created_ms) + evaluation


def read_part(batch: EventBatch, row: int) -> Part:
    """The part in a MODEL_PART row; ``content`` is a view of the batch."""
    text = _text(batch, row)
    version, part, digest = _PART.unpack(text[: _PART.size].tobytes())
    return Part(version, part, digest, text[_PART.size :])


def read_commit(batch: EventBatch, row: int) -> Commit:
    """The commit in a MODEL_COMMIT row; ``evaluation`` is a view of the batch."""
    text = _text(batch, row)
    version, schema, parts, size, digest, created_ms = _COMMIT.unpack(text[: _COMMIT.size].tobytes())
    return Commit(version, schema, parts, size, digest, created_ms, text[_COMMIT.size :])


def _text(batch: EventBatch, row: int) -> NDArray[np.uint8]:
    at = batch.payload[row]
    start = int(batch.tweet_text_start[at])
    return batch.text[start : start + int(batch.tweet_text_bytes[at])]
