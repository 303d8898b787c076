"""Which history a state version belongs to."""

from typing import NamedTuple


class Origin(NamedTuple):
    """Where a service's versions come from: their history, and the start of the process.

    ``history`` is 16 hex digits, or "" when nothing is kept; ``incarnation`` is a 64-bit number, or 0 for none.
    """

    history: str
    incarnation: int
