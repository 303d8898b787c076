"""``murmuration train real-graph`` on a log that a small society filled: what it learns, publishes and refuses."""

import asyncio
import sys

import msgspec
import numpy as np
import pytest
from typer.testing import CliRunner

from config.serving import LogConfig
from engine.batch import Kind, make_batch
from engine.errors import ConfigError
from engine.models.tie_trees import fault_of
from engine.rooms import small_rooms
from engine.state import EngineState
from loadtest.society.society import Society, SocietyConfig, encode
from streams.cli.main import app
from streams.events.open_topics import running_log
from streams.log.interface import NewRecord, TopicPartition
from streams.training import train_ties
from streams.training.measures import auc
from streams.training.tie_examples import Collector
from streams.training.tie_trees import TooFewExamplesError

DAY_MS = 86_400_000
BEGIN_MS = 20_000 * DAY_MS
DAYS = 9


async def fill(url: str) -> None:
    society = Society(
        SocietyConfig(seed=3, people=300, mean_followees=15.0, events_per_s=3000 / 86_400, step_ms_max=3_600_000)
    )
    async with running_log(LogConfig(url=url)) as log:
        days = [
            [event for events in society.found(BEGIN_MS) for event in events],
            *(society.tick(BEGIN_MS + d * DAY_MS, BEGIN_MS + (d + 1) * DAY_MS) for d in range(DAYS)),
        ]
        for events in days:
            for topic in ("users", "relationships", "tweets", "engagements"):
                await log.append(topic, [NewRecord(encode(e), key=e.key) for e in events if e.topic == topic])


@pytest.fixture(scope="module")
def url(tmp_path_factory) -> str:
    made = f"sqlite:///{tmp_path_factory.mktemp('train') / 'events.db'}"
    asyncio.run(fill(made))
    return made


async def published(url: str) -> list[dict]:
    """The records of topic ``models``."""
    found = []
    async with running_log(LogConfig(url=url)) as log:
        starts, ends = await log.start_offsets("models"), await log.end_offsets("models")
        async with await log.tail({TopicPartition("models", p): at for p, at in starts.items()}) as tail:
            while any(at < ends[where.partition] for where, at in tail.positions.items()):
                for run in await tail.poll(records_max=100, timeout_s=1.0):
                    found += [msgspec.json.decode(value) for value in run.values]
    return found


def train(url: str, *options: str) -> dict:
    result = CliRunner().invoke(app, ["train", "real-graph", "--log", url, "--json", *options])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return msgspec.json.decode(result.stdout.strip().splitlines()[-1])


def test_a_model_is_fitted_published_compared_and_refused_where_it_is_worse(url, monkeypatch):
    dry = train(url, "--dry-run")
    assert (dry["published"], dry["figures"]["before"]) == (0, 0)
    assert asyncio.run(published(url)) == []
    first = train(url)
    assert first["figures"] == dry["figures"]
    assert first["published"] == 2
    part, commit = asyncio.run(published(url))
    assert (
        fault_of(np.frombuffer(msgspec.json.decode(msgspec.json.encode(part["content"]), type=bytes), np.uint8)) == ""
    )
    assert commit["version"] == str(first["version"])
    assert commit["evaluation"] == first["figures"]
    # The day of the follows is the first one; whether the last is over is not known.
    assert first["figures"]["days"] == DAYS - 1
    assert 0.5 < first["figures"]["auc_any"] <= 1
    # The model that is in force by now is compared with the same: it is as good as itself.
    again = train(url)
    assert again["figures"]["before"] == first["version"] < again["version"]
    assert again["figures"]["before_auc_any"] == again["figures"]["auc_any"] == first["figures"]["auc_any"]
    worse = train_ties.measure

    def measured(model, before, examples):
        return worse(model, before, examples) | {"auc_any": 0.1}

    monkeypatch.setattr(train_ties, "measure", measured)
    with pytest.raises(train_ties.WorseModelError):
        train(url)
    assert len(asyncio.run(published(url))) == 4


def test_an_empty_log_and_a_missing_library_are_said_in_a_line(tmp_path, url, monkeypatch):
    empty = f"sqlite:///{tmp_path / 'empty.db'}"
    with pytest.raises(TooFewExamplesError, match="publish more days"):
        train(empty)
    monkeypatch.setitem(sys.modules, "sklearn.ensemble", None)
    with pytest.raises(ConfigError, match=r"scikit-learn is not installed: pip install 'murmuration\[train\]'"):
        train(url)


def test_examples_are_ties_at_the_end_of_each_day_and_what_was_done_on_the_next():
    """1 likes 2 on days 0, 1 and 3; 3 likes 2 on day 0 and clicks on day 1. A batch may span days."""
    acts = [(1, 0, Kind.FAVORITE), (3, 0, Kind.FAVORITE), (1, 1, Kind.FAVORITE), (3, 1, Kind.CLICK)]
    acts += [(4, 2, Kind.CLICK), (1, 3, Kind.FAVORITE), (4, 4, Kind.CLICK), (9, 9, Kind.CLICK)]
    n = len(acts)
    collector = Collector(EngineState(small_rooms(1 << 7)), pairs_max=100, days_max=9)
    collector.apply(
        make_batch(
            kind=[Kind.CREATE] * n + [kind for _, _, kind in acts], id=range(1, 2 * n + 1),
            user_id=[2] * n + [user for user, _, _ in acts], author_id=[2] * n + [0] * n,
            subject_id=[*range(100, 100 + n)] * 2,
            timestamp_ms=[BEGIN_MS] * n + [BEGIN_MS + day * DAY_MS + 1000 for _, day, _ in acts],
            payload=[*range(n), *[-1] * n], tweet_text_start=[0] * n, tweet_text_bytes=[0] * n,
        )
    )  # fmt: skip
    found = collector.examples()
    told = sorted(zip(found.source_ids.tolist(), found.rows[:, 0].tolist(), found.rows[:, 6].tolist(),
                      found.acted.tolist(), found.explicitly.tolist(), strict=True))  # fmt: skip
    # By person: days with acts, days since the last, and the next day; after day 4 nothing follows directly.
    assert told == [
        (1, 1, 0, True, True), (1, 2, 0, False, False), (1, 2, 1, True, True), (1, 3, 0, False, False),
        (3, 1, 0, True, False), (3, 2, 0, False, False), (3, 2, 1, False, False), (3, 2, 2, False, False),
        (4, 1, 0, False, False), (4, 1, 1, True, False),
    ]  # fmt: skip
    assert collector.days == 4
    few = Collector(EngineState(small_rooms(1 << 7)), pairs_max=100, days_max=9)
    assert few.examples().rows.shape == (0, 8)


def test_auc_counts_pairs_and_halves_of_equal_ones():
    rng = np.random.default_rng(1)
    scores, truth = rng.integers(0, 5, 60).astype(np.float64), rng.random(60) < 0.4
    pairs = [(a > b) + 0.5 * (a == b) for a in scores[truth] for b in scores[~truth]]
    assert auc(scores, truth) == pytest.approx(np.mean(pairs))
    assert np.isnan(auc(scores, np.ones(60, np.bool_)))
