"""A made society: people who follow, write, read and react."""
