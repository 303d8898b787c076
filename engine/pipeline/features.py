"""The schema of a feature matrix: what its columns mean, by name, kind and version.

A model is fitted to columns in an order. The schema's hash changes with every name, kind, and the order; its version
is raised by hand when a column comes to mean something else under the same name.
"""

import hashlib
from collections.abc import Iterable
from enum import StrEnum
from typing import NamedTuple


class FeatureKind(StrEnum):
    """What values a feature has: 0 or 1; whole numbers from 0; any number; a share in 0 … 1."""

    FLAG = "flag"
    COUNT = "count"
    NUMBER = "number"
    SHARE = "share"


class Feature(NamedTuple):
    """A column of the matrix. ``meaning``: one sentence for the documentation, with the unit."""

    name: str
    kind: FeatureKind
    meaning: str


class FeatureSchema(NamedTuple):
    """The columns of a product's matrix, float32, in order. ``name``: whose; ``version``: of the columns' meaning."""

    name: str
    version: int
    features: tuple[Feature, ...]

    @property
    def hash(self) -> str:
        """SHA-256 over name, version, and each column's name and kind, in order."""
        lines = [f"{self.name} {self.version}", *(f"{f.name} {f.kind}" for f in self.features)]
        return hashlib.sha256("\n".join(lines).encode()).hexdigest()

    def column(self, name: str) -> int:
        """The index of a column.

        Raises:
            KeyError: there is no such feature.
        """
        for index, feature in enumerate(self.features):
            if feature.name == name:
                return index
        raise KeyError(name)


def make_schema(name: str, version: int, groups: Iterable[tuple[Feature, ...]]) -> FeatureSchema:
    """The schema of feature groups side by side.

    Raises:
        ValueError: two features have one name.
    """
    features = tuple(feature for group in groups for feature in group)
    if len({feature.name for feature in features}) < len(features):
        raise ValueError(f"features of {name}: a name is given twice")
    return FeatureSchema(name, version, features)
