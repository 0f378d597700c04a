"""What stands before every request: which host is asked, who asks, from where, how much, and what a page may do.

The server listens on the loopback address unless told otherwise. Then:

- a request must name a host that is expected, so that no foreign name can be made to point here (DNS rebinding);
- where the server is exposed, every request needs the token: once in the address, then in a cookie that scripts cannot
  read and other sites do not send;
- whatever changes something must come from this site (``Origin``, ``Sec-Fetch-Site``) and carry a token bound to
  the reviewer's cookie (cross-site request forgery);
- a body is at most 1 MiB;
- pages load nothing from elsewhere, run no script but the server's own files, and cannot be framed.
"""

from __future__ import annotations

import hashlib
import hmac
from urllib.parse import parse_qs, urlencode, urlsplit

from starlette.datastructures import MutableHeaders
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import PlainTextResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from assay.core.validation import InputError
from assay.review.labels import check_reviewer

MAX_BODY = 2**20
HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
        "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), microphone=(), geolocation=()",
}


class Signer:
    """Signs reviewers' names and makes the tokens of their forms.

    Parameters
    ----------
    secret : bytes
        Known to this server alone.

    Attributes
    ----------
    name_cookie, token_cookie : str
        Names of the cookies.
    """

    def __init__(self, secret: bytes) -> None:
        self._secret = secret
        # Browsers do not tell ports apart: two reviews on one machine must not share a cookie.
        mark = self._sign("cookies", "")[:8]
        self.name_cookie, self.token_cookie = f"assay_reviewer_{mark}", f"assay_token_{mark}"

    def _sign(self, purpose: str, text: str) -> str:
        return hmac.new(self._secret, f"{purpose}\0{text}".encode(), hashlib.sha256).hexdigest()

    def cookie(self, reviewer: str) -> str:
        """Return the cookie's value for a reviewer."""
        return f"{reviewer.encode().hex()}.{self._sign('reviewer', reviewer)}"

    def reviewer(self, cookie: str | None) -> str | None:
        """Return the reviewer whom a cookie names, None if it was not made here."""
        name, _, signature = (cookie or "").partition(".")
        try:
            reviewer = check_reviewer(bytes.fromhex(name).decode())
        except (ValueError, InputError):
            return None
        return reviewer if hmac.compare_digest(signature.encode(), self._sign("reviewer", reviewer).encode()) else None

    def form_token(self, reviewer: str) -> str:
        """Return what every form of a reviewer carries; "" stands for someone who has no name yet."""
        return self._sign("form", reviewer)

    def is_form_token(self, reviewer: str, token: str) -> bool:
        """Tell whether a token is this reviewer's."""
        return hmac.compare_digest(self.form_token(reviewer).encode(), token.encode("utf-8", "replace"))


class Guard:
    """The middleware.

    Parameters
    ----------
    app : ASGI application
        What stands behind it.
    hosts : set of str or None
        Names by which the server may be called, without port; None allows any (then `token` must be there).
    token : str or None
        What every request must know; None on the loopback address.
    cookie : str
        Name of the token's cookie.
    """

    def __init__(self, app: ASGIApp, hosts: set[str] | None, token: str | None, cookie: str) -> None:
        self.app, self.hosts, self.token, self.cookie = app, hosts, token, cookie

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer what must not pass; hand over the rest and add the headers."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return

        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers[name] = value
                headers.setdefault("Cache-Control", "no-store")
            await send(message)

        request = Request(scope)
        refused = self._refusal(request)
        if refused is not None:
            await refused(scope, receive, with_headers)
            return
        await self.app(scope, _limited(receive), with_headers)

    def _refusal(self, request: Request) -> Response | None:
        host = request.headers.get("host", "")
        if self.hosts is not None and _name_of(host) not in self.hosts:
            return PlainTextResponse("This server does not answer to that name.", 421)
        length = request.headers.get("content-length", "0")
        if not length.isdecimal() or len(length) > 12 or int(length) > MAX_BODY:
            return PlainTextResponse("That is too much.", 413)
        if self.token is not None:
            asked = self._asked_for_token(request)
            if asked is not None:
                return asked
        if request.method not in ("GET", "HEAD", "OPTIONS"):
            origin, site = request.headers.get("origin"), request.headers.get("sec-fetch-site")
            if origin is not None and _place_of(origin) != host:
                return PlainTextResponse("That came from another site.", 403)
            if site is not None and site not in ("same-origin", "none"):
                return PlainTextResponse("That came from another site.", 403)
        return None

    def _asked_for_token(self, request: Request) -> Response | None:
        """Return an answer unless the request knows the token; move it from the address into a cookie."""
        expected = str(self.token).encode()
        query = parse_qs(request.url.query, keep_blank_values=True)
        given = query.pop("token", [""])[0]
        if given and hmac.compare_digest(given.encode("utf-8", "replace"), expected):
            rest = urlencode(query, doseq=True)
            answer = RedirectResponse(_own_path(request.url.path) + (f"?{rest}" if rest else ""), 303)
            answer.set_cookie(self.cookie, str(self.token), httponly=True, samesite="strict")
            return answer
        if hmac.compare_digest(request.cookies.get(self.cookie, "").encode("utf-8", "replace"), expected):
            return None
        return PlainTextResponse("Open the address with the token that the server printed.", 401)


def _own_path(path: str) -> str:
    """Return a path that no browser takes for another host: ``//evil`` would be one."""
    return "/" + path.lstrip("/\\")


def _place_of(origin: str) -> str | None:
    """Return host and port of an origin; None where it is no address."""
    try:
        return urlsplit(origin).netloc
    except ValueError:
        return None


def _name_of(host: str) -> str:
    """Return a host without its port; "" where it is none."""
    name, colon, port = host.rpartition(":") if not host.endswith("]") else (host, "", "")
    if not colon:
        name, port = host, ""
    if port and not port.isdecimal():
        return ""
    return name.lower()


def _limited(receive: Receive) -> Receive:
    """Cut a body that is longer than it said."""
    seen = 0

    async def limited() -> Message:
        nonlocal seen
        message = await receive()
        seen += len(message.get("body", b""))
        if seen > MAX_BODY:
            raise HTTPException(413, "that is too much")
        return message

    return limited
