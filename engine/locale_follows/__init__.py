"""Who is followed lately, by the language and country of those who follow."""
