"""Who may be notified of a motif: judged when it is found, and again when it is told."""
