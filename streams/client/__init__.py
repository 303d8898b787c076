"""A client of the server's websocket and HTTP API."""
