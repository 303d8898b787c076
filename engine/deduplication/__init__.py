"""Exact de-duplication of events by (person, kind, subject, id) over the last ``events_max`` events.

An id distinguishes the events of one person, of one kind, about one subject. So nobody can suppress another person's
event by choosing its id, and a tweet's create and delete may have the same id. All four values are kept and compared:
distinct events are never taken for duplicates, whatever their hashes are.

A ring holds the events in arrival order; an open-addressing table over the ring's positions answers "seen before?" in
about one cache miss.

Rules: a duplicate is dropped and does not renew the first event's place; id 0 (an event without id) is never a
duplicate and takes no place; rows derived from a create or edit (mentions, hashtags …) share the fate of the row before
them, even if a batch ends in between. A repetition that comes after its event was forgotten is applied again.

Fair shares: a person has at most a 16th of the ring (``share_of``), counted by a hash of the id. Further events go to
one of 64 small rings, which the id chooses, each a 1,024th of the ring: there they push out only what others like that
did. So nobody makes the room forget what others did by publishing very many events. What names no person (labels and
models) has one share together.

Memory, with n = events_max + the small rings: ``33 B · n + 8 B · table + 4 B · groups + 4 KiB``; table = the power of
two at or above ``1.5 · n``, groups = 1,024 to 16,384.
"""
