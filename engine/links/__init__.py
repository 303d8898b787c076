"""Address books, and whose retweets people mute: a room of state (docs/links.md)."""
