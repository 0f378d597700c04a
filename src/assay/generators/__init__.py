"""Makers of auxiliary anomalies: one file a kind of data."""
