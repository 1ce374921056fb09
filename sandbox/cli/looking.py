"""Commands to look at episodes with: `show`, `view`."""

import sys
from typing import TYPE_CHECKING, Annotated

import typer

from sandbox import complete
from sandbox.cli.options import RUNS, Json, Quiet, RunName, RunsDir
from sandbox.cli.reading import readings_of, record_of, settings_of
from sandbox.cli.saying import say, watching
from tools.problem import Problem

if TYPE_CHECKING:
    import polars as pl

    from detectors.finding import Finding
    from sandbox.record import Record

app = typer.Typer()


@app.command()
def show(
    run: RunName,
    episode: Annotated[str, typer.Argument(metavar="EPISODE", help="A trial's id, or the beginning of one.")],
    runs_dir: RunsDir = RUNS,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Print the transcript of one episode."""
    record = record_of(run, runs_dir)
    watch = watching(f"reading {record.name}", quiet or as_json)
    found = [each for each in watch(record.episodes()) if each.trial.id.startswith(episode)]
    if not found:
        some = ", ".join(list(dict.fromkeys(each.trial.id for each in record.episodes()))[:3])
        raise Problem(f"no episode '{episode}' in {record.folder}; ids look like: {some or 'none yet'}")
    if len({each.trial.id for each in found}) > 1:
        raise Problem(f"'{episode}' is the beginning of {len(found)} ids; give more of it")
    if as_json:
        print(found[-1].model_dump_json())
        return
    from sandbox.display import transcript

    transcript(found[-1])


@app.command()
def view(
    run: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[RUN…]", help="Runs, by name or by folder; all by default.", autocompletion=complete.runs
        ),
    ] = None,
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port to listen on; 0 for any that is free.")] = 7595,
    host: Annotated[
        str, typer.Option(help="Address to listen on: one of this machine's own, 127.0.0.1 or ::1.")
    ] = "127.0.0.1",
    reviewer: Annotated[str | None, typer.Option(help="Your name on labels; else that of your account.")] = None,
    runs_dir: RunsDir = RUNS,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Serve pages about runs to a browser on this machine: filter, search, compare arms, label. Ctrl-C ends it.

    Only loopback is served, and only to pages of its own. Other accounts of this machine can reach a loopback port: on
    a shared machine, they can read what is shown and add labels.
    """
    from getpass import getuser

    from detectors.detect import detect as detect_in
    from sandbox.view import index, mirror
    from sandbox.view.analysis import Analyst
    from sandbox.view.app import Folder, named, serve, viewer

    def analyse(record: "Record") -> "tuple[pl.DataFrame, list[Finding]]":
        rows = readings_of([record])
        return rows, detect_in(rows, settings_of([record], seed=0))

    def ready(address: str) -> None:
        if not quiet:
            say({"address": address}, as_json, lambda: f"{address} (Ctrl-C ends it)")
            sys.stdout.flush()

    cache = index.cache_folder()
    folder = Folder(runs_dir, cache)
    mirror.sweep(cache)
    index.sweep(cache)
    chosen = named(mirror.opened(record_of(name, runs_dir).folder, cache) for name in run) if run else None
    pages = viewer(lambda: chosen or folder.runs(), Analyst(analyse), cache, reviewer or getuser())
    serve(pages, host, port, ready)
