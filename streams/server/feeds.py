"""From a client's frame to the engine's request, and from the request to a feed; websocket and HTTP share this."""

import asyncio
import time
from collections.abc import Callable, Sequence
from typing import Final, NamedTuple, TypeVar

import msgspec

from config.serving import ServingConfig
from engine.errors import BadCursorError
from engine.feed import FEEDS, Explain, Feed, Product, Request, seed_of
from streams.events.units import unit_of
from streams.live.service import FeedService
from streams.server.error_names import ProtocolError, name_error
from streams.server.frames import CURSOR_CHARS_MAX, FeedFrame, SubscribeFrame, parse_id, parse_ids
from streams.server.intake import EventIntake
from streams.server.metrics import ServingMetrics

T = TypeVar("T")

LIMIT_DEFAULT: Final = 20
#: By name; to call an enumeration with a name takes much longer.
_PRODUCTS: Final = {product.value: product for product in Product}
_EXPLAINS: Final = {explain.value: explain for explain in Explain}
#: How far ahead of the server's clock a request's own time may be.
TIME_AHEAD_MS_MAX: Final = 300_000


class Terms(NamedTuple):
    """What a subscription asks for. ``entries``: single entries are pushed between whole feeds."""

    product: Product
    limit: int
    interval_s: float
    explain: Explain
    entries: bool


class Feeds:
    """Answers feed requests through the service, with readiness, impressions and metrics.

    ``new_id`` makes unique 64-bit ids: request ids that the client did not choose.
    """

    def __init__(
        self,
        config: ServingConfig,
        service: FeedService,
        intake: EventIntake,
        metrics: ServingMetrics,
        new_id: Callable[[], int],
    ) -> None:
        self._config = config
        self._service = service
        self._intake = intake
        self._metrics = metrics
        self._new_id = new_id
        self._was_ready = False

    def build(self, frame: FeedFrame, viewer_id: int) -> tuple[Request, tuple[int, ...]]:
        """The engine's request and the tweets the viewer has seen since the last one.

        Tweets just seen are excluded too: their impressions are applied only after this feed was computed.

        Raises:
            ProtocolError: ``bad_frame`` or ``bad_request``.
            BadCursorError: a cursor too long to be one.
        """
        exclude = parse_ids(frame.exclude, "exclude")
        seen = parse_ids(frame.seen, "seen")
        _within(len(exclude), "exclude", 0, self._config.exclude_max, "ids")
        _within(len(seen), "seen", 0, self._config.seen_max, "ids")
        product = _product(frame.product)
        if seen and product not in FEEDS:
            raise ProtocolError("bad_request", f"seen: {product} has no tweets")
        if frame.cursor is not None and len(frame.cursor) > CURSOR_CHARS_MAX:
            raise BadCursorError("the cursor is damaged")
        now_ms = self._service.now_ms()
        if frame.time_ms is not None:
            check_time(frame.time_ms)
            _within(frame.time_ms, "time_ms", 1, now_ms + TIME_AHEAD_MS_MAX, "ms")
        time_ms = now_ms if frame.time_ms is None else frame.time_ms
        request = Request(
            viewer_id=viewer_id,
            request_id=self._new_id() if frame.request_id is None else parse_id(frame.request_id, "request_id"),
            time_ms=time_ms,
            seed=seed_of(viewer_id, time_ms) if frame.seed is None else parse_id(frame.seed, "seed", least=0),
            product=product,
            limit=self._limit(frame.limit),
            cursor=frame.cursor,
            exclude=tuple(dict.fromkeys(exclude + seen)) if seen else exclude,
            explain=_explain(frame.explain),
        )
        return request, seen

    def build_subscription(self, frame: SubscribeFrame) -> Terms:
        """The terms of a subscription.

        Raises:
            ProtocolError: ``bad_request``.
        """
        explain = _explain(frame.explain)
        if explain is Explain.ALL:
            raise ProtocolError("bad_request", "explain: a subscription explains none or entries")
        interval_ms = self._config.push_interval_ms_default if frame.interval_ms is None else frame.interval_ms
        _within(interval_ms, "interval_ms", self._config.push_interval_ms_min, 86_400_000, "ms")
        product, entries = _product(frame.product), frame.pushes == "entries"
        if product not in FEEDS:
            raise ProtocolError("bad_request", f"product: {product} is asked for, not pushed")
        if frame.pushes not in ("feed", "entries"):
            raise ProtocolError("bad_request", "pushes: feed or entries")
        if entries and (product is not Product.FOLLOWING or explain is not Explain.NONE):
            raise ProtocolError("bad_request", "pushes: entries are pushed of following, without explanations")
        return Terms(product, self._limit(frame.limit), interval_ms / 1000, explain, entries)

    def push_request(self, viewer_id: int, product: Product, limit: int, explain: Explain) -> Request:
        """The request of a push. Its seed is that of a refresh, so that the two agree."""
        time_ms = self._service.now_ms()
        return Request(
            viewer_id=viewer_id,
            request_id=self._new_id(),
            time_ms=time_ms,
            seed=seed_of(viewer_id, time_ms),
            product=product,
            limit=limit,
            explain=explain,
        )

    def named_request(self, viewer_id: int, named: tuple[int, ...]) -> Request:
        """The request of a push of single entries."""
        request = self.push_request(viewer_id, Product.FOLLOWING, len(named), Explain.NONE)
        return msgspec.structs.replace(request, only=named)

    async def answer(self, request: Request, finish: Callable[[Feed], T], *, way: str, seen: Sequence[int] = ()) -> T:
        """Compute a feed, run ``finish`` on it on the same thread, and return the result. Counts and times the request.

        Raises:
            MurmurationError: as ``name_error`` names it.
        """
        started_s = time.perf_counter()
        result = "ok"
        try:
            self.require_ready()
            if not seen:
                return await self._service.answer(request, finish)
            answer, logged = await asyncio.gather(
                self._service.answer(request, finish),
                self._intake.seen(request.viewer_id, request.request_id, seen),
                return_exceptions=True,
            )
            if isinstance(answer, BaseException):
                raise answer
            if isinstance(logged, BaseException):
                raise logged
            return answer
        except asyncio.CancelledError:
            result = "cancelled"
            raise
        except Exception as error:
            result = name_error(error)[0]
            raise
        finally:
            self._metrics.count_feed(request.product, way, result, time.perf_counter() - started_s)

    def require_ready(self) -> None:
        """Refuse feeds until the state has caught up once. Lag later on makes feeds older, but they are served.

        Raises:
            ProtocolError: ``not_ready``.
        """
        if self._was_ready:
            return
        readiness = self._service.readiness()
        if not readiness.ready and not readiness.caught_up:
            raise ProtocolError("not_ready", readiness.reason)
        self._was_ready = True

    def _limit(self, limit: int | None) -> int:
        if limit is None:
            return min(LIMIT_DEFAULT, self._config.limit_max)
        _within(limit, "limit", 1, self._config.limit_max, "entries")
        return limit


def check_time(time_ms: int) -> None:
    """Refuse a request's time in another unit, which would silently give an answer for another time.

    Raises:
        ProtocolError: ``bad_request``.
    """
    if found := unit_of(time_ms):
        raise ProtocolError("bad_request", f"time_ms: {time_ms} looks like {found[0]}; a time is in milliseconds")


def _within(value: int, name: str, least: int, most: int, unit: str) -> None:
    if not least <= value <= most:
        raise ProtocolError("bad_request", f"{name}: {least} to {most} {unit}")


def _product(name: str) -> Product:
    product = _PRODUCTS.get(name)
    if product is None:
        raise ProtocolError("bad_request", f"product: one of {', '.join(Product)}")
    return product


def _explain(name: str) -> Explain:
    explain = _EXPLAINS.get(name)
    if explain is None:
        raise ProtocolError("bad_request", f"explain: one of {', '.join(Explain)}")
    return explain
