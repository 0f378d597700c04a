"""Detectors of anomalous rows in tables, and of anomalous embeddings of anything else."""
