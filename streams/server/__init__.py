"""The server: feeds over websocket and HTTP, events in, health, metrics and the page (docs/protocol.md)."""

from streams.server.application import RunningServer, build_app, drain, start_server
from streams.server.auth import check_serving
from streams.server.encode import encode_feed

__all__ = ["RunningServer", "build_app", "check_serving", "drain", "encode_feed", "start_server"]
