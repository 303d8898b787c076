"""Candidates become notifications: once, whoever sends them and however often; not against what came in between."""

import msgspec
import pytest
from prometheus_client import CollectorRegistry

from config.notifications import NotificationsConfig
from config.serving import LogConfig
from engine.batch import Kind
from engine.motifs.state import Motif
from streams.events.erasing import erase_record
from streams.events.json_types import Relationship, User
from streams.events.notifications import CANDIDATES, NOTIFICATIONS, candidate_of, decode_notification, record_of
from streams.events.open_topics import running_log
from streams.events.packed import encode_events, make_rows
from streams.log.interface import Format, LogUnavailableError, NewRecord, TopicPartition
from streams.processors.caps import DAY_MS, MINUTE_MS
from streams.processors.metrics import NotificationMetrics
from streams.processors.notifier import Notifier

OPEN = NotificationsConfig(quiet_from_hour=0, quiet_to_hour=0, spacing_minutes_min=0)


class World:
    """A log with what is needed, and a clock that begins at the time of the log's own appends."""

    def __init__(self, event_log, config=OPEN) -> None:
        self.log, self.config = event_log, config
        self.clock_ms = 0
        self.metrics = NotificationMetrics(CollectorRegistry())
        self.notifier = self.another()
        self.made = 0

    def another(self) -> Notifier:
        return Notifier(self.config, self.log, self.metrics, now_ms=lambda: self.clock_ms)

    async def begin(self) -> None:
        ((partition, offset),) = await self.log.append("users", [NewRecord(b"{}", b"1")])
        async with await self.log.tail({TopicPartition("users", partition): offset}) as tail:
            self.clock_ms = (await tail.poll(records_max=1, timeout_s=10))[0].append_ms[0]
        await self.notifier.own(None)

    async def find(self, user: int, target: int, *, author: int = 0, actors=(101, 102, 103), visited_ms: int = 0):
        self.made += 1
        found = candidate_of(
            Motif(user, target, author, actors), actors, place=f"t/0/{self.made}", append_ms=self.clock_ms,
            visited_ms=visited_ms,
        )  # fmt: skip
        await self.log.append(CANDIDATES, [record_of(found)])
        return found

    async def told(self, notifier: Notifier | None = None) -> list[tuple[int, int]]:
        """Let what waits be decided; all that was ever sent: person, and whom or what about."""
        while await (notifier or self.notifier).step(timeout_s=0.01):
            pass
        starts, ends = await self.log.start_offsets(NOTIFICATIONS), await self.log.end_offsets(NOTIFICATIONS)
        sent = []
        async with await self.log.tail({TopicPartition(NOTIFICATIONS, p): at for p, at in starts.items()}) as tail:
            while any(tail.positions[TopicPartition(NOTIFICATIONS, p)] < end for p, end in ends.items()):
                for run in await tail.poll(records_max=100, timeout_s=10):
                    sent += [decode_notification(value) for value in run.values]
        assert None not in sent
        assert len({one.id for one in sent}) == len(sent)
        return [(int(one.user_id), int(one.tweet_id or one.target_id)) for one in sorted(sent, key=lambda n: n.id)]

    def count(self, result: str) -> float:
        return self.metrics.candidates.labels(result)._value.get()


@pytest.fixture
async def world(tmp_path):
    async with running_log(LogConfig(url=f"sqlite:///{tmp_path}/log.db", partitions_default=2)) as event_log:
        made = World(event_log)
        await made.begin()
        yield made
        await made.notifier.close()


def profile(user: int, **fields) -> NewRecord:
    event = User(v=1, id=user, timestamp_ms=1_760_000_000_000, type="user", user_id=user, **fields)
    return NewRecord(msgspec.json.encode(event), b"%d" % user)


async def test_a_person_is_told_once_whoever_reads_the_candidates_and_how_often(world) -> None:
    found = await world.find(7, 8)
    assert await world.told() == [(7, 8)]
    # Another node makes the same candidate; so does a replay under another place.
    await world.log.append(CANDIDATES, [record_of(found)])
    await world.find(7, 8)
    assert await world.told() == [(7, 8)]
    assert (world.count("duplicate"), world.count("repeated")) == (1, 1)
    # A restart without any state, and a second processor beside it, read the candidates again.
    second = world.another()
    await second.own(None)
    await world.notifier.own(None)
    assert await world.told(second) == await world.told() == [(7, 8)]
    await second.close()


async def test_what_was_sent_before_a_crash_between_append_and_state_is_known(world, monkeypatch) -> None:
    append = world.log.append

    async def broken(topic, records):
        placed = await append(topic, records)
        if topic == NOTIFICATIONS:
            raise LogUnavailableError("the acknowledgement was lost")
        return placed

    for target in range(10, 13):
        await world.find(7, target)
    monkeypatch.setattr(world.log, "append", broken)
    with pytest.raises(LogUnavailableError):
        await world.notifier.step(timeout_s=1)
    monkeypatch.undo()
    assert len(await world.told()) == 3


async def test_five_in_24_hours_hold_across_restarts(world) -> None:
    for round_ in range(4):
        for number in range(3):
            await world.find(7, 10 * round_ + number + 1)
        world.notifier = world.another() if round_ % 2 else world.notifier
        await world.notifier.own(None)
        told = await world.told()
        world.clock_ms += 10 * MINUTE_MS
    assert len(told) == 5
    world.clock_ms += DAY_MS
    await world.find(7, 99)
    assert len(await world.told()) == 6


@pytest.mark.parametrize(
    ("topic", "record"),
    [
        ("relationships", {"type": "block", "user_id": 7, "target_id": 8}),
        ("relationships", {"type": "block", "user_id": 8, "target_id": 7}),
        ("relationships", {"type": "mute", "user_id": 7, "target_id": 102}),
        ("relationships", {"type": "follow", "user_id": 7, "target_id": 8}),
        ("relationships", {"type": "dismiss", "user_id": 7, "target_id": 8}),
        ("users", {"state": "suspended", "user": 8}),
        ("users", {"state": "deactivated", "user": 103}),
        ("users", {"protected": True, "user": 8}),
        ("users", {"recommendable": False, "user": 8}),
        ("users", {"notify": False, "user": 7}),
        ("users", None),
    ],
)
async def test_what_comes_between_finding_and_sending_forbids_it(world, topic, record) -> None:
    await world.find(7, 8)
    await world.find(9, 8, actors=(201, 202, 203))
    if record is None:
        await world.log.append(topic, [erase_record(7)])
    elif topic == "users":
        await world.log.append(topic, [profile(record["user"], **{k: v for k, v in record.items() if k != "user"})])
    else:
        event = Relationship(v=1, id=1, timestamp_ms=1_760_000_000_000, **record)
        await world.log.append(topic, [NewRecord(msgspec.json.encode(event), b"%d" % record["user_id"])])
    whom_all = topic == "users" and record is not None and record["user"] == 8
    assert await world.told() == ([] if whom_all else [(9, 8)])


async def test_deletes_and_packed_blocks_count_too(world) -> None:
    for user in (1, 2, 3):
        await world.find(user, 500 + user, author=90)
    rows = make_rows(
        1, id=1, user_id=90, author_id=90, subject_id=501, timestamp_ms=1_760_000_000_000, kind=Kind.DELETE
    )
    await world.log.append("tweets", [NewRecord(encode_events(rows), b"90", Format.PACKED)])
    rows = make_rows(1, id=1, user_id=2, subject_id=90, timestamp_ms=1_760_000_000_000, kind=Kind.BLOCK)
    await world.log.append("relationships", [NewRecord(encode_events(rows), b"2", Format.PACKED)])
    await world.log.append("relationships", [NewRecord(b"\xff not an event", b"2")])
    assert await world.told() == [(3, 503)]
    assert world.count("withdrawn") == 2


async def test_who_wants_fewer_gets_none_then_few(world) -> None:
    wish = b'{"v":1,"id":5,"type":"notify_less","timestamp_ms":1760000000000,"user_id":"7"}'
    await world.log.append("notification-wishes", [NewRecord(wish, b"7")])
    await world.find(7, 8)
    assert (await world.told(), world.count("wants_less")) == ([], 1)
    world.clock_ms += 8 * DAY_MS
    for target in (10, 11):
        await world.find(7, target)
    assert (len(await world.told()), world.count("capped")) == (1, 1)


async def test_more_changes_than_are_remembered_let_nothing_through(world) -> None:
    world.notifier = Notifier(
        msgspec.structs.replace(OPEN, changes_max=2), world.log, world.metrics, now_ms=lambda: world.clock_ms
    )
    await world.notifier.own(None)
    world.clock_ms -= 1
    await world.find(7, 8)
    for target in range(20, 24):
        event = Relationship(v=1, id=1, timestamp_ms=1_760_000_000_000, type="block", user_id=6, target_id=target)
        await world.log.append("relationships", [NewRecord(msgspec.json.encode(event), b"6")])
    assert (await world.told(), world.count("withdrawn")) == ([], 1)


async def test_an_erased_person_is_not_remembered(world) -> None:
    await world.find(7, 8)
    await world.find(9, 7)
    assert len(await world.told()) == 2
    await world.log.append("users", [erase_record(7)])
    await world.find(1, 2)
    await world.told()
    for notifier in (world.notifier, world.another()):
        if notifier is not world.notifier:
            await notifier.own(None)
            await world.find(1, 3)
            await world.told(notifier)
        assert "7" not in {str(user) for user in notifier._sent}
        assert all(one.target_id != 7 for sent in notifier._sent.values() for one in sent)
        await notifier.close()


async def test_only_owned_partitions_are_decided_about(world) -> None:
    for user in range(1, 9):
        await world.find(user, 50)
    halves = [world.another(), world.another()]
    for partition, notifier in enumerate(halves):
        await notifier.own([partition])
    first = await world.told(halves[0])
    assert 0 < len(first) < 8
    assert len(await world.told(halves[1])) == 8
    for notifier in halves:
        await notifier.close()


async def test_records_that_are_no_candidates_are_counted(world) -> None:
    await world.log.append(CANDIDATES, [NewRecord(b"no", b"1"), NewRecord(b'{"type":"notification_candidate"}', b"1")])
    assert (await world.told(), world.count("refused")) == ([], 2)


async def test_only_people_who_are_remembered_are_told_when_there_are_too_many(world) -> None:
    world.notifier = Notifier(
        msgspec.structs.replace(OPEN, people_max=2), world.log, world.metrics, now_ms=lambda: world.clock_ms
    )
    await world.notifier.own(None)
    await world.log.append("users", [profile(1, time_zone="Asia/Tokyo")])
    await world.log.append("users", [profile(2, time_zone="Asia/Tokyo")])
    for user in (1, 2, 3):
        await world.find(user, 50)
    assert sorted(await world.told()) == [(1, 50), (2, 50)]
    await world.log.append("users", [profile(4, notify=False)])  # no room: who else may have said so is not known
    await world.find(4, 50)
    await world.find(1, 51)
    assert sorted(await world.told()) == [(1, 50), (1, 51), (2, 50)]
    assert world.count("full") == 2
