"""Models that came through the log: two halves of preallocated bytes each, swapped when a version is committed."""
