"""Learns online how much each component of a score is worth: weights of a blend, from what was engaged with next.

No half-life is right everywhere: hours where news is passed on, years where questions are answered. So a tweet gets
several scores (walks and popularity at several half-lives, each scaled to 1 at most), and the blend's weights follow
from what people picked. A pick is compared with the head of the list as the present weights rank it: components that
put the picked tweet above the head's mean gain, the others lose. With x the components (n, k), w the weights,
s = x · w, and z the softmax of ``sharpness`` · s / max s over the head,

    gradient = x[picked] - Σ z · x,   w ← w · exp(rate · gradient), scaled to sum 1, none below ``weight_min``:

exponentiated gradient ascent (Kivinen and Warmuth, "Exponentiated gradient versus gradient descent for linear
predictors", Information and Computation 132, 1997) on the likelihood of the pick among the head. Picks that the blend
ranks beyond ``reach`` teach nothing: a list shows its head, and the long tail is best explained by what is popular,
which would win the weights without making one list better.

Bounded: an update moves a weight by a factor within exp(±2 · rate) before ``weight_min``. No component is ever lost.
"""

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, NamedTuple

import numpy as np
from msgspec import Meta, Struct
from numpy.typing import NDArray

from engine.errors import InvariantError
from engine.exact_math import exp, total
from engine.kernels.jit import kernel
from engine.kernels.top_k import top_k
from engine.room import Bounded, only_grew

#: Indices of ``header``.
UPDATES, BEYOND_REACH, WITHOUT_SCORE = range(3)
HEADER_SIZE = 3
#: Rounding may leave the sum of the weights so far from 1.
_SUM_ERROR = 1e-9


class BlendLearnerConfig(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """How many components there are, and how fast their weights follow.

    ``head``: how many of the list's best a pick is compared with. ``reach``: the last rank whose pick teaches.
    """

    components: Annotated[int, Meta(ge=1, le=64)] = 24
    rate: Annotated[float, Meta(gt=0, le=1)] = 0.03
    sharpness: Annotated[float, Meta(gt=0, le=100)] = 4.5
    head: Annotated[int, Meta(ge=2, le=2500)] = 64
    reach: Annotated[int, Meta(ge=1, le=2500)] = 20
    weight_min: Annotated[float, Meta(gt=0, le=0.01)] = 1e-5


@kernel
def blend(components: Any, weights: Any, scores: Any) -> None:
    """Each row's weighted sum: ``components`` float64 (n, k), ``weights`` float64 (k,) into ``scores`` float64 (n,)."""
    for i in range(components.shape[0]):
        score = 0.0
        for k in range(weights.shape[0]):
            score += components[i, k] * weights[k]
        scores[i] = score


@kernel
def _rank(scores: Any, row: Any) -> Any:
    """The row's rank, counted from 1; among equal scores the mean of their ranks (float64)."""
    better = 0
    equal = 0
    for i in range(scores.shape[0]):
        better += scores[i] > scores[row]
        equal += scores[i] == scores[row]
    return np.float64(better) + 0.5 * np.float64(equal + 1)


@kernel
def _learn(components: Any, ids: Any, picked: Any, options: Any, cut: Any, weights: Any, header: Any) -> None:
    """One update in place. ``options``: (rate, sharpness, reach, weight_min). ``cut``: scratch (scores float64 (n,),
    gradient float64 (k,), rows int32 (min(n, head),)). O(n · k + n log head)."""
    rate, sharpness, reach, weight_min = options
    scores, gradient, rows = cut
    blend(components, weights, scores)
    size = np.int64(top_k(scores, ids, np.int64(scores.shape[0]), np.int64(rows.shape[0]), rows))
    best = scores[rows[0]]
    if scores[picked] <= 0.0:
        header[WITHOUT_SCORE] += 1
        return
    if _rank(scores, picked) > reach:
        header[BEYOND_REACH] += 1
        return
    count = weights.shape[0]
    gradient[:] = 0.0
    shares = 0.0
    for i in range(size):
        share = exp(sharpness * (scores[rows[i]] / best - 1.0))
        shares += share
        for k in range(count):
            gradient[k] += share * components[rows[i], k]
    mass = 0.0
    for k in range(count):
        weights[k] *= exp(rate * (components[picked, k] - gradient[k] / shares))
        mass += weights[k]
    floored = 0.0
    for k in range(count):
        weights[k] = max(weights[k] / mass, weight_min)
        floored += weights[k]
    for k in range(count):
        weights[k] /= floored
    header[UPDATES] += 1


class Learnt(NamedTuple):
    """All of the learner's state. ``weights``: float64 (components,). ``header``: int64 (3,), counters."""

    weights: NDArray[np.float64]
    header: NDArray[np.int64]


class BlendLearner(Bounded):
    """The weights of a blend: a part of the engine's state.

    It changes only by ``learn`` and ``put``, which are called under the write side of the state lock, in an order that
    the log gives; ``weights`` and ``blend`` are for readers. Equal calls in equal order give equal bytes.
    """

    name: ClassVar[str] = "blend_learner"
    #: Picks learnt from, ranked beyond ``reach``, and without any score.
    counted: ClassVar[Mapping[str, int]] = {
        "updates": UPDATES,
        "beyond_reach": BEYOND_REACH,
        "without_score": WITHOUT_SCORE,
    }

    def __init__(self, config: BlendLearnerConfig) -> None:
        self.config = config
        self._learnt = Learnt(np.full(config.components, 1.0 / config.components), np.zeros(HEADER_SIZE, np.int64))
        self._weights = self._learnt.weights
        self._gradient = np.zeros(config.components)
        self._options = (config.rate, config.sharpness, float(config.reach), config.weight_min)
        super().__init__(self._learnt, self._learnt.header)

    @property
    def weights(self) -> NDArray[np.float64]:
        """A copy of the weights, (components,) float64: positive, summing to 1."""
        return self._weights.copy()

    def copy(self) -> Learnt:
        """A copy of what was learnt so far: to be taught elsewhere, and ``put`` back."""
        return Learnt(self._learnt.weights.copy(), self._learnt.header.copy())

    def put(self, learnt: Learnt) -> None:
        """Take over what a copy learnt."""
        for mine, other in zip(self._learnt, learnt, strict=True):
            mine[:] = other

    def blend(self, components: NDArray[np.float64]) -> NDArray[np.float64]:
        """The blended score of each row, float64 (n,), of ``components`` (n, components) float64 in 0 … 1."""
        scores = np.empty(len(components))
        blend(components, self._weights, scores)
        return scores

    def learn(
        self,
        tweet_ids: NDArray[np.uint64],
        components: NDArray[np.float64],
        picked: int,
        learnt: Learnt | None = None,
    ) -> None:
        """Take in that of these candidates the one in row ``picked`` was engaged with.

        Args:
            tweet_ids: uint64 (n,), distinct; they order equal scores.
            components: float64 (n, components), C-contiguous, each 0 … 1, as they were before the engagement.
            picked: a row.
            learnt: a copy that learns instead of this learner.

        Raises:
            ValueError: shapes that do not fit, a row that is not there, or components outside 0 … 1.
        """
        if components.shape != (len(tweet_ids), self.config.components) or not 0 <= picked < len(tweet_ids):
            raise ValueError(f"{components.shape} components, {len(tweet_ids)} tweets, row {picked}")
        if not (components.min() >= 0.0 and components.max() <= 1.0):
            raise ValueError("components are within 0 … 1")
        cut = (np.empty(len(tweet_ids)), self._gradient, np.empty(min(len(tweet_ids), self.config.head), np.int32))
        _learn(components, tweet_ids, picked, self._options, cut, *(learnt or self._learnt))

    def usage(self) -> Mapping[str, tuple[int, int]]:
        """Nothing in here fills up."""
        return {}

    def check(self) -> None:
        """Verify that the weights are a distribution and no component is lost (``Bounded.check``).

        Raises:
            InvariantError: they are not, or one is.
        """
        floor = self.config.weight_min / (1.0 + self.config.components * self.config.weight_min)
        if not abs(total(self._weights) - 1.0) < _SUM_ERROR or self._weights.min() < floor * (1.0 - _SUM_ERROR):
            raise InvariantError(f"blend_learner: weights {self._weights.tolist()}")

    def grow_from(self, smaller: "BlendLearner") -> bool:
        """Keep the weights while the components are the same (``Bounded.grow_from``)."""
        if not only_grew(smaller.config, self.config, capacities=(), rules=("rate", "sharpness", "head", "reach")):
            return False
        self.put(smaller._learnt)
        return True


def warm() -> None:
    """Compile every kernel of this module on the real types."""
    learner = BlendLearner(BlendLearnerConfig(components=2))
    learner.learn(np.arange(1, 3, dtype=np.uint64), np.eye(2), 0)
