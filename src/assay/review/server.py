"""Serving a review: on the loopback address, or exposed and then only to whoever has the token."""

from __future__ import annotations

import ipaddress
import os
import secrets
from pathlib import Path
from typing import Any

from assay.core.validation import InputError, check_number
from assay.review.app import create_app
from assay.review.session import Review

#: Names of this machine to itself.
LOOPBACK = {"localhost", "127.0.0.1", "[::1]"}


def secret_of(folder: Path) -> bytes:
    """Return the key that signs cookies, kept in the project so that names survive a restart; for its owner's eyes."""
    path = folder / "secret"
    try:
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        text = path.read_text().strip()
        if len(text) != 64:
            raise InputError(f"{path} is damaged: remove it, everyone then says who they are again") from None
        return bytes.fromhex(text)
    with os.fdopen(handle, "w") as file:
        file.write(secrets.token_hex(32))
    return secret_of(folder)


def is_loopback(host: str) -> bool:
    """Tell whether only this machine reaches a server at `host`."""
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host == "localhost"


def server_of(
    review: Review, host: str = "127.0.0.1", port: int = 8642, token: str | None = None, names: tuple[str, ...] = ()
) -> tuple[Any, str]:
    """Return a server that is ready to run, and the address to open.

    Parameters
    ----------
    review : Review
        What is reviewed.
    host : str, default "127.0.0.1"
        Where to listen; beyond the loopback address a token is needed with every request.
    port : int, default 8642
        Where to listen; 0 any that is free.
    token : str, optional
        The token, at least 16 characters; where it is needed one is drawn by default.
    names : tuple of str
        Further names by which the server may be called, behind a proxy.
    """
    import uvicorn

    check_number(port, "port", low=0, high=65535, integer=True)
    exposed = not is_loopback(host)
    if token is not None and len(token) < 16:
        raise InputError("token is too short: give at least 16 characters")
    if exposed and token is None:
        token = secrets.token_urlsafe(24)
    hosts = LOOPBACK | {name.lower() for name in names} | {host.lower(), f"[{host.lower()}]"}
    wildcard = host in ("0.0.0.0", "::", "[::]")
    app = create_app(review, secret_of(review.project.folder), None if wildcard and not names else hosts, token)
    # Behind a proxy it is the proxy that knows the scheme; nobody else may claim one.
    config = uvicorn.Config(app, host=host.strip("[]"), port=port, log_level="warning", access_log=False)
    shown = "127.0.0.1" if wildcard else host
    return uvicorn.Server(config), f"http://{shown}:{{port}}/" + (f"?token={token}" if token else "")
