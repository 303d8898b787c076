"""What a job is: a name, a schedule in event time, and a pure function of the state that makes a model."""

from typing import NamedTuple, Protocol

import msgspec

from engine.state import EngineState

_LENGTH_BYTES = 4


class Result(NamedTuple):
    """A job's result: a model's bytes, and its evaluation as numbers by name."""

    payload: bytes
    evaluation: dict[str, float]


class Job(Protocol):
    """Slow work on the state. ``name`` is also the model's name; ``schema`` says what the model's bytes mean.

    The job is due whenever the state's clock passes a multiple of ``interval_ms`` (0: never); this due time is the
    model's version. The job may take ``seconds_max``, and its result may have ``result_bytes_max``.
    """

    name: str
    schema: str
    interval_ms: int
    seconds_max: float
    result_bytes_max: int

    def has_work(self, state: EngineState) -> bool:
        """Whether the state has anything to compute from; until then the job waits. Quick, for the writer thread."""

    def compute(self, state: EngineState) -> Result:
        """Make the model, a function of the state alone; the state does not change meanwhile.

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
