"""A world of people and tweets in plain dictionaries, and who may see what in it: ``visible(viewer, tweet)``.

It is told events as they stand on the wire, in any order, and keeps what is true whatever the order: of two acts that
contradict each other the one with the later time holds, and a person counts once. (Times of such acts must differ.)
"""

import unicodedata
from typing import Any

Event = dict[str, Any]
REFERENCES = ("retweeted_id", "quoted_id", "reply_to_id", "conversation_id")
#: Acts by which they are undone.
UNDO = {
    "unfollow": "follow", "unblock": "block", "unmute": "mute", "unfavorite": "favorite", "unretweet": "retweet",
    "undo_not_interested": "not_interested", "undo_see_fewer": "see_fewer", "unreply": "reply",
    "unquote": "quote", "unbookmark": "bookmark",
    "unmute_word": "mute_word", "unlabel": "label", "undismiss": "dismiss",
    "unmute_retweets": "mute_retweets", "uncontact": "contact",
}  # fmt: skip
#: Labels that hide a tweet from everybody but its author.
HIDING_LABELS = ("spam", "pdna", "bounce")
ENGAGING = ("favorite", "retweet", "reply", "quote", "bookmark", "share")
REJECTING = ("not_interested", "see_fewer", "report")


class World:
    """What is true after all events that were told."""

    def __init__(self) -> None:
        self.creates: dict[int, Event] = {}
        self.edits: dict[int, Event] = {}
        self.deletes: set[tuple[int, int]] = set()
        #: (act, who, about whom or what) → (time, whether it stands)
        self.acts: dict[tuple[Any, ...], tuple[int, bool]] = {}
        self.profiles: dict[int, Event] = {}
        self.follows: list[Event] = []

    def tell(self, event: Event) -> None:
        """Take an event in."""
        kind, time_ms = event["type"], event["timestamp_ms"]
        if kind == "create":
            self.creates.setdefault(event["tweet_id"], event)
        elif kind == "delete":
            self.deletes.add((event["tweet_id"], event["author_id"]))
        elif kind == "edit":
            self._keep(self.edits, (event["tweet_id"], event["author_id"]), event)
        elif kind == "user":
            self._keep(self.profiles, event["user_id"], event)
        else:
            about = event.get("tweet_id") or event.get("target_id")
            if kind in ("label", "unlabel"):
                key: tuple[Any, ...] = ("label", about, folded(event["label"]))
            elif kind in ("mute_word", "unmute_word"):
                key = ("mute_word", event["user_id"], folded(event["word"]))
            else:
                key = (UNDO.get(kind, kind), event["user_id"], about)
            if kind in ("follow", "unfollow", "block", "unblock"):
                self.follows.append(event)
            if time_ms >= self.acts.get(key, (0, False))[0]:
                self.acts[key] = (time_ms, kind not in UNDO)

    @staticmethod
    def _keep(newest: dict[Any, Event], key: Any, event: Event) -> None:
        if key not in newest or event["timestamp_ms"] >= newest[key]["timestamp_ms"]:
            newest[key] = event

    # What stands

    def stands(self, *act: Any) -> bool:
        """Whether an act, such as ("follow", one, other), was done and not undone later."""
        return self.acts.get(act, (0, False))[1]

    def follows_now(self, one: int, other: int) -> bool:
        """Whether one follows the other. A block by either ends and forbids that; an unblock brings nothing back."""
        follows, blocks = False, {one: False, other: False}
        for event in sorted(self.follows, key=lambda event: event["timestamp_ms"]):
            who, whom, kind = event["user_id"], event["target_id"], event["type"]
            if {who, whom} == {one, other} and kind in ("block", "unblock"):
                blocks[who] = kind == "block"
            elif (who, whom) == (one, other):
                follows = kind == "follow"
            follows = follows and not any(blocks.values())
        return follows

    def known(self, tweet: int) -> bool:
        """Created, and not deleted by its author."""
        return tweet in self.creates and (tweet, self.author(tweet)) not in self.deletes

    def author(self, tweet: int) -> int:
        author: int = self.creates[tweet]["author_id"]
        return author

    def content(self, tweet: int) -> Event:
        """A tweet as its author edited it last."""
        return self.edits.get((tweet, self.author(tweet)), self.creates[tweet])

    def original(self, tweet: int) -> int:
        """The tweet at the end of a chain of retweets; 0 where a link is missing or the chain is a circle."""
        passed: list[int] = []
        while tweet not in passed and self.known(tweet):
            carried = self.creates[tweet].get("retweeted_id")
            if not carried:
                return tweet
            passed.append(tweet)
            tweet = carried
        return 0

    def stands_for(self, tweet: int) -> list[int]:
        """The tweet and everything that it, and they in turn, retweet, quote and answer."""
        found, at = [tweet], 0
        while at < len(found):
            event = self.creates.get(found[at], {})
            found += [r for name in REFERENCES if (r := event.get(name)) and r not in found]
            at += 1
        return found

    # Who may see what

    def nameable(self, viewer: int, person: int) -> bool:
        """Whether a person may be named to a viewer."""
        if person == viewer:
            return self.state(person) == "active"
        for kind in ("block", "mute"):
            if self.stands(kind, viewer, person) or self.stands(kind, person, viewer):
                return False
        protected = self.profiles.get(person, {}).get("protected", False)
        return self.state(person) == "active" and (not protected or self.follows_now(viewer, person))

    def state(self, person: int) -> str:
        state: str = self.profiles.get(person, {}).get("state", "active")
        return state

    def mutes_words_of(self, viewer: int, tweet: int) -> bool:
        """Whether a tweet has a word, or a hashtag, that the viewer muted."""
        content = self.content(tweet)
        tags = (f"#{tag}" for tag in self.creates[tweet].get("hashtags", ()))
        words = " ".join([content.get("text", ""), *tags])
        return any(self.stands("mute_word", viewer, word) for word in split(words))

    def visible(self, viewer: int, tweet: int) -> bool:
        """Whether the viewer may see the tweet: all that it stands for is known, by people who may be named, and has
        neither a label nor a word that hides it. One's own labels and words hide nothing of one's own."""
        if not self.known(tweet) or not self.original(tweet):
            return False
        for part in self.stands_for(tweet):
            if not self.known(part) or (self.creates[part].get("retweeted_id") and not self.original(part)):
                return False
            author = self.author(part)
            if not self.nameable(viewer, author):
                return False
            if author != viewer and any(self.stands("label", part, label) for label in HIDING_LABELS):
                return False
            if self.author(tweet) != viewer and self.mutes_words_of(viewer, part):
                return False
        return True

    # What a viewer did

    def did(self, viewer: int, kinds: tuple[str, ...], tweet: int) -> bool:
        """Whether the viewer did any of this to a tweet that is the same as this one."""
        original = self.original(tweet)
        return any(
            stands and act[0] in kinds and act[1] == viewer and self.original(act[2]) == original
            for act, (_, stands) in self.acts.items()
        )

    def retweets_unwanted(self, viewer: int, tweet: int) -> bool:
        """Whether a tweet is a retweet by somebody whose retweets the viewer mutes."""
        return self.original(tweet) != tweet and self.stands("mute_retweets", viewer, self.author(tweet))

    def candidates_of_following(self, viewer: int) -> dict[int, set[int]]:
        """Per original, the tweets of followees and of the viewer of which Following shows exactly one."""
        groups: dict[int, set[int]] = {}
        for tweet in self.creates:
            who = self.author(tweet) if self.known(tweet) else 0
            wanted = who and (who == viewer or self.follows_now(viewer, who)) and self.visible(viewer, tweet)
            if wanted and not self.retweets_unwanted(viewer, tweet):
                groups.setdefault(self.original(tweet), set()).add(tweet)
        return groups

    def answers_a_stranger(self, viewer: int, tweet: int) -> bool:
        """Whether a tweet, or what it carries, answers somebody whom the viewer does not follow."""
        for part in (tweet, self.original(tweet)):
            if answered := self.creates[part].get("reply_to_id"):
                people = {self.author(at) for at in self.stands_for(answered)}
                if any(p != viewer and not self.follows_now(viewer, p) for p in people):
                    return True
        return False


def folded(text: str) -> str:
    """A word as it is compared: without compatibility forms, case and the dot of a Turkish capital."""
    plain = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold())
    return plain.replace("i̇", "i")


def split(text: str) -> list[str]:
    """The words of a text, and its hashtags with their sign: a muted ``#flock`` means the hashtag alone."""
    spaced = "".join(c if c.isalnum() or c == "#" else " " for c in folded(text))
    return spaced.split() + spaced.replace("#", " ").split()
