"""An order by last activity, as a doubly linked list: the newest is linked in front, the oldest is known at once.

``links``: int32 (n, columns), of which ``newer`` and the column after it hold the index + 1 of whoever was active next
after and before (0 none). ``ends``: int64, which holds the newest and the oldest, as index + 1, at ``newest`` and the
place after it.
"""

from typing import Any

from engine.kernels.jit import inlined


@inlined
def unlink(links: Any, newer: Any, ends: Any, newest: Any, i: Any) -> None:
    """Take ``i`` out of the order."""
    after, before = links[i, newer], links[i, newer + 1]
    if after:
        links[after - 1, newer + 1] = before
    else:
        ends[newest] = before
    if before:
        links[before - 1, newer] = after
    else:
        ends[newest + 1] = after


@inlined
def link_newest(links: Any, newer: Any, ends: Any, newest: Any, i: Any) -> None:
    """Put ``i``, which is not in the order, at its new end."""
    before = ends[newest]
    links[i, newer], links[i, newer + 1] = 0, before
    if before:
        links[before - 1, newer] = i + 1
    else:
        ends[newest + 1] = i + 1
    ends[newest] = i + 1


@inlined
def touch(links: Any, newer: Any, ends: Any, newest: Any, i: Any) -> None:
    """``i`` was active last."""
    if ends[newest] != i + 1:
        unlink(links, newer, ends, newest, i)
        link_newest(links, newer, ends, newest, i)
