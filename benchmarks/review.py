"""Fifty reviewers at once: labels kept, and how long each waits, on SQLite and on PostgreSQL.

The server is `assay review` in a process of its own on the loopback address. Each reviewer reads the item's fragment,
thinks for half a second, judges, and gets the next one; every answer is timed. Afterwards the labels are counted in the
database after the server was killed without a word.

    python benchmarks/review.py [SECONDS]
"""

import contextlib
import http.client
import json
import random
import sys
import tempfile
import threading
import time
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np

sys.path[:0] = [str(Path(__file__).parent.parent / folder) for folder in ("proofs", "tests")]

from assay.review.guard import Signer
from assay.review.labels import LabelStore
from assay.review.project import Project
from assay.review.server import secret_of
from servers import postgres, postgres_programs, serving
from tables import write

REVIEWERS, THINKING, ITEMS = 50, 0.5, 50_000


class Reviewer(threading.Thread):
    """Looks, thinks, judges, until the time is over."""

    def __init__(self, number, address, signer, end):
        super().__init__()
        self.reviewer, self.address, self.end = f"reviewer {number}", address, end
        self.headers = {
            "Cookie": f"{signer.name_cookie}={signer.cookie(self.reviewer)}",
            "X-Assay-Form": signer.form_token(self.reviewer),
            "Content-Type": "application/json",
        }
        self.kept, self.labels, self.pages, self.failures = {}, [], [], []

    def ask(self, connection, method, path, body=None):
        start = time.perf_counter()
        connection.request(method, path, None if body is None else json.dumps(body), self.headers)
        answer = connection.getresponse()
        content = answer.read()
        if answer.status != 200:
            self.failures.append((path, answer.status, content[:200]))
        return content, time.perf_counter() - start

    def run(self):
        connection = http.client.HTTPConnection(self.address.hostname, self.address.port, timeout=60)
        item = json.loads(self.ask(connection, "GET", "/api/next")[0])["item"]
        rng = random.Random(self.reviewer)
        time.sleep(rng.random() * THINKING)
        while time.monotonic() < self.end and item is not None and not self.failures:
            self.pages.append(self.ask(connection, "GET", f"/fragment?item={item}")[1])
            time.sleep(THINKING * (0.5 + rng.random()))
            value = rng.randrange(6)
            content, seconds = self.ask(connection, "POST", "/api/labels", {"item": item, "value": value})
            self.labels.append(seconds)
            self.kept[item] = value
            item = json.loads(content)["next"]


def measure(name, url, seconds, folder):
    project = Project.create(folder / name, folder / "x.npy", detector="mahalanobis")
    project.prepare()
    with serving(project.folder, *([] if url is None else ["--database", url])) as server:
        signer, address = Signer(secret_of(project.folder)), urlsplit(server.url)
        end = time.monotonic() + seconds
        people = [Reviewer(number, address, signer, end) for number in range(REVIEWERS)]
        for one in people:
            one.start()
        for one in people:
            one.join()
        server.kill()
    failures = [failure for one in people for failure in one.failures]
    store = LabelStore(url or project.database, project.settings.id)
    said = store.current()
    store.close()
    lost = sum(said.get(item, {}).get(one.reviewer) != value for one in people for item, value in one.kept.items())
    labels, pages = (1000 * np.concatenate([getattr(one, kind) for one in people]) for kind in ("labels", "pages"))
    figures = [f"{np.percentile(times, q):.0f}" for times in (labels, pages) for q in (50, 95, 99)]
    return [name, f"{len(labels)}", f"{lost}", f"{len(failures)}", f"{len(labels) / seconds:.0f}", *figures]


def main(seconds=60):
    seconds, rows = float(seconds), []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        np.save(folder / "x.npy", np.random.default_rng(0).normal(size=(ITEMS, 16)))
        rows.append(measure("SQLite", None, seconds, folder))
        with postgres() if postgres_programs() else contextlib.nullcontext() as url:
            if url is not None:
                rows.append(measure("PostgreSQL", url, seconds, folder))
    write(
        "benchmark_review",
        f"{REVIEWERS} reviewers at once for {seconds:.0f} seconds",
        ["database", "labels", "lost", "errors", "labels a second"]
        + [f"{kind}: {q} (ms)" for kind in ("label", "page") for q in ("median", "95 %", "99 %")],
        rows,
        notes=f"""
{ITEMS:,} items; each reviewer thinks {THINKING} s, half to one and a half of that, over an item. "Label": from sending
a judgement to having the next item's number, the judgement being on the disk. The clients share the machine with the
server. Labels were counted after the server was killed with SIGKILL.
""",
    )


if __name__ == "__main__":
    main(*sys.argv[1:])
