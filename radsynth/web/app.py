"""The pages and their guards. Two keys: the organiser's opens everything, the readers' opens the study alone.

A key comes in the address once and then lives in a cookie: other sites can link to our pages (readers follow one in
their mail), but neither read nor use them. Forms are accepted from our own pages only, names of hosts other than ours
are refused (DNS rebinding), bodies are small, and no page loads anything from elsewhere or runs a script.
"""

from __future__ import annotations

import hashlib
import secrets
import shlex
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any
from urllib.parse import SplitResult, parse_qsl, quote, urlsplit

from jinja2 import Environment, PackageLoader, select_autoescape
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.middleware.base import BaseHTTPMiddleware
from starlette.requests import Request
from starlette.responses import FileResponse, HTMLResponse, PlainTextResponse, RedirectResponse, Response
from starlette.routing import Route

from radsynth.errors import FolderError, RadsynthError, in_command
from radsynth.verbs._grid import shown_window
from radsynth.web._png import layout
from radsynth.web.explorer import Explorer
from radsynth.web.study import READER, SCALE, Study

LARGEST_BODY = 10_000
"""Bytes of a form; ours have a few dozen."""
POLICY = ("default-src 'none'; img-src 'self'; style-src 'self'; form-action 'self'; base-uri 'none'; "
          "frame-ancestors 'none'")
REPORT_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'; base-uri 'none'; frame-ancestors 'none'"
"""The report is one file with its style and its pictures inside."""
SHOWN = 12
"""Images of a page of the explorer."""
PARTS = ("mask", "slices", "mask_slices")
"""What else than the image itself an address of an image can ask for."""
MOST = 10**9
"""Largest seed and image number."""
STYLE = Path(__file__).resolve().parent.parent / "templates" / "web" / "style.css"

Next = Callable[[Request], Awaitable[Response]]


class Refused(RadsynthError):
    """A request that is answered with an error page. code: of HTTP."""

    def __init__(self, code: int, text: str) -> None:
        super().__init__(text)
        self.code = code


def make_app(explorer: Explorer, study: Study | None, why_no_study: str, keys: tuple[str, str], hosts: tuple[str, ...],
             ) -> Starlette:
    """The web application. keys: the organiser's and the readers'; hosts: names it answers to, () for any."""
    pages = Pages(explorer, study, why_no_study, keys, hosts)
    routes = [
        Route("/", pages.explore), Route("/image/{item}.png", pages.image), Route("/one/{item}", pages.one),
        Route("/walk/{item}.png", pages.walk), Route("/report", pages.report),
        Route("/study", pages.welcome), Route("/study", pages.begin, methods=["POST"]),
        Route("/study/read", pages.read), Route("/study/read", pages.answer, methods=["POST"]),
        Route("/study/image/{item}.png", pages.study_image), Route("/results", pages.results),
        Route("/results.csv", pages.table), Route("/style.css", pages.style), Route("/favicon.ico", pages.icon),
    ]
    app = Starlette(routes=routes, exception_handlers={404: pages.unknown, 405: pages.unknown,
                                                          500: pages.broken})
    app.add_middleware(BaseHTTPMiddleware, dispatch=pages.guard)
    return app


class Pages:
    """One method a page."""

    def __init__(self, explorer: Explorer, study: Study | None, why_no_study: str, keys: tuple[str, str],
                 hosts: tuple[str, ...]) -> None:
        self.explorer, self.study, self.why_no_study = explorer, study, why_no_study
        self.keys, self.hosts = keys, hosts
        # Cookies know no port: two runs that are served side by side must not take each other's.
        run = hashlib.sha256(keys[0].encode()).hexdigest()[:8]
        self.cookie, self.reader_cookie = f"radsynth_key_{run}", f"radsynth_reader_{run}"
        loader = PackageLoader("radsynth", "templates/web")
        self.templates = Environment(loader=loader, autoescape=select_autoescape())
        self.templates.filters["quote"] = lambda text: shlex.quote(str(text))

    async def guard(self, request: Request, call_next: Next) -> Response:
        """Refuse what is not ours; errors become pages; every answer gets its headers."""
        try:
            self._admit(request)
            response = self._with_key(request) or await call_next(request)
        except Refused as error:
            response = self._refusal(request, error.code, str(error))
        except FolderError as error:
            response = self._refusal(request, 500, str(error))
        except RadsynthError as error:
            response = self._refusal(request, 400, str(error))
        response.headers.setdefault("Content-Security-Policy", POLICY)
        response.headers.update({"Cache-Control": "no-store", "Referrer-Policy": "same-origin",
                                 "X-Content-Type-Options": "nosniff"})
        return response

    def _admit(self, request: Request) -> None:
        host = request.headers.get("host", "")
        if _parts(f"//{host}").hostname not in self.hosts and self.hosts:
            raise Refused(421, "This server does not answer to that name. Use the address that it printed.")
        if request.method == "POST":
            # What the browser itself says comes first: behind a proxy our name is not the one that it sees.
            site, origin = request.headers.get("sec-fetch-site"), request.headers.get("origin")
            foreign = origin is not None and _parts(origin).netloc != host
            if site not in ("same-origin", "none") if site else foreign:
                raise Refused(403, "Forms are accepted from this server's own pages only.")
        length = _whole(request.headers.get("content-length", "0"), LARGEST_BODY)
        if length is None or "transfer-encoding" in request.headers:
            raise Refused(413, f"A request may carry {LARGEST_BODY} bytes at most.")
        if request.url.path in ("/style.css", "/favicon.ico"):
            return
        if not self._role(request) and request.query_params.get("key"):
            raise Refused(403, "The key in this address is not one of this server's. Copy the whole address that it "
                               "printed when it was started, to the last letter.")
        if not self._role(request):
            raise Refused(403, "Open the address with the key that the server printed when it was started.")
        if self._role(request) == "reader" and not request.url.path.startswith("/study"):
            raise Refused(403, "Readers see the study alone, so that nothing gives the answers away. If you serve this "
                               "run and have tried the readers' address in this browser, open your own address again.")

    def _role(self, request: Request) -> str:
        given = request.query_params.get("key") or request.cookies.get(self.cookie, "")
        names = [name for name, key in zip(("organiser", "reader"), self.keys, strict=True)
                 if secrets.compare_digest(given.encode(), key.encode())]
        return names[0] if names else ""

    def _with_key(self, request: Request) -> Response | None:
        """A key moves from the address into the cookie, so that it is not in histories and bookmarks of every page."""
        key = request.query_params.get("key")
        if key is None:
            return None
        response = RedirectResponse("/" + request.url.path.lstrip("/"), 303)  # never to another host, as //host would
        # Not "strict": of a link in a mail read in the browser the next request would come without it, and be refused.
        response.set_cookie(self.cookie, key, httponly=True, samesite="lax")
        return response

    def _page(self, template: str, **values: Any) -> HTMLResponse:
        return HTMLResponse(self.templates.get_template(template).render(**values), values.get("code", 200))

    def _refusal(self, request: Request, code: int, text: str) -> HTMLResponse:
        """Why not, with a way back for whoever may see a page."""
        return self._page("refused.html", code=code, text=text, role=self._role(request))

    async def unknown(self, request: Request, error: Exception) -> Response:
        """An address that leads nowhere."""
        return self._refusal(request, getattr(error, "status_code", 404), "There is no such page.")

    async def broken(self, request: Request, error: Exception) -> Response:
        """A fault of ours; its traceback is for the terminal."""
        response = self._refusal(request, 500, "This is a fault of radsynth; what happened stands where the server was "
                                               "started. The other pages go on.")
        response.headers["Content-Security-Policy"] = POLICY
        return response

    async def style(self, request: Request) -> Response:
        """The style sheet."""
        return FileResponse(STYLE, media_type="text/css")

    async def icon(self, request: Request) -> Response:
        """None: browsers ask for it on every page."""
        return Response(status_code=204)

    def _asked(self, request: Request) -> dict[str, Any]:
        """Seed, class and truncation of an address, checked."""
        label = request.query_params.get("label") or None
        if label is not None and label not in self.explorer.learned:
            raise Refused(400, f"There is no class {label!r} in this run.")
        try:
            truncation = round(float(request.query_params.get("truncation") or "1"), 2)
        except ValueError:
            truncation = 0.0
        if not 0 < truncation <= 1:
            raise Refused(400, "truncation must be a number above 0 and at most 1.")
        return {"seed": _number(request, "seed"), "label": label, "truncation": truncation}

    async def explore(self, request: Request) -> Response:
        """The first page: a dozen images, and what to draw."""
        run = self.explorer.run
        values = {"name": run.resolve().name, "spec": self.explorer.sampler.spec, "facts": self.explorer.sampler.facts,
                  "study": self.study, "why_no_study": self.why_no_study, "report": (run / "report.html").exists(),
                  "draws": self.explorer.draws, "labels": self.explorer.learned, "run": run, **self._shown_as()}
        if not self.explorer.draws:
            return self._page("explore.html", **values)
        asked, first = self._asked(request), _number(request, "first")
        items = range(first, min(first + SHOWN, MOST + 1))
        classes = self.explorer.classes(items, asked["seed"], asked["label"])
        return self._page("explore.html", **values, **asked, items=dict(zip(items, classes, strict=True)),
                          before=max(first - SHOWN, 0) if first else None,
                          further=first + SHOWN if first + SHOWN <= MOST else None, query=_query(asked))

    def _shown_as(self) -> dict[str, Any]:
        """What the pages have to say of pictures and weights."""
        spec = self.explorer.sampler.spec
        return {"layout": layout(spec), "window": shown_window(spec), "greys": self.explorer.greys,
                "outdated": self.explorer.outdated}

    async def image(self, request: Request) -> Response:
        """One image, its mask, or all slices of a volume or of its mask."""
        self._must_draw()
        asked = self._asked(request)
        side = min(max(_number(request, "side", 256), 64), 1024)
        part = next((one for one in PARTS if request.query_params.get(one)), "image")
        content = await run_in_threadpool(getattr(self.explorer, part), _item(request), side=side, **asked)
        name = self.explorer.saved_as(_item(request), **asked) + f"-{part}" * (part in PARTS)
        return Response(content, media_type="image/png", headers={
            "Content-Disposition": f"inline; filename*=UTF-8''{quote(name)}.png"})

    async def one(self, request: Request) -> Response:
        """An image, large, with walks along the directions that are known."""
        self._must_draw()
        asked, item = self._asked(request), _item(request)
        (shown,) = self.explorer.classes(range(item, item + 1), asked["seed"], asked["label"])
        numbers = self.explorer.numbers(item, asked["seed"])
        beside = [other for other in (item - 1, item + 1) if 0 <= other <= MOST]
        return self._page("one.html", item=item, shown=shown, numbers=numbers,
                          saved=self.explorer.saved_as(item, **asked), **asked, query=_query(asked),
                          run=self.explorer.run, directions=self.explorer.along(shown),
                          moves=self.explorer.moves, beside=beside, sliced=self.explorer.sliced,
                          first=item - item % SHOWN, **self._shown_as())

    async def walk(self, request: Request) -> Response:
        """An image moved along a direction."""
        self._must_draw()
        asked, name = self._asked(request), request.query_params.get("direction", "")
        content = await run_in_threadpool(self.explorer.walk, name, _item(request), asked["seed"], asked["label"])
        return Response(content, media_type="image/png")

    def _must_draw(self) -> None:
        if not self.explorer.draws:
            raise Refused(404, "This run makes images from images: use 'radsynth apply'.")

    async def report(self, request: Request) -> Response:
        """The run's report."""
        path = self.explorer.run / "report.html"
        if not path.exists():
            raise Refused(404, f"There is no report yet: 'radsynth report {in_command(self.explorer.run)}' writes it.")
        return FileResponse(path, headers={"Content-Security-Policy": REPORT_POLICY})

    def _study(self) -> Study:
        if self.study is None:
            raise Refused(404, f"There is no reader study: {self.why_no_study}")
        return self.study

    async def welcome(self, request: Request) -> Response:
        """What a reader is asked to do, and under which code."""
        study = self._study()
        return self._page("welcome.html", images=len(study.items), scale=SCALE, about=study.about)

    async def begin(self, request: Request) -> Response:
        """Take the reader's code and show the first image."""
        study, form = self._study(), await _form(request)
        code = form.get("reader", "").strip()  # keyboards of phones add a space
        if not READER.fullmatch(code):
            raise Refused(400, "A reader's code has 2 to 20 letters (a to z), digits, - or _, no name, and is not "
                               "'truth'.")
        reader, judged = await run_in_threadpool(study.judged, code)
        if judged and "again" not in form:  # two readers of one code would be counted as one
            return self._page("again.html", reader=reader, judged=judged, images=len(study.items))
        response = RedirectResponse("/study/read", 303)
        response.set_cookie(self.reader_cookie, reader, httponly=True, samesite="strict")
        return response

    async def read(self, request: Request) -> Response:
        """The next image of this reader."""
        reader, study = self._reader(request), self._study()
        item, judged = await run_in_threadpool(study.next, reader)
        return self._page("read.html", item=item, judged=judged, images=len(study.items), scale=SCALE, reader=reader)

    async def answer(self, request: Request) -> Response:
        """Keep a rating, then go on."""
        reader, study, form = self._reader(request), self._study(), await _form(request)
        item, rating = form.get("item", ""), form.get("rating", "")
        if item not in study.items or rating not in {str(k + 1) for k in range(len(SCALE))}:
            raise Refused(400, "That is no answer to an image of this study.")
        await run_in_threadpool(study.answer, reader, item, int(rating))
        return RedirectResponse("/study/read", 303)

    def _reader(self, request: Request) -> str:
        reader = request.cookies.get(self.reader_cookie, "")
        if not READER.fullmatch(reader):
            raise Refused(400, "Begin at the first page of the study, with your code.")
        return reader

    async def study_image(self, request: Request) -> Response:
        """An image of the study, by its random name."""
        study, item = self._study(), request.path_params["item"]
        if item not in study.items:
            raise Refused(404, "There is no such image.")
        return Response(await run_in_threadpool(study.image, item), media_type="image/png")

    async def results(self, request: Request) -> Response:
        """What the readers said; the organiser's alone."""
        return self._page("results.html", found=await run_in_threadpool(self._study().results), none=self.why_no_study)

    async def table(self, request: Request) -> Response:
        """All answers for other programs."""
        text = await run_in_threadpool(self._study().table)
        return PlainTextResponse(text, media_type="text/csv",
                                 headers={"Content-Disposition": 'attachment; filename="readers.csv"'})


async def _form(request: Request) -> dict[str, str]:
    return dict(parse_qsl((await request.body()).decode("utf-8", "replace")))


def _parts(address: str) -> SplitResult:
    try:
        return urlsplit(address)
    except ValueError:
        raise Refused(400, "A header of the request holds no address.") from None


def _whole(text: str, most: int) -> int | None:
    """The whole number from 0 to `most` that a text is; None for any other text."""
    written = text.isascii() and text.isdigit() and len(text) <= len(str(most))
    return int(text) if written and int(text) <= most else None


def _number(request: Request, name: str, otherwise: int = 0) -> int:
    number = _whole(request.query_params.get(name) or str(otherwise), MOST)
    if number is None:
        raise Refused(400, f"{name} must be a whole number from 0 to {MOST}.")
    return number


def _item(request: Request) -> int:
    item = _whole(request.path_params["item"], MOST)
    if item is None:
        raise Refused(400, f"Images are numbered from 0 to {MOST}.")
    return item


def _query(asked: dict[str, Any]) -> dict[str, Any]:
    """What an address carries; the templates encode it."""
    return {name: value for name, value in asked.items() if value is not None}
