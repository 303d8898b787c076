"""Made-up edge lists of the graph's benchmarks: raw little-endian int64 pairs (user, tweet), in order of insertion.

Users are drawn with P ~ (rank + 50)^-0.9 and tweets with P ~ (rank + 10)^-1, independently: one user per ten edges, one
tweet per twenty-five. Ids are scattered, users below 2^48 and tweets below 2^60. Equal sizes and seeds give equal bytes
on every machine.
"""

from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

#: The list of docs/benchmarks.md: 10,000,000 edges of this seed.
SEED: Final = 20161
#: For the benchmarks of graph and recovery: they draw up to half as many distinct users by activity.
USERS_MIN: Final = 1002
_USER_BITS, _TWEET_BITS = 48, 60


def made_list(edges: int, seed: int = SEED) -> tuple[NDArray[np.uint64], NDArray[np.uint64]]:
    """Users and tweets of a list; uint64, shape (edges,) each. Takes about 100 bytes of memory per edge."""
    rng = np.random.default_rng(seed)
    users = _drawn(rng, edges, max(2000, edges // 10), 0.9, 50.0)
    tweets = _drawn(rng, edges, max(800, edges // 25), 1.0, 10.0)
    return _scattered(users, _USER_BITS, 1), _scattered(tweets, _TWEET_BITS, 777)


def write_list(path: Path, edges: int, seed: int = SEED) -> None:
    """Write ``made_list`` to a file of 16 bytes per edge, and make the folder that it is in.

    Raises:
        OSError: the file cannot be written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    np.stack(made_list(edges, seed), axis=1).astype("<i8").tofile(path)


def read_list(path: Path, users_min: int = 1) -> tuple[NDArray[np.uint64], NDArray[np.uint64]]:
    """Users and tweets of a file.

    Raises:
        OSError: the file cannot be read.
        ValueError: it is not pairs of int64, or has fewer than ``users_min`` users.
    """
    if path.stat().st_size % 16:
        raise ValueError(f"{path} is no edge list: pairs of int64 take a multiple of 16 bytes")
    pairs = np.fromfile(path, "<i8").reshape(-1, 2).astype(np.uint64)
    users = len(np.unique(pairs[:, 0]))
    if users < users_min:
        raise ValueError(f"{path} has {users} users, too few for a benchmark: at least {users_min}")
    return pairs[:, 0].copy(), pairs[:, 1].copy()


def _drawn(rng: np.random.Generator, count: int, population: int, exponent: float, offset: float) -> NDArray[np.int64]:
    """Ranks by a power law; int64, shape (count,)."""
    cumulative = np.cumsum((np.arange(population) + offset) ** -exponent)
    cumulative /= cumulative[-1]
    return np.minimum(np.searchsorted(cumulative, rng.random(count)), population - 1)


def _scattered(rank: NDArray[np.int64], bits: int, salt: int) -> NDArray[np.uint64]:
    """Ids of this width by rank: the finalizer of splitmix64."""
    x = (rank.astype(np.uint64) + np.uint64(salt)) * np.uint64(0x9E3779B97F4A7C15)
    x ^= x >> np.uint64(30)
    x *= np.uint64(0xBF58476D1CE4E5B9)
    x ^= x >> np.uint64(27)
    x *= np.uint64(0x94D049BB133111EB)
    x ^= x >> np.uint64(31)
    return x & np.uint64((1 << bits) - 1)
