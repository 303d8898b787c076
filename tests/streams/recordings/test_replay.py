import csv
import gzip
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from config.serving import LogConfig
from engine.batch import Kind, snowflake_time_ms
from streams.events import TOPICS, Decoded, Decoder
from streams.events.publish import PublishResult
from streams.log import open_log
from streams.log.interface import EventLog, Format, Records, TopicPartition
from streams.recordings.read_csv import CsvError, Recording, read_recording, user_id
from streams.recordings.replay import Replayer, ReplayOptions, replay
from tests.support.skips import NOT_IN_THE_PROJECT

NOW_MS = 1_760_000_000_000
DATA = Path(__file__).resolve().parents[4] / "shared" / "data"
ENGAGEMENTS = "ts,user,item\n100,ann,a\n103,7,a\n101,7,b\n103,ann,b\n110.5,bob,a\n"
FOLLOWS = "src,dst\nann,7\n7,zoe\n"


@pytest.fixture
async def log(tmp_path: Path) -> AsyncIterator[EventLog]:
    async with open_log(LogConfig(url=f"sqlite:///{tmp_path}/log.db")) as event_log:
        await event_log.ensure_topics(dict.fromkeys(TOPICS, 3))
        yield event_log


def write(folder: Path, engagements: str = ENGAGEMENTS, follows: str | None = FOLLOWS) -> Path:
    folder.mkdir()
    with gzip.open(folder / "engagements.csv.gz", "wt", encoding="utf-8") as file:
        file.write(engagements)
    if follows is not None:
        (folder / "follows.csv").write_text(follows, encoding="utf-8")
    return folder


async def read_all(log: EventLog, *topics: str) -> list[Records]:
    runs: list[Records] = []
    for topic in topics:
        ends = await log.end_offsets(topic)
        async with await log.tail({TopicPartition(topic, partition): 0 for partition in ends}) as tail:
            while any(tail.positions[TopicPartition(topic, p)] < end for p, end in ends.items()):
                runs += await tail.poll(records_max=100_000, timeout_s=5)
    return runs


async def decode_all(log: EventLog, *topics: str) -> Decoded:
    # The log's append time is today's, the replay's "now" is not.
    return Decoder(future_ms_max=10**12).decode(await read_all(log, *topics))


async def run(folder: Path, log: EventLog, **options: Any) -> PublishResult:
    return await replay(ReplayOptions(folder, **options), log, now_ms=lambda: NOW_MS)


@pytest.mark.parametrize("packed", [False, True])
async def test_a_replay_tells_the_recording(tmp_path: Path, log: EventLog, packed: bool) -> None:
    mapping = tmp_path / "ids.csv"
    result = await run(write(tmp_path / "csv"), log, engagement="favorite", packed=packed, ids=mapping)
    assert (result.accepted, result.rejected) == (7, 0)
    assert result.by_topic == {"relationships": 2, "tweets": 2, "engagements": 3}
    kind_names = list(csv.reader(mapping.read_text(encoding="utf-8").splitlines()))
    assert kind_names[0] == ["kind", "name", "id"]
    ids = {(kind, name): int(id_) for kind, name, id_ in kind_names[1:]}
    assert ids["user", "7"] == 7
    assert ids["user", "ann"] == user_id("ann") != user_id("bob")
    assert {name for kind, name in ids if kind == "user"} == {"ann", "7", "bob", "zoe"}

    batch = (await decode_all(log, "relationships", "tweets", "engagements")).batch
    columns = (batch.timestamp_ms, batch.kind, batch.user_id, batch.subject_id)
    rows = sorted(zip(*(column.tolist() for column in columns), strict=True))
    people = {name: ids["user", name] for name in ("ann", "7", "bob", "zoe")}
    first, second = ids["tweet", "a"], ids["tweet", "b"]
    assert rows == sorted(
        [
            (NOW_MS - 10_500, Kind.FOLLOW, people["ann"], people["7"]),
            (NOW_MS - 10_500, Kind.FOLLOW, people["7"], people["zoe"]),
            (NOW_MS - 10_500, Kind.CREATE, people["ann"], first),
            (NOW_MS - 9_500, Kind.CREATE, people["7"], second),
            (NOW_MS - 7_500, Kind.FAVORITE, people["7"], first),
            (NOW_MS - 7_500, Kind.FAVORITE, people["ann"], second),
            (NOW_MS, Kind.FAVORITE, people["bob"], first),
        ]
    )
    assert (snowflake_time_ms(first), snowflake_time_ms(second)) == (NOW_MS - 10_500, NOW_MS - 9_500)
    assert len(set(batch.id.tolist())) == 7
    assert batch.text.tobytes().decode() in ("ab", "ba")
    authors = dict(zip(batch.subject_id.tolist(), batch.author_id.tolist(), strict=True))
    assert (authors[first], authors[second]) == (people["ann"], people["7"])
    formats = {format_ for r in await read_all(log, "engagements") for format_ in r.formats}
    assert formats == {Format.PACKED if packed else Format.JSON}


async def test_kept_times_give_the_same_events_again(tmp_path: Path, log: EventLog) -> None:
    # As a spreadsheet saves it: with a byte order mark.
    late = ENGAGEMENTS.replace("\n1", "\n10000001")
    folder = write(tmp_path / "csv", "\ufeff" + late, "\ufeff" + FOLLOWS)
    # The unchanged recording begins in 1970: its times would be taken for seconds.
    with pytest.raises(CsvError, match="1970-04-26"):
        await run(write(tmp_path / "early"), log, keep_times=True)
    await run(folder, log, keep_times=True)
    await run(folder, log, keep_times=True)
    batch = (await decode_all(log, "tweets", "engagements", "relationships")).batch
    assert batch.size == 14
    assert len(set(batch.id.tolist())) == 7
    assert sorted(set(batch.timestamp_ms.tolist())) == [
        1_000_000_000_000 + ms for ms in (100_000, 101_000, 103_000, 110_500)
    ]


@given(
    st.lists(st.integers(0, 10**9), min_size=1, max_size=30),
    st.sampled_from([None, 1, 1000, 3_600_000, 10**10]),
    st.integers(1, 10**10),
)
def test_squeezed_rows_end_now_and_keep_their_order(seconds: list[int], squeeze_ms: int | None, age_ms: int) -> None:
    time_ms = np.sort(np.array(seconds, np.int64)) * 1000
    item = np.arange(time_ms.size) % 7
    nobody = np.empty(0, np.int64)
    made = Recording(time_ms, np.zeros_like(item), item, nobody, nobody, ["ann"], [str(i) for i in range(7)], [])
    replayer = Replayer(made, ReplayOptions(Path("."), squeeze_ms=squeeze_ms), NOW_MS)
    times = replayer.times_ms
    assert times[-1] == NOW_MS
    assert (np.diff(times) >= 0).all()
    span_ms = int(time_ms[-1] - time_ms[0])
    if squeeze_ms is None or span_ms <= squeeze_ms:
        assert (times - NOW_MS == time_ms - time_ms[-1]).all()
    else:
        assert times[0] == NOW_MS - squeeze_ms
        expected = (time_ms - time_ms[-1]) / span_ms * squeeze_ms
        assert np.abs(times - NOW_MS - expected).max() <= 1
    young = times >= NOW_MS - age_ms
    created = np.array([i == item.tolist().index(item[i]) for i in range(item.size)])
    found = replayer.coverage(NOW_MS, age_ms)
    assert found == (span_ms, item.size, young.sum(), min(item.size, 7), (young & created).sum())


async def test_a_speed_paces_the_rows(tmp_path: Path, log: EventLog) -> None:
    clock_ms = NOW_MS
    sent: list[tuple[int, int]] = []

    async def sleep(seconds: float) -> None:
        nonlocal clock_ms
        assert 0.05 <= seconds <= 1.0
        clock_ms += round(seconds * 1000)

    result = await replay(
        ReplayOptions(write(tmp_path / "csv"), speed=2.0),
        log,
        now_ms=lambda: clock_ms,
        sleep=sleep,
        on_progress=lambda _, done: sent.append((clock_ms - NOW_MS, done)),
    )
    assert result.accepted == 7
    # Both follows and the first row at once, then rows 0.5, 1.5 (two of them) and 5.25 s later.
    assert [done for _, done in sent] == [2, 3, 4, 6, 7]
    for (at, _), due in zip(sent, [0, 0, 500, 1500, 5250], strict=True):
        assert due <= at <= due + 1000
    batch = (await decode_all(log, "tweets", "engagements")).batch
    assert sorted(set((batch.timestamp_ms - NOW_MS).tolist())) == [0, 500, 1500, 5250]


async def test_bad_rows_are_counted_and_named(tmp_path: Path, log: EventLog) -> None:
    engagements = (
        "ts,user,item\n1,a,x\nnan,a,x\n2,a\n3,,x\ninf,a,y\n-4,a,x\n1e400,a,x\nsoon,a,x\n\n5,b,x,extra\n6,b,x\n"
    )
    result = await run(write(tmp_path / "csv", engagements, "src,dst\na,a\na,b\n"), log)
    assert (result.accepted, result.rejected) == (3, 9)
    assert [error.line for error in result.first_errors] == [3, 4, 5, 6, 7, 8, 9, 11, 2]
    assert {error.reason for error in result.first_errors} == {"timestamp_out_of_range", "missing_field", "self_target"}


@pytest.mark.parametrize(
    ("engagements", "follows", "message"),
    [
        ("ts,user,item\n", None, "at least one row"),
        ("time,user,item\n1,a,b\n", None, "ts,user,item"),
        ("", None, "first line"),
        (ENGAGEMENTS, "a,b\n1,2\n", "src,dst"),
    ],
)
async def test_unusable_folders_say_why(
    tmp_path: Path, log: EventLog, engagements: str, follows: str | None, message: str
) -> None:
    with pytest.raises(CsvError, match=message):
        await run(write(tmp_path / "csv", engagements, follows), log)


async def test_damaged_files_and_wrong_options_say_why(tmp_path: Path, log: EventLog) -> None:
    with pytest.raises(CsvError, match=r"engagements\.csv\.gz"):
        await run(tmp_path / "nowhere", log)
    folder = write(tmp_path / "csv")
    for option, message in (({"speed": 0}, "speed"), ({"engagement": "like"}, "like"), ({"ids": folder}, "csv")):
        with pytest.raises(CsvError, match=message):
            await run(folder, log, **option)
    path = folder / "engagements.csv.gz"
    for damaged in (path.read_bytes()[:30], b"no gzip", gzip.compress(b"ts,user,item\n1,\xff,b\n", mtime=0)):
        path.write_bytes(damaged)
        with pytest.raises(CsvError, match=r"engagements\.csv\.gz"):
            await run(folder, log)


def test_two_names_of_one_id_are_refused(tmp_path: Path) -> None:
    other = user_id("ann")
    folder = write(tmp_path / "csv", f"ts,user,item\n1,ann,x\n2,{other},x\n", None)
    with pytest.raises(CsvError, match="same id"):
        read_recording(folder)


@pytest.mark.parametrize(
    ("name", "engagements", "follows", "items"),
    [
        ("twitter-hashtag-2012", 9_128, 12_045, 569),
        ("twitter-url-2010", 135_472, 0, 3_454),
        ("stackexchange-christianity", 14_149, 35_624, 587),
    ],
)
async def test_real_recordings_run_through(
    log: EventLog, name: str, engagements: int, follows: int, items: int
) -> None:
    folder = DATA / name
    if not folder.is_dir():
        pytest.skip(f"{NOT_IN_THE_PROJECT}: recorded data")
    result = await run(folder, log, packed=True)
    assert result.rejected == 0
    assert result.by_topic.get("relationships", 0) == follows
    assert result.by_topic["tweets"] == items
    assert result.by_topic["engagements"] == engagements - items
    decoded = await decode_all(log, "relationships", "tweets", "engagements")
    assert not decoded.dead
    assert decoded.batch.size == engagements + follows
    assert len(set(decoded.batch.id.tolist())) == engagements + follows
    assert decoded.batch.timestamp_ms.max() == NOW_MS
