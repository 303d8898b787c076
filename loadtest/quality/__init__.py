"""How good feeds are: recordings replayed through the engine, and measures of ranked lists."""
