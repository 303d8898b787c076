"""A simulated society: people who follow, write, read and react."""
