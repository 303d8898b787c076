"""Labels against a plain model: the later act holds, and what each label means for whom."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.batch import Kind, make_batch
from engine.pipeline.scratch import Buffers
from engine.profiles.bits import ProfileBit, SensitiveMedia
from engine.rooms import RoomsConfig, small_rooms
from engine.state import EngineState
from engine.tweet_store.label_names import KNOWN, label_hash
from engine.tweet_store.state import TweetStoreConfig
from engine.visibility import labels
from engine.visibility.judge import Hidden, Visibility
from streams.events.ids import text_hash

FOLLOWER, STRANGER, AUTHOR, OTHER = 1, 2, 3, 4
TWEETS = range(1, 5)
NAMES = ("Spam", "do_not_amplify", "Abusive", "NsfwHighPrecision", "Nsfw", "something else")
#: What the pages say: nobody, followers only, not recommended, hidden from who hides sensitive media.
MEANING = {
    "Spam": Hidden.UNSAFE_LABEL,
    "do_not_amplify": Hidden.LABEL_FOR_FOLLOWERS,
    "Abusive": Hidden.LABEL_NOT_RECOMMENDED,
    "NsfwHighPrecision": Hidden.SENSITIVE_MEDIA,
    "Nsfw": Hidden.LABEL_NOT_RECOMMENDED | Hidden.SENSITIVE_MEDIA,
}
ALL = Hidden.UNSAFE_LABEL | Hidden.LABEL_FOR_FOLLOWERS | Hidden.LABEL_NOT_RECOMMENDED | Hidden.SENSITIVE_MEDIA


def make_state():
    state = EngineState(small_rooms(1 << 7))
    state.apply(make_batch(kind=[Kind.FOLLOW], user_id=[FOLLOWER], subject_id=[AUTHOR], timestamp_ms=[1]))
    hide = SensitiveMedia.HIDE << ProfileBit.SENSITIVE_MEDIA_SHIFT
    state.apply(make_batch(kind=[Kind.USER], user_id=[OTHER], context_id=[hide], timestamp_ms=[1]))
    return state


def create(state, tweet, author=AUTHOR, quoted=0, retweeted=0):
    state.apply(
        make_batch(
            kind=[Kind.CREATE], user_id=[author], author_id=[author], subject_id=[tweet], timestamp_ms=[10],
            payload=[0], tweet_quoted_id=[quoted], tweet_retweeted_id=[retweeted],
        )
    )  # fmt: skip


def label(state, tweet, name, time_ms=5, kind=Kind.LABEL):
    state.apply(
        make_batch(
            kind=[kind], subject_id=[tweet], author_id=[AUTHOR], timestamp_ms=[time_ms], context_id=[text_hash(name)]
        )
    )


def hidden(state, viewer, tweets=TWEETS):
    judged = Visibility(state).judge(viewer, np.array(tweets, np.uint64), Buffers())
    return [Hidden(bits) & ALL for bits in judged.hidden.tolist()]


acts = st.lists(
    st.tuples(
        st.sampled_from([Kind.LABEL, Kind.UNLABEL, Kind.CREATE]), st.sampled_from(TWEETS), st.sampled_from(NAMES),
        st.integers(1, 4),
    ),
    max_size=40,
)  # fmt: skip


@settings(max_examples=150, deadline=None)
@given(acts)
def test_the_later_act_holds_also_before_the_tweet(steps):
    state, model = make_state(), {}
    for kind, tweet, name, time_ms in steps:
        if kind == Kind.CREATE:
            create(state, tweet)
        else:
            label(state, tweet, name, time_ms, kind)
            if time_ms >= model.get((tweet, name), (0, None))[0]:
                model[tweet, name] = (time_ms, kind == Kind.LABEL)
    for tweet in TWEETS:
        create(state, tweet)
    state.check()
    for viewer, blind in ((FOLLOWER, Hidden.LABEL_FOR_FOLLOWERS | Hidden.LABEL_NOT_RECOMMENDED), (STRANGER, Hidden(0))):
        for tweet, found in zip(TWEETS, hidden(state, viewer), strict=True):
            expected = Hidden(0)
            for (labeled, name), (_, on) in model.items():
                if labeled == tweet and on:
                    expected |= MEANING.get(name, Hidden(0))
            assert found == expected & ~blind & ~Hidden.SENSITIVE_MEDIA
    assert hidden(state, AUTHOR) == [Hidden(0)] * len(TWEETS)


@pytest.mark.parametrize("name", NAMES)
def test_what_a_label_means_for_whom(name):
    meaning = MEANING.get(name, Hidden(0))
    state = make_state()
    create(state, 1)
    create(state, 2, author=OTHER, quoted=1)
    create(state, 3, author=AUTHOR, retweeted=1)
    label(state, 1, name)
    only_following = meaning & ~(Hidden.LABEL_FOR_FOLLOWERS | Hidden.LABEL_NOT_RECOMMENDED)
    not_hiding = ~Hidden.SENSITIVE_MEDIA
    # Whom they follow: nothing but what is for nobody. A stranger's quote of it is a recommendation all the same.
    assert hidden(state, FOLLOWER, (1, 3)) == [only_following & not_hiding] * 2
    assert hidden(state, FOLLOWER, (2,)) == [meaning & ~Hidden.LABEL_FOR_FOLLOWERS & not_hiding]
    assert hidden(state, STRANGER, (1, 2, 3)) == [meaning & not_hiding] * 3
    # Who hides sensitive media; the quote is their own.
    assert hidden(state, OTHER, (1, 3)) == [meaning] * 2
    assert hidden(state, OTHER, (2,)) == [meaning & ~Hidden.LABEL_NOT_RECOMMENDED]
    assert hidden(state, AUTHOR, (1, 3)) == [Hidden(0)] * 2


def test_every_known_label_has_a_meaning_and_the_hash_of_events():
    meant = labels.UNSAFE | labels.FOR_FOLLOWERS | labels.NOT_RECOMMENDED | labels.SENSITIVE
    for bit, name in enumerate(KNOWN):
        assert int(meant) >> bit & 1, name
        assert label_hash(name) == text_hash(name) == text_hash(name.upper())


def test_a_label_without_room_hides_its_tweet_and_a_tweet_that_leaves_gives_its_room_back():
    state = EngineState(RoomsConfig(tweet_store=TweetStoreConfig(tweets_max=2, labels_max=1)))
    for tweet in (1, 2):
        create(state, tweet)
    label(state, 1, "something else")
    label(state, 2, "NsfwHighPrecision")
    assert hidden(state, STRANGER, (1, 2)) == [Hidden(0), Hidden.UNSAFE_LABEL]
    assert state.tweet_store.counters()["labels_dropped_full"] == 1
    create(state, 3)  # evicts 1
    label(state, 3, "Abusive")
    assert hidden(state, STRANGER, (2, 3)) == [Hidden.UNSAFE_LABEL, Hidden.LABEL_NOT_RECOMMENDED]
    state.check()
    create(state, 4)  # evicts 2
    assert hidden(state, STRANGER, (3, 4)) == [Hidden.LABEL_NOT_RECOMMENDED, Hidden(0)]
    state.check()


def test_labels_without_a_meaning_are_bounded_per_tweet():
    state = make_state()
    for number in range(20):
        label(state, 1, f"label {number}")
    label(state, 1, "Spam")
    create(state, 1)
    assert hidden(state, STRANGER, (1,)) == [Hidden.UNSAFE_LABEL]
    assert state.tweet_store.counters()["labels_others_dropped"] == 12
    state.check()
