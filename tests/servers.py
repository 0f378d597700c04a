"""A review's server in a process of its own, and a PostgreSQL of its own: started and stopped by the tests."""

import contextlib
import os
import pwd
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path


class Server:
    """`assay review` in a process of its own."""

    def __init__(self, *arguments):
        command = [sys.executable, "-m", "assay", "review", *map(str, arguments), "--port", "0", "--quiet"]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        line = self.process.stdout.readline()
        if not line.startswith("open "):
            raise AssertionError(line + self.process.stderr.read())
        self.address = line.split()[1]
        self.url = self.address.partition("?")[0].rstrip("/")

    def kill(self):
        """End it without a word, as a power cut would."""
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def stop(self):
        """End it as Ctrl-C does; return what it wrote on standard error."""
        self.process.send_signal(signal.SIGINT)
        return self.process.communicate(timeout=30)[1]


@contextlib.contextmanager
def serving(*arguments):
    server = Server(*arguments)
    try:
        yield server
    finally:
        if server.process.poll() is None:
            server.kill()
        server.process.stdout.close()
        server.process.stderr.close()


def postgres_programs():
    """Return the folder of PostgreSQL's programs; None if there is none."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    path = str(found[-1]) if found else shutil.which("initdb")
    return None if path is None else Path(path).parent


@contextlib.contextmanager
def postgres():
    """Start a server with an empty database in a folder of its own; yield its URL."""
    programs, root = postgres_programs(), os.geteuid() == 0
    # PostgreSQL refuses to run as root; Debian's package makes a user for it.
    user = {"user": "postgres", "group": pwd.getpwnam("postgres").pw_gid, "extra_groups": []} if root else {}
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    folder = Path(tempfile.mkdtemp(prefix="assay-postgres-"))
    if root:
        shutil.chown(folder, "postgres")

    def run(*command):
        subprocess.run([str(programs / command[0]), *command[1:]], check=True, capture_output=True, cwd=folder, **user)

    try:
        run("initdb", "-D", str(folder / "data"), "-A", "trust", "-U", "assay", "--no-sync")
        options = f"-p {port} -c listen_addresses=127.0.0.1 -c unix_socket_directories={folder}"
        run("pg_ctl", "-D", str(folder / "data"), "-o", options, "-l", str(folder / "log"), "-w", "start")
        try:
            yield f"postgresql+psycopg://assay@127.0.0.1:{port}/postgres"
        finally:
            run("pg_ctl", "-D", str(folder / "data"), "-m", "immediate", "-w", "stop")
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def wait_for(condition, seconds=30.0):
    """Return the first true value of `condition`."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        value = condition()
        if value:
            return value
        time.sleep(0.05)
    raise AssertionError("it did not happen in time")
