"""The memory and cores that a number of daily users needs, by the rooms' formulas: the table of docs/scaling.md.

``murmuration bench sizing`` prints the table. Measured figures come from docs/benchmarks.md.
"""

import math
from collections.abc import Callable
from typing import Final, NamedTuple

from engine.interaction_graph.state import InteractionGraphConfig, interaction_graph_bytes
from engine.signals.state import SignalsConfig, signals_bytes
from engine.social_graph.state import SocialGraphConfig, social_graph_bytes
from engine.state import EngineState, RoomsConfig
from engine.tweet_store.state import TweetStoreConfig, tweet_store_bytes

DAY_S: Final = 86_400
#: The most entries that a room can index (the bounds of its configuration).
FOLLOW_ENTRIES_MAX: Final = (1 << 31) - 1
EDGES_MAX: Final = 1 << 29
TWEETS_MAX: Final = 1 << 28


class Habits(NamedTuple):
    """Averages per daily user: assumed, not measured."""

    accounts: float = 3.0
    follows_per_account: float = 100.0
    viewers: float = 2.0
    tweets_a_day: float = 2.0
    tweet_days: float = 2.0
    text_bytes: float = 150.0
    engagements_a_day: float = 10.0
    graph_days: float = 2.0
    events_a_day: float = 60.0
    feeds_a_day: float = 20.0
    peak: float = 3.0
    #: Seconds, at the peak rate, within which a second arrival of an event is recognized.
    duplicates_s: float = 600.0


class Measured(NamedTuple):
    """CPU seconds, from docs/benchmarks.md (Kafka; a small society)."""

    feed_s: float = 0.002
    event_s: float = 3.8e-6


class Plan(NamedTuple):
    """The needs of ``daily_users``. Bytes are for one node, which holds one of ``groups`` groups of viewers."""

    daily_users: int
    follows: int
    tweets: int
    edges: int
    window_h: float
    events_per_s: float
    feeds_per_s: float
    groups: int
    replicated_bytes: float
    group_bytes: float
    event_cores: float
    feed_cores: float


def plan(daily_users: int, habits: Habits | None = None, measured: Measured | None = None) -> Plan:
    """Capacities from habits, and bytes from capacities; ``groups`` is the least number that the rooms' limits allow.

    If a room cannot index enough, the graph keeps a shorter window and the tweet store fewer tweets.
    """
    habits, measured = habits or Habits(), measured or Measured()
    accounts = int(daily_users * habits.accounts)
    follows = int(accounts * habits.follows_per_account)
    viewers = int(daily_users * habits.viewers)
    tweets = min(TWEETS_MAX, int(daily_users * habits.tweets_a_day * habits.tweet_days))
    wanted = daily_users * habits.engagements_a_day * habits.graph_days
    edges = min(EDGES_MAX, int(wanted))
    events_per_s = daily_users * habits.events_a_day * habits.peak / DAY_S
    feeds_per_s = daily_users * habits.feeds_a_day * habits.peak / DAY_S
    entries = follows * 5
    groups = math.ceil(entries / FOLLOW_ENTRIES_MAX)
    replicated = (
        graph_bytes(daily_users, tweets, edges)
        + tweet_store_bytes(TweetStoreConfig(tweets_max=tweets, text_bytes_max=int(tweets * habits.text_bytes)))
        + 51.1 * events_per_s * habits.duplicates_s
    )
    group = social_graph_bytes(
        SocialGraphConfig(users_max=accounts // groups, edges_max=follows // groups, list_entries_max=entries // groups)
    ) + signals_bytes(SignalsConfig(users_max=viewers // groups, blocks_max=4 * viewers // groups))
    return Plan(
        daily_users=daily_users,
        follows=follows,
        tweets=tweets,
        edges=edges,
        window_h=habits.graph_days * 24.0 * edges / wanted,
        events_per_s=events_per_s,
        feeds_per_s=feeds_per_s,
        groups=groups,
        replicated_bytes=replicated,
        group_bytes=group,
        event_cores=events_per_s * measured.event_s,
        feed_cores=feeds_per_s * measured.feed_s,
    )


def graph_bytes(users: int, tweets: int, edges: int) -> float:
    """Bytes of the interaction graph, and of the user and entity graphs in their default proportion to it."""
    defaults = EngineState(RoomsConfig())
    beside = (defaults.user_graph, defaults.entity_graph, defaults.entity_names)
    share = sum(room.bytes_max for room in beside) / defaults.interaction_graph.bytes_max
    config = InteractionGraphConfig(users_max=users, tweets_max=tweets, edges_max=edges, arena_slots_per_edge=3.2)
    return interaction_graph_bytes(config) * (1.0 + share)


def table(daily_users: tuple[int, ...] = (1_000_000, 10_000_000, 100_000_000)) -> str:
    """The table, as Markdown."""
    plans = [plan(number) for number in daily_users]
    rows: tuple[tuple[str, Callable[[Plan], str]], ...] = (
        ("daily users", lambda p: f"{p.daily_users / 1e6:,.0f} M"),
        ("follows", lambda p: f"{p.follows / 1e9:,.1f} G"),
        ("tweets kept", lambda p: f"{p.tweets / 1e6:,.0f} M"),
        ("edges in the window, its hours", lambda p: f"{p.edges / 1e6:,.0f} M, {p.window_h:.0f}"),
        ("events/s at the peak", lambda p: f"{p.events_per_s:,.0f}"),
        ("feeds/s at the peak", lambda p: f"{p.feeds_per_s:,.0f}"),
        ("cores busy with events, on every node", lambda p: f"{p.event_cores:.2f}"),
        ("cores busy with feeds, in all", lambda p: f"{p.feed_cores:,.1f}"),
        ("every node: graphs, tweets, duplicates, GB", lambda p: f"{p.replicated_bytes / 1e9:,.1f}"),
        ("groups of viewers, at least", lambda p: f"{p.groups}"),
        ("a group: follows and signals of its viewers, GB", lambda p: f"{p.group_bytes / 1e9:,.1f}"),
        ("a node, GB", lambda p: f"{(p.replicated_bytes + p.group_bytes) / 1e9:,.1f}"),
    )
    lines = ["| " + " | ".join([name, *map(cell, plans)]) + " |" for name, cell in rows]
    return "\n".join([lines[0], "|---" * (len(plans) + 1) + "|", *lines[1:]]) + "\n"
