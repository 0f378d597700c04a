"""Serving a review: on the loopback address, or exposed and then only to whoever has the token."""

from __future__ import annotations

import ipaddress
import os
import secrets
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import quote

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
        try:
            secret = bytes.fromhex(path.read_text().strip())
        except ValueError:
            secret = b""
        if len(secret) != 32:
            raise InputError(f"{path} is damaged: remove it, everyone then says who they are again") from None
        return secret
    with os.fdopen(handle, "w") as file:
        file.write(secrets.token_hex(32))
    return secret_of(folder)


def is_loopback(host: str) -> bool:
    """Tell whether only this machine reaches a server at `host`."""
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host == "localhost"


def listening(host: str, port: int) -> socket.socket:
    """Return a socket bound to an address, or say that it is taken.

    Raises
    ------
    InputError
        If another program listens there, or the address is none of this machine's.
    """
    name = host.strip("[]")
    # The protocol is named, or asyncio would not send small answers at once.
    family = socket.AF_INET6 if ":" in name else socket.AF_INET
    found = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if name == "::":
        found.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)  # the older addresses too
    try:
        found.bind((name, port))
    except OSError as error:
        found.close()
        raise InputError(
            f"--host {host} --port {port} cannot be listened at ({error.strerror or error}): choose another port, or 0"
        ) from error
    return found


def server_of(
    review: Review, host: str = "127.0.0.1", port: int = 8642, token: str | None = None, names: tuple[str, ...] = ()
) -> tuple[Any, Callable[[int], str]]:
    """Return a server that is ready to run, and what gives the address to open for the port that it listens at.

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
    shown = "127.0.0.1" if wildcard else f"[{host.strip('[]')}]" if ":" in host else host
    asked = f"?token={quote(token, safe='')}" if token else ""
    return uvicorn.Server(config), lambda port: f"http://{shown}:{port}/{asked}"
