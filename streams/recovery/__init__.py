"""From snapshot, journal and log to the state that was left."""
