"""Who to follow: people whom a viewer may want to follow, each with the reasons."""
