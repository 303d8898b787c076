"""Copies a smaller interaction graph's edges into a larger graph."""

from engine.interaction_graph.arrays import GraphArrays
from engine.kernels import daily_share
from engine.kernels.erasing import copy_queue
from engine.kernels.growth import copy_rows, grow_arena, grow_calendar_log, grow_id_map
from engine.kernels.id_map import SIZE


def grow(target: GraphArrays, source: GraphArrays) -> None:
    """Fill the empty ``target``, whose arrays are at least as large: nodes, lists and log entries keep their places."""
    grow_id_map(target.users, source.users)
    grow_id_map(target.tweets, source.tweets)
    for name in ("user_records", "tweet_records", "user_skips", "tweet_skips"):
        copy_rows(getattr(target, name), getattr(source, name))
    grow_arena(target.arena, source.arena)
    grow_calendar_log(target.log, source.log)
    target.scalars[:] = source.scalars
    copy_queue(target.erasing, source.erasing, len(target.log.entries))
    # The table of undone acts is a ring: when a full table becomes larger, its oldest entry moves to place 0.
    places = len(source.undone_seconds)
    turned = int(source.undone.header[SIZE]) == places < len(target.undone_seconds)
    first = int(source.undone_next[0]) if turned else 0
    grow_id_map(target.undone, source.undone, first)
    copy_rows(target.undone_seconds, source.undone_seconds, first)
    daily_share.grow(target.undos_spent, source.undos_spent)
    daily_share.grow(target.named_spent, source.named_spent)
    target.undone_next[0] = places if turned else source.undone_next[0]
