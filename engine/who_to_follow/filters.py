"""Who is left out of who to follow: the first filter that drops a person names the reason."""

import numpy as np

from engine.home_mixer.filters import BitRule, Rule
from engine.pipeline import kernels
from engine.pipeline.candidates import Candidates
from engine.pipeline.components import Query
from engine.pipeline.scratch import Buffers
from engine.visibility.judge import Hidden
from engine.who_to_follow.hydrators import Away


def _excluded(query: Query, candidates: Candidates, code: int) -> None:
    table = query.scratch.of(Buffers).take("filters.table", np.int32, kernels.table_size(len(query.excluded)))
    kernels.drop_listed(candidates.tweet_id, query.excluded, table, candidates.dropped_by, code)


def _hides(name: str, drops: str, bits: int) -> BitRule:
    return BitRule(name, drops, "hidden", bits)


def _between(name: str, drops: str, bits: int) -> BitRule:
    return BitRule(name, drops, "away", bits)


#: In order. Names that feeds have too mean the same of a person as there of an author.
FILTERS: tuple[Rule, ...] = (
    _hides("blocked", "a block, either way, between viewer and person", Hidden.BLOCKED),
    _hides("muted", "a mute, either way, between viewer and person", Hidden.MUTED),
    _hides("author_suspended", "the account is suspended", Hidden.AUTHOR_SUSPENDED),
    _hides("author_deactivated", "the account was deactivated, or is being erased", Hidden.AUTHOR_DEACTIVATED),
    _hides("author_unknown", "the room of profiles was too full to keep the profile", Hidden.AUTHOR_UNKNOWN),
    _hides("author_protected", "the account is protected", Hidden.AUTHOR_PROTECTED),
    _hides("opted_out", "the person does not want to be recommended", Hidden.OPTED_OUT),
    _between("own", "the viewer", Away.OWN),
    _between("already_followed", "the viewer follows the person", Away.FOLLOWED),
    _between("dismissed", "the viewer dismissed the person in the last 180 days", Away.DISMISSED),
    _between("reported", "the viewer reported the person, or the person the viewer", Away.REPORTED),
    _between("unfollowed", "the viewer unfollowed the person in the last 90 days", Away.UNFOLLOWED),
    _between(
        "rejected", "the viewer rejected a tweet of the person, or the person, in the last 14 days", Away.REJECTED
    ),
    Rule("excluded", "the request excludes the person", _excluded, lambda query: len(query.excluded) > 0),
    _between("fatigued", "the person was suggested 10 times", Away.FATIGUED),
)
