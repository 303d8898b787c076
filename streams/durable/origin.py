"""Which history a state version belongs to."""

from typing import NamedTuple


class Origin(NamedTuple):
    """Where a service's versions come from: the line of versions they belong to, and the start of the process.

    ``history`` is 16 hex digits, "" for none (nothing is kept); ``incarnation`` a 64-bit number, 0 for none.
    """

    history: str
    incarnation: int
