"""A synthetic society with ground truth, feed clients and benchmarks."""
