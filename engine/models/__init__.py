"""Models that came through the log: two preallocated halves per model, swapped when a version is committed."""
