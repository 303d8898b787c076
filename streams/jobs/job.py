"""What a job is: a name, a schedule in event time, and a pure function of the state that makes a model."""

from typing import NamedTuple, Protocol

import msgspec

from engine.state import EngineState

_LENGTH_BYTES = 4


class Result(NamedTuple):
    """What a job made: a model's bytes, and what was measured of it, by name."""

    payload: bytes
    evaluation: dict[str, float]


class Job(Protocol):
    """Slow work on the state. ``name`` is also the name of the model that it makes, ``schema`` says what it means.

    It is due whenever the state's clock passes a multiple of ``interval_ms`` (0: never); the time it is due for is the
    model's version. It may take ``seconds_max`` and make ``result_bytes_max``.
    """

    name: str
    schema: str
    interval_ms: int
    seconds_max: float
    result_bytes_max: int

    def has_work(self, state: EngineState) -> bool:
        """Whether there is anything to compute from; the job waits until there is. On the writer thread, at once."""

    def compute(self, state: EngineState) -> Result:
        """Make the model; a function of the state alone, which does not change meanwhile.

        Runs in a forked child: it takes no locks, imports nothing, and calls only kernels that are compiled already.
        """


def pack(result: Result) -> bytes:
    """A result as bytes."""
    evaluation = msgspec.json.encode(result.evaluation)
    return len(evaluation).to_bytes(_LENGTH_BYTES, "little") + evaluation + result.payload


def unpack(packed: bytes) -> Result:
    """The result in ``pack``'s bytes."""
    start = _LENGTH_BYTES + int.from_bytes(packed[:_LENGTH_BYTES], "little")
    evaluation = msgspec.json.decode(packed[_LENGTH_BYTES:start], type=dict[str, float])
    return Result(packed[start:], evaluation)
