import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.feed import Request
from engine.home_mixer.config import BlendConfig
from engine.home_mixer.scorers import AuthorDiversity, Blend, best_first
from engine.home_mixer.selector import BestSpaced
from engine.pipeline.candidates import Candidates
from engine.pipeline.components import Query, Scores
from engine.signals.state import ViewerFlag

NOW = 1_760_000_000_000
HOUR = 3_600_000


def query(limit=20):
    return Query(Request(viewer_id=1, request_id=1, time_ms=NOW, seed=1, limit=limit), None)


def candidates(ids, **columns):
    table = Candidates.merge([("walk_own", np.array(ids, np.uint64), np.zeros(len(ids)))])
    table.add({name: np.array(values) for name, values in columns.items()})
    return table


def diversity(scores, authors):
    table = candidates(range(1, len(scores) + 1), author_id=np.array(authors, np.uint64))
    result = Scores({"model": np.array(scores, float)}, {})
    AuthorDiversity(BlendConfig()).score(query(), table, result)
    return result.total(len(scores))


def test_author_diversity_oracle():
    """Spec ranking §4.6: a=3, b=2, d=1.9 of one author, c=1.5 of another."""
    assert diversity([3, 2, 1.9, 1.5], [1, 1, 1, 2]).tolist() == pytest.approx([3.0, 1.25, 0.83125, 1.5], rel=1e-12)


def test_author_diversity_series_and_unknown_authors():
    assert diversity([6, 5, 4, 3, 2, 1], [7] * 6).tolist() == pytest.approx(
        [6, 5 * 0.625, 4 * 0.4375, 3 * 0.34375, 2 * 0.296875, 0.2734375]
    )
    assert diversity([3, 2, 1], [0, 0, 0]).tolist() == [3, 2, 1]


@given(st.lists(st.tuples(st.floats(0, 10), st.integers(0, 4)), max_size=30))
def test_author_diversity_against_a_loop(rows):
    scores, authors = [s for s, _ in rows], [a for _, a in rows]
    expected, count = [0.0] * len(rows), {}
    for i in sorted(range(len(rows)), key=lambda i: (-scores[i], -(i + 1))):
        rank = count.get(authors[i], 0) if authors[i] else 0
        count[authors[i]] = rank + 1
        expected[i] = scores[i] * (0.75 * 0.5**rank + 0.25)
    assert diversity(scores, authors).tolist() == pytest.approx(expected)


def blend(**columns):
    n = len(next(iter(columns.values())))
    defaults = {
        "created_ms": np.full(n, NOW), "proof_people": np.zeros(n, np.int32),
        "walk": np.zeros(n), "recent_walk": np.zeros(n), "popularity": np.zeros(n),
        "in_network": np.ones(n, bool), "viewer_flags": np.zeros(n, np.uint16),
    }  # fmt: skip
    scores = Scores({}, {})
    Blend(BlendConfig()).score(query(), candidates(range(1, n + 1), **(defaults | columns)), scores)
    return scores


def test_recency_halves_in_its_half_life_and_the_future_is_now():
    parts = blend(created_ms=[NOW, NOW - 6 * HOUR, NOW - 12 * HOUR, NOW + HOUR]).parts
    assert parts["recency"].tolist() == pytest.approx([1, 0.5, 0.25, 1])


def test_factors():
    scores = blend(
        in_network=np.array([True, False, True]),
        viewer_flags=np.array([0, 0, ViewerFlag.AUTHOR_NOT_INTERESTED | ViewerFlag.SEEN], np.uint16),
    )
    assert scores.factors["out_of_network"].tolist() == [1, 0.75, 1]
    assert scores.factors["author_not_interested"].tolist() == [1, 1, 0.2]


@given(st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1), st.floats(0, 1)), min_size=1, max_size=20))
def test_time_aware_parts_keep_their_proportions_and_sum_to_the_weight_at_most(rows):
    families = dict(zip(("walk", "recent_walk", "popularity"), np.array(rows).T, strict=True))
    parts = blend(**families).parts
    together = sum(parts[name] for name in families)
    most = np.array(rows).sum(axis=1).max()
    if most > 1e-6:
        assert together.max() == pytest.approx(BlendConfig().time_aware)
        for name, values in families.items():
            assert parts[name] == pytest.approx(BlendConfig().time_aware * values / most)


def test_walks_from_others_count_for_who_has_none_of_their_own():
    found = [("walk_followees", np.array([1, 2, 3], np.uint64), np.array([0.4, 0.2, 0.1]))]
    table = Candidates.merge([*found, ("popular", np.array([4], np.uint64), np.array([9.0]))])
    table.add({name: np.zeros(4) for name in ("created_ms", "proof_people", "walk", "recent_walk", "popularity")})
    table.add({"in_network": np.ones(4, bool), "viewer_flags": np.zeros(4, np.uint16)})
    scores = Scores({}, {})
    Blend(BlendConfig()).score(query(), table, scores)
    assert scores.parts["seeded_walk"].tolist() == pytest.approx([1, 0.5, 0.25, 0])


def test_social_proof_is_full_at_three():
    assert blend(proof_people=np.array([0, 1, 3, 9], np.int32)).parts["social_proof"].tolist() == pytest.approx(
        [0, 0.5 / 3, 0.5, 0.5]
    )


def test_ties_go_to_the_newest_id_up_to_the_top_bit():
    ids = np.array([5, 2**63 + 1, 9, 2**64 - 1], np.uint64)
    assert ids[best_first(np.zeros(4), ids)].tolist() == [2**64 - 1, 2**63 + 1, 9, 5]


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(1, 4)), max_size=25), st.integers(0, 3), st.integers(1, 10))
def test_spacing(rows, gap, limit):
    total = np.array([s for s, _ in rows], float)
    authors = np.array([a for _, a in rows], np.uint64)
    table = candidates(range(1, len(rows) + 1), author_id=authors)
    chosen = BestSpaced(gap).select(query(limit), table, total).tolist()
    assert len(chosen) == len(set(chosen)) == min(limit, len(rows))
    for position, i in enumerate(chosen):
        recent = {int(authors[j]) for j in chosen[max(0, position - gap) : position]} if gap else set()
        waiting = [j for j in range(len(rows)) if j not in chosen[:position]]
        free = [j for j in waiting if int(authors[j]) not in recent] or waiting
        # The best that may stand here: highest score, newest id.
        assert i == max(free, key=lambda j: (total[j], j))
