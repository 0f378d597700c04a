"""Detectors of anomalous sets and of the members that do not belong: an item is a set, its order means nothing."""
