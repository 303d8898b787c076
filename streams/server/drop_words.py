"""Why tweets and people are left out, in words: two tables for the answer, and so for command line and page."""

from collections import Counter
from collections.abc import Mapping
from typing import Any, Final, NamedTuple

from engine.feed import Feed, Product
from engine.home_mixer.config import HomeMixerConfig

_UNITS: Final = ((3_600_000, "h"), (60_000, "min"), (1000, "s"))


class Words(NamedTuple):
    """What comes after "1 tweet" ("1 person") and after "2 tweets" ("2 people"). ``{age}`` stands for the greatest age
    of For You."""

    one: str
    many: str


#: By reason (docs/feeds.md): every filter, and what narrowing, selection and the last look leave out.
WORDS: Final[Mapping[str, Words]] = {
    "unhydrated": Words("is deleted, or not known here", "are deleted, or not known here"),
    "blocked": Words(
        "involves somebody whom the viewer blocks, or who blocks the viewer",
        "involve people whom the viewer blocks, or who block the viewer",
    ),
    "muted": Words(
        "involves somebody whom the viewer mutes, or who mutes the viewer",
        "involve people whom the viewer mutes, or who mute the viewer",
    ),
    "muted_retweets": Words(
        "is a retweet by somebody whose retweets the viewer mutes",
        "are retweets by people whose retweets the viewer mutes",
    ),
    "author_suspended": Words("involves a suspended account", "involve suspended accounts"),
    "author_deactivated": Words(
        "involves an account that was deactivated or is being erased",
        "involve accounts that were deactivated or are being erased",
    ),
    "author_unknown": Words(
        "involves an account whose profile found no room", "involve accounts whose profiles found no room"
    ),
    "author_protected": Words(
        "involves a protected account that the viewer does not follow",
        "involve protected accounts that the viewer does not follow",
    ),
    "opted_out": Words(
        "is from somebody who does not want to be recommended", "are from people who do not want to be recommended"
    ),
    "context_missing": Words(
        "answers or quotes a tweet that is deleted or not known here",
        "answer or quote tweets that are deleted or not known here",
    ),
    "unsafe_label": Words(
        "has a label that hides it from all but its author", "have a label that hides them from all but their authors"
    ),
    "label_for_followers": Words(
        "has a label that leaves it to its author's followers",
        "have a label that leaves them to the author's followers",
    ),
    "label_not_recommended": Words(
        "has a label that keeps it from being recommended", "have a label that keeps them from being recommended"
    ),
    "muted_word": Words("has a word that the viewer muted", "have words that the viewer muted"),
    "sensitive_media": Words(
        "has sensitive media, which the viewer hides", "have sensitive media, which the viewer hides"
    ),
    "own": Words("is the viewer's own", "are the viewer's own"),
    "too_old": Words("is older than {age}", "are older than {age}"),
    "reply_to_stranger": Words(
        "answers somebody whom the viewer does not follow", "answer people whom the viewer does not follow"
    ),
    "reply_within_conversation": Words(
        "answers an answer of somebody whom the viewer does not follow",
        "answer answers of people whom the viewer does not follow",
    ),
    "excluded": Words("is excluded by the request", "are excluded by the request"),
    "already_shown": Words("was on an earlier page", "were on an earlier page"),
    "earlier_page": Words("belongs on an earlier page", "belong on an earlier page"),
    "seen": Words("was seen by the viewer before", "were seen by the viewer before"),
    "served": Words("was shown just before", "were shown just before"),
    "engaged": Words(
        "already has a like, retweet, reply, quote, share or bookmark by the viewer",
        "already have a like, retweet, reply, quote, share or bookmark by the viewer",
    ),
    "rejected": Words(
        "was rejected by the viewer (not interested, see fewer, a report)",
        "were rejected by the viewer (not interested, see fewer, a report)",
    ),
    "author_rejected": Words(
        "is from an author of whom the viewer wants to see less or whom the viewer reported",
        "are from authors of whom the viewer wants to see less or whom the viewer reported",
    ),
    "duplicate": Words("is a retweet of a tweet that is here already", "are retweets of tweets that are here already"),
    "narrowed": Words("ranked too low to be scored", "ranked too low to be scored"),
    "not_selected": Words("ranked lower than what is shown", "ranked lower than what is shown"),
    "reply_without_root": Words(
        "answers a conversation whose beginning is not in this feed",
        "answer conversations whose beginning is not in this feed",
    ),
    "unsafe": Words("did not pass the last safety check", "did not pass the last safety check"),
}


#: The same of people, by reason (docs/who_to_follow.md).
WORDS_OF_PEOPLE: Final[Mapping[str, Words]] = {
    "blocked": Words("blocks the viewer, or is blocked", "block the viewer, or are blocked"),
    "muted": Words("mutes the viewer, or is muted", "mute the viewer, or are muted"),
    "author_suspended": Words("is suspended", "are suspended"),
    "author_deactivated": Words(
        "has deactivated the account, or is being erased", "have deactivated their accounts, or are being erased"
    ),
    "author_unknown": Words("has a profile that found no room", "have profiles that found no room"),
    "author_protected": Words("has a protected account", "have protected accounts"),
    "opted_out": Words("does not want to be recommended", "do not want to be recommended"),
    "own": Words("is the viewer", "are the viewer"),
    "already_followed": Words("is followed already", "are followed already"),
    "dismissed": Words("was dismissed by the viewer", "were dismissed by the viewer"),
    "reported": Words("was reported, or reported the viewer", "were reported, or reported the viewer"),
    "unfollowed": Words("was unfollowed lately", "were unfollowed lately"),
    "rejected": Words("was rejected by the viewer lately", "were rejected by the viewer lately"),
    "excluded": Words("is excluded by the request", "are excluded by the request"),
    "fatigued": Words("was suggested often enough", "were suggested often enough"),
    "not_selected": Words("ranked lower than who is shown", "ranked lower than who is shown"),
    "unsafe": Words("did not pass the last safety check", "did not pass the last safety check"),
}


def drop_words(feed: Feed, config: HomeMixerConfig) -> list[dict[str, Any]]:
    """The dropped candidates of a feed by reason, most first: ``filter`` (the reason), ``count``, and ``words``, which
    is both as a sentence (``1 tweet is older than 48 h``)."""
    counts = Counter(candidate.filter for candidate in feed.dropped)
    age, of_people = span_words(config.for_you.age_ms_max), feed.product is Product.WHO_TO_FOLLOW
    return [
        {"filter": reason, "count": count, "words": _sentence(reason, count, age, of_people=of_people)}
        for reason, count in sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    ]


def _sentence(reason: str, count: int, age: str, *, of_people: bool) -> str:
    words = (WORDS_OF_PEOPLE if of_people else WORDS)[reason]
    one, many = ("person", "people") if of_people else ("tweet", "tweets")
    return f"1 {one} {words.one.format(age=age)}" if count == 1 else f"{count:,} {many} {words.many.format(age=age)}"


def span_words(span_ms: int) -> str:
    """A span of time in the largest unit that divides it: ``48 h``, ``90 min``, ``1500 ms``."""
    for unit_ms, unit in _UNITS:
        if span_ms % unit_ms == 0:
            return f"{span_ms // unit_ms} {unit}"
    return f"{span_ms} ms"
