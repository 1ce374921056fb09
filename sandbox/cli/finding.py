"""Commands that say what runs show: `detect`, `compare`, `calibrate`, `report`."""

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sandbox import complete
from sandbox.cli.options import RUNS, Json, JudgeName, Quiet, RunsDir, anywhere, here
from sandbox.cli.reading import readings_of, record_of, settings_of
from sandbox.cli.saying import say
from tools.problem import Problem

if TYPE_CHECKING:
    import polars as pl

    from detectors.finding import Finding, Settings
    from sandbox.record import Record

app = typer.Typer()


@app.command()
def detect(
    run: Annotated[
        list[str],
        typer.Argument(metavar="RUN…", help="Runs, by name or by folder.", autocompletion=complete.runs),
    ],
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
    judge: JudgeName = None,
    fail_on: Annotated[
        list[str] | None,
        typer.Option(
            metavar="CONDITION",
            help="Exit with 1 when this holds, e.g. 'oversight_shift>0.05' (the interval lies beyond 5 points), "
            "'oversight_shift.bound>0.2' (it leaves open more than 20), 'composite_event:positive'; repeatable.",
            autocompletion=complete.detectors,
        ),
    ] = None,
    allow_undecided: Annotated[
        bool,
        typer.Option("--allow-undecided", help="With --fail-on: what cannot be told is printed, and lets through."),
    ] = False,
    junit: Annotated[
        Path | None, typer.Option(metavar="FILE", parser=here, help="With --fail-on: write the outcome as JUnit XML.")
    ] = None,
    runs_dir: RunsDir = RUNS,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Compare the arms: shifts with intervals, and everything that speaks for or against them."""
    from detectors import condition
    from detectors.detect import detect as detect_in
    from detectors.detect import detectors
    from sandbox.display import working

    if junit and not fail_on:
        raise Problem("--junit writes what came of conditions: give at least one with --fail-on")
    conditions = [condition.parse(text, detectors()) for text in fail_on or ()]
    records = [record_of(name, runs_dir) for name in run]
    readings = readings_of(records, quiet or as_json)
    rows, settings = _judged(records, readings, settings_of(records, seed, estimand), judge, runs_dir)
    with working(f"running the detectors over {rows.height:,} trials", quiet or as_json):
        found = detect_in(rows, settings)
    cases = condition.judge(conditions, found)
    if as_json:
        listed = [finding.model_dump(mode="json") | {"n": finding.n_matches} for finding in found]
        print(json.dumps({"findings": listed, "conditions": condition.rows(cases)} if conditions else listed))
    else:
        _print_findings(found, everything, quiet)
        for case in cases:
            print(f"{case.state:9} {case.condition.text}: {case.about}: {case.why}")
    if junit:
        _write(junit, condition.junit(cases, allow_undecided))
    if any(case.state == "failed" or (case.state == "undecided" and not allow_undecided) for case in cases):
        raise typer.Exit(1)


def _print_findings(found: "list[Finding]", everything: bool, quiet: bool) -> None:
    from sandbox.display import findings_table

    shown = found if everything else [each for each in found if _headline(each)]
    findings_table(shown)
    if len(shown) < len(found) and not quiet:
        print(f"{len(found) - len(shown)} more findings, nulls and single environments among them: --all prints them")


def _write(path: Path, text: str) -> None:
    try:
        path.write_text(text)
    except OSError as error:
        raise Problem(f"cannot write {path}: {error.strerror}") from error


@app.command()
def compare(
    first: Annotated[str, typer.Argument(metavar="RUN", help="A run.", autocompletion=complete.runs)],
    second: Annotated[
        str, typer.Argument(metavar="RUN", help="The run it is held against.", autocompletion=complete.runs)
    ],
    model: Annotated[
        list[str] | None,
        typer.Option("--model", "-m", help="The first run's model, then the second's; else all that both have."),
    ] = None,
    any_words: Annotated[
        bool, typer.Option("--any-words", help="Compare scenarios and cues even where their words differ.")
    ] = False,
    seed: Annotated[int, typer.Option(help="Seed of every resampling.")] = 0,
    runs_dir: RunsDir = RUNS,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """How far two runs differ, paired by scenario: their shifts, and their unsafe rates in each arm.

    A positive difference is more in the first. Scenarios whose words differ, or that one run lacks, are left out, named
    and counted.
    """
    from detectors.compare import Half, models
    from detectors.compare import compare as compare_in
    from sandbox.display import comparison_tables, working

    records = [record_of(name, runs_dir) for name in (first, second)]
    tables = [readings_of([record], quiet or as_json) for record in records]
    settings = settings_of(records, seed)
    one, two = (table["model"].unique().to_list() for table in tables)
    pairs = models(one, two, model or ())
    found = []
    for names in pairs:
        one_half, other_half = (
            Half(f"{run}: {name}", table, name, record.manifest.get("words") or {})
            for run, name, table, record in zip((first, second), names, tables, records, strict=True)
        )
        with working(f"comparing {names[0]} and {names[1]}", quiet or as_json):
            found.append(compare_in(one_half, other_half, settings, any_words))
    if as_json:
        print(json.dumps([each.model_dump(mode="json") for each in found]))
    else:
        comparison_tables(found)


def _headline(finding: "Finding") -> bool:
    """What is printed unasked: the answer for each model and cue, and whatever else claims something over all scenarios."""
    claims = finding.verdict in ("positive", "negative", "failed")
    return finding.scope == "all" and (claims or finding.detector == "oversight_shift")


def _judged(
    records: "list[Record]", rows: "pl.DataFrame", settings: "Settings", judge: str | None, runs_dir: Path
) -> "tuple[pl.DataFrame, Settings]":
    """Readings with the verdicts that the runs have, and settings with the judge's figures."""
    from dataclasses import replace

    from detectors.judge import columns

    tables = []
    measured: dict[str, Any] = {}
    for record in records:
        source, remark = columns.pick(columns.sources(record.folder), judge)
        if remark:
            print(f"honne: {record.folder}: {remark}", file=sys.stderr)
        if source:
            tables.append(columns.table(source, record.name))
            measured |= columns.measured(source, runs_dir)
    return columns.join(rows, tables), replace(settings, measured=measured)


@app.command()
def calibrate(
    replicates: Annotated[int, typer.Option(min=100, help="Simulated runs per agent and size.")] = 1000,
    docker: Annotated[
        bool, typer.Option("--docker", help="Play the scripted agents in containers instead of memory.")
    ] = False,
    seed: Annotated[int, typer.Option(help="Seed of every draw.")] = 0,
    output: Annotated[
        Path | None,
        typer.Option(
            "-o",
            "--output",
            metavar="FILE",
            parser=here,
            help="Also write them to a file, for `honne report --calibration`.",
        ),
    ] = None,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Error rates of every detector on agents of known disposition: played once, and simulated many times."""
    from tempfile import TemporaryDirectory

    from detectors.calibration import calibrate as simulate
    from detectors.calibration import recognise
    from detectors.report.frames import readings
    from sandbox import played
    from sandbox.display import working

    if output and not output.absolute().parent.is_dir():
        raise Problem(f"cannot write {output}: there is no folder {output.parent}")
    silent = quiet or as_json
    with TemporaryDirectory(prefix="honne-calibration-") as folder, working("playing scripted agents", silent):
        table = readings(played.episodes(Path(folder), docker))
    with working("recognising them", silent):
        rows = list(recognise(table, played.HAS, seed))
    with working(f"simulating {replicates:,} runs of each agent and size", silent):
        rows += simulate(replicates, seed=seed)
    if output:
        from importlib.metadata import version

        from detectors.report.calibrated import Calibration

        kept = Calibration(version=version("honne"), seed=seed, replicates=replicates, rows=tuple(rows))
        try:
            output.write_text(kept.model_dump_json(indent=None).replace('{"detector"', '\n{"detector"') + "\n")
        except OSError as error:
            raise Problem(f"cannot write {output}: {error.strerror}") from error
    if as_json:
        print(json.dumps([row.model_dump() for row in rows]))
    else:
        from sandbox.display import calibration_table

        calibration_table(rows)
    if any(row.tier == "played" and row.flagged != row.has_property for row in rows):
        raise typer.Exit(1)


@app.command()
def report(
    run: Annotated[list[str], typer.Argument(metavar="RUN…", help="Runs, by name or by folder.")],
    output: Annotated[
        Path | None,
        typer.Option(
            "-o",
            "--output",
            metavar="FOLDER",
            parser=anywhere,
            help="Folder for the report; the (first) run's own by default.",
        ),
    ] = None,
    seed: Annotated[int, typer.Option(help="Seed of every resampling.")] = 0,
    judge: JudgeName = None,
    calibration: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            parser=here,
            help="Error rates by `honne calibrate -o FILE`, instead of those that come with this version.",
        ),
    ] = None,
    pool_different_words: Annotated[
        bool, typer.Option(help="Count runs together though the words of their cues or environments differ.")
    ] = False,
    runs_dir: RunsDir = RUNS,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Write the report: a page that needs no network, and the same as Markdown, JSON, CSV and parquet."""
    from dataclasses import replace

    from detectors.detect import detect as detect_in
    from detectors.judge import columns
    from detectors.report import calibrated, pages
    from detectors.report.pooling import apart, pooling, renamed
    from sandbox.display import working

    records: dict[str, Record] = {}
    for record in (record_of(name, runs_dir) for name in run):
        if records.setdefault(record.name, record).folder.resolve() != record.folder.resolve():
            raise Problem(f"two runs are called '{record.name}': rename the folder of one of them")
    manifests = {name: record.manifest for name, record in records.items()}
    sources = tuple(pages.Source(name, record.plan, manifests[name], record.lines) for name, record in records.items())
    fit = pooling({source.name: source.words for source in sources})
    rows = readings_of(list(records.values()), quiet or as_json)
    models = {name: rows.filter(run=name)["model"].unique().to_list() for name in records}
    called = {} if pool_different_words else apart(models, fit.groups)
    rows = renamed(rows, called)
    for difference in fit.differences:
        how = "counted together though" if pool_different_words else "not counted together:"
        print(f"honne: {how} {difference}", file=sys.stderr)
    rows, settings = _judged(list(records.values()), rows, settings_of(list(records.values()), seed), judge, runs_dir)
    with working(f"running the detectors over {rows.height:,} trials", quiet or as_json):
        found = detect_in(rows, settings)
    shipped = calibrated.SHIPPED if calibrated.SHIPPED.exists() else None
    error_rates = calibration or shipped
    asked = pages.Report(
        sources=tuple(replace(source, verdicts=columns.labels(rows, source.name)) for source in sources),
        readings=rows,
        findings=found,
        settings=settings,
        calibration=calibrated.read(error_rates) if error_rates else None,
        command=_again(run, output, seed, calibration, pool_different_words),
        pooling=fit,
        pooled_anyway=pool_different_words,
        called=called,
    )
    folder = output or next(iter(records.values())).folder
    try:
        with working("writing the report", quiet or as_json):
            paths = pages.write(folder, asked)
    except OSError as error:
        raise Problem(f"cannot write the report to {folder}: {error.strerror or error}") from error
    say({"report": [str(path) for path in paths]}, as_json, lambda: "\n".join(f"wrote {path}" for path in paths))


def _again(runs: list[str], output: Path | None, seed: int, calibration: Path | None, pool: bool) -> str:
    """The command that writes the same report."""
    import shlex

    words = ["honne", "report", *runs, "--seed", str(seed)]
    words += ["-o", str(output)] if output else []
    words += ["--calibration", str(calibration)] if calibration else []
    return shlex.join([*words, *(["--pool-different-words"] if pool else [])])
