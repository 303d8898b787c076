"""Which tweets a viewer may see, and which people may be named to the viewer: judged in one place."""
