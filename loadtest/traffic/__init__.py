"""Made-up traffic: events, viewers, servers as processes of their own."""
