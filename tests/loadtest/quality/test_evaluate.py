"""The evaluation: its measures and rules against brute force, the whole on made-up and on real recordings."""

import csv
import math
import xml.etree.ElementTree as ET
from pathlib import Path

import numpy as np
import orjson
import pytest

from engine.errors import ConfigError
from loadtest.quality.evaluate import EvaluateOptions, Evaluation, evaluate, parse_window, run_evaluate
from loadtest.quality.measures import quality, rank_of
from loadtest.quality.recording import Past
from streams.recordings.read_csv import CsvError, Recording, read_recording
from tests.support.skips import NOT_IN_THE_PROJECT

DATA = Path(__file__).parents[4] / "shared" / "data"
needs_data = pytest.mark.skipif(not DATA.is_dir(), reason=f"{NOT_IN_THE_PROJECT}: recorded data")


def recording(seed: int = 1, *, rows: int = 300, users: int = 12, items: int = 25) -> Recording:
    """Two crowds with items of their own; what is picked is mostly what the crowd picked lately."""
    rng = np.random.default_rng(seed)
    user = rng.integers(0, users, rows)
    fashion = np.arange(rows) * items // (2 * rows)
    item = np.minimum(2 * np.maximum(0, fashion - rng.integers(0, 3, rows)) + user % 2, items - 1)
    time_ms = np.sort(rng.integers(1, 10 * rows, rows)) * 60_000
    nobody = np.empty(0, np.int64)
    names = [str(u) for u in range(users)], [str(i) for i in range(items)]
    return Recording(time_ms, user, item.astype(np.int64), nobody, nobody, *names, [])


def write(folder: Path, made: Recording) -> Path:
    folder.mkdir(exist_ok=True)
    with (folder / "engagements.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(("ts", "user", "item"))
        for time_ms, user, item in zip(made.time_ms.tolist(), made.user.tolist(), made.item.tolist(), strict=True):
            writer.writerow((time_ms // 1000, f"u{user}", f"i{item}"))
    return folder


@pytest.mark.parametrize("seed", range(5))
def test_ranks_are_mean_places_in_a_sorted_list(seed: int):
    scores = np.random.default_rng(seed).integers(0, 6, 30).astype(float)
    for row in range(30):
        places = [i + 1 for i, score in enumerate(sorted(scores, reverse=True)) if score == scores[row]]
        assert rank_of(scores, row) == sum(places) / len(places)


def test_quality_against_its_definitions():
    ranks = [1.0, 2.5, 20.0, 20.5, 300.0]
    found = quality(np.array(ranks))
    assert found.hit == 3 / 5
    assert found.mrr == pytest.approx(sum(1 / r for r in ranks) / 5)
    assert found.ndcg == pytest.approx(sum(1 / math.log2(1 + r) for r in ranks[:3]) / 5)
    assert quality(np.empty(0)) == (0.0, 0.0, 0.0)


def test_eligible_rows_and_candidates_by_brute_force():
    made = recording(2)
    past = Past(made)
    pairs = list(zip(made.user.tolist(), made.item.tolist(), strict=True))
    for row, (user, item) in enumerate(pairs):
        before = pairs[:row]
        known = {i for _, i in before}
        own = {i for u, i in before if u == user}
        assert past.eligible()[row] == (bool(own) and item in known and item not in own)
        assert past.candidates(row).tolist() == sorted(known - own)


def test_the_sample_is_of_the_last_fifth_and_repeats():
    past = Past(recording(3, rows=2000, users=300, items=80))
    asked = past.sample(60, seed=4)
    able = past.eligible()
    assert len(set(asked.tolist())) == len(asked) == 60
    assert asked.min() >= 1600
    assert able[asked].all()
    assert np.all(np.diff(asked) > 0)
    assert asked.tolist() == past.sample(60, seed=4).tolist() != past.sample(60, seed=5).tolist()
    assert past.sample(10_000, seed=4).tolist() == np.flatnonzero(able & (np.arange(2000) >= 1600)).tolist()


@pytest.mark.parametrize("window", [40, 1000])
def test_baselines_by_brute_force(window: int):
    made = recording(4)
    past = Past(made)
    for row in range(5, 300, 17):
        pairs = list(zip(made.user.tolist(), made.item.tolist(), strict=True))[max(0, row - window) : row]
        counts = np.zeros(25)
        mass = np.zeros(25)
        own = [i for u, i in pairs if u == made.user[row]]
        for _, item in pairs:
            counts[item] += 1
        for first in own:
            company = [u for u, i in pairs if i == first]
            for other in company:
                theirs = [i for u, i in pairs if u == other]
                for item in theirs:
                    mass[item] += 1 / len(own) / len(company) / len(theirs)
        assert past.popular(row, window).tolist() == counts.tolist()
        np.testing.assert_allclose(past.two_hop(row, window), mass, rtol=1e-9)


def test_the_engine_holds_the_window_and_nothing_else():
    past = Past(recording(5))
    evaluation = Evaluation(past, EvaluateOptions(window=50, events=20, walks=100))
    evaluation.run(lambda _: None)
    graph = evaluation.engine.interaction_graph
    evaluation.engine.check()
    for user in range(past.users):
        items = [past.item[row] + 1 for row in range(299, 249, -1) if past.user[row] == user]
        # A person counts once: of repeated acts the graph keeps the newest.
        assert graph.neighbors_of_user(user + 1, 100)[0].tolist() == list(dict.fromkeys(items))
    assert evaluation.engine.events == past.size


def test_each_event_is_asked_before_it_is_applied(monkeypatch: pytest.MonkeyPatch):
    """Whenever something is asked, the graph holds the window's rows before that event, and not one more."""
    past = Past(recording(6))
    evaluation = Evaluation(past, EvaluateOptions(window=80, events=15, walks=50_000))
    ask, seen = evaluation._ask, []
    acts = list(zip(past.user.tolist(), past.item.tolist(), strict=True))
    seconds = (past.time_ms // 1000).tolist()

    def checked(row: int) -> None:
        degrees = [evaluation.engine.interaction_graph.tweet_degree(item + 1) for item in range(past.items)]
        entered, latest_s = [], {}
        for pair, second in zip(acts[:row], seconds[:row], strict=True):
            if latest_s.get(pair) != second:  # an act that is repeated within its second is no entry of its own
                entered.append(pair)
            latest_s[pair] = second
        assert degrees == [sum(item == at for _, at in set(entered[-80:])) for item in range(past.items)]
        seen.append(row)
        ask(row)

    monkeypatch.setattr(evaluation, "_ask", checked)
    evaluation.run(lambda _: None)
    assert seen == evaluation.asked.tolist()
    walk = quality(np.array(evaluation.ranks["walk 7.8 y"]))
    exact = quality(np.array(evaluation.ranks["two_hop"]))
    assert walk.mrr == pytest.approx(exact.mrr, abs=0.05)


def test_equal_folder_and_seed_give_equal_figures_and_a_picture(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    folder = write(tmp_path / "made", recording(7, users=30))
    options = EvaluateOptions(window=100, events=30, walks=200)
    first = evaluate(folder, options)
    assert orjson.dumps(first) == orjson.dumps(evaluate(folder, options))
    assert first["asked"] == 30
    assert 0 < first["coverage"] <= 1
    assert sum(first["weights"].values()) == pytest.approx(1)
    run_evaluate(folder, options, json=True, report=tmp_path / "report")
    printed = orjson.loads(capsys.readouterr().out)
    assert printed == first == orjson.loads((tmp_path / "report" / "quality.json").read_bytes())
    bars = ET.parse(tmp_path / "report" / "quality.svg").getroot().findall(".//{http://www.w3.org/2000/svg}rect")
    assert len(bars) == 1 + 3 + 3 + 2 * len(first["weights"])
    assert first | {"x": evaluate(folder, options._replace(seed=2))} != first


def test_figures_without_json_are_lines(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    run_evaluate(write(tmp_path / "made", recording(8)), EvaluateOptions(events=5, walks=50), json=False)
    lines = capsys.readouterr().out.splitlines()
    assert any(line.split() == ["asked", "5"] for line in lines)
    assert any(line.startswith("weight of walk 5 min") for line in lines)


def test_what_cannot_be_evaluated_is_said(tmp_path: Path):
    with pytest.raises(CsvError):
        evaluate(tmp_path, EvaluateOptions())
    with pytest.raises(ConfigError, match="no event"):
        evaluate(write(tmp_path / "short", recording(9, rows=3)), EvaluateOptions())
    made = write(tmp_path / "made", recording(9))
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="--report"):
        run_evaluate(made, EvaluateOptions(events=1, walks=10), json=True, report=tmp_path / "file")


def test_windows_are_numbers_or_all():
    assert parse_window("all") is None
    assert parse_window("20000") == 20_000
    for wrong in ("0", "-1", "many", "1.5", ""):
        with pytest.raises(ConfigError):
            parse_window(wrong)


@needs_data
def test_baselines_reproduce_the_reference_on_real_data():
    """Within two and a half standard errors of the figures published with the recording (samples differ)."""
    past = Past(read_recording(DATA / "twitter-url-2010"))
    asked = past.sample(1500, seed=1)
    for window, popular, two_hop in ((5000, 0.379, 0.452), (20_000, 0.240, 0.550), (past.size, 0.255, 0.626)):
        ranks: dict[str, list[float]] = {"popular": [], "two_hop": []}
        for row in asked[::3].tolist():
            items = past.candidates(row)
            picked = int(np.searchsorted(items, past.item[row]))
            ranks["popular"].append(rank_of(past.popular(row, window)[items], picked))
            ranks["two_hop"].append(rank_of(past.two_hop(row, window)[items], picked))
        for name, expected in (("popular", popular), ("two_hop", two_hop)):
            error = math.sqrt(expected * (1 - expected) * (1 / 500 + 1 / 1500))
            assert abs(quality(np.array(ranks[name])).hit - expected) < 2.5 * error, (name, window)


@needs_data
def test_the_blend_beats_both_baselines_on_real_data():
    found = evaluate(DATA / "twitter-url-2010", EvaluateOptions(window=20_000, events=400, walks=5000))
    assert found["hit@20"] > found["two_hop.hit@20"] + 0.05 > found["popular.hit@20"]
    assert found["mrr"] > found["two_hop.mrr"] + 0.05 > found["popular.mrr"]
