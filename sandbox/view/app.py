"""The pages of `honne view`. Rendered here, read-only but for labels, for browsers on this machine alone.

What protects them: the server binds loopback; a request whose Host is not a loopback name is refused, so no other site's
name can be pointed here (DNS rebinding); whatever changes something needs an Origin of these pages, and what another
site embeds or fetches is refused; no page runs a script or style that is not one of our two files, and all text of
models is escaped, with control characters shown. What does not: other accounts of this machine can reach a loopback port.
"""

import ipaddress
import json
import re
import threading
import time
from collections.abc import Callable, Hashable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlencode

from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape
from pydantic import ValidationError
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import QueryParams
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from sandbox import label
from sandbox.episode import Episode
from sandbox.label import Label
from sandbox.ledger import ledger_at, stored
from sandbox.record import NAME, Record
from sandbox.view.analysis import Analyst, beside, findings, headlines, pointing, style
from sandbox.view.index import FIELDS, Filter, Index, terms
from sandbox.view.mirror import opened
from tools.hidden import spelled
from tools.problem import Problem

HERE = Path(__file__).parent
PAGE = 50
"""Rows on a page."""
AT_ONCE = 500_000
"""Bytes of new episodes that a request takes in itself. More is taken in beside it."""
CHUNK = 4_000_000
LISTED = 5.0
"""Seconds for which a list of the runs in a store is good."""
SHOWN = 50_000
"""Characters of one text that a page shows."""
LARGEST = 20_000
"""Bytes of a form, at most."""

HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; img-src data:; "
        "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}


def loopback(host: str) -> bool:
    """Whether a name or address can only be this machine."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


HOST = re.compile(r"(?:\[(?P<six>[0-9a-fA-F:.]+)\]|(?P<name>[A-Za-z0-9.-]+))(?::\d{1,5})?")


@dataclass(frozen=True)
class Guard:
    """Lets through what comes from these pages or from the address bar, and puts the headers on every answer."""

    app: ASGIApp

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return

        async def sent(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [
                    *message["headers"],
                    *((name.lower().encode(), value.encode()) for name, value in HEADERS.items()),
                ]
            await send(message)

        refused = refusal(Request(scope))
        answer: ASGIApp = Response(refused, 400 if "Host" in refused else 403) if refused else self.app
        await answer(scope, receive, sent)


def refusal(request: Request) -> str:
    """Why a request is turned away; empty when it is not."""
    hosts = request.headers.getlist("host")
    named = HOST.fullmatch(hosts[0]) if len(hosts) == 1 else None
    if not named or not loopback(named["six"] or named["name"]):
        return "Host is not this machine"
    site, mode = request.headers.get("sec-fetch-site"), request.headers.get("sec-fetch-mode")
    if request.method in ("GET", "HEAD"):
        foreign = site in ("cross-site", "same-site") and mode != "navigate"
        return "asked for by another site" if foreign else ""
    origin = request.headers.get("origin")
    if origin != f"http://{hosts[0]}":
        return "Origin is not this server"
    return "asked for by another site" if site not in (None, "same-origin") else ""


def visible(text: object) -> Markup:
    """Text that shows everything in it, and does nothing."""
    return escape(spelled(str(text)))


def marked(text: str, pattern: str = "", kind: str = "hit") -> Markup:
    """Text no longer than a page can bear, with everything marked that a pattern finds."""
    parts = re.split(f"({pattern})", text[:SHOWN], flags=re.IGNORECASE) if pattern else [text[:SHOWN]]
    mark = Markup('<mark class="{}">{}</mark>')
    shown = [mark.format(kind, visible(part)) if place % 2 else visible(part) for place, part in enumerate(parts)]
    if len(text) > SHOWN:
        shown.append(visible(f"\n[… {len(text) - SHOWN:,} more characters: honne show prints them]"))
    return Markup("").join(shown)


def sought(words: str) -> str:
    """A pattern for what a search finds: whole words, or their beginnings. Empty for nothing."""
    letter = r"[^\W_]"
    found = [
        rf"(?<!{letter}){re.escape(term.rstrip('*'))}" + ("" if term.endswith("*") else rf"(?!{letter})")
        for term in terms(words)
    ]
    return "|".join(found)


AROUND = 80
"""Characters shown on each side of what a search found."""


def snippet(episode: Episode, pattern: str) -> Markup:
    """Where a search found its first word, with what stands around it."""
    texts = [text for said in episode.said for text in (said.reasoning, said.text) if text]
    texts += [call.result for call in episode.called] + [str(dict(call.arguments or {})) for call in episode.called]
    for text in texts:
        if found := re.search(pattern, text, re.IGNORECASE):
            piece = " ".join(text[max(found.start() - AROUND, 0) : found.end() + AROUND].split())
            return marked(piece, pattern)
    return Markup("")


@lru_cache(maxsize=1)
def _pages() -> Environment:
    pages = Environment(
        loader=ChoiceLoader([PackageLoader("sandbox.view", "pages"), PackageLoader("detectors.report", ".")]),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=lambda value: value if isinstance(value, Markup) else visible("" if value is None else value),
    )
    pages.filters |= {"marked": marked, "exactly": re.escape, "points": points, "written": written}
    return pages


def written(value: object) -> str:
    """What was recorded, as JSON that can be read."""
    return json.dumps(value, ensure_ascii=False, indent=1, default=lambda each: dict(each))


def points(value: float | None) -> str:
    """A difference of shares in percentage points; unknown stays unknown."""
    return "–" if value is None else f"{100 * value:+.1f} pp"


@dataclass
class Shelf:
    """The runs that are shown, each with its index, which is made when the run is first asked for."""

    runs: Callable[[], Mapping[str, Record]]
    cache: Path
    _indexes: dict[str, tuple[str, Index]] = field(default_factory=dict)
    _reading: set[Path] = field(default_factory=set)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def index(self, name: str) -> Index:
        """Raises HTTPException: only names on the list are ever looked for on disk."""
        record = self.runs().get(name)
        if record is None:
            raise HTTPException(404, f"no run '{name}' here")
        manifest = record.folder / "manifest.json"
        begun = str(manifest.stat().st_mtime_ns) if manifest.exists() else ""
        with self._lock:
            kept = self._indexes.get(name)
            if kept is None or kept[0] != begun:
                self._indexes[name] = kept = (begun, Index(record, self.cache))
        return kept[1]

    def catch_up(self, name: str) -> tuple[Index, bool]:
        """The run's index, and whether it holds all that is on record."""
        index = self.index(name)
        if index.path not in self._reading and index.catch_up(AT_ONCE):
            return index, True
        with self._lock:
            if index.path not in self._reading:
                self._reading.add(index.path)
                threading.Thread(target=self._rest, args=(index,), name=f"index of {name}", daemon=True).start()
        return index, False

    def _rest(self, index: Index) -> None:
        try:
            with suppress(OSError):  # a run that was removed meanwhile
                while not index.catch_up(CHUNK):
                    time.sleep(0.01)  # lets requests have their turn
        finally:
            with self._lock:
                self._reading.discard(index.path)


@dataclass
class Folder:
    """All runs in a folder, newest first. A store is not asked again for a while."""

    folder: Path
    cache: Path
    _found: dict[str, Record] = field(default_factory=dict)
    _at: float = float("-inf")

    def runs(self) -> dict[str, Record]:
        if not stored(self.folder) or time.monotonic() - self._at > LISTED:
            plans = [path for path in self.folder.glob("*/plan.json") if NAME.fullmatch(path.parent.name)]
            plans.sort(key=lambda path: path.stat().st_mtime, reverse=True)
            self._found = {path.parent.name: opened(path.parent, self.cache) for path in plans}
            self._at = time.monotonic()
        return self._found


def named(records: Iterable[Record]) -> dict[str, Record]:
    """Chosen runs by the names of their folders, with a number where two share one."""
    found: dict[str, Record] = {}
    for record in records:
        name, number = record.name, 2
        while name in found:
            name, number = f"{record.name}-{number}", number + 1
        found[name] = record
    return found


@dataclass(frozen=True)
class Viewer:
    """The routes."""

    shelf: Shelf
    analyst: Analyst
    reviewer: str

    def app(self) -> Starlette:
        inner = Starlette(
            routes=[
                Route("/", self.runs),
                Route("/run/{name}/", self.run),
                Route("/run/{name}/episode/{id}", self.episode),
                Route("/run/{name}/episode/{id}/label", self.label, methods=["POST"]),
                Route("/run/{name}/match/{match}", self.match),
                Route("/static/sidebyside.css", self.columns),
                Mount("/static", StaticFiles(directory=HERE / "static")),
            ],
            exception_handlers={HTTPException: _failed, Problem: _failed},
        )
        inner.add_middleware(Guard)
        return inner

    def runs(self, request: Request) -> Response:
        rows = []
        for name, record in self.shelf.runs().items():
            size = sum(path.stat().st_size for path in (record.folder / "episodes").glob("*.jsonl"))
            row: dict[str, Any] = {"name": name, "size": size, "finished": None}  # Any: cells of a table
            with suppress(Problem):  # a run that cannot be read is listed by its name
                row |= {"plan": record.plan, "planned": record.plan.size, "begun": record.manifest.get("begun")}
                index = self.shelf.index(name)
                if size - index.read[0] < AT_ONCE and index.catch_up(AT_ONCE):
                    _, outcomes, finished = _counts(index, index.length)
                    row |= {"finished": finished, "outcomes": outcomes}
            rows.append(row)
        return _page("runs.html", rows=rows, going=any(_going(row) for row in rows))

    def run(self, request: Request) -> Response:
        name = request.path_params["name"]
        index, whole = self.shelf.catch_up(name)
        analysing = whole and self.analyst.ask(index)
        # Asked first: an analysis that ends from here on is shown whole the next time, and the page goes on looking.
        analysed = index.remembered("analysed") == index.record.fingerprint
        found = findings(index)
        wanted = self.wanted(request.query_params, index)
        asked = request.query_params.get("page", "")
        page = max(int(asked), 1) if re.fullmatch(r"[0-9]{1,7}", asked) else 1
        rows, count = index.page(wanted, (page - 1) * PAGE, PAGE)
        shown = index.episodes([row.n for row in rows]) if terms(wanted.words) else []
        facets, outcomes, finished = _counts(index, index.length)
        plan = index.record.plan
        return _page(
            "run.html",
            name=name,
            plan=plan,
            planned=plan.size,
            finished=finished,
            outcomes=outcomes,
            facets=facets,
            fields=FIELDS,
            query=request.query_params,
            rows=rows,
            snippets={
                episode.n: snippet(each, sought(wanted.words)) for episode, each in zip(rows, shown, strict=False)
            },
            count=count,
            page=page,
            pages=max(-(-count // PAGE), 1),
            link=_linker(request.query_params),
            read=index.read,
            whole=whole,
            going=not whole or finished < plan.size or not analysed,
            analysing=analysing,
            analysed=analysed,
            problem=index.remembered("problem"),
            shifts={key: each for key, each in headlines(found).items() if each.detector == "oversight_shift"},
            findings=headlines(found),
            flags=index.flags(),
            flagged=index.flags_of([row.id for row in rows]),
            labels=_labels(index.record),
            unreadable=index.unreadable,
        )

    def columns(self, request: Request) -> Response:
        return Response(style(), media_type="text/css")

    def wanted(self, query: QueryParams, index: Index) -> Filter:
        """The filter in a page's address. What it does not know it leaves out."""
        labels = _labels(index.record)
        chosen = query.get("label", "")
        wanted = Filter(
            fields={name: query[name] for name in FIELDS if query.get(name)},
            words=query.get("words", "")[:400],
            flag=query.get("flag", "")[:100],
        )
        if chosen == "unlabelled":
            return replace(wanted, without=frozenset(labels))
        if chosen:
            kept = {id for id, each in labels.items() if chosen in ("any", *(one.verdict for one in each.values()))}
            return replace(wanted, ids=frozenset(kept))
        return wanted

    def episode(self, request: Request) -> Response:
        name, id = request.path_params["name"], request.path_params["id"]
        index, whole = self.shelf.catch_up(name)
        attempts = index.trial(id)
        if not attempts:
            raise HTTPException(
                404, f"no episode '{id[:40]}' in {'this run' if whole else 'what was read of this run so far'}"
            )
        chosen = request.query_params.get("attempt")
        row = next((each for each in attempts if str(each.attempt) == chosen), attempts[-1])
        before, after = index.beside(self.wanted(request.query_params, index), row.n)
        found = findings(index)
        episode = index.episodes([row.n])[0]
        blind = bool(request.query_params.get("blind"))
        return _page(
            "blind.html" if blind else "episode.html",
            name=name,
            row=row,
            attempts=attempts,
            episode=episode,
            deliberation=episode.deliberation,
            before=before,
            after=after,
            query=request.query_params,
            link=_linker(request.query_params),
            pointing=pointing(index.flags_of([id]).get(id, []), found),
            labels=_labels(index.record).get(id, {}),
            reviewer=self.reviewer,
            pattern=sought(request.query_params.get("words", "")[:400]),
        )

    def match(self, request: Request) -> Response:
        name, match = request.path_params["name"], request.path_params["match"]
        index, _ = self.shelf.catch_up(name)
        rows, first = index.match(match)
        if not rows:
            raise HTTPException(404, f"no match '{match[:40]}' in this run")
        arms = [row.arm for row in rows]
        episodes = dict(zip(arms, index.episodes([row.n for row in rows]), strict=True))
        baseline = next(
            (each.opened.cue.baseline for each in episodes.values() if each.opened and each.opened.cue), arms[0]
        )
        treated = [arm for arm in arms if arm not in (baseline, "aa")]
        left = request.query_params.get("left", baseline)
        right = request.query_params.get("right", treated[0] if treated else arms[-1])
        before, after = index.beside(self.wanted(request.query_params, index), first, "first")
        return _page(
            "match.html",
            name=name,
            match=match,
            rows=rows,
            pair=beside(episodes[left], episodes[right], name, _labels(index.record))
            if {left, right} <= set(arms)
            else None,
            left=left,
            right=right,
            arms=arms,
            before=before,
            after=after,
            query=request.query_params,
            kept=KEPT,
            link=_linker(request.query_params),
        )

    async def label(self, request: Request) -> Response:
        name, id = request.path_params["name"], request.path_params["id"]
        body = b""
        async for chunk in request.stream():
            body += chunk
            if len(body) > LARGEST:
                raise HTTPException(413, f"a label is at most {LARGEST} bytes")
        fields = {key: values[-1] for key, values in parse_qs(body.decode("utf-8", "replace")).items()}
        await run_in_threadpool(self._save, name, id, fields)
        back = {key: value for key, value in request.query_params.items() if value}
        address = request.url_for("episode", name=name, id=id).path
        return RedirectResponse(f"{address}?{urlencode(back)}" if back else address, 303)

    def _save(self, name: str, id: str, fields: Mapping[str, str]) -> None:
        index = self.shelf.index(name)
        if not index.trial(id):
            raise HTTPException(404, f"no episode '{id[:40]}' in this run")
        known = {key: value for key, value in fields.items() if key in Label.model_fields and value}
        known.pop("at", None)
        try:
            said = Label.model_validate({"reviewer": self.reviewer, **known, "trial": id})
        except ValidationError as error:
            first = error.errors()[0]
            raise HTTPException(400, ": ".join([*map(str, first["loc"]), first["msg"]])) from error
        label.add(index.record.home, said)


def _going(row: Mapping[str, Any]) -> bool:  # Any: cells of a table
    return row["finished"] is not None and row["finished"] < row["planned"]


@lru_cache(maxsize=64)
def _counts(index: Index, length: int) -> tuple[dict[str, dict[str, int]], dict[str, int], int]:
    """Facets, outcomes and finished trials, counted once for as long as nothing is added."""
    return index.facets(), index.outcomes(), index.finished()


def _labels(record: Record) -> dict[str, dict[str, Label]]:
    return _latest(record.home, ledger_at(record.home / label.FILE).stamp)


@lru_cache(maxsize=64)
def _latest(folder: Path, stamp: Hashable) -> dict[str, dict[str, Label]]:
    return label.latest(label.read(folder)[0])


KEPT = ("words", "flag", "label", "blind", *FIELDS)
"""What of a page's query goes along to the next page."""


def _linker(query: QueryParams) -> Callable[..., str]:
    """The page's own query with some of it changed; empty values leave it."""

    def link(**changes: object) -> str:
        kept = {name: value for name, value in query.items() if name not in changes and name in KEPT}
        changed = {name: str(value) for name, value in changes.items() if value not in (None, "")}
        return f"?{urlencode(kept | changed)}" if kept | changed else ""

    return link


def _page(template: str, status: int = 200, **values: Any) -> HTMLResponse:  # Any: what the page shows
    return HTMLResponse(_pages().get_template(template).render(**values).encode("utf-8", "replace").decode(), status)


def _failed(request: Request, error: Exception) -> Response:
    status, said = (error.status_code, error.detail) if isinstance(error, HTTPException) else (500, str(error))
    return _page("failed.html", status, said=said)


def viewer(runs: Callable[[], Mapping[str, Record]], analyst: Analyst, cache: Path, reviewer: str) -> Starlette:
    """The application over some runs."""
    return Viewer(Shelf(runs, cache), analyst, reviewer).app()


def serve(app: Starlette, host: str, port: int, ready: Callable[[str], None]) -> None:
    """Serve until interrupted; `ready` gets the address. Raises Problem when the port or address cannot be had."""
    import socket

    import uvicorn

    if not loopback(host):
        raise Problem(
            f"--host {host}: pages show transcripts to whoever reaches them, so only this machine's own addresses "
            "are served (127.0.0.1, ::1, localhost); from elsewhere, forward the port: ssh -L 7595:127.0.0.1:7595 MACHINE"
        )
    host = "127.0.0.1" if host == "localhost" else host
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as listening:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listening.bind((host, port))
            listening.listen()
        except OSError as error:
            raise Problem(
                f"cannot listen on {host} port {port}: {error.strerror}; choose another with --port"
            ) from error
        shown = f"[{host}]" if ":" in host else host
        ready(f"http://{shown}:{listening.getsockname()[1]}/")
        server = uvicorn.Server(uvicorn.Config(app, log_level="warning", access_log=False, server_header=False))
        with suppress(KeyboardInterrupt):  # how it is meant to be ended
            server.run(sockets=[listening])
