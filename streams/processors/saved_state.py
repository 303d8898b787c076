"""A processor's state in a file, together with the positions up to which the log was counted into it."""

import sqlite3
from collections.abc import Iterator, Mapping, MutableMapping
from pathlib import Path
from typing import Self

from engine.errors import ConfigError
from streams.log.interface import TopicPartition

_SCHEMA = """
PRAGMA journal_mode = WAL;
PRAGMA synchronous = NORMAL;
CREATE TABLE IF NOT EXISTS state (key BLOB PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS positions (
    topic TEXT, partition INTEGER, position INTEGER NOT NULL, PRIMARY KEY (topic, partition)
) WITHOUT ROWID;
"""


class SavedState(MutableMapping[bytes, bytes]):
    """A dict whose changes since the last ``save`` go to the file in one transaction with the positions.

    After a crash the file holds the state and the positions of the same save; records counted after it are read again.
    A power cut may lose the last saves, but never half of one. Without a path nothing is kept. For one thread at a
    time.
    """

    def __init__(self, path: Path | None) -> None:
        """Raises:
        ConfigError: the file cannot be used.
        """
        try:
            if path is not None:
                path.parent.mkdir(parents=True, exist_ok=True)
            self._file = sqlite3.connect(path or ":memory:", check_same_thread=False)
            self._file.executescript(_SCHEMA)
            self._values: dict[bytes, bytes] = dict(self._file.execute("SELECT key, value FROM state"))
        except (OSError, sqlite3.Error) as error:
            raise ConfigError(f"durable.folder: the processors' state {path} cannot be used: {error}") from error
        self._changed: set[bytes] = set()

    @property
    def positions(self) -> dict[TopicPartition, int]:
        """The next offset to be counted, by partition, as of the last save."""
        rows = self._file.execute("SELECT topic, partition, position FROM positions")
        return {TopicPartition(topic, partition): position for topic, partition, position in rows}

    def save(self, positions: Mapping[TopicPartition, int]) -> None:
        """Write the changed values, and the positions up to which the log was counted."""
        changed, self._changed = self._changed, set()
        with self._file:
            self._file.executemany(
                "INSERT OR REPLACE INTO state VALUES (?, ?)",
                [(key, self._values[key]) for key in changed if key in self._values],
            )
            self._file.executemany(
                "DELETE FROM state WHERE key = ?", [(key,) for key in changed if key not in self._values]
            )
            self._file.executemany(
                "INSERT OR REPLACE INTO positions VALUES (?, ?, ?)",
                [(*partition, position) for partition, position in positions.items()],
            )

    def reset(self) -> None:
        """Delete all values and positions, in the file as well."""
        with self._file:
            self._file.execute("DELETE FROM state")
            self._file.execute("DELETE FROM positions")
        self._values.clear()
        self._changed.clear()

    def close(self) -> None:
        """Release the file. Changes since the last save are lost, as in a crash. Idempotent."""
        self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def __getitem__(self, key: bytes) -> bytes:
        return self._values[key]

    def __setitem__(self, key: bytes, value: bytes) -> None:
        self._values[key] = value
        self._changed.add(key)

    def __delitem__(self, key: bytes) -> None:
        del self._values[key]
        self._changed.add(key)

    def __iter__(self) -> Iterator[bytes]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)
