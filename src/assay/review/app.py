"""The pages and the JSON behind them: thin, `assay.review.session.Review` does the work.

Pages are complete without a script: every judgement is a button of a form. A small script (`static/app.js`) adds keys,
the next item without a new page, and the map.
"""

import csv
import io
import struct
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from fastapi import Depends, FastAPI, Form, Header, HTTPException, Query, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, PlainTextResponse, RedirectResponse, Response, StreamingResponse
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from pydantic import BaseModel, ConfigDict, Field, StrictInt
from sqlalchemy.exc import SQLAlchemyError
from starlette.exceptions import HTTPException as StarletteHTTPException

from assay.core.validation import InputError
from assay.report import page, svg
from assay.review.guard import Guard, Signer
from assay.review.labels import check_reviewer
from assay.review.ranking import METHODS
from assay.review.remedy import ORDINARY, TWINS
from assay.review.session import ORDERS, Review

STATIC = Path(__file__).parent / "static"
VERDICTS = ("realistic", "uncertain", "unrealistic", "indistinguishable")
#: What a judgement means.
SCALE = ("boring", "hardly", "a little", "rather", "very", "most interesting")
METHOD_WORDS = {
    "neighbours": "Neighbour score: the detector's, corrected near what was judged",
    "regression": "Regression: what people would say, by a random forest",
    "protege": "Protege: a Gaussian process, likely good or not yet known",
}
ORDER_WORDS = {"trained": "what was learned", "detector": "the detector alone", "random": "chance"}

Number = Annotated[int, Query(ge=0, le=2**53)]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid")


class NewLabel(_Strict):
    """A judgement."""

    item: Annotated[StrictInt, Field(ge=0, le=2**53)]
    value: Annotated[StrictInt, Field(ge=-1, le=5)]


class Lasso(_Strict):
    """Places on the map; none gives back all items."""

    places: Annotated[list[Annotated[StrictInt, Field(ge=0, le=2**31)]], Field(max_length=100_000)]


def create_app(review: Review, secret: bytes, hosts: set[str] | None, token: str | None = None) -> FastAPI:
    """Return the application of a review.

    Parameters
    ----------
    review : Review
        What is reviewed.
    secret : bytes
        Signs cookies; the same after a restart keeps everyone's name.
    hosts : set of str or None
        Names the server answers to; None any.
    token : str, optional
        Needed with every request where the server is exposed.
    """
    # FastAPI's own documentation pages load scripts from elsewhere: the description is served, not they.
    app = FastAPI(title="Assay review", docs_url=None, redoc_url=None)
    signer, templates = Signer(secret), _environment()
    app.add_middleware(Guard, hosts=hosts, token=token, cookie=signer.token_cookie)
    style = page.environment().get_template("page.css.j2").render() + (STATIC / "review.css").read_text("utf-8")

    def reviewer_of(request: Request) -> str | None:
        return signer.reviewer(request.cookies.get(signer.name_cookie))

    def named(request: Request) -> str:
        """Return who asks; whoever has no name yet is sent to choose one."""
        name = reviewer_of(request)
        if name is None:
            raise HTTPException(401, "say who you are first", {"Location": "/enter"})
        return name

    def allowed(request: Request, name: str, token: str | None) -> None:
        if not signer.is_form_token(name, token or ""):
            raise HTTPException(403, "the page is out of date: reload it")

    def allowed_json(request: Request, x_assay_form: Annotated[str | None, Header()] = None) -> str:
        name = named(request)
        allowed(request, name, x_assay_form)
        return name

    Who = Annotated[str, Depends(named)]
    Sender = Annotated[str, Depends(allowed_json)]
    FormToken = Annotated[str, Form(max_length=200)]

    def html(name: str, request: Request, **values: Any) -> Response:
        who = reviewer_of(request)
        text = templates.get_template(name).render(
            reviewer=who,
            project=review.settings.name,
            form_token=signer.form_token(who or ""),
            here=request.url.path,
            **values,
        )
        return Response(text, media_type="text/html; charset=utf-8")

    def facts(item: int, who: str, remedy: bool = False) -> dict[str, Any]:
        """Return what the page says of an item; what would make it ordinary only where that is asked for."""
        review.check_item(item)
        meta, said = review.meta(item), review.said(item)
        return {
            "item": item,
            "name": review.items.names[item],
            "shown": review.items.show(item),
            "scores": review.scores(item),
            "why": review.why(item),
            "mine": said.get(who),
            "others": {name: value for name, value in said.items() if name != who},
            "verdict": meta.get("verdict") if meta.get("verdict") in VERDICTS else None,
            "meta": meta,
            "has_heat": review.has_heat,
            "has_remedies": review.has_remedies,
            "remedy": review.remedy(item) if remedy else None,
            "twins": TWINS,
            "rare": 1 - ORDINARY,
            "scale": SCALE,
        }

    @app.exception_handler(InputError)
    async def _input_error(request: Request, error: InputError) -> Response:
        return _told(request, 422, str(error))

    @app.exception_handler(SQLAlchemyError)
    async def _database_error(request: Request, error: SQLAlchemyError) -> Response:
        return _told(request, 503, f"the database of labels does not answer, nothing was kept: {type(error).__name__}")

    @app.exception_handler(StarletteHTTPException)
    async def _http_error(request: Request, error: StarletteHTTPException) -> Response:
        if error.status_code == 401 and request.method == "GET" and not request.url.path.startswith("/api/"):
            return RedirectResponse("/enter", 303)
        return _told(request, error.status_code, str(error.detail))

    @app.exception_handler(RequestValidationError)
    async def _validation_error(request: Request, error: RequestValidationError) -> Response:
        first = error.errors()[0]
        return _told(request, 422, f"{'.'.join(map(str, first['loc'][1:]))}: {first['msg']}")

    def _told(request: Request, status: int, message: str) -> Response:
        if request.url.path.startswith("/api/"):
            return JSONResponse({"detail": message}, status)
        answer = html("message.html", request, message=message)
        answer.status_code = status
        return answer

    # Pages

    @app.get("/enter", include_in_schema=False)
    def enter(request: Request) -> Response:
        return html("enter.html", request)

    @app.post("/enter", include_in_schema=False)
    def entered(request: Request, name: Annotated[str, Form(max_length=400)], form_token: FormToken) -> Response:
        allowed(request, reviewer_of(request) or "", form_token)
        answer = RedirectResponse("/", 303)
        answer.set_cookie(
            signer.name_cookie,
            signer.cookie(check_reviewer(name)),
            httponly=True,
            samesite="strict",
            max_age=365 * 86400,
            secure=request.url.scheme == "https",
        )
        return answer

    @app.get("/", include_in_schema=False)
    def queue(
        request: Request, who: Who, item: Number | None = None, after: Number | None = None, remedy: bool = False
    ) -> Response:
        if item is None:
            item = review.next(who, after)
        told = None if item is None else facts(item, who, remedy)
        upcoming = [{"item": one, "name": review.items.names[one]} for one in review.upcoming(who, 13) if one != item]
        return html("queue.html", request, told=told, upcoming=upcoming[:12], selected=review.selected(who))

    @app.get("/fragment", include_in_schema=False)
    def fragment(request: Request, who: Who, item: Number, remedy: bool = False) -> Response:
        return html("item.html", request, told=facts(item, who, remedy))

    @app.get("/find", include_in_schema=False)
    def find(request: Request, who: Who, text: Annotated[str, Query(max_length=400)] = "") -> Response:
        item = review.find(text)
        if item is None:
            raise HTTPException(404, f"no item has the number or name {svg.shorten(text, 80)}")
        return RedirectResponse(f"/?item={item}", 303)

    @app.post("/label", include_in_schema=False)
    def label_form(
        request: Request,
        who: Who,
        form_token: FormToken,
        item: Annotated[int, Form(ge=0, le=2**53)],
        value: Annotated[int, Form(ge=-1, le=5)],
    ) -> Response:
        allowed(request, who, form_token)
        review.label(who, item, value)
        return RedirectResponse("/", 303)

    @app.post("/undo", include_in_schema=False)
    def undo_form(request: Request, who: Who, form_token: FormToken) -> Response:
        allowed(request, who, form_token)
        item = review.undo(who)
        return RedirectResponse("/" if item is None else f"/?item={item}", 303)

    @app.get("/map", include_in_schema=False)
    def map_page(request: Request, who: Who) -> Response:
        table = review.prepared.meta
        has_verdicts = table is not None and "verdict" in table.column_names
        count = len(review.prepared.rows)
        return html(
            "map.html", request, count=count, total=len(review.items), verdicts=VERDICTS, has_verdicts=has_verdicts
        )

    @app.get("/progress", include_in_schema=False)
    def progress_page(request: Request, who: Who) -> Response:
        told = review.progress()
        return html("progress.html", request, told=told, curve=_curve(told["curve"]), names=review.items.names)

    @app.get("/settings", include_in_schema=False)
    def settings_page(request: Request, who: Who) -> Response:
        return html(
            "settings.html",
            request,
            choices=review.choices,
            methods={name: METHOD_WORDS[name] for name in METHODS},
            orders={name: ORDER_WORDS[name] for name in ORDERS},
            training=review.training,
            failed=review.prepared.failed,
            settings=review.settings,
        )

    @app.post("/settings", include_in_schema=False)
    def settings_form(
        request: Request,
        who: Who,
        form_token: FormToken,
        method: Annotated[str, Form(max_length=40)],
        order: Annotated[str, Form(max_length=40)],
        overlap: Annotated[int, Form()],
    ) -> Response:
        allowed(request, who, form_token)
        review.choose(method=method, order=order, overlap=overlap)
        return RedirectResponse("/settings", 303)

    @app.post("/retrain", include_in_schema=False)
    def retrain_form(request: Request, who: Who, form_token: FormToken) -> Response:
        allowed(request, who, form_token)
        review.retrain()
        return RedirectResponse("/settings", 303)

    @app.get("/items/{item}/image.jpg", include_in_schema=False)
    def picture(request: Request, who: Who, item: int, heat: bool = False) -> Response:
        # The same address shows another image where another project is served: browsers must ask each time.
        tag = f'"{review.settings.id}-{review.prepared.key[:16]}-{item}-{heat}"'
        headers = {"Cache-Control": "private, no-cache", "ETag": tag}
        if request.headers.get("if-none-match") == tag:
            return Response(status_code=304, headers=headers)
        data = review.picture(item, heat)
        if data is None:
            raise HTTPException(404, "the items are no images")
        return Response(data, media_type="image/jpeg", headers=headers)

    @app.get("/labels.csv", include_in_schema=False)
    def export(who: Who) -> Response:
        return StreamingResponse(
            _csv(review),
            media_type="text/csv; charset=utf-8",
            headers={"Content-Disposition": 'attachment; filename="labels.csv"'},
        )

    @app.get("/static/{name}", include_in_schema=False)
    def static(name: str) -> Response:
        kinds = {"app.js": "text/javascript", "map.js": "text/javascript", "icon.svg": "image/svg+xml"}
        cached = {"Cache-Control": "no-cache"}
        if name == "style.css":
            return Response(style, media_type="text/css", headers=cached)
        if name not in kinds:
            raise HTTPException(404, "there is no such file")
        return Response((STATIC / name).read_bytes(), media_type=kinds[name], headers=cached)

    # JSON

    @app.get("/api/next", tags=["queue"])
    def api_next(who: Who, after: Number | None = None) -> dict[str, Any]:
        """Return the number of the item to look at, null when the queue is empty."""
        return {"item": review.next(who, after)}

    @app.get("/api/items/{item}", tags=["queue"])
    def api_item(who: Who, item: int) -> dict[str, Any]:
        """Return what is known of an item."""
        review.check_item(item)
        scores = review.scores(item)
        return {
            "item": item,
            "name": review.items.names[item],
            "scores": {name: scores[name] for name in ("detector", "trained", "predicted")},
            "said": review.said(item),
        }

    @app.post("/api/labels", tags=["queue"])
    def api_label(sender: Sender, label: NewLabel) -> dict[str, Any]:
        """Keep a judgement; it is on the disk when the answer comes. Returns the next item."""
        review.label(sender, label.item, label.value)
        following = review.next(sender)
        upcoming = [item for item in review.upcoming(sender, 2) if item != following]
        return {"next": following, "then": upcoming[:1]}

    @app.post("/api/undo", tags=["queue"])
    def api_undo(sender: Sender) -> dict[str, Any]:
        """Take back the latest judgement of whoever asks; returns its item, null if there is none."""
        return {"item": review.undo(sender)}

    @app.get("/api/map", tags=["map"], response_class=Response)
    def api_map(who: Who) -> Response:
        """Return the map as little-endian numbers: the count n, then n of x, y, score, learned, said, item, verdict."""
        told = review.map_points()
        count = len(told["items"])
        verdicts = np.full(count, 255, dtype="<u1")
        if told["verdicts"] is not None:
            order = {name: number for number, name in enumerate(VERDICTS)}
            verdicts = np.array([order.get(name, 255) for name in told["verdicts"]], dtype="<u1")
        places = np.asarray(told["places"], dtype="<f4")
        parts = [places[:, 0], places[:, 1], *(told[name] for name in ("scores", "trained", "said"))]
        body = struct.pack("<I", count) + b"".join(np.ascontiguousarray(part, dtype="<f4").tobytes() for part in parts)
        body += np.asarray(told["items"], dtype="<u4").tobytes() + verdicts.tobytes()
        return Response(body, media_type="application/octet-stream")

    @app.post("/api/selection", tags=["map"])
    def api_selection(sender: Sender, lasso: Lasso) -> dict[str, Any]:
        """Make the items at these places of the map the queue; an empty list gives back all. Returns how many."""
        return {"items": review.select(sender, lasso.places)}

    @app.post("/api/retrain", tags=["learning"])
    def api_retrain(sender: Sender) -> dict[str, Any]:
        """Start learning from all judgements; false if that is under way."""
        return {"started": review.retrain()}

    @app.get("/api/retrain", tags=["learning"])
    def api_training(who: Who) -> dict[str, Any]:
        """Return how far learning has come."""
        return vars(review.training)

    @app.get("/api/progress", tags=["progress"])
    def api_progress(who: Who) -> dict[str, Any]:
        """Return what has been found so far."""
        told = review.progress()
        return {name: told[name] for name in ("items", "judged", "labels", "found", "rws")}

    @app.get("/robots.txt", include_in_schema=False)
    def robots() -> Response:
        return PlainTextResponse("User-agent: *\nDisallow: /\n")

    return app


def _environment() -> Environment:
    known = Environment(
        loader=PackageLoader("assay.review"),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=lambda value: value if isinstance(value, Markup) or not isinstance(value, str) else svg.clean(value),
        trim_blocks=True,
        lstrip_blocks=True,
    )
    known.filters |= {
        "number": lambda value: "–" if value is None else svg.number(value),
        "count": lambda value: f"{value:,}",
        "percent": lambda value: "–" if value is None else f"{100 * value:.0f} %",
        "shorten": svg.shorten,
    }
    return known


def _curve(found: Any) -> Markup | None:
    """Draw how many interesting items were found among those viewed; None before there are two."""
    if len(found) < 2:
        return None
    viewed = np.arange(1, len(found) + 1)
    keep = np.unique(np.linspace(0, len(found) - 1, 200).round().astype(int))
    best = np.minimum(viewed, found[-1])
    return Markup(
        svg.lines(
            [
                svg.Series("found", viewed[keep].astype(float), found[keep].astype(float), "c-1"),
                svg.Series("at best", viewed[keep].astype(float), best[keep].astype(float), "c-normal"),
            ],
            title="Interesting items found",
            x_label="items viewed",
            y_label="found",
        )
    )


def _csv(review: Review) -> Any:
    """Yield the labels as CSV; a text that a spreadsheet would take for a formula begins with an apostrophe."""
    for row in review.export():
        buffer = io.StringIO()
        csv.writer(buffer).writerow(
            [f"'{cell}" if isinstance(cell, str) and cell[:1] in "=+-@\t\r" and cell else cell for cell in row]
        )
        yield buffer.getvalue()
