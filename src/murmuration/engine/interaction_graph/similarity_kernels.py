"""The kernels that count shared neighbours, weighted or by number."""
