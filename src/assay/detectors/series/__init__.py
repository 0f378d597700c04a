"""Detectors of anomalies in time series: an item is a time step.

`common.py` holds what they share: missing steps, the reach of a score, windows and their way back to steps.
"""
