"""The catalogue of connector recipes: data, no code."""
