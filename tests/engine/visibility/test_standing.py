"""Who is shown whose tweets and names, by profiles: against the rule in plain Python."""

import msgspec
import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.batch import Kind, make_batch
from engine.pipeline.scratch import Buffers
from engine.profiles.bits import ProfileBit, ProfileState, Standing
from engine.profiles.state import ProfilesConfig
from engine.rooms import small_rooms
from engine.state import EngineState
from engine.visibility.judge import Hidden, Visibility
from tests.oracles.profiles import PlainProfile, PlainProfiles

T0 = 1_760_000_000_000
PEOPLE = np.arange(1, 8, dtype=np.uint64)
#: Tweets 11 to 17 by 1 to 7; 21 to 27 by 2 retweet them, 31 to 37 by 2 quote them, 41 to 47 by 2 answer them; 51 to 57
#: by 3 retweet the retweets. So all but the first seven are somebody else's.
TWEETS = [
    (start + person, author or person, start, person)
    for start, author in ((10, 0), (20, 2), (30, 2), (40, 2), (50, 3))
    for person in PEOPLE.tolist()
]
REFERENCE = {20: "tweet_retweeted_id", 30: "tweet_quoted_id", 40: "tweet_reply_to_id", 50: "tweet_retweeted_id"}
BITS = st.sampled_from(
    [
        0,
        ProfileBit.VERIFIED,
        ProfileBit.PROTECTED,
        ProfileBit.NOT_RECOMMENDED,
        ProfileBit.PROTECTED | ProfileBit.NOT_RECOMMENDED,
        ProfileState.SUSPENDED << ProfileBit.STATE_SHIFT,
        ProfileState.DEACTIVATED << ProfileBit.STATE_SHIFT,
    ]
)


def apply(state, **columns):
    n = len(columns["kind"])
    state.apply(make_batch(id=np.arange(n) + 1000 * (1 + state.version), timestamp_ms=T0 + np.arange(n), **columns))


def state_of(profiles, follows, users_max=64):
    state = EngineState(msgspec.structs.replace(small_rooms(1 << 7), profiles=ProfilesConfig(users_max=users_max)))
    references = {name: [0] * len(TWEETS) for name in set(REFERENCE.values())}
    for at, (_, _, start, person) in enumerate(TWEETS):
        if start > 10:
            references[REFERENCE[start]][at] = person + (20 if start == 50 else 10)
    authors = [author for _, author, *_ in TWEETS]
    apply(
        state, kind=[Kind.CREATE] * len(TWEETS), user_id=authors, author_id=authors,
        subject_id=[tweet for tweet, *_ in TWEETS], payload=range(len(TWEETS)), **references,
    )  # fmt: skip
    users, bits = [user for user, _ in profiles], [bits for _, bits in profiles]
    apply(state, kind=[Kind.USER] * len(users), user_id=users, context_id=bits)
    who, whom = [a for a, _ in follows], [b for _, b in follows]
    apply(state, kind=[Kind.FOLLOW] * len(who), user_id=who, subject_id=whom)
    return state


def against(standing, is_close):
    """The names of what a standing says against showing the person."""
    names = set()
    if standing & Standing.SUSPENDED:
        names.add("AUTHOR_SUSPENDED")
    if standing & Standing.DEACTIVATED:
        names.add("AUTHOR_DEACTIVATED")
    if not is_close:
        names |= {"AUTHOR_UNKNOWN"} if standing & Standing.UNKNOWN else set()
        names |= {"AUTHOR_PROTECTED"} if standing & Standing.PROTECTED else set()
        names |= {"OPTED_OUT"} if standing & Standing.NOT_RECOMMENDED else set()
    return names


@settings(deadline=None, max_examples=60)
@given(
    st.lists(st.tuples(st.integers(1, 7), BITS), max_size=12),
    st.sets(st.tuples(st.integers(1, 7), st.integers(1, 7)), max_size=12),
    st.integers(0, 7),
    st.sampled_from([3, 64]),
)
def test_who_sees_whom_is_what_the_rule_says(profiles, follows, viewer, users_max):
    follows = {(who, whom) for who, whom in follows if who != whom}
    state = state_of(profiles, sorted(follows), users_max)
    plain = PlainProfiles(users_max)
    for at, (user, bits) in enumerate(profiles):
        plain.update(user, PlainProfile(bits, 0, T0 + at))

    def of(person):
        return against(plain.standing(person), person == viewer or (viewer, person) in follows)

    visibility = Visibility(state)
    ids = np.array([tweet for tweet, *_ in TWEETS], np.uint64)
    judged = visibility.judge(viewer, ids, Buffers())
    for (tweet, author, start, person), hidden in zip(TWEETS, judged.hidden.tolist(), strict=True):
        expected = of(author) | (of(2) if start == 50 else set())
        # What quotes or answers somebody recommends somebody else.
        expected |= of(person) - ({"OPTED_OUT"} if start in (30, 40) else set())
        if start == 50 and "OPTED_OUT" not in of(3) | of(person):
            expected -= {"OPTED_OUT"}  # nor does the link between recommend its author
        assert {bit.name for bit in Hidden if hidden & bit} == expected, tweet
    named = {person for person, ok in zip(PEOPLE.tolist(), visibility.may_name(viewer, PEOPLE), strict=True) if ok}
    assert named == {person for person in PEOPLE.tolist() if not of(person)}
