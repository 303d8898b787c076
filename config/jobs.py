"""Settings of the jobs: slow work whose results come back through the log (docs/jobs.md)."""

from typing import Annotated

from msgspec import Meta, Struct

from config.serving import Positive, Seconds


class ReputationJobConfig(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Reputation of accounts (docs/reputation.md): when it is computed, and the terms of PageRank."""

    #: Event time between two computations; 0: never.
    interval_h: Annotated[float, Meta(ge=0, le=8760)] = 6.0
    #: A computation that takes longer is killed; the job runs again at its next due time.
    seconds_max: Seconds = 300.0
    #: Probability that the random walk jumps to an account drawn from the prior, instead of going along a follow.
    jump: Annotated[float, Meta(gt=0, le=1)] = 0.1
    iterations_max: Positive = 20
    #: The rounds end when a round changes the ranks by at most this, summed over all accounts.
    change_max: Annotated[float, Meta(ge=0)] = 0.001


class JobsConfig(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Slow work on a frozen state, beside the engine that serves (docs/jobs.md)."""

    reputation: ReputationJobConfig = ReputationJobConfig()
