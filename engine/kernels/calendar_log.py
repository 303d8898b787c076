"""The entries of a time window in order of time: a calendar queue, exact to the second, O(1) per entry, late or not.

Entries live in a pool and are linked, in order of arrival, into pages of 256 seconds. Eviction opens one page at a
time: it moves the page's entries to one list per second. So eviction is exact to the second, and in order of arrival
within a second; an entry that is late by a day costs the same as one in time, and empty pages cost almost nothing.
(Brown, "Calendar queues", CACM 31(10), 1988; Varghese and Lauck's hierarchical wheels, 1987.)

An entry carries 56 bits of payload; with the 8 bits of its second within the page it is one int64.
"""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from engine.kernels.jit import allocating, inlined, kernel

PAGE_BITS = 8
PAGE_S = 1 << PAGE_BITS
#: Fields of ``CalendarLog.header``. Slots are stored + 1 so that zeroed arrays are an empty log.
COUNT, FREE, HIGH, OPEN_PAGE, OPEN_SECOND, FIRST_PAGE = 0, 1, 2, 3, 4, 5
_FIELDS = 6
_SUB_MASK = PAGE_S - 1
PAYLOAD_MASK = (1 << 56) - 1


class CalendarLog(NamedTuple):
    """The arrays of a log: its complete state.

    ``entries``: (capacity,) payload · 256 + second within its page. ``after``: (capacity,) the next entry + 1.
    ``pages``: (2·pages,) first and last entry + 1 of each page (a ring by page number). ``seconds``: (512,) first and
    last entry + 1 of each second of the open page. ``header``: count, free list, entries ever used, open page + 1 (0 =
    none), first second that may have entries in the open page, first page that may have entries (a lower bound).
    """

    entries: NDArray[np.int64]
    after: NDArray[np.int32]
    pages: NDArray[np.int32]
    seconds: NDArray[np.int32]
    header: NDArray[np.int64]


def _page_count(span_s: int) -> int:
    return 1 << max(1, (span_s // PAGE_S + 2 - 1).bit_length())


def calendar_bytes(capacity: int, span_s: int) -> int:
    """Bytes of all arrays: 12 per entry, 8 per page, 8 per second of the open page."""
    return 12 * capacity + 8 * _page_count(span_s) + 8 * PAGE_S + 8 * _FIELDS


def make_calendar_log(capacity: int, span_s: int) -> CalendarLog:
    """An empty log for ``capacity`` entries whose times never span more than ``span_s`` seconds.

    Raises:
        ValueError: capacity not in 1 … 2^31 − 2, or a span outside 1 … 2^32.
    """
    if not 1 <= capacity < (1 << 31) - 1 or not 1 <= span_s <= 1 << 32:
        raise ValueError(f"capacity {capacity} or span {span_s} s out of range")
    return CalendarLog(
        np.zeros(capacity, np.int64),
        np.zeros(capacity, np.int32),
        np.zeros(2 * _page_count(span_s), np.int32),
        np.zeros(2 * PAGE_S, np.int32),
        np.zeros(_FIELDS, np.int64),
    )


@inlined
def _link_last(lists: Any, i: Any, after: Any, slot: Any) -> None:
    """Append a slot to list i."""
    after[slot] = 0
    last = lists[2 * i + 1]
    if last:
        after[last - 1] = slot + 1
    else:
        lists[2 * i] = slot + 1
    lists[2 * i + 1] = slot + 1


@kernel
def _open(log: Any, page: Any) -> None:
    """Move a page's entries to one list per second."""
    i = page & (log.pages.shape[0] // 2 - 1)
    slot = np.int64(log.pages[2 * i]) - 1
    log.pages[2 * i] = 0
    log.pages[2 * i + 1] = 0
    while slot >= 0:
        following = np.int64(log.after[slot]) - 1
        _link_last(log.seconds, log.entries[slot] & _SUB_MASK, log.after, slot)
        slot = following
    log.header[OPEN_PAGE] = page + 1
    log.header[OPEN_SECOND] = 0


@kernel
def _close(log: Any) -> None:
    """Join the lists of the open page's seconds to one page again; the order within a second is kept."""
    page = log.header[OPEN_PAGE] - 1
    i = page & (log.pages.shape[0] // 2 - 1)
    seconds = log.seconds
    for s in range(PAGE_S):
        if seconds[2 * s]:
            if log.pages[2 * i]:
                log.after[log.pages[2 * i + 1] - 1] = seconds[2 * s]
            else:
                log.pages[2 * i] = seconds[2 * s]
            log.pages[2 * i + 1] = seconds[2 * s + 1]
            seconds[2 * s] = 0
            seconds[2 * s + 1] = 0
    log.header[OPEN_PAGE] = 0


@inlined
def append(log: Any, second: Any, payload: Any) -> None:
    """Add an entry; the log must not be full. ``second`` int64 ≥ 0, ``payload`` int64 below 2^56.

    Pages are a ring: before a newer second is appended, entries that would then be outside the span must be evicted,
    until ``oldest`` (or ``oldest_at_least``) lies inside it.
    """
    header = log.header
    if header[FREE]:
        slot = header[FREE] - 1
        header[FREE] = log.after[slot]
    else:
        slot = header[HIGH]
        header[HIGH] += 1
    log.entries[slot] = (payload << PAGE_BITS) | (second & _SUB_MASK)
    page = second >> PAGE_BITS
    if header[COUNT] == 0:
        header[OPEN_PAGE] = 0
        header[FIRST_PAGE] = page
    opened = header[OPEN_PAGE] - 1
    if page == opened:
        _link_last(log.seconds, second & _SUB_MASK, log.after, slot)
        header[OPEN_SECOND] = min(header[OPEN_SECOND], second & _SUB_MASK)
    else:
        if opened >= 0 and page < opened:
            _close(log)
        header[FIRST_PAGE] = min(header[FIRST_PAGE], page)
        _link_last(log.pages, page & (log.pages.shape[0] // 2 - 1), log.after, slot)
    header[COUNT] += 1


@inlined
def oldest_at_least(log: Any) -> Any:
    """A lower bound of the oldest entry's second (log not empty): a cheap test for whether to call ``oldest``."""
    header = log.header
    if header[OPEN_PAGE]:
        return ((header[OPEN_PAGE] - 1) << PAGE_BITS) + header[OPEN_SECOND]
    return header[FIRST_PAGE] << PAGE_BITS


@inlined
def oldest(log: Any) -> Any:
    """The second of the oldest entry, -1 when the log is empty. Moves the search position: only the writer calls it."""
    header = log.header
    if header[COUNT] == 0:
        return np.int64(-1)
    while True:
        if header[OPEN_PAGE]:
            while header[OPEN_SECOND] < PAGE_S:
                if log.seconds[2 * header[OPEN_SECOND]]:
                    return ((header[OPEN_PAGE] - 1) << PAGE_BITS) + header[OPEN_SECOND]
                header[OPEN_SECOND] += 1
            header[FIRST_PAGE] = header[OPEN_PAGE]
            header[OPEN_PAGE] = 0
        page = header[FIRST_PAGE]
        mask = log.pages.shape[0] // 2 - 1
        while log.pages[2 * (page & mask)] == 0:
            page += 1
        header[FIRST_PAGE] = page
        _open(log, page)


@inlined
def pop_oldest(log: Any) -> Any:
    """Remove the entry that ``oldest`` has just found; returns its slot, which is readable until the next append."""
    header = log.header
    second = header[OPEN_SECOND]
    slot = np.int64(log.seconds[2 * second]) - 1
    following = log.after[slot]
    log.seconds[2 * second] = following
    if following == 0:
        log.seconds[2 * second + 1] = 0
    log.after[slot] = header[FREE]
    header[FREE] = slot + 1
    header[COUNT] -= 1
    return slot


@allocating
def dump(log: Any, seconds: Any, payloads: Any) -> Any:
    """Write second and payload (both int64, (count,)) of every entry, oldest first; returns how many."""
    n = 0
    page = log.header[FIRST_PAGE]
    if log.header[OPEN_PAGE]:
        page = log.header[OPEN_PAGE] - 1
        for s in range(PAGE_S):
            slot = np.int64(log.seconds[2 * s]) - 1
            while slot >= 0:
                seconds[n] = (page << PAGE_BITS) + s
                payloads[n] = (log.entries[slot] >> PAGE_BITS) & PAYLOAD_MASK
                n += 1
                slot = np.int64(log.after[slot]) - 1
        page += 1
    mask = log.pages.shape[0] // 2 - 1
    for number in range(page, page + mask + 1):
        first = n
        slot = np.int64(log.pages[2 * (number & mask)]) - 1
        while slot >= 0:
            seconds[n] = (number << PAGE_BITS) + (log.entries[slot] & _SUB_MASK)
            payloads[n] = (log.entries[slot] >> PAGE_BITS) & PAYLOAD_MASK
            n += 1
            slot = np.int64(log.after[slot]) - 1
        # A page is in order of arrival: sort it by second, and keep the order of arrival within a second.
        order = np.argsort(seconds[first:n], kind="mergesort")
        seconds[first:n] = seconds[first:n][order]
        payloads[first:n] = payloads[first:n][order]
    return n


def warm() -> None:
    """Compile the kernels of ingest on the real types (not ``dump``: only checks use it, and it is slow to compile)."""
    log = make_calendar_log(4, 1000)
    append(log, np.int64(700), np.int64(1))
    oldest(log)
    append(log, np.int64(5), np.int64(2))
    oldest_at_least(log)
    oldest(log)
    pop_oldest(log)
