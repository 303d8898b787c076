"""How good feeds are: recordings played through the engine, and measures of ranked lists."""
