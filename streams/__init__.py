"""Every socket, topic, file and thread: logs, decoding, the state thread, websocket, HTTP, command line."""
