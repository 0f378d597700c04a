"""Embedders: items of any kind become rows of numbers."""
