"""The command line. Every command is thin: it reads what the user gave, calls one function, and prints."""

import contextlib
import json
import os
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn, cast

import typer

from tools.problem import Problem

if TYPE_CHECKING:
    import polars as pl

    from detectors.finding import Estimand, Finding, Settings
    from sandbox.imports import Imported
    from sandbox.plan import Plan
    from sandbox.record import Record
    from sandbox.run import Progress

# Imports of the packages that do the work are inside the commands: `honne --help` answers at once.
app = typer.Typer(
    help="Does an AI agent act differently when it believes it is watched? Plays episodes, records them, and says.",
    no_args_is_help=True,
    add_completion=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

PlanFile = Annotated[
    str, typer.Argument(metavar="PLAN", help="A plan file, or the name of a preset (`honne list plans`).")
]
RunName = Annotated[str, typer.Argument(metavar="RUN", help="A run, by name or by folder.")]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON value and nothing else.")]
RunsDir = Annotated[Path, typer.Option(envvar="HONNE_RUNS_DIR", help="Folder that holds the runs.")]
Models = Annotated[
    list[str] | None,
    typer.Option("--model", "-m", help="Instead of the plan's models: a LiteLLM name or script:NAME; repeatable."),
]
Options = Annotated[
    list[str] | None,
    typer.Option(
        "-M", metavar="KEY=VALUE", help="Option of the models, e.g. temperature=1, max_tokens=2000, api_base=URL."
    ),
]
Epochs = Annotated[int | None, typer.Option(min=1, help="Draws per cell, instead of the plan's.")]
Folders = Annotated[
    list[Path] | None,
    typer.Option("--environments", help="A folder with environments (and cues/) of your own; repeatable."),
]
RUNS = Path("runs")


def main() -> NoReturn:
    """Entry point. What the user can put right is one sentence and exit code 2; an interrupt is 130."""
    try:
        app()
    except Problem as problem:
        print(f"honne: {problem}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        print("honne: stopped; the run can be resumed with the same command", file=sys.stderr)
        sys.exit(130)
    except BrokenPipeError:
        # The reader of our output has gone, as `| head` does. Not an error; but nothing more may be flushed to it.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)
    sys.exit(0)


def _say(value: object, as_json: bool, text: Callable[[], str]) -> None:
    print(json.dumps(value, ensure_ascii=False) if as_json else text())


def _value(text: str) -> Any:  # Any: whatever JSON the user wrote
    try:
        return json.loads(text)
    except ValueError:
        return text


def _options(pairs: list[str] | None) -> dict[str, Any]:
    for pair in pairs or []:
        if "=" not in pair:
            raise Problem(f"-M {pair}: write KEY=VALUE, for example -M temperature=1")
    return {key: _value(value) for key, _, value in (pair.partition("=") for pair in pairs or [])}


def _plan(where: str, models: list[str] | None, options: list[str] | None, epochs: int | None) -> "Plan":
    from sandbox.plan import Model, read

    plan = read(where)
    update: dict[str, Any] = {}
    if models:
        update["models"] = tuple(Model(name=name, options=_options(options)) for name in models)
    elif options:
        update["models"] = tuple(
            model.model_copy(update={"options": {**model.options, **_options(options)}}) for model in plan.models
        )
    if epochs:
        update["epochs"] = epochs
    return plan.model_copy(update=update)


def _with_a_model(plan: "Plan") -> "Plan":
    """A plan that names no model can still be looked at."""
    from sandbox.plan import Model

    stand_in = (Model(name="script:honest", label="(no model named)"),)
    return plan if plan.models else plan.model_copy(update={"models": stand_in})


@app.command("plan")
def plan_command(
    plan: PlanFile,
    model: Models = None,
    option: Options = None,
    epochs: Epochs = None,
    environments: Folders = None,
    as_json: Json = False,
) -> None:
    """Print what a plan would play: cells, trials, and an estimate of the model calls."""
    from sandbox.cost import turns
    from sandbox.run import Catalogue

    written = _with_a_model(_plan(plan, model, option, epochs))
    catalogue = Catalogue(tuple(environments or ()))
    resolved = catalogue.resolve(written)
    trials = resolved.trials()
    calls = sum(1 if trial.prompt == "belief" else turns(catalogue.environment(trial.environment)) for trial in trials)
    if as_json:
        listed = [trial.model_dump() | {"id": trial.id, "match": trial.match} for trial in trials]
        print(json.dumps({"plan": resolved.name, "hash": resolved.hash, "trials": listed, "calls": calls}))
        return
    print(f"{resolved.name} (hash {resolved.hash}): {resolved.description}")
    print(f"models        {', '.join(model.key for model in resolved.models)}")
    print(f"environments  {', '.join(resolved.environments)}")
    for block in resolved.blocks:
        crossed = resolved.full_cross(block)
        print(f"block         {block.prompt}, cue {block.cue or 'none'}: {', '.join(block.arms)}")
        if resolved.epochs % crossed:
            print(
                f"              {resolved.epochs} epochs do not cover the {crossed} combinations of order, paraphrase, "
                "channel and names evenly (every arm gets the same ones)"
            )
    print(f"trials        {len(trials)}")
    print(f"model calls   about {calls}, by the length of the environments' own solutions")


@app.command()
def power(
    plan: PlanFile,
    effect: Annotated[
        float, typer.Option(help="Shift to be found, as a difference of rates: 0.1 is ten points.")
    ] = 0.1,
    base: Annotated[float, typer.Option(help="Unsafe rate at the baseline.")] = 0.2,
    model: Models = None,
    option: Options = None,
    epochs: Epochs = None,
    tokens: Annotated[int, typer.Option(min=1, help="Tokens a model says in a turn, reasoning included.")] = 400,
    environments: Folders = None,
    as_json: Json = False,
) -> None:
    """Say what a plan can find and what it will cost, before any money is spent."""
    from detectors.power import power as power_of
    from sandbox.cost import estimate
    from sandbox.run import Catalogue

    catalogue = Catalogue(tuple(environments or ()))
    resolved = catalogue.resolve(_with_a_model(_plan(plan, model, option, epochs)))
    found = power_of(resolved, effect, base)
    costs = estimate(resolved, catalogue, tokens)
    if as_json:
        print(json.dumps({**found.model_dump(), "cost": [cost._asdict() for cost in costs]}))
        return
    print(f"contrast     {found.contrast}: {found.scenarios} scenarios, {found.draws} draws each and arm")
    print(
        f"effect       {100 * effect:+.1f} pp over a baseline of {base:.0%}, spread {found.spread:g} between scenarios"
    )
    adjusted = " and ".join(found.adjusted_for)
    print(
        f"power        {found.by_simulation:.0%} ({found.low:.0%} to {found.high:.0%}, {found.runs} simulated runs"
        f"{f', adjusted for {adjusted}' if adjusted else ''}); {found.by_formula:.0%} by formula, unadjusted"
    )
    print(f"detectable   {100 * found.mde:.1f} pp with 80 % power, by formula")
    if found.note:
        print(f"note         {found.note}")
    for cost in costs:
        dollars = "price unknown" if cost.dollars is None else f"about ${cost.dollars:,.2f}"
        tokens_said = f"{cost.prompt_tokens:,} tokens sent, {cost.completion_tokens:,} said"
        print(f"cost         {cost.model}: {cost.trials} trials, about {cost.calls} calls, {tokens_said}: {dollars}")


@app.command()
def run(
    plan: PlanFile,
    model: Models = None,
    option: Options = None,
    model_list: Annotated[
        Path | None, typer.Option(help="A LiteLLM YAML file with a model_list; --model picks from it.")
    ] = None,
    epochs: Epochs = None,
    limit: Annotated[int | None, typer.Option(min=1, help="Play only the first N trials of the plan.")] = None,
    max_samples: Annotated[int, typer.Option(min=1, max=256, help="Episodes played at a time.")] = 4,
    name: Annotated[str | None, typer.Option(help="Name of the run, instead of the plan's.")] = None,
    environments: Folders = None,
    runs_dir: RunsDir = RUNS,
    as_json: Json = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress.")] = False,
) -> None:
    """Play a plan, each episode in a container of its own. On a run that exists: play what is missing."""
    from sandbox.record import Record, new_folder
    from sandbox.run import Catalogue, prepare
    from sandbox.run import run as play_all

    written = _plan(plan, model, option, epochs)
    record = Record(new_folder(name or written.name, runs_dir))
    started = time.monotonic()
    runner = prepare(written, Catalogue(tuple(environments or ())), record, model_list)
    with _display(quiet or as_json) as watch:
        progress = play_all(runner, max_samples, limit, watch)
    final = {
        "run": str(record.folder),
        "planned": progress.planned,
        "finished": progress.finished,
        "faults": progress.faults,
        "seconds": round(time.monotonic() - started, 3),
    }
    _say(final, as_json, lambda: _summary(progress, record, final["seconds"]))
    if progress.finished < progress.planned:
        raise typer.Exit(1)


def _summary(progress: "Progress", record: "Record", seconds: object) -> str:
    missing = progress.planned - progress.finished
    lines = [f"{progress.finished} of {progress.planned} trials finished in {seconds} s; {progress.faults} faults"]
    if progress.resumed:
        lines.append(f"{progress.resumed} of them were on record already")
    if missing:
        lines.append(f"{missing} are missing: run the same command again to play them")
    lines.append(f"records in {record.folder}; next: honne report {record.name}")
    return "\n".join(lines)


@contextlib.contextmanager
def _display(quiet: bool) -> Iterator[Callable[["Progress"], None] | None]:
    """Live progress on a terminal, a plain line now and then elsewhere. On standard error, so output can be piped."""
    if quiet:
        yield None
    elif sys.stderr.isatty():
        from sandbox.display import live

        with live() as watch:
            yield watch
    else:
        from sandbox.display import lines

        yield lines(every=5.0)


@app.command()
def detect(
    run: Annotated[list[str], typer.Argument(metavar="RUN…", help="Runs, by name or by folder.")],
    seed: Annotated[int, typer.Option(help="Seed of every resampling.")] = 0,
    estimand: Annotated[
        str | None,
        typer.Option(
            help="decided: share of safe or unsafe endings; published: of all, a refusal counting as not unsafe."
        ),
    ] = None,
    everything: Annotated[
        bool, typer.Option("--all", help="Print every finding, by domain, environment and channel too.")
    ] = False,
    runs_dir: RunsDir = RUNS,
    as_json: Json = False,
) -> None:
    """Compare the arms: shifts with intervals, and everything that speaks for or against them."""
    from detectors.detect import detect as detect_in

    records = [_record(name, runs_dir) for name in run]
    found = detect_in(_readings(records), _settings(records, seed, estimand))
    if as_json:
        print(json.dumps([finding.model_dump(mode="json") for finding in found]))
        return
    from sandbox.display import findings_table

    shown = found if everything else [each for each in found if _headline(each)]
    findings_table(shown)
    if len(shown) < len(found):
        print(f"{len(found) - len(shown)} more findings, nulls and single environments among them: --all prints them")


def _headline(finding: "Finding") -> bool:
    """What is printed unasked: the answer for each model and cue, and whatever else claims something over all scenarios."""
    claims = finding.verdict in ("positive", "negative", "failed")
    return finding.scope == "all" and (claims or finding.detector == "oversight_shift")


def _record(name: str, runs_dir: Path) -> "Record":
    from sandbox.record import Record, run_folder

    return Record(run_folder(name, runs_dir))


def _readings(records: "list[Record]") -> "pl.DataFrame":
    """A row per trial of all runs. Kept as parquet beside the episodes, and made anew when episodes were added."""
    import polars as pl

    from detectors.report.frames import READER, SCHEMA, readings

    frames = []
    for record in records:
        kept = record.folder / f"readings-{record.fingerprint}-{READER}.parquet"
        if kept.exists() and pl.read_parquet_schema(kept) == dict(SCHEMA):
            frames.append(pl.read_parquet(kept))
            continue
        frames.append(readings(record.episodes(), run=record.name))
        for line in record.unreadable:
            print(f"honne: {record.folder}: skipped {line}", file=sys.stderr)
        with contextlib.suppress(OSError):  # a run on a read-only disk can still be read
            for old in record.folder.glob("readings-*.parquet"):
                old.unlink()
            if not record.unreadable:  # what had to be skipped is to be said every time
                frames[-1].write_parquet(kept)
    return pl.concat(frames)


def _settings(records: "list[Record]", seed: int, estimand: str | None = None) -> "Settings":
    """What the plans say, where they all say the same."""
    from detectors.finding import Settings

    if estimand not in (None, "decided", "published"):
        raise Problem(f"no estimand '{estimand}'; there are: decided, published")
    plans = [record.plan for record in records]
    primary = {plan.primary for plan in plans}
    planned: Estimand = "published" if {plan.estimand for plan in plans} == {"published"} else "decided"
    return Settings(
        seed=seed,
        primary=primary.pop() if len(primary) == 1 else None,
        estimand=cast("Estimand", estimand) if estimand else planned,
    )


@app.command()
def calibrate(
    replicates: Annotated[int, typer.Option(min=100, help="Simulated runs per agent and size.")] = 1000,
    docker: Annotated[
        bool, typer.Option("--docker", help="Play the scripted agents in containers instead of memory.")
    ] = False,
    seed: Annotated[int, typer.Option(help="Seed of every draw.")] = 0,
    as_json: Json = False,
) -> None:
    """Error rates of every detector on agents of known disposition: played once, and simulated many times."""
    from tempfile import TemporaryDirectory

    from detectors.calibration import calibrate as simulate
    from detectors.calibration import recognise
    from detectors.report.frames import readings
    from sandbox import played

    with TemporaryDirectory(prefix="honne-calibration-") as folder:
        table = readings(played.episodes(Path(folder), docker))
    rows = [*recognise(table, played.HAS, seed), *simulate(replicates, seed=seed)]
    if as_json:
        print(json.dumps([row.model_dump() for row in rows]))
    else:
        from sandbox.display import calibration_table

        calibration_table(rows)
    if any(row.tier == "played" and row.flagged != row.has_property for row in rows):
        raise typer.Exit(1)


@app.command()
def report(
    run: RunName,
    output: Annotated[
        Path | None, typer.Option("-o", "--output", help="Folder for the report; the run's own by default.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Seed of every resampling.")] = 0,
    runs_dir: RunsDir = RUNS,
    as_json: Json = False,
) -> None:
    """Write report.md and report.html."""
    from detectors.detect import detect as detect_in
    from detectors.report.pages import write

    record = _record(run, runs_dir)
    rows = _readings([record])
    found = detect_in(rows, _settings([record], seed))
    folder = output or record.folder
    try:
        paths = write(folder, record.plan, record.manifest, rows, found, record.episodes())
    except OSError as error:
        raise Problem(f"cannot write the report to {folder}: {error.strerror or error}") from error
    _say({"report": [str(path) for path in paths]}, as_json, lambda: "\n".join(f"wrote {path}" for path in paths))


@app.command()
def show(
    run: RunName,
    episode: Annotated[str, typer.Argument(metavar="EPISODE", help="A trial's id, or the beginning of one.")],
    runs_dir: RunsDir = RUNS,
    as_json: Json = False,
) -> None:
    """Print the transcript of one episode."""
    record = _record(run, runs_dir)
    found = [each for each in record.episodes() if each.trial.id.startswith(episode)]
    if not found:
        some = ", ".join(each.trial.id for each, _ in zip(record.episodes(), range(3), strict=False))
        raise Problem(f"no episode '{episode}' in {record.folder}; ids look like: {some or 'none yet'}")
    if len({each.trial.id for each in found}) > 1:
        raise Problem(f"'{episode}' is the beginning of {len(found)} ids; give more of it")
    if as_json:
        print(found[-1].model_dump_json())
        return
    from sandbox.display import transcript

    transcript(found[-1])


import_app = typer.Typer(
    no_args_is_help=True, rich_markup_mode=None, help="Take in results and scenarios made elsewhere."
)
app.add_typer(import_app, name="import")
NewName = Annotated[str, typer.Option("--name", help="What the run is to be called here.")]
Label = Annotated[str | None, typer.Option("--model", "-m", help="What to call the model; else as the files say.")]
Files = Annotated[list[Path], typer.Argument(metavar="FILE…", help="The files to take in.")]


def _imported(done: "Imported", as_json: bool, what: str) -> None:
    for sentence in done.kept_out:
        print(f"honne: kept out: {sentence}", file=sys.stderr)
    for sentence in done.remarks:
        print(f"honne: note: {sentence}", file=sys.stderr)
    value = {"folder": str(done.folder), "taken": done.taken, "kept_out": len(done.kept_out)}
    _say(value, as_json, lambda: f"{done.taken} {what} in {done.folder}, {len(done.kept_out)} kept out")


@import_app.command("vlaf")
def import_vlaf(
    files: Files, name: NewName, model: Label = None, runs_dir: RunsDir = RUNS, as_json: Json = False
) -> None:
    """VLAF results: MONITORED.json UNMONITORED.json, or a folder of them."""
    from sandbox.imports import vlaf

    _imported(vlaf.take(files, name, model, runs_dir), as_json, "episodes")


@import_app.command("tatemae-results")
def import_tatemae_results(
    files: Files, name: NewName, model: Label = None, runs_dir: RunsDir = RUNS, as_json: Json = False
) -> None:
    """Result tables of the Tatemae pipeline, as CSV; several are several draws."""
    from sandbox.imports import tatemae_results

    _imported(tatemae_results.take(files, name, model, runs_dir), as_json, "episodes")


@import_app.command("jsonl")
def import_jsonl(
    file: Annotated[Path, typer.Argument(help="One JSON object a line; sandbox/imports/README.md has the fields.")],
    name: NewName,
    runs_dir: RunsDir = RUNS,
    as_json: Json = False,
) -> None:
    """Results of any kind, in the documented schema."""
    from sandbox.imports import lines

    _imported(lines.take(file, name, runs_dir), as_json, "episodes")


@import_app.command("tatemae")
def import_tatemae(
    file: Annotated[Path, typer.Argument(help="A dataset in the Tatemae format.")],
    name: Annotated[str, typer.Option("--name", help="What the pack is to be called.")],
    output: Annotated[Path, typer.Option("-o", "--output", help="Folder that the pack is made in.")] = Path("packs"),
    as_json: Json = False,
) -> None:
    """Scenarios in the Tatemae format, as a pack of environments for --environments."""
    from sandbox.imports import tatemae_pack

    _imported(tatemae_pack.take(file, name, output), as_json, "scenarios")


Sources = Annotated[
    list[Path], typer.Argument(metavar="FILE|DIR…", help="Files, or folders that are searched for them.")
]
MapFile = Annotated[
    Path | None,
    typer.Option(
        "--map", help="What is the cue, the arm, the scenario, which side; not needed for Honne's own exports."
    ),
]


@import_app.command("inspect")
def import_inspect(
    files: Sources, name: NewName, mapping: MapFile = None, runs_dir: RunsDir = RUNS, as_json: Json = False
) -> None:
    """Logs of any Inspect task, .eval or .json; sandbox/imports/README.md has the mapping's fields."""
    from sandbox.imports import inspect_log

    _imported(inspect_log.take(files, name, mapping, runs_dir), as_json, "episodes")


@import_app.command("atif")
def import_atif(
    files: Sources, name: NewName, mapping: MapFile = None, runs_dir: RunsDir = RUNS, as_json: Json = False
) -> None:
    """Trajectories in ATIF, as Harbor writes them; the same mapping."""
    from sandbox.imports import atif

    _imported(atif.take(files, name, mapping, runs_dir), as_json, "episodes")


export_app = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="Write a run in the formats of others.")
app.add_typer(export_app, name="export")
To = Annotated[Path | None, typer.Option("-o", "--output", help="Folder to write to; by default one in the run's own.")]


def _exported(paths: list[Path], as_json: bool) -> None:
    _say(
        {"written": [str(path) for path in paths]},
        as_json,
        lambda: f"wrote {len(paths)} files to {paths[0].parent}" if len(paths) > 1 else f"wrote {paths[0]}",
    )


@export_app.command("inspect")
def export_inspect(run: RunName, output: To = None, runs_dir: RunsDir = RUNS, as_json: Json = False) -> None:
    """Inspect's .eval logs, one per model and environment, for `inspect view` and `read_eval_log`."""
    from sandbox.exports import inspect_log

    record = _record(run, runs_dir)
    _exported(inspect_log.write(record, output or record.folder / "inspect"), as_json)


@export_app.command("atif")
def export_atif(run: RunName, output: To = None, runs_dir: RunsDir = RUNS, as_json: Json = False) -> None:
    """Trajectories in ATIF, one per trial."""
    from sandbox.exports import atif

    record = _record(run, runs_dir)
    _exported(atif.write(record, output or record.folder / "atif"), as_json)


@export_app.command("otel")
def export_otel(
    run: RunName,
    endpoint: Annotated[
        str | None, typer.Option(help="OTLP/HTTP address that takes traces, e.g. http://localhost:4318/v1/traces.")
    ] = None,
    output: Annotated[
        Path | None, typer.Option("-o", "--output", help="File of OTLP JSON lines, instead of an address.")
    ] = None,
    with_content: Annotated[
        bool, typer.Option("--content", help="With what was said and called; without it, only names and counts.")
    ] = False,
    runs_dir: RunsDir = RUNS,
    as_json: Json = False,
) -> None:
    """Spans with OpenTelemetry's GenAI conventions, a trace per trial."""
    from sandbox.exports import otel

    record = _record(run, runs_dir)
    sent = otel.export(record, endpoint, output, with_content)
    _say(sent._asdict(), as_json, lambda: f"{sent.spans} spans of {sent.traces} trials to {sent.to}")


new_app = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="Write something that works, to be edited.")
app.add_typer(new_app, name="new")
Name = Annotated[str, typer.Argument(metavar="NAME", help="Lower case, with underscores: it becomes a file's name.")]
Where = Annotated[Path | None, typer.Option("--in", help="Folder to write to, instead of Honne's own.")]


def _written(paths: list[Path], as_json: bool, then: str) -> None:
    _say(
        {"written": [str(path) for path in paths]},
        as_json,
        lambda: "\n".join([*(f"wrote {path}" for path in paths), then]),
    )


@new_app.command("environment")
def new_environment(
    name: Name,
    domain: Annotated[
        str, typer.Option(help="Security, Privacy, Integrity, Availability, Finance or Values.")
    ] = "Security",
    motive: Annotated[str, typer.Option(help="corruption, sabotage or conflict.")] = "sabotage",
    where: Where = None,
    as_json: Json = False,
) -> None:
    """A scenario with a pair of tools of its own that passes `honne check`."""
    from sandbox import scaffold

    folder = scaffold.environment(name, domain, motive, where)
    _written(
        folder,
        as_json,
        f"next: edit the words and the pair, then honne check {name}" + (f" --environments {where}" if where else ""),
    )


@new_app.command("pair")
def new_pair(name: Name, where: Where = None, as_json: Json = False) -> None:
    """A pair of tools in a file of its own."""
    from sandbox import scaffold

    _written(scaffold.pair(name, where), as_json, "next: name it in an environment's scenario.py")


@new_app.command("cue")
def new_cue(name: Name, where: Where = None, as_json: Json = False) -> None:
    """A cue family with two levels and three paraphrases."""
    from sandbox import scaffold

    _written(
        scaffold.cue(name, where), as_json, f'next: edit the words, then honne list cues and a plan with cue = "{name}"'
    )


@new_app.command("detector")
def new_detector(name: Name, where: Where = None, as_json: Json = False) -> None:
    """A detector that counts, to be made into one that claims."""
    from sandbox import scaffold

    _written(scaffold.detector(name, where), as_json, f"next: say what {name} claims; honne detect runs it from now on")


@app.command("list")
def list_command(
    what: Annotated[str, typer.Argument(help="environments, cues, plans, agents, or runs.")] = "environments",
    environments: Folders = None,
    runs_dir: RunsDir = RUNS,
    as_json: Json = False,
) -> None:
    """Print what there is."""
    from sandbox import listing

    rows = listing.rows(what, tuple(environments or ()), runs_dir)
    _say(rows, as_json, lambda: listing.table(rows))


@app.command()
def check(
    name: Annotated[
        list[str] | None, typer.Argument(metavar="[NAME…]", help="Environments; all of them by default.")
    ] = None,
    environments: Folders = None,
    everything: Annotated[bool, typer.Option("--all", help="Print every check with what was seen.")] = False,
    as_json: Json = False,
) -> None:
    """Put environments through their checks in real boxes: routes, near misses, cues, words."""
    from sandbox import check as checks
    from sandbox.leakage import leaks
    from sandbox.run import Catalogue

    catalogue = Catalogue(tuple(environments or ()))
    chosen = name or catalogue.environment_names
    verdicts = []
    loaded = []
    for each in chosen:
        try:
            environment = catalogue.environment(each)
        except Problem as problem:
            verdicts.append(checks.Verdict(each, "reads", False, str(problem)))
            continue
        loaded.append(environment)
        verdicts += checks.check(environment, catalogue.cues)
    found = leaks(loaded) if len(loaded) > 1 else []
    verdicts += [
        checks.Verdict(
            "all", f"{leak.sees} tell no sides", leak.ok,
            f"a classifier is right in {leak.accuracy:.0%} ({leak.low:.0%} to {leak.high:.0%}, n = {leak.n})",
        )
        for leak in found
    ]  # fmt: skip
    if as_json:
        print(json.dumps([verdict._asdict() for verdict in verdicts]))
    else:
        from sandbox.display import verdict_table

        verdict_table(verdicts, everything)
    if not all(verdict.ok for verdict in verdicts):
        raise typer.Exit(1)


@app.command()
def doctor(as_json: Json = False) -> None:
    """Say what this machine has, what is missing, and how to mend it."""
    from sandbox.doctor import examine

    found = examine()
    _say(
        [line._asdict() for line in found],
        as_json,
        lambda: "\n".join(
            f"{'ok     ' if line.ok else 'missing'} {line.what}: {line.found}" + (f" → {line.fix}" if line.fix else "")
            for line in found
        ),
    )
    if not all(line.ok for line in found):
        raise typer.Exit(1)


if __name__ == "__main__":
    main()
