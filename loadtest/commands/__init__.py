"""The commands that loadtest adds to the command line."""
