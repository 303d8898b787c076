"""Fits the two forests of model ``real_graph`` with scikit-learn, and measures them on examples that were held out."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from engine.errors import ConfigError, MurmurationError
from engine.kernels.trees import Trees
from engine.models.specs import AUC_ANY, AUC_EXPLICIT, BEFORE_AUC_ANY, BEFORE_AUC_EXPLICIT
from engine.models.tie_trees import TieTrees
from engine.real_graph.column_kernels import DAYS_SINCE_LAST
from engine.tie_strength import scores
from streams.training.measures import auc
from streams.training.tie_examples import Examples

#: As in Twitter's release: 20 rounds, which end early where they do not help.
ROUNDS = 20
#: Less than that of each kind cannot be told apart.
_EXAMPLES_MIN = 10


class TooFewExamplesError(MurmurationError):
    """The log has too few days, or too little was done in them, to fit a model."""

    code = "too_few_examples"


def fit(examples: Examples, seed: int) -> TieTrees:
    """Both forests, fitted to the examples that are not held out.

    Raises:
        ConfigError: scikit-learn is not installed.
        TooFewExamplesError: there is nothing to tell apart.
    """
    known = examples.where(~examples.held_out)
    forests = [_fit(known.rows, truth, seed) for truth in (known.acted, known.explicitly)]
    trees = [tree for _, forest in forests for tree in forest]
    return TieTrees(len(forests[0][1]), np.array([base for base, _ in forests]), joined(trees))


def _fit(rows: NDArray[np.float32], truth: NDArray[np.bool_], seed: int) -> tuple[float, list[Any]]:
    """What the sums begin with, and scikit-learn's trees in order."""
    rng = np.random.default_rng(seed)
    # About as many of either kind: of a kind is kept what share the other kind has. So scores are no frequencies.
    share = truth.mean() if len(truth) else 0.0
    kept = rng.random(len(truth)) < np.where(truth, 1.0 - share, share)
    rows, truth = rows[kept], truth[kept]
    if min(np.count_nonzero(truth), np.count_nonzero(~truth)) < _EXAMPLES_MIN:
        raise TooFewExamplesError(
            f"{np.count_nonzero(truth)} pairs in which something was done on the next day and "
            f"{np.count_nonzero(~truth)} others are left to learn from; each takes {_EXAMPLES_MIN}: publish more days"
        )
    classifier = boosted_trees(seed)
    from threadpoolctl import threadpool_limits

    # Threads that wait for each other by spinning take forever beside other work; and one thread adds in one order.
    with threadpool_limits(1):
        classifier.fit(rows.astype(np.float64), truth)
    return trees_of(classifier)


def boosted_trees(seed: int) -> Any:
    """scikit-learn's classifier, not fitted yet.

    Raises:
        ConfigError: scikit-learn is not installed.
    """
    try:
        from sklearn.ensemble import HistGradientBoostingClassifier
    except ImportError as error:
        raise ConfigError("scikit-learn is not installed: pip install 'murmuration[train]'") from error
    return HistGradientBoostingClassifier(
        max_iter=ROUNDS, max_depth=6, learning_rate=0.3, l2_regularization=1.0, early_stopping=True, random_state=seed
    )


def trees_of(classifier: Any) -> tuple[float, list[Any]]:
    """What the sums of a fitted classifier begin with, and the nodes of its trees in order (structured arrays).

    These are private parts of scikit-learn: tests compare what they give with ``predict_proba``.
    """
    return float(classifier._baseline_prediction[0, 0]), [trees[0].nodes for trees in classifier._predictors]


def joined(trees: list[Any]) -> Trees:
    """scikit-learn's trees as one forest."""
    sizes = [len(nodes) for nodes in trees]
    roots = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int32)
    nodes = np.concatenate(trees)
    first, own = np.repeat(roots[:-1], sizes), np.arange(len(nodes), dtype=np.int32)
    leaf = nodes["is_leaf"].astype(np.bool_)
    return Trees(
        roots=roots,
        threshold=np.where(leaf, 0.0, nodes["num_threshold"]).astype(np.float64),
        value=nodes["value"].astype(np.float64),
        left=np.where(leaf, own, nodes["left"].astype(np.int32) + first).astype(np.int32),
        right=np.where(leaf, own, nodes["right"].astype(np.int32) + first).astype(np.int32),
        feature=np.where(leaf, 0, nodes["feature_idx"]).astype(np.uint8),
        missing_left=(nodes["missing_go_to_left"].astype(np.bool_) & ~leaf).astype(np.uint8),
    )


def measure(model: TieTrees, before: TieTrees | None, examples: Examples) -> dict[str, float]:
    """The areas under the ROC curves on the held-out examples: the model's, those of what is in force (None: the
    default score), of the default score, and of recency (whose pair was active last).

    Raises:
        TooFewExamplesError: nothing was held out that can be told apart.
    """
    held = examples.where(examples.held_out)
    rows, all_of_them = held.rows.astype(np.float64), np.ones(len(held.rows), np.bool_)
    recency = -held.rows[:, DAYS_SINCE_LAST]
    figures = {"examples": float(len(examples.rows)), "held_out": float(len(held.rows))}
    names = ((AUC_ANY, BEFORE_AUC_ANY, "any"), (AUC_EXPLICIT, BEFORE_AUC_EXPLICIT, "explicit"))
    for column, (now, then, kind) in enumerate(names):
        truth = (held.acted, held.explicitly)[column]
        if min(np.count_nonzero(truth), np.count_nonzero(~truth)) < _EXAMPLES_MIN:
            raise TooFewExamplesError(f"too few of the {len(truth)} pairs held out tell ({kind}): publish more days")
        explicit = column == 1
        figures[now] = auc(scores(model, rows, all_of_them, explicit=explicit), truth)
        figures[f"default_auc_{kind}"] = figures[then] = auc(held.default, truth)
        if before is not None:
            figures[then] = auc(scores(before, rows, all_of_them, explicit=explicit), truth)
        figures[f"recency_auc_{kind}"] = auc(recency, truth)
        figures[f"positives_{kind}"] = float(truth.mean())
    return figures
