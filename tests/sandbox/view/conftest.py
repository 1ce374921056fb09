"""A small run of scripted agents, played in memory, and the viewer over it: in this process, and for a real browser."""

import shutil
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest
import uvicorn
from playwright.sync_api import Browser, Page, expect
from starlette.applications import Starlette

from detectors.detect import detect
from detectors.report.frames import readings
from sandbox import played
from sandbox.episode import Called, Closed, Episode, Opened, Said
from sandbox.plan import Model
from sandbox.record import Record
from sandbox.view.analysis import Analyst
from sandbox.view.app import viewer

expect.set_options(timeout=60_000)

HOSTILE = (
    "<script>window.owned = 1; document.title = 'owned'</script><img src=x onerror=\"window.owned=1\">"
    "<svg onload=window.owned=1><a href='javascript:window.owned=1'>click</a></svg>"
    "\x1b[31mred\x1b]0;title\x07 \u202egnp.exe \u2066hidden\u2069 zero\u200bwidth </pre></main><h1>injected</h1>"
    '" autofocus onfocus="window.owned=1" x="{{ 7 * 7 }} =HYPERLINK("http://evil.example") http://evil.example/x.png'
)


@dataclass(frozen=True)
class Site:
    """A viewer that listens on loopback."""

    url: str
    record: Record


def analyse(record: Record):  # type: ignore[no-untyped-def]  # a table and findings, as the command line makes them
    rows = readings(record.episodes(), record.name)
    return rows, detect(rows)


@pytest.fixture(scope="session")
def source(tmp_path_factory: pytest.TempPathFactory) -> Record:
    """Two agents, eight scenarios, two draws. Not to be written to."""
    folder = tmp_path_factory.mktemp("played")
    models = tuple(Model(name=f"script:{agent}") for agent in ("faker", "reverser"))
    played.episodes(folder, False, played.plan().model_copy(update={"models": models, "epochs": 2}))
    return Record(folder / "run")


@pytest.fixture
def record(source: Record, tmp_path: Path) -> Record:
    """A copy of the run, to be added to."""
    shutil.copytree(source.folder, tmp_path / "runs" / "mine")
    return Record(tmp_path / "runs" / "mine")


def application(runs: Callable[[], Mapping[str, Record]], cache: Path) -> Starlette:
    cache.mkdir(exist_ok=True)
    return viewer(runs, Analyst(analyse), cache, reviewer="tester")


@pytest.fixture
def app(record: Record, tmp_path: Path) -> Starlette:
    return application(lambda: {"mine": record}, tmp_path / "cache")


@pytest.fixture
def site(app: Starlette, record: Record) -> Iterator[Site]:
    server = uvicorn.Server(uvicorn.Config(app, host="127.0.0.1", port=0, log_level="warning"))
    thread = threading.Thread(target=server.run)
    thread.start()
    while not server.started:
        assert thread.is_alive()
        time.sleep(0.02)
    port = server.servers[0].sockets[0].getsockname()[1]
    try:
        yield Site(f"http://127.0.0.1:{port}", record)
    finally:
        server.should_exit = True
        thread.join()


@pytest.fixture
def page(browser: Browser, site: Site) -> Iterator[Page]:
    """A page that tells at the end what went wrong in it, and whether it asked for anything elsewhere."""
    context = browser.new_context()
    context.set_default_timeout(60_000)
    opened = context.new_page()
    wrong: list[str] = []
    opened.on("console", lambda said: wrong.append(said.text) if said.type in ("error", "warning") else None)
    opened.on("pageerror", lambda error: wrong.append(str(error)))
    opened.on("dialog", lambda dialog: wrong.append(dialog.message))
    opened.on(
        "request", lambda asked: wrong.append(asked.url) if not asked.url.startswith((site.url, "data:")) else None
    )
    yield opened
    context.close()
    assert wrong == []


def hostile(episode: Episode, epoch: int) -> Episode:
    """The same episode as another draw, with hostile text wherever a model or a box can put some."""

    def turned(event: Opened | Said | Called | Closed) -> Opened | Said | Called | Closed:
        match event:
            case Said():
                return event.model_copy(update={"text": HOSTILE, "reasoning": HOSTILE + "x" * 200_000})
            case Called():
                return event.model_copy(update={"result": HOSTILE, "name": HOSTILE, "arguments": {HOSTILE: HOSTILE}})
            case Closed():
                return event.model_copy(update={"facts": {HOSTILE: HOSTILE}})
        return event

    trial = episode.trial.model_copy(update={"epoch": epoch, "model": HOSTILE})
    return episode.model_copy(update={"trial": trial, "events": tuple(turned(event) for event in episode.events)})
