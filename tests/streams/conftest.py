"""What tests of the whole engine share."""

import pytest

from engine.deduplication import DeduplicationConfig
from engine.entity_names import EntityNamesConfig
from engine.interaction_graph.entity_graph import EntityGraphConfig
from engine.interaction_graph.state import InteractionGraphConfig
from engine.interaction_graph.user_graph import UserGraphConfig
from engine.signals.state import SignalsConfig
from engine.social_graph.state import SocialGraphConfig
from engine.state import RoomsConfig
from engine.tweet_store.state import TweetStoreConfig


@pytest.fixture
def small_rooms() -> RoomsConfig:
    """Rooms for some hundred people and tweets: a server with them starts in no time."""
    return RoomsConfig(
        deduplication=DeduplicationConfig(events_max=1 << 12),
        interaction_graph=InteractionGraphConfig(users_max=1 << 10, tweets_max=1 << 10, edges_max=1 << 12),
        user_graph=UserGraphConfig(users_max=1 << 10, edges_max=1 << 12),
        entity_graph=EntityGraphConfig(entities_max=1 << 10, tweets_max=1 << 10, edges_max=1 << 12),
        entity_names=EntityNamesConfig(names_max=1 << 10, text_bytes_max=1 << 16),
        social_graph=SocialGraphConfig(users_max=1 << 10, edges_max=1 << 12, list_entries_max=1 << 14),
        tweet_store=TweetStoreConfig(tweets_max=1 << 10, text_bytes_max=1 << 16),
        signals=SignalsConfig(users_max=1 << 10, blocks_max=1 << 12),
    )
