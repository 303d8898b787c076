"""Event logs: ``open_log("sqlite:///path")`` or ``open_log("kafka://host:port")``."""
