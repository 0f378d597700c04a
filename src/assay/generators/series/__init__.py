"""Makers of auxiliary anomalies for windows of series: one file a published family, `common.py` what they share."""
