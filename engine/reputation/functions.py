"""The exponential and the logarithm that this room's kernels use: one place to choose them."""

from math import exp, log

__all__ = ["exp", "log"]
