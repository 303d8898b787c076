"""Settings of the slow path (docs/processors.md)."""

from typing import Annotated, Literal

from msgspec import Meta, Struct, field

from config.serving import Positive, Seconds


class ProcessorsConfig(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What is counted beside the feeds' path: exposures by author group and experiment bucket (docs/processors.md)."""

    #: ``auto``: with the embedded log in the process that serves, with Kafka in ``murmuration agents``.
    run_in: Literal["auto", "serve", "agents"] = "auto"
    #: Experiments by name, with how many buckets viewers are spread over.
    experiments: dict[str, Annotated[int, Meta(ge=1, le=100)]] = field(default_factory=lambda: {"control": 2})
    #: With the experiment's name it says who falls into which bucket; another salt draws them anew.
    salt: str = "murmuration"
    #: A feed so much older than the newest of its partition is not counted (``late``).
    late_minutes_max: Annotated[int, Meta(ge=1, le=1440)] = 60
    #: Feeds counted, and their ids remembered, a minute of a partition; more are not counted (``full``).
    feeds_per_minute_max: Positive = 16_384
    #: Author groups that are told apart, the first ones met; the rest is the group ``other``.
    groups_max: Positive = 32
    #: Authors whose groups are known; later ones count in no group.
    authors_max: Positive = 1_000_000
    #: Feeds read at a time.
    batch_feeds_max: Positive = 500
    #: Where ``murmuration agents`` answers ``/metrics``. Port 0: any free one.
    agents_host: str = "127.0.0.1"
    agents_port: Annotated[int, Meta(ge=0, le=65535)] = 8401
    #: A worker that says nothing for so long is taken for dead, and the others share its partitions.
    agents_session_timeout_s: Seconds = 10.0
