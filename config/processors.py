"""Settings of the slow path (docs/processors.md)."""

from typing import Annotated, Literal

from msgspec import Meta, Struct, field

from config.serving import Positive, Seconds


class ProcessorsConfig(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Counting outside the feeds' path: exposures by author group and experiment bucket (docs/processors.md)."""

    #: ``auto``: with the embedded log in the serving process, with Kafka in ``murmuration agents``.
    run_in: Literal["auto", "serve", "agents"] = "auto"
    #: Experiments by name, each with the number of buckets that viewers are divided into.
    experiments: dict[str, Annotated[int, Meta(ge=1, le=100)]] = field(default_factory=lambda: {"control": 2})
    #: Salt and experiment name determine each viewer's bucket; another salt draws the buckets anew.
    salt: str = "murmuration"
    #: A feed that is older than its partition's newest feed by more than this is not counted (``late``).
    late_minutes_max: Annotated[int, Meta(ge=1, le=1440)] = 60
    #: Feeds counted, and their ids remembered, per minute and partition; further ones are not counted (``full``).
    feeds_per_minute_max: Positive = 16_384
    #: Author groups that are counted separately, the first ones met; all others count as the group ``other``.
    groups_max: Positive = 32
    #: Authors whose groups are kept; later authors count in no group.
    authors_max: Positive = 1_000_000
    #: Feeds read at a time.
    batch_feeds_max: Positive = 500
    #: Where ``murmuration agents`` answers ``/metrics``. Port 0: any free one.
    agents_host: str = "127.0.0.1"
    agents_port: Annotated[int, Meta(ge=0, le=65535)] = 8401
    #: A worker that sends no heartbeat for this long counts as dead, and the others take over its partitions.
    agents_session_timeout_s: Seconds = 10.0
