"""How large the social graph's arrays are, and what bounds its content."""

import numpy as np

from engine.kernels.erasing import QUEUE_SIZE, make_queue
from engine.kernels.id_map import id_map_bytes, make_id_map
from engine.social_graph.arrays import CLASSES, HEADER_SIZE, USER_COLUMNS, Acts, Graph, Unkept

#: People whose blocks or mutes found no room and who are known by name; and how many of these acts are noted of each.
UNKEPT_PEOPLE = 1024
UNKEPT_EACH = 4


def table_size(edges_max: int) -> int:
    """Slots of the edge table: the power of two at or above 1.5 · ``edges_max``."""
    return 1 << max(3, (3 * edges_max // 2 - 1).bit_length())


def restrictions_max(edges_max: int) -> int:
    """How many blocks and mutes can be in force: an eighth of the edges, which is reserved for them."""
    return max(2, edges_max // 8)


def undone_max(edges_max: int) -> int:
    """How many undone acts are remembered: a sixteenth of the edges, at least 64."""
    return max(64, edges_max // 16)


def act_rows(edges_max: int) -> int:
    """Rows for acts: those of blocks and mutes in force, of undone acts, and two in the middle of an operation."""
    return restrictions_max(edges_max) + undone_max(edges_max) + 2


def act_table_size(edges_max: int) -> int:
    """Slots of the table of acts: the power of two at or above twice the rows."""
    return 1 << (2 * act_rows(edges_max) - 1).bit_length()


def graph_bytes(users_max: int, edges_max: int, entries_max: int) -> int:
    """Bytes of all arrays: 24 per table slot, 64 per user, the id map, 4 per list entry, 48 per act and 4 per slot of
    their table, and about 100 KB for people whose acts found no room."""
    users = 4 * USER_COLUMNS * users_max + id_map_bytes(users_max)
    acts = 48 * act_rows(edges_max) + 4 * act_table_size(edges_max)
    unkept = id_map_bytes(UNKEPT_PEOPLE) + UNKEPT_PEOPLE * (17 * UNKEPT_EACH + 1)
    return (
        24 * table_size(edges_max)
        + users
        + 4 * entries_max
        + acts
        + unkept
        + 8 * (CLASSES + HEADER_SIZE + 2 * QUEUE_SIZE)
    )


def make_graph(
    users_max: int,
    edges_max: int,
    entries_max: int,
    *,
    follows_each: int = 1 << 30,
    blocks_each: int = 1 << 30,
    mutes_each: int = 1 << 30,
    undone_each: int = 1 << 30,
) -> Graph:
    """Empty arrays.

    Follows stop at 7/8 of users and edges, so that they cannot crowd out blocks and mutes. What one person may have is
    also bounded by a share of the room, however small the room is: follows by a quarter of people, edges and an eighth
    of the list entries; blocks by a 32nd of people and edges, or by 32 where that is less than a 16th of the people and
    a quarter of all blocks and mutes; mutes by the same; undone acts by a 64th of all, or by 32 where that is less than
    a 16th of the people and a quarter of all undone acts. Everybody has at least 1, of undone acts at least 4.
    """
    table, rows, undone = table_size(edges_max), act_rows(edges_max), undone_max(edges_max)
    follows = max(1, min(users_max, edges_max, entries_max // 8) // 4)
    share = max(1, min(users_max, edges_max) // 32, min(32, users_max // 16, restrictions_max(edges_max) // 4))
    undone_share = max(4, undone // 64, min(32, users_max // 16, undone // 4))
    return Graph(
        ids=make_id_map(users_max),
        users=np.zeros((users_max, USER_COLUMNS), np.int32),
        edges=np.zeros(table, np.uint64),
        sequences=np.zeros((table, 2), np.int32),
        follow_moment=np.zeros(table, np.int64),
        arena=np.zeros(entries_max, np.int32),
        free=np.zeros(CLASSES, np.int64),
        acts=Acts(
            keys=np.zeros(rows, np.uint64),
            moments=np.zeros((rows, 3), np.int64),
            links=np.zeros((rows, 4), np.int32),
            table=np.zeros(act_table_size(edges_max), np.int32),
        ),
        unkept=Unkept(
            ids=make_id_map(UNKEPT_PEOPLE),
            others=np.zeros((UNKEPT_PEOPLE, UNKEPT_EACH), np.uint64),
            flags=np.zeros((UNKEPT_PEOPLE, UNKEPT_EACH), np.uint8),
            moments=np.zeros((UNKEPT_PEOPLE, UNKEPT_EACH), np.int64),
            more=np.zeros(UNKEPT_PEOPLE, np.uint8),
        ),
        erasing=make_queue(),
        erasing_acts=make_queue(),
        header=np.zeros(HEADER_SIZE, np.int64),
        limits=np.array(
            [
                users_max - users_max // 8,
                edges_max - edges_max // 8,
                users_max,
                edges_max,
                restrictions_max(edges_max),
                undone,
                min(follows_each, follows),
                min(blocks_each, share),
                min(mutes_each, share),
                min(undone_each, undone_share),
            ],
            np.int64,
        ),
    )
