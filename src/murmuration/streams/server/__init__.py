"""The server: feeds over websocket and HTTP, events in, health, metrics and the page (docs/protocol.md)."""

from murmuration.streams.server.app import RunningServer, build_app, drain, start_server
from murmuration.streams.server.auth import check_serving
from murmuration.streams.server.wire import encode_feed

__all__ = ["RunningServer", "build_app", "check_serving", "drain", "encode_feed", "start_server"]
