"""What the rooms take in memory, known before they are made for use."""

from typing import Final

from config.schema import Config
from engine.errors import ConfigError
from engine.state import EngineState
from streams.process.machine import Memory, memory

#: What a process takes beside its rooms: Python, numba, the loaded kernels.
PROCESS_BYTES: Final = 140_000_000
#: How many of the largest rooms are named.
_NAMED: Final = 3


def rooms_bytes(config: Config) -> dict[str, int]:
    """Bytes of each room's arrays, largest first.

    The rooms are made and dropped: their arrays begin as zeros, for which the system gives no memory yet.

    Raises:
        ConfigError: they are larger than any memory.
    """
    try:
        parts = {room.name: room.bytes_max for room in EngineState(config.rooms).parts}
    except (MemoryError, ValueError, OverflowError) as error:
        raise ConfigError(f"rooms: this machine cannot hold them ({error}); lower their capacities") from None
    return dict(sorted(parts.items(), key=lambda part: -part[1]))


def require_memory(config: Config, available: Memory | None = None) -> str:
    """One line that says what the rooms take.

    Raises:
        ConfigError: the machine does not have that much.
    """
    parts = rooms_bytes(config)
    total = sum(parts.values())
    named = ", ".join(f"{name} {in_words(size)}" for name, size in list(parts.items())[:_NAMED])
    line = f"the rooms take {in_words(total)} ({named}, …), the process about {in_words(PROCESS_BYTES)} more"
    available = available or memory()
    if available is not None and total + PROCESS_BYTES > available.bytes_max:
        raise ConfigError(f"rooms: {line}; {available.bound} is {in_words(available.bytes_max)}: lower capacities")
    return line


def in_words(size: int) -> str:
    """Bytes as people read them, in powers of ten."""
    for unit, least in (("TB", 10**12), ("GB", 10**9), ("MB", 10**6)):
        if size >= least:
            return f"{size / least:.3g} {unit}"
    return f"{size / 1000:.3g} KB"
