"""The picture in README.md: the top of the report that `assay demo` writes, photographed by Chromium.

    python tools/screenshots.py [--data NAME]

Needs playwright and a Chromium (CHROMIUM names it; by default what is on the PATH).
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from playwright.sync_api import sync_playwright

IMAGE = Path(__file__).parent.parent / "docs" / "images" / "report.png"
WIDTH, MOST_BYTES = 1200, 300_000


def chromium():
    names = ("chromium", "chromium-browser", "google-chrome")
    found = os.environ.get("CHROMIUM") or next((path for path in map(shutil.which, names) if path), None)
    if found is None:
        raise SystemExit("no Chromium found: install it, or let CHROMIUM name it")
    return found


def photograph(page_path, image):
    """Photograph the page from its top to the end of the section with the shares."""
    with sync_playwright() as browsers:
        browser = browsers.chromium.launch(executable_path=chromium(), args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": WIDTH, "height": 1200}, color_scheme="light")
        page.goto(page_path.as_uri())
        box = page.locator("section .chart").nth(1).bounding_box()
        height = round(box["y"] + box["height"]) + 6
        page.screenshot(path=image, clip={"x": 0, "y": 0, "width": WIDTH, "height": height}, full_page=True)
        browser.close()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", help="bundled table (default: that of `assay demo`)")
    chosen = parser.parse_args().data
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "demo"
        command = [sys.executable, "-m", "assay", "demo", "--out", str(out), "--quiet"]
        subprocess.run(command + (["--data", chosen] if chosen else []), check=True)
        IMAGE.parent.mkdir(parents=True, exist_ok=True)
        photograph(out / "report.html", IMAGE)
    size = IMAGE.stat().st_size
    if size > MOST_BYTES:
        raise SystemExit(f"{IMAGE} has {size} bytes, at most {MOST_BYTES}")
    print(f"{IMAGE}: {size} bytes")
