"""Fits models from the log, in a process of its own; scikit-learn is needed here only."""
