"""Events that arrive at the server: checked against their schema, then appended to the log."""

import hashlib
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final, Protocol

import msgspec

from engine.batch import Kind
from engine.errors import CapacityError, EventError
from streams.events.foreign import envelope
from streams.events.identity import Identities, identities
from streams.events.mend import refuse_repeated_names
from streams.events.packed import encode_events, make_rows
from streams.events.publish import TOPIC_ORDER
from streams.log.interface import EventLog, Format, NewRecord, RecordTooLargeError
from streams.server.error_names import ProtocolError
from streams.server.frames import parse_id
from streams.server.social_entrance import TOPIC as SOCIAL
from streams.server.social_entrance import Judged, SocialEntrance

#: Topics that a viewer may write to. ``user_id`` of every event must be the viewer.
VIEWER_TOPICS: Final = frozenset({"engagements", "relationships", "notification-wishes"})


#: Topics that publishers may write to over HTTP. Only the engine writes to the others.
PUBLISHED_TOPICS: Final = VIEWER_TOPICS | {"tweets", "users", "promoted"}

#: An event's topic, key and canonical bytes; raises EventError for one that would be a dead letter.
Classify = Callable[[bytes], tuple[str, bytes, bytes]]


#: Asks the engine which events were applied before (``FeedService.known``).
Known = Callable[[Identities], Awaitable[list[bool]]]
#: Events of this process that are remembered until they are surely applied, about 300 bytes each.
RECENT_MAX: Final = 16_384


class Accepted(msgspec.Struct, frozen=True, gc=False):
    """The event is in the log. ``duplicate``: it repeats an earlier one, so the engine will leave it out."""

    topic: str
    partition: int
    offset: int
    duplicate: bool = False


class Rejected(msgspec.Struct, frozen=True, gc=False):
    """The event cannot be used; ``error`` is the reason's stable name."""

    error: str
    message: str


class Ack(msgspec.Struct, frozen=True, gc=False):
    """A viewer's event is in the log."""

    event_id: int
    topic: str
    partition: int
    offset: int
    duplicate: bool = False


class EventIntake(Protocol):
    """Where the server hands events in. All methods raise LogUnavailableError when the log does not acknowledge."""

    async def accept(self, raws: Sequence[bytes], *, viewer_id: int | None) -> list[Accepted | Rejected]:
        """Append events (JSON each); one result per event, in order. With ``viewer_id``, only this viewer's events."""

    async def engage(self, viewer_id: int, event: bytes) -> Ack:
        """Append one event of a viewer, completed with ``v``, ``user_id``, ``timestamp_ms`` and, if absent, ``id``.

        Raises:
            EventError: the event would be a dead letter, or has a field that the server fills in.
        """

    async def seen(self, viewer_id: int, request_id: int, tweet_ids: Sequence[int]) -> None:
        """Append one impression per tweet, in one batch."""


class LogIntake:
    """The intake over an event log.

    ``classify`` checks events; ``social`` judges how many people one person follows, blocks and mutes; ``now_ms`` gives
    viewers' events their time; ``new_id`` gives an id to events without; ``known`` says which events were applied
    before.
    """

    def __init__(
        self,
        log: EventLog,
        classify: Classify,
        *,
        social: SocialEntrance,
        now_ms: Callable[[], int],
        new_id: Callable[[], int],
        known: Known,
    ) -> None:
        self._log = log
        self._classify = classify
        self._social = social
        self._now_ms = now_ms
        self._new_id = new_id
        self._known = known
        #: Keys of the newest events that this process appended: they may not be applied yet.
        self._recent: OrderedDict[tuple[int, ...], None] = OrderedDict()

    async def accept(self, raws: Sequence[bytes], *, viewer_id: int | None) -> list[Accepted | Rejected]:
        results: list[Accepted | Rejected | None] = [None] * len(raws)
        by_topic: dict[str, tuple[list[int], list[NewRecord]]] = {topic: ([], []) for topic in TOPIC_ORDER}
        for index, raw in enumerate(raws):
            try:
                topic, key, canonical = self._classify(raw)
                if topic not in PUBLISHED_TOPICS:
                    raise EventError("wrong_topic", f"{topic} is the engine's own topic")
                if viewer_id is not None:
                    _require_own(topic, canonical, viewer_id)
            except EventError as error:
                results[index] = Rejected(error.reason, error.detail)
                continue
            except ProtocolError as error:
                results[index] = Rejected(error.name, error.message)
                continue
            indexes, records = by_topic.setdefault(topic, ([], []))
            indexes.append(index)
            records.append(NewRecord(value=canonical, key=key))
        for topic, (indexes, records) in by_topic.items():
            if not records:
                continue
            # Asked before the append: what is appended may be applied within a millisecond.
            keys, repeated = await self._repeated(topic, [record.value for record in records])
            append = self._append_social if topic == SOCIAL else self._append
            appended = await append(topic, records)
            taken = zip(keys, appended, strict=False)
            self._remember([key for key, result in taken if isinstance(result, Accepted)])
            for index, result, again in zip(indexes, appended, repeated, strict=True):
                if again and isinstance(result, Accepted):
                    result = msgspec.structs.replace(result, duplicate=True)
                results[index] = result
        return [result for result in results if result is not None]

    async def engage(self, viewer_id: int, event: bytes) -> Ack:
        fields = _event_fields(event)
        fields |= {"v": 1, "user_id": str(viewer_id), "timestamp_ms": self._now_ms()}
        named = fields.get("id") is not None
        event_id = _event_id(fields["id"]) if named else self._new_id()
        fields["id"] = str(event_id)
        topic, key, canonical = self._classify(_encode(fields))
        if topic not in VIEWER_TOPICS:
            raise EventError("wrong_topic", f"a viewer writes engagements and relationships, not {topic}")
        # An id that was made here repeats nothing.
        keys, repeated = await self._repeated(topic, [canonical]) if named else ([], [False])
        (judged,) = await self._social.judge([canonical]) if topic == SOCIAL else (Judged(None, None),)
        if judged.refusal is not None:
            raise judged.refusal
        ((partition, offset),) = await self._log.append(topic, [NewRecord(value=canonical, key=key)])
        self._remember(keys)
        if judged.adds is not None:
            self._social.note(judged.adds, partition, offset)
        return Ack(event_id, topic, partition, offset, repeated[0])

    async def seen(self, viewer_id: int, request_id: int, tweet_ids: Sequence[int]) -> None:
        unique = list(dict.fromkeys(tweet_ids))
        rows = make_rows(
            len(unique),
            id=[impression_id(viewer_id, request_id, tweet_id) for tweet_id in unique],
            user_id=viewer_id,
            subject_id=unique,
            timestamp_ms=self._now_ms(),
            context_id=request_id,
            kind=int(Kind.IMPRESSION),
        )
        record = NewRecord(value=encode_events(rows), key=str(viewer_id).encode(), format=Format.PACKED)
        await self._log.append("engagements", [record])

    async def _repeated(self, topic: str, values: Sequence[bytes]) -> tuple[list[tuple[int, ...]], list[bool]]:
        """The events' keys, and for each event whether it repeats one that was applied or appended before."""
        events = identities(topic, values)
        if events is None:
            return [], [False] * len(values)
        try:
            applied = await self._known(events)
        except CapacityError:  # saying so is not worth a refusal
            applied = [False] * len(values)
        keys = events.as_tuples()
        earlier: set[tuple[int, ...]] = set()
        repeated = []
        for key, known in zip(keys, applied, strict=True):
            repeated.append(known or key in self._recent or key in earlier)
            earlier.add(key)
        return keys, repeated

    def _remember(self, keys: Sequence[tuple[int, ...]]) -> None:
        self._recent.update(dict.fromkeys(keys))
        while len(self._recent) > RECENT_MAX:
            self._recent.popitem(last=False)

    async def _append_social(self, topic: str, records: list[NewRecord]) -> list[Accepted | Rejected]:
        """``_append`` of what the social graph will take; the rest is refused by name."""
        judged = await self._social.judge([record.value for record in records])
        taken = [record for record, one in zip(records, judged, strict=True) if one.refusal is None]
        placed = iter(await self._append(topic, taken) if taken else ())
        results: list[Accepted | Rejected] = []
        for one in judged:
            result = next(placed) if one.refusal is None else Rejected(one.refusal.reason, one.refusal.detail)
            if isinstance(result, Accepted) and one.adds is not None:
                self._social.note(one.adds, result.partition, result.offset)
            results.append(result)
        return results

    async def _append(self, topic: str, records: list[NewRecord]) -> list[Accepted | Rejected]:
        try:
            return [Accepted(topic, partition, offset) for partition, offset in await self._log.append(topic, records)]
        except RecordTooLargeError as error:
            if len(records) == 1:
                return [Rejected("record_too_large", str(error))]
        # Nothing was written. Try each half by itself, so that only the records that are too large are refused.
        middle = len(records) // 2
        return await self._append(topic, records[:middle]) + await self._append(topic, records[middle:])


def impression_id(viewer_id: int, request_id: int, tweet_id: int) -> int:
    """The event id of an impression that a feed request reports; the same frame sent twice counts once."""
    text = f"impression {viewer_id} {request_id} {tweet_id}".encode()
    return int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "little") or 1


def _event_fields(event: bytes) -> dict[str, Any]:
    try:
        fields = msgspec.json.decode(event)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        raise EventError("malformed_json", "the event is not a JSON object") from None
    if not isinstance(fields, dict):
        words = envelope(fields)
        raise EventError(
            "foreign_format" if words else "wrong_type", f"looks like {words}" if words else "an event is a JSON object"
        )
    refuse_repeated_names(event)
    for name in ("v", "user_id", "timestamp_ms"):
        if fields.get(name) is not None:
            raise EventError("unknown_field", f"`{name}` is filled in by the server")
    return fields


def _event_id(value: Any) -> int:
    try:
        return parse_id(value, "id")
    except ProtocolError as error:
        reason = "id_out_of_range" if isinstance(value, int) and not isinstance(value, bool) else "wrong_type"
        raise EventError(reason, error.message) from None


def _encode(fields: dict[str, Any]) -> bytes:
    try:
        return msgspec.json.encode(fields)
    except (OverflowError, ValueError, RecursionError):
        raise EventError("wrong_type", "a number of the event is out of range") from None


class _Actor(msgspec.Struct):
    user_id: int | str | None = None


_actor_decoder = msgspec.json.Decoder(_Actor)


def _require_own(topic: str, canonical: bytes, viewer_id: int) -> None:
    if topic not in VIEWER_TOPICS:
        raise ProtocolError("wrong_viewer", f"this token may not publish to {topic}")
    if parse_id(_actor_decoder.decode(canonical).user_id, "user_id") != viewer_id:
        raise ProtocolError("wrong_viewer", "the event is another viewer's")
