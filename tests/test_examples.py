"""Every numbered example runs in a fresh process, silently but for what it says it prints."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = sorted((Path(__file__).parent.parent / "examples").glob("[0-9]*.py"))

#: What a reader should see; the numbers behind it are checked by other tests.
SAYS = {
    "01_rank_auxiliary": "A real anomaly outranks a useless row",
    "02_suggest_generators": "more rows like the best batch",
    "03_threshold_without_contamination": "FalseAlarmRate(.01)",
    "04_train_with_kept": "the kept ones added",
    "05_embed_images": "shuffled pixels",
    "06_save_and_load": "refused:",
}


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_the_example_runs(path, tmp_path):
    source = path.read_text(encoding="utf-8")
    assert source.count("\n") < 60
    environment = os.environ | {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-W", "error", path],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert SAYS[path.stem] in done.stdout
    assert done.stderr == ""
    assert not any(tmp_path.iterdir()), "an example leaves nothing behind"


def test_no_example_is_missing():
    assert [path.stem for path in EXAMPLES] == list(SAYS)
