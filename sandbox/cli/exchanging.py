"""Commands that take in what others write and write what they read: `import …`, `export …`."""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sandbox.cli.options import RUNS, Json, Quiet, RunName, RunsDir, anywhere, here
from sandbox.cli.reading import record_of
from sandbox.cli.saying import say, watching

if TYPE_CHECKING:
    from sandbox.imports import Imported
    from sandbox.record import Record, Watch

app = typer.Typer()


import_app = typer.Typer(
    no_args_is_help=True, rich_markup_mode=None, help="Take in results and scenarios made elsewhere."
)

app.add_typer(import_app, name="import")

NewName = Annotated[str, typer.Option("--name", help="What the run is to be called here.")]

Label = Annotated[str | None, typer.Option("--model", "-m", help="What to call the model; else as the files say.")]

Files = Annotated[list[Path], typer.Argument(metavar="FILE…", parser=here, help="The files to take in.")]


def _import(name: str, as_json: bool, quiet: bool, take: "Callable[[Watch], Imported]", what: str = "episodes") -> None:
    """Take something in, show how far it is, and say what came of it."""
    done = take(watching(f"importing {name}", quiet or as_json))
    for sentence in done.kept_out:
        print(f"honne: kept out: {sentence}", file=sys.stderr)
    for sentence in () if quiet else done.remarks:
        print(f"honne: note: {sentence}", file=sys.stderr)
    value = {"folder": str(done.folder), "taken": done.taken, "kept_out": len(done.kept_out)}
    say(value, as_json, lambda: f"{done.taken} {what} in {done.folder}, {len(done.kept_out)} kept out")


@import_app.command("vlaf")
def import_vlaf(
    files: Files,
    name: NewName,
    model: Label = None,
    runs_dir: RunsDir = RUNS,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """VLAF results: MONITORED.json UNMONITORED.json, or a folder of them."""
    from sandbox.imports import vlaf

    _import(name, as_json, quiet, lambda watch: vlaf.take(files, name, model, runs_dir, watch))


@import_app.command("tatemae-results")
def import_tatemae_results(
    files: Files,
    name: NewName,
    model: Label = None,
    runs_dir: RunsDir = RUNS,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Result tables of the Tatemae pipeline, as CSV; several are several draws."""
    from sandbox.imports import tatemae_results

    _import(name, as_json, quiet, lambda watch: tatemae_results.take(files, name, model, runs_dir, watch))


@import_app.command("jsonl")
def import_jsonl(
    file: Annotated[
        Path,
        typer.Argument(
            metavar="FILE", parser=here, help="One JSON object a line; sandbox/imports/README.md has the fields."
        ),
    ],
    name: NewName,
    runs_dir: RunsDir = RUNS,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Results of any kind, in the documented schema."""
    from sandbox.imports import lines

    _import(name, as_json, quiet, lambda watch: lines.take(file, name, runs_dir, watch))


@import_app.command("tatemae")
def import_tatemae(
    file: Annotated[Path, typer.Argument(metavar="FILE", parser=here, help="A dataset in the Tatemae format.")],
    name: Annotated[str | None, typer.Option("--name", help="What the pack is to be called; else as the file.")] = None,
    output: Annotated[
        Path, typer.Option("-o", "--output", metavar="FOLDER", parser=here, help="Folder that the pack is made in.")
    ] = Path("packs"),
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Scenarios in the Tatemae format, as a pack of environments for --environments."""
    from sandbox.imports import slug, tatemae_pack

    pack = name or slug(file.stem) or "tatemae"
    _import(pack, as_json, quiet, lambda watch: tatemae_pack.take(file, pack, output, watch), "scenarios")


Sources = Annotated[
    list[Path], typer.Argument(metavar="FILE|DIR…", parser=here, help="Files, or folders that are searched for them.")
]

MapFile = Annotated[
    Path | None,
    typer.Option(
        "--map",
        metavar="FILE",
        parser=here,
        help="What is the cue, the arm, the scenario, which side; not needed for Honne's own exports.",
    ),
]


@import_app.command("inspect")
def import_inspect(
    files: Sources,
    name: NewName,
    mapping: MapFile = None,
    runs_dir: RunsDir = RUNS,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Logs of any Inspect task, .eval or .json; sandbox/imports/README.md has the mapping's fields."""
    from sandbox.imports import inspect_log

    _import(name, as_json, quiet, lambda watch: inspect_log.take(files, name, mapping, runs_dir, watch))


@import_app.command("atif")
def import_atif(
    files: Sources,
    name: NewName,
    mapping: MapFile = None,
    runs_dir: RunsDir = RUNS,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Trajectories in ATIF, as Harbor writes them; the same mapping."""
    from sandbox.imports import atif

    _import(name, as_json, quiet, lambda watch: atif.take(files, name, mapping, runs_dir, watch))


export_app = typer.Typer(
    no_args_is_help=True, rich_markup_mode=None, help="Write a run in the formats of others, and its labels."
)

app.add_typer(export_app, name="export")

To = Annotated[
    Path | None,
    typer.Option(
        "-o", "--output", metavar="FOLDER", parser=anywhere, help="Folder to write to; by default one in the run's own."
    ),
]


def _to_export(run: str, runs_dir: Path, quiet: bool) -> "tuple[Record, Watch]":
    record = record_of(run, runs_dir)
    return record, watching(f"exporting {record.name}: models and environments", quiet)


def _exported(paths: list[Path], as_json: bool) -> None:
    say(
        {"written": [str(path) for path in paths]},
        as_json,
        lambda: f"wrote {len(paths)} files to {paths[0].parent}" if len(paths) > 1 else f"wrote {paths[0]}",
    )


@export_app.command("inspect")
def export_inspect(
    run: RunName, output: To = None, runs_dir: RunsDir = RUNS, as_json: Json = False, quiet: Quiet = False
) -> None:
    """Inspect's .eval logs, one per model and environment, for `inspect view` and `read_eval_log`."""
    from sandbox.exports import inspect_log

    record, watch = _to_export(run, runs_dir, quiet or as_json)
    _exported(inspect_log.write(record, output or record.folder / "inspect", watch), as_json)


@export_app.command("atif")
def export_atif(
    run: RunName, output: To = None, runs_dir: RunsDir = RUNS, as_json: Json = False, quiet: Quiet = False
) -> None:
    """Trajectories in ATIF, one per trial."""
    from sandbox.exports import atif

    record, watch = _to_export(run, runs_dir, quiet or as_json)
    _exported(atif.write(record, output or record.folder / "atif", watch), as_json)


@export_app.command("otel")
def export_otel(
    run: RunName,
    endpoint: Annotated[
        str | None, typer.Option(help="OTLP/HTTP address that takes traces, e.g. http://localhost:4318/v1/traces.")
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "-o", "--output", metavar="FILE", parser=anywhere, help="File of OTLP JSON lines, instead of an address."
        ),
    ] = None,
    with_content: Annotated[
        bool, typer.Option("--content", help="With what was said and called; without it, only names and counts.")
    ] = False,
    runs_dir: RunsDir = RUNS,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Spans with OpenTelemetry's GenAI conventions, a trace per trial."""
    from sandbox.exports import otel

    record, watch = _to_export(run, runs_dir, quiet or as_json)
    sent = otel.export(record, endpoint, output, with_content, watch)
    say(sent._asdict(), as_json, lambda: f"{sent.spans} spans of {sent.traces} trials to {sent.to}")


@export_app.command("labels")
def export_labels(
    run: RunName,
    output: Annotated[
        Path | None,
        typer.Option(
            "-o", "--output", metavar="FILE", parser=anywhere, help="File to write; standard output by default."
        ),
    ] = None,
    runs_dir: RunsDir = RUNS,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """What reviewers said that reasoning favours, as a gold set for `honne judge --validate`: JSON lines."""
    from sandbox import label

    record = record_of(run, runs_dir)
    labels, unreadable = label.read(record.folder)
    watch = watching(f"reading {record.name}", quiet or as_json)
    rows = list(label.gold(labels, watch(record.episodes())))
    if as_json and output is None:
        print(json.dumps(rows, ensure_ascii=False))
    else:
        label.write_gold(rows, output)
        if as_json:
            print(json.dumps({"written": [str(output)], "lines": len(rows)}))
    if unreadable:
        print(f"honne: {record.folder / label.FILE}: skipped {unreadable} lines that are no labels", file=sys.stderr)
    if not (quiet or as_json):
        without = "those that do not say what reasoning favours, or of episodes without any, are left out"
        print(f"honne: {len(rows)} lines from {len(labels)} labels; {without}", file=sys.stderr)
