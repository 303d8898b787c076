"""Motifs: several people whom somebody follows have just followed the same person, or liked or reposted one tweet.

A derived room (docs/notifications.md), the role of MagicRecs' diamond motif. ``apply`` is called by one thread under
the write side of the state lock; nobody reads the room but the checks and metrics.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Annotated, ClassVar, NamedTuple

import numpy as np
from msgspec import Meta, Struct
from numpy.typing import NDArray

from engine.batch import EventBatch, Kind, make_batch
from engine.effects import EffectKind, Effects
from engine.errors import ConfigError
from engine.kernels.daily_share import grow as grow_shares
from engine.kernels.daily_share import share_of
from engine.kernels.erasing import copy_queue
from engine.kernels.growth import copy_rows, grow_id_map
from engine.kernels.handle import handle
from engine.kernels.id_map import HIGH, SIZE
from engine.motifs import arrays, write_kernels
from engine.motifs.check import check
from engine.room import DerivedRoom, InOrder, Share, only_grew
from engine.social_graph.state import SocialGraph, SocialGraphConfig


class MotifsConfig(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Capacities and rules.

    Of each of ``targets_max`` people and as many tweets the newest ``actors_max`` actors are kept. A motif is found
    when a person is among the newest ``followers_max`` followers of at least ``actors_min`` of them who acted within
    ``window_ms``; at most ``recipients_max`` people at one act. ``tweet_age_ms_max``: older tweets make no motif.
    ``targets_per_person_max``: how many new targets one person's acts bring in on a day. ``followers_read_per_event``:
    how many followers are read on average, per event of any kind; what would be more waits for the target's next act.
    """

    targets_max: Annotated[int, Meta(ge=1, le=1 << 26)] = 1 << 14
    actors_max: Annotated[int, Meta(ge=2, le=32)] = 16
    actors_min: Annotated[int, Meta(ge=2, le=32)] = 3
    window_ms: Annotated[int, Meta(ge=1000, le=10**10)] = 3_600_000
    followers_max: Annotated[int, Meta(ge=1, le=1 << 12)] = 256
    recipients_max: Annotated[int, Meta(ge=1, le=1 << 10)] = 64
    tweet_age_ms_max: Annotated[int, Meta(ge=1000, le=10**11)] = 86_400_000
    targets_per_person_max: Annotated[int, Meta(ge=1, le=1 << 26)] = 256
    followers_read_per_event: Annotated[int, Meta(ge=1, le=1 << 20)] = 32


#: Cumulative counters by name.
COUNTERS = {
    "noted": arrays.NOTED,
    "late": arrays.LATE,
    "over_share": arrays.OVER_SHARE,
    "evicted": arrays.EVICTED,
    "walks": arrays.WALKS,
    "postponed": arrays.POSTPONED,
    "found": arrays.FOUND,
    "over_fanout": arrays.OVER_FANOUT,
    "dropped_full": arrays.DROPPED_FULL,
}
_RULES = (
    "actors_min",
    "window_ms",
    "followers_max",
    "recipients_max",
    "tweet_age_ms_max",
    "targets_per_person_max",
    "followers_read_per_event",
)


class Motif(NamedTuple):
    """A motif that was found: these actors, whom the recipient follows, acted on the target.

    ``author_id``: whose tweet the target is; 0 where the target is a person whom the actors followed. ``actors``: how
    many they are; ``actor_ids`` has all of them.
    """

    recipient_id: int
    target_id: int
    author_id: int
    actor_ids: tuple[int, ...]


def motifs_bytes(config: MotifsConfig) -> int:
    """Bytes of all arrays: 288 and an id map's 44 or more a target with 16 actors, twice."""
    return arrays.motifs_array_bytes(config.targets_max, config.actors_max)


def motif_of(effects: Effects, i: int) -> Motif:
    """The motif of effect ``i``, which is a ``MOTIF``."""
    start = int(effects.text_start[i])
    words = effects.text[start : start + int(effects.text_bytes[i])].view(np.uint64).tolist()
    actors = words[arrays.FOUND_WORDS : arrays.FOUND_WORDS + words[arrays.ACTORS]]
    return Motif(words[arrays.RECIPIENT], words[arrays.TARGET], words[arrays.AUTHOR], tuple(actors))


class MotifRoom(DerivedRoom):
    """Who lately acted on whom and on what, and the motifs that follow.

    Writers: ``apply``, one thread.
    """

    name: ClassVar[str] = "motifs"
    constants: ClassVar[frozenset[str]] = frozenset({"limits"})
    counted: ClassVar[Mapping[str, int]] = COUNTERS
    reads: ClassVar[tuple[str, ...]] = ("social_graph",)
    shares: ClassVar[Mapping[str, Share]] = {
        name: Share("`targets_per_person_max` new ones a day", "the act opens no ring (`over_share`)")
        for name in ("people", "tweets")
    }

    def __init__(self, config: MotifsConfig, social_graph: SocialGraph) -> None:
        """Allocate everything.

        Raises:
            ConfigError: more actors are needed than are kept.
        """
        if config.actors_min > config.actors_max:
            raise ConfigError("motifs.actors_min: more than actors_max")
        self.config = config
        self._social_graph = social_graph
        limits = np.zeros(arrays.LIMITS, np.int64)
        limits[arrays.WINDOW_MS] = config.window_ms
        limits[arrays.ACTORS_MIN] = config.actors_min
        limits[arrays.FOLLOWERS_MAX] = config.followers_max
        limits[arrays.RECIPIENTS_MAX] = config.recipients_max
        limits[arrays.TWEET_AGE_MS_MAX] = config.tweet_age_ms_max
        limits[arrays.TARGETS_EACH] = share_of(config.targets_per_person_max, config.targets_max)
        limits[arrays.READ_EACH] = config.followers_read_per_event
        self._motifs = handle(arrays.make_motifs(config.targets_max, config.actors_max, limits))
        self._scratch = handle(arrays.make_scratch(config.actors_max, config.followers_max))
        super().__init__(self._motifs, self._motifs.header)

    def apply(self, batch: EventBatch) -> Effects | None:
        """Note the piece's acts; the motifs found are effects. Who follows whom is as of the end of the piece."""
        found = int(write_kernels.apply(self._motifs, self._social_graph.graph, batch, self._scratch))
        return _effects(self._scratch, found) if found else None

    def in_order(self) -> Iterable[InOrder]:
        """``Bounded.in_order``: the rings."""
        for name, rings in (("follows", self._motifs.follows), ("engagements", self._motifs.engagements)):
            for column in ("actor", "time_ms"):
                yield InOrder(f"{name}.{column}", int(rings.targets.header[HIGH]), len(rings.actor))

    def usage(self) -> Mapping[str, tuple[int, int]]:
        """People and tweets with a ring."""
        return {
            "people": (int(self._motifs.follows.targets.header[SIZE]), self.config.targets_max),
            "tweets": (int(self._motifs.engagements.targets.header[SIZE]), self.config.targets_max),
        }

    def check(self) -> None:
        """Verify rings, keys and order against each other.

        Raises:
            InvariantError: state that must not exist.
        """
        check(self._motifs)

    def grow_from(self, smaller: "MotifRoom") -> bool:
        """Hold the same rings (``Bounded.grow_from``)."""
        if not only_grew(smaller.config, self.config, capacities=("targets_max", "actors_max"), rules=_RULES):
            return False
        own, held = self._motifs, smaller._motifs
        for name in ("follows", "engagements"):
            rings, before = getattr(own, name), getattr(held, name)
            grow_id_map(rings.targets, before.targets)
            for column in ("author", "links", "ends"):
                copy_rows(getattr(rings, column), getattr(before, column))
            targets, actors = before.actor.shape
            for column in ("actor", "time_ms", "acts"):
                getattr(rings, column)[:targets, :actors] = getattr(before, column)
        grow_shares(own.spent, held.spent)
        own.header[:] = held.header
        copy_queue(own.erasing, held.erasing, self.config.targets_max)
        return True


def _effects(scratch: arrays.Scratch, found: int) -> Effects:
    """The motifs in ``scratch`` as effects, whose text is the motif's words."""
    words: NDArray[np.uint64] = scratch.found[:found]
    size = words.shape[1] * words.itemsize
    return Effects(
        kind=np.full(found, EffectKind.MOTIF, np.uint8),
        row=scratch.rows[:found].copy(),
        user_id=words[:, arrays.RECIPIENT].copy(),
        subject_id=words[:, arrays.TARGET].copy(),
        text_start=np.arange(found, dtype=np.int64) * size,
        text_bytes=np.full(found, size, np.int32),
        text=np.frombuffer(words.tobytes(), np.uint8).copy(),
    )


def motifs_in(effects: Effects) -> Sequence[int]:
    """The places of the motifs among effects."""
    places: list[int] = np.flatnonzero(effects.kind == EffectKind.MOTIF).tolist()
    return places


def warm() -> None:
    """Compile the kernels on a tiny batch of the real dtypes."""
    graph = SocialGraph(SocialGraphConfig(users_max=2, edges_max=2, list_entries_max=8))
    room = MotifRoom(MotifsConfig(targets_max=2, actors_max=2, actors_min=2), graph)
    room.apply(make_batch(kind=[Kind.FOLLOW], user_id=[1], subject_id=[2]))
