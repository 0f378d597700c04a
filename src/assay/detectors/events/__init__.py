"""Detectors of anomalous event sequences: an item is a sequence."""
