"""Feeds as answers: the frame and the feed's part of the served record, each made once, on the reader's thread."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import structlog

from engine.feed import Explain, Feed, Request
from streams.events.served_feed import EncodedFeed, ServedPart
from streams.live.service import FeedService
from streams.server.drop_words import drop_words
from streams.server.encode import feed_frame

_log = structlog.get_logger(__name__)


class Answer(NamedTuple):
    """A feed as it is sent (``frame``) and as it is recorded (``served``; None: it cannot be recorded)."""

    frame: bytes
    served: ServedPart | None


class Answers:
    """Makes the functions that turn feeds into answers. Any thread may call these functions."""

    def __init__(self, service: FeedService) -> None:
        self._service = service

    def finish(self, request: Request) -> Callable[[Feed], Answer]:
        """A function from the request's feed to its answer."""
        history, incarnation = self._service.origin

        def make(feed: Feed) -> Answer:
            encoded = EncodedFeed(feed)
            explains = request.explain is Explain.ALL
            in_words = drop_words(feed, self._service.home_mixer) if explains else None
            frame = feed_frame(encoded, with_dropped=explains, in_words=in_words)
            return Answer(frame, part_of(encoded, request, history, incarnation))

        return make

    def finish_push(self, request: Request, is_new: Callable[[Feed], bool]) -> Callable[[Feed], "PushedFeed"]:
        """A function from a subscription's feed to a feed that can be pushed, encoded at once only if ``is_new``."""
        history, incarnation = self._service.origin

        def make(feed: Feed) -> PushedFeed:
            pushed = PushedFeed(feed, request, history, incarnation)
            if is_new(feed):
                pushed.prepare()
            return pushed

        return make

    def finish_named(self, requests: Sequence[Request]) -> Callable[[Sequence[Feed]], list["PushedFeed"]]:
        """A function from the requests' feeds, of which most have the same entries, to feeds that can be pushed."""
        history, incarnation = self._service.origin

        def make(feeds: Sequence[Feed]) -> list[PushedFeed]:
            made: list[PushedFeed] = []
            for request, feed in zip(requests, feeds, strict=True):
                made.append(PushedFeed(feed, request, history, incarnation, made[-1] if made else None))
                made[-1].prepare()
            return made

        return make


class PushedFeed:
    """A feed that waits to be pushed. ``like``: another one, perhaps with the same entries."""

    def __init__(
        self, feed: Feed, request: Request, history: str, incarnation: int, like: "PushedFeed | None" = None
    ) -> None:
        self.encoded: EncodedFeed = EncodedFeed(feed, None if like is None else like.encoded)
        self._request = request
        self._history = history
        self._incarnation = incarnation
        self._served: ServedPart | None = None
        self._prepared = False

    def prepare(self) -> None:
        """Encode the feed, unless that was done before."""
        if not self._prepared:
            self._prepared = True
            self._served = part_of(self.encoded, self._request, self._history, self._incarnation)

    @property
    def served(self) -> ServedPart | None:
        """The feed's part of the served record (None: it cannot be recorded)."""
        self.prepare()
        return self._served


def part_of(encoded: EncodedFeed, request: Request, history: str, incarnation: int) -> ServedPart | None:
    """The feed's part of the served record; None, after logging the error, where it cannot be made."""
    try:
        return encoded.served_part(request, history=history, incarnation=incarnation)
    except Exception:  # a defect of the record must not take the feed from its viewer
        _log.exception("a served feed cannot be recorded", request_id=request.request_id, version=encoded.feed.version)
        return None
