"""The whole computation: follows of a frozen state in, the model's bytes and its evaluation out."""

from typing import NamedTuple

import numpy as np

from engine.profiles.state import ProfileRoom, ProfilesConfig
from engine.reputation.accounts import known_accounts, prior_of
from engine.reputation.follows import follows_of, without
from engine.reputation.model import Reputations, encode
from engine.reputation.page_rank import page_rank
from engine.reputation.score import scores_of
from engine.social_graph.arrays import Graph
from engine.social_graph.sizes import make_graph


class Computed(NamedTuple):
    """``evaluation``: accounts, follows, iterations and the last change; the same on every machine."""

    payload: bytes
    evaluation: dict[str, float]


def compute(
    graph: Graph,
    profiles: ProfileRoom,
    last: Reputations | None,
    *,
    clock_ms: int,
    jump: float,
    iterations_max: int,
    change_max: float,
) -> Computed:
    """Reputations of all accounts that follow or are followed.

    ``graph``: the social graph's arrays; neither they nor ``profiles`` may change meanwhile. ``last``: the previous
    model, whose ranks are the starting point, so that fewer iterations are needed. ``clock_ms``: the state's time.
    ``jump``, ``iterations_max``, ``change_max``: see ``page_rank``.
    """
    follows = follows_of(graph)
    accounts = known_accounts(profiles.known(follows.ids), clock_ms)
    if accounts.deactivated.any():
        follows = without(follows, accounts.deactivated)
        accounts = accounts.take(~accounts.deactivated)
    prior = prior_of(accounts, follows.followings, follows.starts)
    start = prior if last is None else last.ranks_of(follows.ids, prior)
    found = page_rank(follows, prior, start, jump=jump, iterations_max=iterations_max, change_max=change_max)
    scores = scores_of(found.rank, follows.followings, follows.starts)
    payload = encode(Reputations(follows.ids, found.rank.astype(np.float32), scores))
    return Computed(
        payload,
        {
            "accounts": float(follows.ids.size),
            "follows": float(follows.followers.size),
            "iterations": float(found.iterations),
            "change": found.change,
        },
    )


def warm() -> None:
    """Compile every kernel of this folder on the real types."""
    graph = make_graph(2, 2, 8)
    follows = follows_of(graph)._replace(
        ids=np.array([1, 2], np.uint64),
        starts=np.array([0, 1, 2]),
        followers=np.array([1, 0], np.int32),
        followings=np.array([1, 1], np.int32),
    )
    accounts = known_accounts(ProfileRoom(ProfilesConfig(users_max=1)).known(follows.ids), 0)
    prior = prior_of(accounts, follows.followings, follows.starts)
    rank = page_rank(follows, prior, prior, jump=0.1, iterations_max=1, change_max=0.0).rank
    scores = scores_of(rank, follows.followings, follows.starts)
    model = Reputations(follows.ids, rank.astype(np.float32), scores)
    model.ranks_of(follows.ids, prior)
    model.reputation(follows.ids)
    model.position(1)
