"""What every process starts with: its event loop and its metrics registry."""

import asyncio
import os

from prometheus_client import CollectorRegistry, GCCollector, PlatformCollector, ProcessCollector


def new_registry() -> CollectorRegistry:
    """A metrics registry with the figures of the process (CPU, memory, garbage collections)."""
    registry = CollectorRegistry()
    ProcessCollector(registry=registry)
    PlatformCollector(registry=registry)
    GCCollector(registry=registry)
    return registry


def new_event_loop() -> asyncio.AbstractEventLoop:
    """uvloop where it runs, else asyncio's own."""
    if os.name == "nt":
        return asyncio.new_event_loop()
    import uvloop

    return uvloop.new_event_loop()
