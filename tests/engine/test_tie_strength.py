"""Ties as feeds and queries read them, and the columns of pairs against plain counting."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.batch import Kind, make_batch
from engine.models.specs import REAL_GRAPH
from engine.models.tie_trees import encode
from engine.real_graph.arrays import Feature
from engine.real_graph.column_kernels import ACTED, EXPLICITLY
from engine.rooms import small_rooms
from engine.state import EngineState
from engine.tie_strength import TieStrength
from streams.events.decode import Decoder
from streams.events.models import TOPIC, model_records
from streams.log.interface import Format, Records
from tests.oracles.tie_columns import columns, label
from tests.oracles.trees import probability, tie_model

DAY_MS = 86_400_000
T0 = 20_000 * DAY_MS
NOW_MS = T0 + 40 * DAY_MS + 1000


def state_of(rows):
    """Rows of (kind, user, subject, day): creates name their tweet."""
    state = EngineState(small_rooms(1 << 8))
    n = len(rows)
    creates = [row[0] == Kind.CREATE for row in rows]
    state.apply(
        make_batch(
            kind=[row[0] for row in rows], id=range(1, n + 1), user_id=[row[1] for row in rows],
            author_id=[row[1] if create else 0 for row, create in zip(rows, creates, strict=True)],
            subject_id=[row[2] for row in rows],
            timestamp_ms=[int(T0 + row[3] * DAY_MS) + i for i, row in enumerate(rows)],
            payload=np.where(creates, np.cumsum(creates) - 1, -1), tweet_text_start=np.zeros(sum(creates)),
            tweet_text_bytes=np.zeros(sum(creates)),
        )
    )  # fmt: skip
    return state


def test_whom_a_viewer_is_tied_to_in_and_out_of_network():
    state = state_of(
        [
            *((Kind.CREATE, author, 100 + author, 39) for author in (2, 3, 4, 5, 6)),
            *((Kind.CREATE, 4, 200 + k, 39) for k in range(3)),
            (Kind.CREATE, 5, 300, 30),
            *((Kind.FOLLOW, 1, other, 1) for other in (2, 3, 4, 5, 7)),
            (Kind.FAVORITE, 1, 103, 39),
            (Kind.FAVORITE, 1, 102, 39.5),
            (Kind.REPLY, 1, 102, 40),
            (Kind.RETWEET, 1, 106, 40),
        ]
    )
    ties = TieStrength(state)
    found = ties.in_network(1, NOW_MS, 10)
    # Two ties, then who wrote 4 and 1 tweets in the last three days, then who wrote nothing.
    assert found.user_ids.tolist() == [2, 3, 4, 5, 7]
    assert found.tweets.tolist() == [1, 1, 4, 1, 0]
    assert (found.strength > 0).tolist() == [True, True, False, False, False]
    assert ties.in_network(1, NOW_MS, 3).left_out == 2
    outside = ties.out_of_network(1, NOW_MS, 10)
    assert outside.user_ids.tolist() == [6]
    assert outside.strength[0] == ties.strength(1, np.array([6], np.uint64), NOW_MS)[0] > 0
    assert ties.out_of_network(1, NOW_MS, 0).left_out == 1
    # Months later nothing is left of these ties.
    assert not ties.out_of_network(1, NOW_MS + 90 * DAY_MS, 10).user_ids.size
    assert ties.in_network(99, NOW_MS, 10).user_ids.size == 0


KINDS = {
    Kind.FAVORITE: Feature.FAVORITE, Kind.RETWEET: Feature.RETWEET, Kind.CLICK: Feature.TWEET_CLICK,
    Kind.PROFILE_CLICK: Feature.PROFILE_VIEW, Kind.DWELL: Feature.INSPECTED, Kind.REPLY: Feature.REPLY,
}  # fmt: skip
OTHERS = (2, 3, 4)
ACTS = st.lists(
    st.tuples(st.sampled_from(list(KINDS)), st.sampled_from(OTHERS), st.integers(0, 40)), max_size=25, unique=True
)


@settings(max_examples=40, deadline=None)
@given(ACTS, st.dictionaries(st.sampled_from(OTHERS), st.integers(0, 40)), st.lists(st.sampled_from(OTHERS)))
def test_columns_and_labels_are_those_of_plain_counting(acts, followed, writers):
    """Everybody has one old tweet, and writers some of today; a tweet for each act, so that none repeats another."""
    rows = [(Kind.CREATE, other, 1000 + i, 0) for i, (_, other, _) in enumerate(acts)]
    rows += [(kind, 1, 1000 + i, day) for i, (kind, _, day) in sorted(enumerate(acts), key=lambda act: act[1][2])]
    rows += [(Kind.FOLLOW, 1, other, day) for other, day in followed.items()]
    rows += [(Kind.CREATE, author, 5000 + i, 40) for i, author in enumerate(writers)]
    if not rows:
        return
    state = state_of(sorted(rows, key=lambda row: row[3]))
    sources, others = np.ones(3, np.uint64), np.array(OTHERS, np.uint64)
    first = 20_000
    found, tied = TieStrength(state).columns(sources, others, NOW_MS)
    since = state.social_graph.followed_ms(sources, others)
    labels = state.real_graph.labels(sources, others, since, NOW_MS)
    for i, other in enumerate(OTHERS):
        done = {kind: {first + day for k, o, day in acts if o == other and KINDS[k] == kind} for kind in KINDS.values()}
        follow_day = first + followed[other] if other in followed else None
        recent = any(days for kind, days in done.items() if kind is not Feature.INSPECTED)
        assert bool(tied[i]) == recent
        if tied[i]:
            assert found[i].tolist() == columns(done, first + 40, follow_day, writers.count(other))
        assert (bool(labels[i] & ACTED), bool(labels[i] & EXPLICITLY)) == label(done, first + 40, follow_day)


def with_model(state, version, seed):
    """The state after a version of the model has come through the log."""
    figures = {"auc_any": 0.9, "auc_explicit": 0.9, "before": float(state.models.version("real_graph"))}
    figures |= {"before_auc_any": 0.8, "before_auc_explicit": 0.8}
    records = model_records("real_graph", version, REAL_GRAPH.schema, encode(tie_model(seed)), figures, NOW_MS)
    n = len(records)
    run = Records(
        TOPIC, 0, list(range(n)), [NOW_MS] * n, [Format.JSON] * n, [r.key for r in records], [r.value for r in records]
    )
    applied = state.apply(Decoder(future_ms_max=1 << 60).decode([run]).batch)
    assert not applied.effects.size
    assert state.models.version("real_graph") == version


def test_ties_have_the_default_score_until_a_model_comes_and_then_the_models():
    rows = [(Kind.CREATE, other, 100 + other, 39) for other in (2, 3, 4, 5)]
    rows += [(Kind.FOLLOW, 1, 2, 30), (Kind.FOLLOW, 1, 5, 30)]
    rows += [(Kind.FAVORITE, 1, 102, 39), (Kind.CLICK, 1, 102, 40), (Kind.REPLY, 1, 103, 40), (Kind.DWELL, 1, 104, 40)]
    state = state_of(rows)
    ties, others = TieStrength(state), np.array([2, 3, 4, 5, 99], np.uint64)
    sources = np.ones(5, np.uint64)
    assert ties.version == 0
    default = state.real_graph.strength(1, others, NOW_MS)
    assert ties.strength(1, others, NOW_MS).tolist() == default.tolist()
    for version, seed in ((5, 1), (7, 2), (9, 3)):
        with_model(state, version, seed)
        assert ties.version == version
        model, (found, tied) = tie_model(seed), ties.columns(sources, others, NOW_MS)
        # A look is no tie, nor is following somebody.
        assert tied.tolist() == [True, True, False, False, False]
        for explicit in (False, True):
            first, last = (model.any_trees, 4) if explicit else (0, model.any_trees)
            expected = [
                probability(model.trees, first, last, float(model.bases[int(explicit)]), row) if tie else 0.0
                for row, tie in zip(found.tolist(), tied.tolist(), strict=True)
            ]
            scored = ties.strength_between(sources, others, NOW_MS, explicit=explicit)
            np.testing.assert_allclose(scored, expected, rtol=1e-6)
            if not explicit:
                assert ties.strength(1, others, NOW_MS).tolist() == scored.tolist()
        outside = ties.out_of_network(1, NOW_MS, 10)
        assert outside.user_ids.tolist() == [3]
        assert outside.strength.tolist() == ties.strength(1, others, NOW_MS)[1:2].tolist()
