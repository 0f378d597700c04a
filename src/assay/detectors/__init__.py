"""Detectors: one folder a kind of data, one file a system."""
