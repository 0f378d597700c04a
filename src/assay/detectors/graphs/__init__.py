"""Detectors of anomalous graphs: an item is a graph."""
