"""Data: small bundled real sets, checksummed downloads, and the folder that `ASSAY_DATA` names."""

from assay.datasets.tables import Dataset, available, load_table

__all__ = ["Dataset", "available", "load_table"]
