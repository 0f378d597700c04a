"""Save a detector with its threshold as a folder of plain data, load it, and see a changed folder refused.

Prints the files, that the scores are the same bit for bit, and the error of a folder with one flipped byte.
"""

import tempfile
from pathlib import Path

import numpy as np

from assay import Calibrated, FalseAlarmRate, IsolationForest, load, save
from assay.core.store import StoreError
from assay.datasets import load_table

table = load_table("breastw")
normals = table.X[table.y == 0]
model = Calibrated(IsolationForest(), FalseAlarmRate(0.05), random_state=0).fit(normals)

with tempfile.TemporaryDirectory() as parent:
    folder = Path(parent) / "forest"
    save(model, folder)
    for path in sorted(folder.iterdir()):
        print(f"{path.name:20} {path.stat().st_size / 1024:6.0f} KiB")

    again = load(folder)
    same = np.array_equal(again.anomaly_score(table.X), model.anomaly_score(table.X))
    print(
        f"same scores after loading: {same}; same decisions: {(again.predict(table.X) == model.predict(table.X)).all()}"
    )

    arrays = folder / "arrays.safetensors"
    content = bytearray(arrays.read_bytes())
    content[-1] ^= 1
    arrays.write_bytes(content)
    try:
        load(folder)
    except StoreError as error:
        print(f"refused: {str(error).replace(parent, '…')}")
