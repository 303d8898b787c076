"""The late stages: from the features to the entries of a feed.

But for the contents of the selected tweets they see only what was gathered before. Scorers and the selector must not
fail; the reader of contents and verifiers fail closed.
"""

import numpy as np

from engine.pipeline.components import ContentReader, Scorer, Selector, Verifier
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
        work.left = candidates.drop_others(work.chosen, candidates.code(self.selector.name))


class Contents:
    """What entries show of the selected tweets. Of all candidates together it would be thirty times as much."""

    name = "contents"

    def __init__(self, reader: ContentReader) -> None:
        self.reader = reader

    def run(self, work: Work) -> None:
        """See ``Stage``."""
        candidates = work.candidates
        try:
            work.query.contents = self.reader.read(candidates, candidates.rows[work.chosen])
        except Exception as error:
            raise work.unsafe(self.reader.name, error) from error


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
                safe = verifier.safe(work.query, candidates, candidates.rows[work.chosen])
                if len(safe) != len(work.chosen):
                    raise ValueError(f"{len(safe)} verdicts about {len(work.chosen)} entries")
            except Exception as error:
                raise work.unsafe(verifier.name, error) from error
            if not all(safe):
                mask = np.array(safe, bool)
                candidates.drop_kept(work.chosen[~mask], candidates.code(verifier.name))
                work.watcher.count("verifier", verifier.name, "dropped", safe.count(False))
                work.chosen = work.chosen[mask]
