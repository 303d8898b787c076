"""The stages after the read lock was released: from the features to the entries of a feed.

They see only what was gathered under the lock. Scorers and the selector must not fail; verifiers fail closed.
"""

import numpy as np

from engine.pipeline.components import Scorer, Selector, Verifier
from engine.pipeline.stages import Work


class Scoring:
    """Scorers in order. A pipeline has as many such stages as it needs times (ranking, heuristics, …)."""

    def __init__(self, name: str, *scorers: Scorer) -> None:
        self.name = name
        self.scorers = scorers

    def run(self, work: Work) -> None:
        """See ``Stage``."""
        for scorer in self.scorers:
            scorer.score(work.query, work.candidates, work.scores)


class Selection:
    """Which candidates become entries, and in which order."""

    name = "select"

    def __init__(self, selector: Selector) -> None:
        self.selector = selector

    def run(self, work: Work) -> None:
        """See ``Stage``."""
        candidates = work.candidates
        work.chosen = self.selector.select(work.query, candidates, work.scores)
        left = np.ones(len(candidates.rows), bool)
        left[work.chosen] = False
        work.left = int(np.count_nonzero(candidates.dropped_by[candidates.rows[left]] == 0))
        candidates.drop_kept(left, candidates.code(self.selector.name))


class Verification:
    """A last look at what was selected: what does not pass is taken out, whatever let it get here."""

    name = "verify"

    def __init__(self, *verifiers: Verifier) -> None:
        self.verifiers = verifiers

    def run(self, work: Work) -> None:
        """See ``Stage``."""
        candidates = work.candidates
        for verifier in self.verifiers:
            try:
                safe = verifier.safe(work.query, candidates, candidates.rows[work.chosen].tolist())
                if len(safe) != len(work.chosen):
                    raise ValueError(f"{len(safe)} verdicts about {len(work.chosen)} entries")
            except Exception as error:
                raise work.unsafe(verifier.name, error) from error
            if not all(safe):
                mask = np.array(safe, bool)
                candidates.drop_kept(work.chosen[~mask], candidates.code(verifier.name))
                work.watcher.count("verifier", verifier.name, "dropped", safe.count(False))
                work.chosen = work.chosen[mask]
