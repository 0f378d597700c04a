"""Judges of auxiliary anomalies: which are realistic and distinguishable, which to keep, and why."""
