"""Caches the results of functions of names (hashtags, links, language tags), bounded by bytes.

Names come from outside and may be long, so bounding their number would not bound the memory. A cache has two halves:
new names go into the younger half. When that is full it becomes the older half, and the names of the former older half
are forgotten, except those that were used again meanwhile.
"""

import sys
from collections.abc import Callable, Iterable
from typing import Final

from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

#: Bytes of a dict's slot with its int, without the text.
_ENTRY_BYTES: Final = 136

_all: list["NameCache"] = []


class NameCache:
    """A cached function of a text. Several threads may call it at once; at worst two compute the same result."""

    def __init__(self, name: str, function: Callable[[str], int], bytes_max: int) -> None:
        self.name = name
        self.bytes_max = bytes_max
        self.__doc__ = function.__doc__
        self._function = function
        self._young: dict[str, int] = {}
        self._old: dict[str, int] = {}
        self._young_bytes = self._old_bytes = 0
        _all.append(self)

    def __call__(self, text: str) -> int:
        value = self._young.get(text)
        if value is None:
            value = self._old.get(text)
            if value is None:
                value = self._function(text)
            self._keep(text, value)
        return value

    @property
    def bytes(self) -> int:
        """About how many bytes it holds."""
        return self._young_bytes + self._old_bytes

    def _keep(self, text: str, value: int) -> None:
        size = sys.getsizeof(text) + _ENTRY_BYTES
        if self._young_bytes + size > self.bytes_max // 2:
            if size > self.bytes_max // 2:
                return
            self._old, self._old_bytes = self._young, self._young_bytes
            self._young, self._young_bytes = {}, 0
        self._young[text] = value
        self._young_bytes += size


def cached(name: str, bytes_max: int) -> Callable[[Callable[[str], int]], NameCache]:
    """Make a function of a name remember its results, in at most about ``bytes_max`` bytes."""
    return lambda function: NameCache(name, function, bytes_max)


class NameCaches(Collector):
    """The bytes of every cache of names in this process."""

    def collect(self) -> Iterable[Metric]:
        family = GaugeMetricFamily(
            "murmuration_name_cache_bytes", "Bytes of a cache of names' hashes and codes", labels=("cache",)
        )
        for cache in _all:
            family.add_metric((cache.name,), cache.bytes)
        yield family
