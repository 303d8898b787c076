import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.feed import Request
from engine.home_mixer.config import BlendConfig, HomeMixerConfig
from engine.home_mixer.products import build_for_you
from engine.home_mixer.scorers import FACTORS, PARTS, AuthorDiversity, Blend
from engine.home_mixer.selector import BestSpaced, StillSafe
from engine.pipeline.candidates import Candidates
from engine.pipeline.components import Query, Scores
from engine.pipeline.features import Feature, FeatureKind, make_schema
from engine.pipeline.scratch import Buffers, Scratch
from engine.pipeline.stages import Enrichment
from engine.rooms import small_rooms
from engine.social_graph.state import Relation
from engine.state import EngineState
from engine.visibility.judge import Hidden

NOW = 1_760_000_000_000


def query(limit=20):
    return Query(Request(viewer_id=1, request_id=1, time_ms=NOW, seed=1, limit=limit), Scratch())


def candidates(count, **columns):
    found = [("walk_own", np.arange(1, count + 1, dtype=np.uint64), np.zeros(count))]
    table = Candidates.merge(found, Buffers())
    table.add({name: np.array(values) for name, values in columns.items()})
    return table


def scored(values):
    scores = Scores(len(values))
    scores.add(("model",), np.array([values], float))
    return scores


def diversity(scores, authors):
    table = candidates(len(scores), author_id=np.array(authors, np.uint64))
    result = scored(scores)
    AuthorDiversity(BlendConfig()).score(query(), table, result)
    return result.total.tolist()


def test_author_diversity_oracle():
    """a=3, b=2, d=1.9 of one author, c=1.5 of another."""
    assert diversity([3, 2, 1.9, 1.5], [1, 1, 1, 2]) == pytest.approx([3.0, 1.25, 0.83125, 1.5], rel=1e-12)


def test_author_diversity_series_and_unknown_authors():
    assert diversity([6, 5, 4, 3, 2, 1], [7] * 6) == pytest.approx(
        [6, 5 * 0.625, 4 * 0.4375, 3 * 0.34375, 2 * 0.296875, 0.2734375]
    )
    assert diversity([3, 2, 1], [0, 0, 0]) == [3, 2, 1]


@given(st.lists(st.tuples(st.floats(0, 10), st.integers(0, 4)), max_size=30))
def test_author_diversity_against_a_loop(rows):
    scores, authors = [s for s, _ in rows], [a for _, a in rows]
    expected, count = [0.0] * len(rows), {}
    for i in sorted(range(len(rows)), key=lambda i: (-scores[i], -(i + 1))):
        rank = count.get(authors[i], 0) if authors[i] else 0
        count[authors[i]] = rank + 1
        expected[i] = scores[i] * (0.75 * 0.5**rank + 0.25)
    assert diversity(scores, authors) == pytest.approx(expected)


@pytest.fixture(scope="module")
def schema():
    pipeline = build_for_you(EngineState(small_rooms()), HomeMixerConfig(), "hash")
    (stage,) = (stage for stage in pipeline.under_lock if isinstance(stage, Enrichment))
    return stage.schema


def blend(schema, count, **features):
    """Parts and factors by name of candidates whose features are 0 (but in network) where not given."""
    table = candidates(count)
    table.features = np.zeros((count, len(schema.features)), np.float32)
    for name, values in ({"in_network": 1.0} | features).items():
        table.features[:, schema.column(name)] = values
    scores = Scores(count)
    Blend(BlendConfig(), schema).score(query(), table, scores)
    (names, parts), (factor_names, factors) = scores.parts[0], scores.factors[0]
    assert (names, factor_names) == (PARTS, FACTORS)
    return dict(zip(names, parts.tolist(), strict=True)), dict(zip(factor_names, factors.tolist(), strict=True))


def test_recency_halves_in_its_half_life(schema):
    assert blend(schema, 3, age_h=[0, 6, 12])[0]["recency"] == pytest.approx([1, 0.5, 0.25])


def test_factors(schema):
    _, factors = blend(schema, 3, in_network=[1, 0, 1], author_not_interested=[0, 0, 1])
    assert factors == {"out_of_network": [1, 0.75, 1], "author_not_interested": [1, 1, 0.2]}


@given(
    rows=st.lists(
        st.tuples(st.floats(0, 1, width=32), st.floats(0, 1, width=32), st.floats(0, 1, width=32)),
        min_size=1,
        max_size=20,
    )
)
def test_time_aware_parts_keep_their_proportions_and_sum_to_the_weight_at_most(schema, rows):
    families = dict(zip(("walk", "recent_walk", "popularity"), np.array(rows).T.tolist(), strict=True))
    parts, _ = blend(schema, len(rows), **families)
    together = np.sum([parts[name] for name in families], axis=0)
    most = np.array(rows).sum(axis=1).max()
    if most > 1e-6:
        assert together.max() == pytest.approx(BlendConfig().time_aware)
        for name, values in families.items():
            assert parts[name] == pytest.approx(BlendConfig().time_aware * np.array(values) / most)


def test_walks_from_others_count_for_who_has_none_of_their_own(schema):
    parts, _ = blend(schema, 4, walk_followees_score=[0.4, 0.2, 0.1, 0])
    assert parts["seeded_walk"] == pytest.approx([1, 0.5, 0.25, 0])
    assert parts["related"] == [0, 0, 0, 0]


def test_social_proof_is_full_at_three(schema):
    parts, _ = blend(schema, 4, proof_weight=[0, 1, 3, 9])
    assert parts["social_proof"] == pytest.approx([0, 0.5 / 3, 0.5, 0.5])


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(1, 4)), max_size=25), st.integers(0, 3), st.integers(1, 10))
def test_spacing(rows, gap, limit):
    total = [float(s) for s, _ in rows]
    authors = np.array([a for _, a in rows], np.uint64)
    table = candidates(len(rows), author_id=authors)
    chosen = BestSpaced(gap).select(query(limit), table, scored(total)).tolist()
    assert len(chosen) == len(set(chosen)) == min(limit, len(rows))
    for position, i in enumerate(chosen):
        recent = {int(authors[j]) for j in chosen[max(0, position - gap) : position]} if gap else set()
        waiting = [j for j in range(len(rows)) if j not in chosen[:position]]
        free = [j for j in waiting if int(authors[j]) not in recent] or waiting
        # The best that may stand here: highest score, newest id.
        assert i == max(free, key=lambda j: (total[j], j))


def test_the_last_look_needs_no_filter():
    relation = np.array([0, Relation.FOLLOWS, Relation.BLOCKED_BY, Relation.MUTES, 0, 0, 0], np.uint8)
    slot = np.array([0, 1, 2, 3, -1, 5, 6], np.int32)
    hidden = np.array([0, 0, 0, 0, 0, Hidden.CONTEXT_MISSING, 0], np.uint16)
    table = candidates(7, slot=slot, related_relation=relation, hidden=hidden)
    table.drop_kept([6], table.code("dropped before"))
    assert StillSafe().safe(query(), table, range(7)) == [True, True, False, False, False, False, False]


def test_a_schema_is_known_by_its_hash():
    one, two = Feature("a", FeatureKind.FLAG, ""), Feature("b", FeatureKind.COUNT, "")
    base = make_schema("x", 1, [(one, two)])
    assert base.column("b") == 1
    assert base.hash == make_schema("x", 1, [(one,), (two._replace(meaning="said better"),)]).hash
    others = [
        make_schema("y", 1, [(one, two)]),
        make_schema("x", 2, [(one, two)]),
        make_schema("x", 1, [(two, one)]),
        make_schema("x", 1, [(one._replace(kind=FeatureKind.NUMBER), two)]),
        make_schema("x", 1, [(one,)]),
    ]
    assert len({schema.hash for schema in [base, *others]}) == 6
    with pytest.raises(KeyError):
        base.column("c")
    with pytest.raises(ValueError, match="twice"):
        make_schema("x", 1, [(one,), (one,)])
