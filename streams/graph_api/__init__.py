"""The interaction graph's queries as callers ask them: parameters in, JSON answers out."""
