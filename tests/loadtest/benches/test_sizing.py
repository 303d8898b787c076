"""The sizing table is what the rooms really take, and what the page says."""

from itertools import pairwise
from pathlib import Path

import pytest

from engine.deduplication.state import Deduplication, DeduplicationConfig
from engine.interaction_graph.state import InteractionGraph, InteractionGraphConfig
from engine.signals.state import Signals, SignalsConfig
from engine.social_graph.state import SocialGraph, SocialGraphConfig
from engine.tweet_store.state import TweetStore, TweetStoreConfig
from loadtest.benches.sizing import Habits, graph_bytes, plan, table

PAGE = Path(__file__).parents[3] / "docs" / "scaling.md"


def test_the_page_has_the_table():
    assert table() in PAGE.read_text()


def test_a_small_plan_is_what_rooms_of_its_sizes_take():
    habits, users = Habits(), 2000
    made = plan(users, habits)
    assert made.groups == 1
    accounts, viewers = int(users * habits.accounts), int(users * habits.viewers)
    group = (
        SocialGraph(
            SocialGraphConfig(users_max=accounts, edges_max=made.follows, list_entries_max=made.follows * 5)
        ).bytes_max
        + Signals(SignalsConfig(users_max=viewers, blocks_max=4 * viewers)).bytes_max
    )
    assert made.group_bytes == group
    store = TweetStore(
        TweetStoreConfig(tweets_max=made.tweets, text_bytes_max=int(made.tweets * habits.text_bytes))
    ).bytes_max
    ids = 51.1 * made.events_per_s * habits.duplicates_s
    assert made.replicated_bytes == pytest.approx(graph_bytes(users, made.tweets, made.edges) + store + ids)
    graph = InteractionGraph(
        InteractionGraphConfig(users_max=users, tweets_max=made.tweets, edges_max=made.edges, arena_slots_per_edge=3.2)
    )
    assert 1.0 < graph_bytes(users, made.tweets, made.edges) / graph.bytes_max < 2.0
    assert Deduplication(DeduplicationConfig(events_max=1 << 20)).bytes_max / (1 << 20) == pytest.approx(51.1, abs=0.1)


def test_more_people_need_more_and_groups_keep_rooms_within_their_limits():
    plans = [plan(10**n) for n in range(4, 9)]
    for smaller, larger in pairwise(plans):
        assert larger.replicated_bytes > smaller.replicated_bytes
        assert larger.feed_cores > smaller.feed_cores
        assert larger.groups >= smaller.groups
    assert plans[-1].window_h < plans[0].window_h == 48.0
