"""Who is who: the part of each person's profile that safety and ranking read."""
