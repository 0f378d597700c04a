"""Tables in and out: files of any common kind into columns, results back into the caller's own dataframe library."""

from __future__ import annotations

from typing import Any

import pyarrow as pa

from assay.core.validation import _looks_like_a_frame


def like_input(columns: dict[str, Any], like: Any) -> Any:
    """Return `columns` as a dataframe of the library of `like`; as a `pyarrow.Table` if that is no dataframe.

    A pandas index is carried over.
    """
    if not _looks_like_a_frame(like):
        return pa.table(columns)
    import narwhals.stable.v1 as nw

    frame = nw.from_native(like, eager_only=True)
    result = nw.to_native(nw.from_dict(columns, backend=nw.get_native_namespace(frame)))
    if hasattr(like, "index") and hasattr(result, "index"):
        result.index = like.index
    return result
