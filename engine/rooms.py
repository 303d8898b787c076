"""The list of all rooms of the state.

To add a room, add its class to ``Rooms`` and its configuration to ``RoomsConfig``, under the room's name and in the
same order. State, configuration, warm-up and the import contract read this list.
"""

from collections.abc import Callable, Mapping
from typing import get_type_hints

from msgspec import Struct

from engine.blend_learner import BlendLearner, BlendLearnerConfig
from engine.deduplication.state import Deduplication, DeduplicationConfig
from engine.engagement_aggregates.state import EngagementAggregates, EngagementAggregatesConfig
from engine.entity_names import EntityNames, EntityNamesConfig
from engine.interaction_graph.entity_graph import EntityGraph, EntityGraphConfig
from engine.interaction_graph.state import InteractionGraph, InteractionGraphConfig
from engine.interaction_graph.user_graph import UserGraph, UserGraphConfig
from engine.interests.state import InterestRoom, InterestsConfig
from engine.lessons import Lessons, LessonsConfig
from engine.links.state import LinkRoom, LinksConfig
from engine.locale_follows.state import LocaleFollows, LocaleFollowsConfig
from engine.models.specs import ModelsConfig
from engine.models.state import Models
from engine.motifs.state import MotifRoom, MotifsConfig
from engine.muted_words.state import MutedWords, MutedWordsConfig
from engine.profiles.state import ProfileRoom, ProfilesConfig
from engine.real_graph.state import RealGraph, RealGraphConfig
from engine.room import Bounded, DerivedRoom, Observer
from engine.signals.state import Signals, SignalsConfig
from engine.social_graph.state import SocialGraph, SocialGraphConfig
from engine.suggestions.state import Suggestions, SuggestionsConfig
from engine.tweet_store.state import TweetStore, TweetStoreConfig


class RoomsConfig(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Capacities and rules of every room. The state's bytes depend on all of them."""

    deduplication: DeduplicationConfig = DeduplicationConfig()
    tweet_store: TweetStoreConfig = TweetStoreConfig()
    interaction_graph: InteractionGraphConfig = InteractionGraphConfig()
    user_graph: UserGraphConfig = UserGraphConfig()
    entity_graph: EntityGraphConfig = EntityGraphConfig()
    entity_names: EntityNamesConfig = EntityNamesConfig()
    social_graph: SocialGraphConfig = SocialGraphConfig()
    links: LinksConfig = LinksConfig()
    muted_words: MutedWordsConfig = MutedWordsConfig()
    profiles: ProfilesConfig = ProfilesConfig()
    interests: InterestsConfig = InterestsConfig()
    signals: SignalsConfig = SignalsConfig()
    suggestions: SuggestionsConfig = SuggestionsConfig()
    real_graph: RealGraphConfig = RealGraphConfig()
    models: ModelsConfig = ModelsConfig()
    blend_learner: BlendLearnerConfig = BlendLearnerConfig()
    lessons: LessonsConfig = LessonsConfig()
    engagement_aggregates: EngagementAggregatesConfig = EngagementAggregatesConfig()
    motifs: MotifsConfig = MotifsConfig()
    locale_follows: LocaleFollowsConfig = LocaleFollowsConfig()


class Rooms:
    """Every room, made from its configuration; arrays and ``apply`` follow this order.

    Base rooms come before derived ones, and a room comes after those that it reads.
    """

    deduplication: Deduplication
    tweet_store: TweetStore
    interaction_graph: InteractionGraph
    user_graph: UserGraph
    entity_graph: EntityGraph
    entity_names: EntityNames
    social_graph: SocialGraph
    links: LinkRoom
    muted_words: MutedWords
    profiles: ProfileRoom
    interests: InterestRoom
    signals: Signals
    suggestions: Suggestions
    real_graph: RealGraph
    models: Models
    blend_learner: BlendLearner
    lessons: Lessons
    engagement_aggregates: EngagementAggregates
    motifs: MotifRoom
    locale_follows: LocaleFollows

    def __init__(self, config: RoomsConfig) -> None:
        self.config = config
        made: dict[str, Bounded] = {}
        for name, room_class in room_classes(type(self)).items():
            make: Callable[..., Bounded] = room_class
            made[name] = make(getattr(config, name), **{other: made[other] for other in room_class.reads})
            setattr(self, name, made[name])
        #: Every room, in order.
        self.parts: tuple[Bounded, ...] = tuple(made.values())


def room_classes(rooms: type[Rooms] = Rooms) -> Mapping[str, type[Bounded]]:
    """The rooms' classes by name, in order.

    Raises:
        TypeError: a base room reads others, or a room reads one that does not come before it.
    """
    classes: dict[str, type[Bounded]] = {}
    derived = False
    for name, room_class in get_type_hints(rooms).items():
        if name != room_class.name:
            raise TypeError(f"{room_class.__name__} is named {room_class.name!r}, but listed as {name!r}")
        if room_class.reads and not issubclass(room_class, DerivedRoom | Observer):
            raise TypeError(f"{name} is a base room: it reads the batch only, not {room_class.reads}")
        if unknown := set(room_class.reads) - classes.keys():
            raise TypeError(f"{name} reads {sorted(unknown)}, which do not come before it")
        if derived and not issubclass(room_class, DerivedRoom):
            raise TypeError(f"{name} is a base room, but comes after a derived one")
        derived = derived or issubclass(room_class, DerivedRoom)
        classes[name] = room_class
    return classes


def small_rooms(size: int = 1 << 10) -> RoomsConfig:
    """Rooms for about ``size`` people and tweets (at least 64), for tests: made quickly, and soon full."""
    return RoomsConfig(
        deduplication=DeduplicationConfig(events_max=4 * size),
        tweet_store=TweetStoreConfig(
            tweets_max=size,
            stubs_max=size,
            text_bytes_max=64 * size,
            early_changes_max=8 * size,
            acts_max=64 * size,
            looks_max=64 * size,
            labels_max=16 * size,
            person_acts_max=max(size // 8, 64),
            author_tweets_per_day_max=size // 4,
            author_text_bytes_per_day_max=16 * size,
        ),
        interaction_graph=InteractionGraphConfig(
            users_max=size, tweets_max=size, edges_max=4 * size, user_entries_max=max(size // 8, 64)
        ),
        user_graph=UserGraphConfig(users_max=size, edges_max=4 * size, user_entries_max=max(size // 4, 64)),
        entity_graph=EntityGraphConfig(
            entities_max=size, tweets_max=size, edges_max=4 * size, author_entries_per_day_max=max(size // 4, 64)
        ),
        entity_names=EntityNamesConfig(
            names_max=size,
            text_bytes_max=64 * size,
            author_names_per_day_max=size // 4,
            author_text_bytes_per_day_max=16 * size,
        ),
        social_graph=SocialGraphConfig(users_max=size, edges_max=4 * size, list_entries_max=20 * size),
        links=LinksConfig(people_max=size, links_max=4 * size),
        muted_words=MutedWordsConfig(people_max=size, words_max=4 * size, words_per_person_max=16),
        profiles=ProfilesConfig(users_max=size),
        interests=InterestsConfig(people_max=size),
        signals=SignalsConfig(users_max=size, blocks_max=max(4 * size, 1 << 10)),
        suggestions=SuggestionsConfig(people_max=size, entries_max=4 * size),
        real_graph=RealGraphConfig(people_max=size, pairs_max=4 * size, features_max=8 * size),
        models=ModelsConfig(reputation_users_max=size),
        engagement_aggregates=EngagementAggregatesConfig(authors_max=size, viewers_max=size, pairs_per_viewer=4),
        motifs=MotifsConfig(targets_max=size),
        locale_follows=LocaleFollowsConfig(locales_max=8, people_max=1 << 8, people_per_locale_max=1 << 6),
    )
