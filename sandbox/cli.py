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

from sandbox import complete
from tools.problem import Problem

if TYPE_CHECKING:
    import polars as pl

    from detectors.finding import Estimand, Finding, Settings
    from detectors.judge.criteria import Criteria
    from detectors.judge.judging import Budget, Judge
    from detectors.judge.judging import Progress as Judging
    from sandbox.counterfactual import Standing
    from sandbox.imports import Imported
    from sandbox.plan import Model, Plan
    from sandbox.pool import Reuse
    from sandbox.record import Record, Watch
    from sandbox.run import Progress, Retry

# Imports of the packages that do the work are inside the commands: `honne --help` answers at once.
app = typer.Typer(
    help="Does an AI agent act differently when it believes it is watched? Plays episodes, records them, and says.",
    epilog="Exit codes: 0 done; 1 done, and something failed: trials are missing, a check or a --fail-on condition failed; "
    "2 something to put right, said in one sentence; 3 a limit of the run was reached; 130 interrupted. Progress goes "
    "to standard error, results to standard output; NO_COLOR is respected.",
    no_args_is_help=True,
    add_completion=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

PlanFile = Annotated[
    str,
    typer.Argument(
        metavar="PLAN", help="A plan file, or the name of a preset (`honne list plans`).", autocompletion=complete.plans
    ),
]
RunName = Annotated[
    str, typer.Argument(metavar="RUN", help="A run, by name or by folder.", autocompletion=complete.runs)
]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON value and nothing else.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="No progress and no remarks; results and errors only.")]


def _folder(where: Any) -> Path:  # Any: the option's text, or its default
    if "://" not in str(where):
        return Path(where)
    from sandbox.store import place

    return place(where)


def _here(where: Any) -> Path:  # Any: the option's text, or its default
    """A path on this machine. A URL would become a folder by the name of `s3:`."""
    if "://" in str(where):
        raise Problem(f"{where}: has to be a file or folder on this machine")
    return Path(where)


RunsDir = Annotated[
    Path,
    typer.Option(
        envvar="HONNE_RUNS_DIR",
        metavar="FOLDER",
        parser=_folder,
        help="Folder that holds the runs: a path, or a URL such as s3://bucket/runs.",
    ),
]
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
Epochs = Annotated[int | None, typer.Option(min=1, max=1_000_000, help="Draws per cell, instead of the plan's.")]
Only = Annotated[
    list[str] | None,
    typer.Option(
        "--only", metavar="NAME", help="Instead of the plan's environments: a name or pattern, 'desk_*'; repeatable."
    ),
]
Folders = Annotated[
    list[Path] | None,
    typer.Option(
        "--environments",
        metavar="FOLDER",
        parser=_here,
        help="A folder with environments (and cues/) of your own; repeatable.",
    ),
]
JudgeName = Annotated[
    str | None, typer.Option("--judge", help="Whose verdicts to use, where a run has some by several judges.")
]
RUNS = Path("runs")


class Stopped(BaseException):
    """A second interrupt. A name of its own, because click would take a KeyboardInterrupt and wait for the threads."""


def main() -> NoReturn:
    """Entry point. What the user can put right is one sentence and exit code 2; an interrupt is 130."""
    try:
        app()
    except Problem as problem:
        print(f"honne: {problem}", file=sys.stderr)
        sys.exit(2)
    except (KeyboardInterrupt, Stopped):
        print("honne: stopped; the run can be resumed with the same command", file=sys.stderr, flush=True)
        # At once: episodes that run are not waited for. Their boxes end with this process.
        os._exit(130)
    except BrokenPipeError:
        # The reader of our output has gone, as `| head` does. Not an error; but nothing more may be flushed to it.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)
    sys.exit(0)


def _watch(what: str, quiet: bool) -> "Watch":
    from sandbox.display import counted

    return lambda items: counted(items, what, quiet)


def _say(value: object, as_json: bool, text: Callable[[], str]) -> None:
    print(json.dumps(value, ensure_ascii=False) if as_json else text())


def _value(text: str) -> Any:  # Any: whatever JSON the user wrote
    try:
        return json.loads(text)
    except ValueError:
        return text


def _options(pairs: list[str] | None) -> dict[str, Any]:
    for pair in pairs or []:
        if "=" not in pair[1:]:  # not repeated here: it may be a key
            raise Problem("-M: write KEY=VALUE, for example -M temperature=1")
    return {key: _value(value) for key, _, value in (pair.partition("=") for pair in pairs or [])}


def _priced(plan: "Plan", prices: list[str] | None) -> dict[str, list[float]]:
    """Model → US dollars per million tokens sent and said."""
    found: dict[str, list[float]] = {}
    for price in prices or []:
        name, _, numbers = price.rpartition("=")
        dollars = _dollars(price, numbers, "[MODEL=]SENT,SAID")
        named = [model.key for model in plan.models if name in ("", model.key, model.name)]
        if not named:
            raise Problem(
                f"--price {price}: no such model in the plan; there are: {', '.join(m.key for m in plan.models)}"
            )
        found |= dict.fromkeys(named, dollars)
    return found


def _dollars(price: str, numbers: str, shape: str) -> list[float]:
    """US dollars per million tokens sent and said."""
    try:
        sent, said = (float(number) for number in numbers.split(","))
        if not (sent >= 0 and said >= 0):
            raise ValueError(numbers)
    except ValueError as error:
        raise Problem(f"--price {price}: write {shape}, in US dollars per million tokens, as in 2.5,10") from error
    return [sent, said]


def _with_options(plan: "Plan", more: "Callable[[Model], dict[str, Any]]") -> "Plan":
    """The plan with more options to its models. Raises Problem."""
    from pydantic import ValidationError

    from environments.cue import explain
    from sandbox.plan import Model

    try:
        models = tuple(
            Model(name=model.name, label=model.label, options={**model.options, **more(model)}) for model in plan.models
        )
    except ValidationError as error:
        raise Problem(f"-M: {explain(error)}") from error
    return plan.model_copy(update={"models": models})


def _plan(
    where: str,
    models: list[str] | None,
    options: list[str] | None,
    epochs: int | None,
    only: list[str] | None,
    written: "Plan | None" = None,
) -> "Plan":
    from sandbox.plan import Model, read

    plan = written or read(where)
    update: dict[str, Any] = {}
    if models:
        update["models"] = tuple(Model(name=name) for name in models)
    if epochs:
        update["epochs"] = epochs
    if only:
        update["environments"] = tuple(only)
    plan = plan.model_copy(update=update)
    return _with_options(plan, lambda _: _options(options)) if options else plan


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
    only: Only = None,
    environments: Folders = None,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Print what a plan would play: cells, trials, and an estimate of the model calls."""
    from sandbox.cost import turns
    from sandbox.run import Catalogue

    written = _with_a_model(_plan(plan, model, option, epochs, only))
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
        reasoning = "" if block.reasoning == ("native",) else f"; reasoning {', '.join(block.reasoning)}"
        print(f"block         {block.prompt}, cue {block.cue or 'none'}: {', '.join(block.arms)}{reasoning}")
        if resolved.epochs % crossed and not quiet:
            print(
                f"              {resolved.epochs} epochs do not cover the {crossed} combinations of order, paraphrase, "
                "channel, names and reasoning evenly (every arm gets the same ones)"
            )
    print(f"trials        {len(trials)}")
    print(f"model calls   about {calls}, by the length of the environments' own solutions")
    if resolved.interrogate:
        asked = sum(trial.prompt != "belief" for trial in trials)
        print(f"interrogation {asked} calls more, one after each episode, counted apart")


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
    only: Only = None,
    environments: Folders = None,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Say what a plan can find and what it will cost, before any money is spent."""
    from detectors.power import power as power_of
    from sandbox.cost import estimate
    from sandbox.display import working
    from sandbox.run import Catalogue

    catalogue = Catalogue(tuple(environments or ()))
    resolved = catalogue.resolve(_with_a_model(_plan(plan, model, option, epochs, only)))
    with working("simulating runs of the plan", quiet or as_json):
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
        Path | None,
        typer.Option(
            metavar="FILE", parser=_here, help="A LiteLLM YAML file with a model_list; --model picks from it."
        ),
    ] = None,
    epochs: Epochs = None,
    limit: Annotated[int | None, typer.Option(min=1, help="Play only the first N trials of the plan.")] = None,
    max_samples: Annotated[
        int, typer.Option(min=1, max=256, help="Episodes played at a time; with --backend ray, on each node.")
    ] = 4,
    backend: Annotated[
        str, typer.Option(help="threads: on this machine; ray: on the nodes of a Ray cluster.")
    ] = "threads",
    address: Annotated[
        str | None,
        typer.Option(
            help="Ray cluster: HOST:PORT, or `local` to start one here; else $RAY_ADDRESS, or the one that runs here."
        ),
    ] = None,
    max_connections: Annotated[
        int | None, typer.Option(min=1, help="Calls to one model at a time; -M rpm=N and -M tpm=N limit them a minute.")
    ] = None,
    max_retries: Annotated[
        int | None, typer.Option(min=0, help="Times a model call is tried again before the episode is a fault.")
    ] = None,
    turn_limit: Annotated[int | None, typer.Option(min=1, help="Turns of one episode, instead of the plan's.")] = None,
    time_limit: Annotated[float | None, typer.Option(min=0.001, help="Seconds of one episode.")] = None,
    token_limit: Annotated[int | None, typer.Option(min=1, help="Tokens of one episode, sent and said.")] = None,
    cost_limit: Annotated[float | None, typer.Option(min=0, help="US dollars of one episode.")] = None,
    max_cost: Annotated[
        float | None, typer.Option(min=0, help="US dollars of the whole run: no episode is begun beyond it.")
    ] = None,
    max_tokens_total: Annotated[int | None, typer.Option(min=1, help="Tokens of the whole run, likewise.")] = None,
    max_time: Annotated[float | None, typer.Option(min=0, help="Seconds after which no episode is begun.")] = None,
    price: Annotated[
        list[str] | None,
        typer.Option(
            metavar="[MODEL=]SENT,SAID",
            help="US dollars per million tokens, where LiteLLM's list has none; repeatable.",
        ),
    ] = None,
    retry: Annotated[
        str, typer.Option(help="Of what is missing play: all; faults, what faulted before; none, what never did.")
    ] = "all",
    name: Annotated[str | None, typer.Option(help="Name of the run, instead of the plan's.")] = None,
    isolation: Annotated[
        str,
        typer.Option(
            help="fresh: a container for each episode. recycle: used again after a reset that is proved, each time."
        ),
    ] = "fresh",
    runtime: Annotated[
        str | None, typer.Option(help="Runtime of the engine to play in, e.g. runsc (gVisor), instead of its default.")
    ] = None,
    only: Only = None,
    environments: Folders = None,
    runs_dir: RunsDir = RUNS,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Play a plan, each episode in a container of its own. On a run that exists: play what is missing.

    PLAN may be the name of a run that was begun: its own plan is resumed.

    Ends with 0 when every planned trial is finished, 1 when some are missing, 2 for what you can put right, 3 when a
    limit of the run was reached, 130 after an interrupt.
    """
    from sandbox.container import reap
    from sandbox.record import new_folder, record_at
    from sandbox.run import Allowance, Catalogue, Runner, prepare
    from sandbox.run import run as play_all

    if retry not in ("all", "faults", "none"):
        raise Problem(f"--retry {retry}: there are: all, faults, none")
    if backend not in ("threads", "ray"):
        raise Problem(f"no backend '{backend}'; there are: threads, ray")
    if address and backend != "ray":
        raise Problem("--address is of a Ray cluster: give --backend ray with it")
    begun = None if name else _begun(plan, runs_dir)
    written = _plan(plan, model, option, epochs, only, begun.plan if begun else None)
    traffic = {"max_connections": max_connections, "max_retries": max_retries}
    limits = {"turns": turn_limit, "seconds": time_limit, "tokens": token_limit, "cost": cost_limit}
    prices = _priced(written, price)
    written = _with_options(
        written.model_copy(update={"budget": written.budget.model_copy(update=_given(limits))}),
        lambda each: {} if each.scripted else _given({**traffic, "price": prices.get(each.key)}),
    )
    record = begun or record_at(new_folder(name or written.name, runs_dir))
    for each in written.models:
        if each.forgotten:
            options = ", ".join(each.forgotten)
            raise Problem(f"{record.folder} does not keep secrets: give {options} of {each.key} again with -M")
    allowance = Allowance(max_cost, max_tokens_total, max_time)
    started = time.monotonic()
    catalogue = Catalogue(tuple(environments or ()))
    priced, reuse = max_cost is not None, _reuse(isolation)
    with contextlib.ExitStack() as ending:
        runner: Runner
        if backend == "ray":
            from sandbox import cluster

            joined = cluster.prepared(
                written, catalogue, record, model_list, max_samples, address, priced, reuse, runtime
            )
            runner, workers = ending.enter_context(joined)
        else:
            runner, workers = prepare(written, catalogue, record, model_list, priced, reuse, runtime), max_samples
            for orphan in reap():
                print(f"honne: removed a container of run {orphan.run or '(none)'}: {orphan.why}", file=sys.stderr)
        watch = ending.enter_context(_display(quiet or as_json))
        try:
            progress = play_all(runner, workers, limit, watch, allowance, cast("Retry", retry))
        except KeyboardInterrupt as interrupt:
            raise Stopped from interrupt
    final = {
        "run": str(record.folder),
        "planned": progress.planned,
        "finished": progress.finished,
        "faults": progress.faults,
        "faults_by_arm": progress.faults_by_arm,
        "given_up": progress.given_up,
        "ended": progress.ended,
        "seconds": round(time.monotonic() - started, 3),
    }
    _say(final, as_json, lambda: _summary(progress, record, final["seconds"]))
    for reason, boxes in runner.pool.counts.dropped.most_common():
        from tools.hidden import spelled

        print(f"honne: {boxes} boxes were not used again, not being as new: {spelled(reason)}", file=sys.stderr)
    if progress.finished < progress.planned:
        raise typer.Exit(130 if progress.interrupted else 3 if progress.ended else 1)


def _begun(where: str, runs_dir: Path) -> "Record | None":
    """The run of that name or folder, unless it is a plan file; None where there is none."""
    from sandbox.record import record_at, run_folder

    with contextlib.suppress(OSError, ValueError):
        if Path(where).is_file():
            return None
    try:
        return record_at(run_folder(where, runs_dir))
    except Problem:
        return None


def _given(options: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in options.items() if value is not None}


def _reuse(isolation: str) -> "Reuse":
    if isolation not in ("fresh", "recycle"):
        raise Problem(f"no isolation '{isolation}'; there are: fresh, recycle")
    return cast("Reuse", isolation)


def _summary(progress: "Progress", record: "Record", seconds: object) -> str:
    missing = progress.planned - progress.finished
    lines = [f"{progress.finished} of {progress.planned} trials finished in {seconds} s; {progress.faults} faults"]
    if progress.resumed:
        lines.append(f"{progress.resumed} of them were on record already")
    if progress.faults_by_arm:
        counts = ", ".join(f"{arm} {count}" for arm, count in sorted(progress.faults_by_arm.items()))
        lines.append(f"faulty attempts on record, by arm: {counts}")
    lines += progress.given_up.values()
    if progress.ended and missing:
        lines.append(progress.ended)
    if missing:
        lines.append(f"{missing} are missing: run the same command again to play them")
    shown = record.name if record.folder.parent == RUNS else record.folder
    lines.append(f"records in {record.folder}; next: honne report {shown}")
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
        Path | None, typer.Option(metavar="FILE", parser=_here, help="With --fail-on: write the outcome as JUnit XML.")
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
    records = [_record(name, runs_dir) for name in run]
    readings = _readings(records, quiet or as_json)
    rows, settings = _judged(records, readings, _settings(records, seed, estimand), judge, runs_dir)
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

    records = [_record(name, runs_dir) for name in (first, second)]
    tables = [_readings([record], quiet or as_json) for record in records]
    settings = _settings(records, seed)
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


def _record(name: str, runs_dir: Path) -> "Record":
    from sandbox.record import record_at, run_folder

    return record_at(run_folder(name, runs_dir))


def _readings(records: "list[Record]", quiet: bool = True) -> "pl.DataFrame":
    """A row per trial of all runs. Kept as parquet beside the episodes, and made anew when episodes were added."""
    import polars as pl

    from detectors.report.frames import READER, SCHEMA

    frames = []
    for record in records:
        name = f"readings-{record.fingerprint}-{READER}.parquet"
        kept = record.kept(name)
        if kept is not None and pl.read_parquet_schema(kept) == dict(SCHEMA):
            # The folder may have been given another name since.
            frames.append(pl.read_parquet(kept).with_columns(pl.lit(record.name).alias("run")))
            continue
        frames.append(_read(record, quiet))
        for line in record.unreadable:
            print(f"honne: {record.folder}: skipped {line}", file=sys.stderr)
        with contextlib.suppress(OSError):  # a run on a read-only disk can still be read
            for old in record.folder.glob("readings-*.parquet"):
                old.unlink()
            if not record.unreadable:  # what had to be skipped is to be said every time
                record.keep(frames[-1], name)
    return pl.concat(frames)


def _read(record: "Record", quiet: bool) -> "pl.DataFrame":
    """A row per trial, from the lines of a run: in parts, where it has any."""
    from functools import partial

    from detectors.report.frames import read, readings, together
    from detectors.report.processes import in_order
    from sandbox.display import counted

    parts = record.parts()
    if not parts:
        return readings(counted(record.episodes(), f"reading {record.name}", quiet), run=record.name)
    found = in_order(partial(read, run=record.name), parts)
    rows, skipped = together(counted(found, f"reading {record.name} in parts", quiet, total=len(parts)))
    record.unreadable += skipped
    return rows


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


@app.command("judge")
def judge_command(
    run: Annotated[
        str | None,
        typer.Argument(metavar="[RUN]", help="A run; with --validate, a gold file instead of the shipped one."),
    ] = None,
    judge: Annotated[
        str | None,
        typer.Option("--judge", "-j", help="A LiteLLM name, or parser, lexicon or embedding:PATH, which cost nothing."),
    ] = None,
    votes: Annotated[int, typer.Option(min=1, max=100, help="Times each reasoning is put to the judge.")] = 1,
    criteria: Annotated[str, typer.Option(help="honne, tatemae, vlaf or sheshadri.")] = "honne",
    validate: Annotated[bool, typer.Option("--validate", help="Measure the judge on a gold set.")] = False,
    split: Annotated[str, typer.Option(help="Part of the gold set: held-out, development or all.")] = "held-out",
    compare: Annotated[
        bool, typer.Option("--compare", help="Agreement of the judges that a run has verdicts by.")
    ] = False,
    option: Options = None,
    model_list: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", parser=_here, help="A LiteLLM YAML file with a model_list; --judge picks from it."
        ),
    ] = None,
    max_cost: Annotated[float | None, typer.Option(min=0, help="Dollars that this call may spend.")] = None,
    price: Annotated[
        str | None, typer.Option(help="SENT,SAID: US dollars per million tokens, where LiteLLM knows no price.")
    ] = None,
    concurrency: Annotated[int, typer.Option(min=1, max=256, help="Questions put at a time.")] = 4,
    limit: Annotated[int | None, typer.Option(min=1, help="Judge only the first N reasonings.")] = None,
    runs_dir: RunsDir = RUNS,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Have the stated reasoning of a run judged, blind to arm, tools, choice and outcome. Again: only what is missing."""
    from dataclasses import asdict

    from detectors.judge import blinding, columns, figures, judging, measured, pages, store
    from detectors.judge.criteria import load
    from sandbox.display import counted, now_and_then

    if judge is None:
        there = columns.sources(_record(run or "", runs_dir).folder)
        if not compare:
            rows = [
                {
                    "judge": name,
                    "criteria": asked,
                    "trials": len(kept.trials),
                    "votes": len(kept.votes),
                    "cost": kept.cost,
                }
                for name, source in there.items()
                for asked, (_, kept) in source.by_criteria.items()
            ]
            _say(rows, as_json, lambda: pages.shelf(there))
            return
        by = {f"{name}, {c}": columns.verdicts(k) for name, s in there.items() for c, (_, k) in s.by_criteria.items()}
        agreed = figures.compare(by)
        _say([each.model_dump() for each in agreed], as_json, lambda: pages.agreements(agreed))
        return
    reader, budget = _reader(judge, load(criteria), option, model_list, max_cost, price)
    if validate:
        gold = Path(run) if run else None
        lines = measured.taken(gold, split)
        named = gold.name if gold else "shipped"
        watch = None if quiet or as_json else now_and_then(5.0, _votes)
        found, progress = measured.validate(
            lines, reader, runs_dir, named, split, votes, concurrency, budget, limit, watch
        )
        value = {"figures": found.model_dump(), "progress": asdict(progress)}
        where = figures.measured_path(runs_dir, found.judge, found.criteria)
        _say(value, as_json, lambda: f"{pages.measured(found)}\n{pages.progress(progress, f'kept in {where}')}")
    else:
        record = _record(run or "", runs_dir)
        into = store.store(record.folder, reader.name, reader.criteria)
        episodes = counted(record.episodes(), f"reading {record.name}", quiet or as_json)
        asked = blinding.items(episodes, reader.criteria == criteria and load(criteria).belief)
        watch = None if quiet or as_json else now_and_then(5.0, _votes)
        progress = judging.judge(asked, reader, into, votes, concurrency, budget, limit, watch)
        _say(asdict(progress), as_json, lambda: pages.progress(progress, f"kept in {into.path}"))
    if progress.stopped or progress.failed:
        raise typer.Exit(1)


def _votes(progress: "Judging") -> str:
    return f"{progress.known + progress.made} of {progress.wanted} votes, {progress.failed} not answered"


def _reader(
    name: str,
    asks: "Criteria",
    option: list[str] | None,
    model_list: Path | None,
    max_cost: float | None,
    given: str | None,
) -> "tuple[Judge, Budget]":
    """The judge of that name, and what it may spend."""
    from detectors.judge.judging import Budget, ModelJudge
    from detectors.judge.tiers import tier

    if (free := tier(name)) is not None:
        return free, Budget()
    from sandbox.judge import Asker
    from sandbox.plan import Model
    from sandbox.policy import price

    dollars = {"price": _dollars(given, given, "SENT,SAID")} if given else {}
    model = Model(name=name, options=_options(option) | dollars)
    asker = Asker(model, asks.answer_schema, model_list)
    known = price(model, model_list)
    if known is None and max_cost is not None:
        raise Problem(
            f"the price of {name} is unknown, so --max-cost cannot be kept: give --price SENT,SAID, in US dollars per "
            "million tokens"
        )
    budget = Budget(most=max_cost, rates={"in": known.sent, "out": known.said} if known else None)
    return ModelJudge(name, asks, asker, asker.settings, asker.most_said), budget


@app.command()
def counterfactual(
    run: RunName,
    draws: Annotated[int, typer.Option(min=1, help="Draws of every version of a conversation.")] = 10,
    finding: Annotated[
        list[str] | None,
        typer.Option(
            help="A detector: the trials that its findings give as evidence. By default, of all that claim something."
        ),
    ] = None,
    trial: Annotated[
        list[str] | None, typer.Option(help="A trial's id, or the beginning of one, instead; repeatable.")
    ] = None,
    limit: Annotated[int, typer.Option(min=1, help="Trials to ask again, at most.")] = 20,
    option: Options = None,
    model_list: Annotated[
        Path | None,
        typer.Option(metavar="FILE", parser=_here, help="The LiteLLM YAML file that the run was played with."),
    ] = None,
    max_samples: Annotated[int, typer.Option(min=1, max=256, help="Draws asked for at a time.")] = 4,
    environments: Folders = None,
    seed: Annotated[int, typer.Option(help="Seed of every resampling.")] = 0,
    runs_dir: RunsDir = RUNS,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Ask flagged episodes again just before their decision: as it was, and with the cue removed or exchanged."""
    from detectors.detect import detect as detect_in
    from detectors.report.counterfactual import Answer, effects
    from sandbox import counterfactual as again
    from sandbox.display import now_and_then
    from sandbox.policy import check
    from sandbox.run import Catalogue, Runner

    record = _record(run, runs_dir)
    settings = _settings([record], seed)
    ids = trial or _flagged(detect_in(_readings([record], quiet or as_json), settings), finding)
    chosen = again.cases(record.episodes(), ids[:limit])
    plan = _unmasked(record.plan, option)
    for case in chosen.cases:
        check(plan.model(case.episode.trial.model), model_list)
    runner = Runner(plan, record, Catalogue(tuple(environments or ())), {}, {}, model_list)
    watch = None if quiet or as_json else now_and_then(5.0, _draws)
    standing = again.ask(runner, chosen.cases, draws, max_samples, watch)
    mine = {case.episode.trial.id for case in chosen.cases}
    on_record = [each for each in again.read(record.folder) if each.trial in mine and each.draw < draws]
    answered = {each.key for each in on_record if each.next}
    told = [each for each in on_record if each.next or each.key not in answered]  # a fault that was made good is none
    found = effects(
        (Answer(each.trial, each.version, each.next) for each in {e.key: e for e in told}.values()), settings
    )
    costs = [each.said.usage.cost for each in on_record if each.said]
    cost = sum(filter(None, costs)) if costs and None not in costs else None
    if as_json:
        whole = {"file": str(record.folder / again.FILE), **vars(standing), "cost": cost, "left_out": chosen.left_out}
        print(json.dumps({**whole, "effects": [each.model_dump() for each in found]}))
    else:
        from sandbox.display import effects_table

        for sentence in () if quiet else chosen.left_out:
            print(f"honne: left out: {sentence}", file=sys.stderr)
        effects_table(found)
        print(
            f"{standing.planned} draws of {len(mine)} trials: {standing.resumed} on record already, {standing.asked} asked, "
            f"{standing.faults} faults; cost of all {'unknown' if cost is None else f'${cost:.2f}'}; in "
            f"{record.folder / again.FILE}"
        )
    if standing.faults:
        raise typer.Exit(1)


def _draws(standing: "Standing") -> str:
    return f"{standing.resumed + standing.asked} of {standing.planned} draws, {standing.faults} faults"


def _flagged(found: "list[Finding]", named: list[str] | None) -> list[str]:
    """Trials that findings give as evidence, in turn from each. Raises Problem when there are none."""
    if named:
        there = sorted({each.detector for each in found})
        for name in named:
            if name not in there:
                raise Problem(f"no findings of '{name}' in this run; there are findings of: {', '.join(there)}")
        chosen = [each for each in found if each.detector in named]
    else:
        chosen = [each for each in found if each.verdict in ("positive", "negative")]
    ids = list(dict.fromkeys(id for each in chosen if each.scope == "all" for id in each.evidence))
    if not ids:
        raise Problem("nothing in this run is flagged: name trials with --trial, or a detector with --finding")
    return ids


def _unmasked(plan: "Plan", options: list[str] | None) -> "Plan":
    """The plan with its models' options given anew: secrets are not kept with a run."""
    given = _options(options)
    models = tuple(
        model.model_copy(update={"options": {k: v for k, v in model.options.items() if v != "***"} | given})
        for model in plan.models
    )
    return plan.model_copy(update={"models": models})


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
            parser=_here,
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
            parser=_folder,
            help="Folder for the report; the (first) run's own by default.",
        ),
    ] = None,
    seed: Annotated[int, typer.Option(help="Seed of every resampling.")] = 0,
    judge: JudgeName = None,
    calibration: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            parser=_here,
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
    for record in (_record(name, runs_dir) for name in run):
        if records.setdefault(record.name, record).folder.resolve() != record.folder.resolve():
            raise Problem(f"two runs are called '{record.name}': rename the folder of one of them")
    manifests = {name: record.manifest for name, record in records.items()}
    sources = tuple(pages.Source(name, record.plan, manifests[name], record.lines) for name, record in records.items())
    fit = pooling({source.name: source.words for source in sources})
    rows = _readings(list(records.values()), quiet or as_json)
    models = {name: rows.filter(run=name)["model"].unique().to_list() for name in records}
    called = {} if pool_different_words else apart(models, fit.groups)
    rows = renamed(rows, called)
    for difference in fit.differences:
        how = "counted together though" if pool_different_words else "not counted together:"
        print(f"honne: {how} {difference}", file=sys.stderr)
    rows, settings = _judged(list(records.values()), rows, _settings(list(records.values()), seed), judge, runs_dir)
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
    _say({"report": [str(path) for path in paths]}, as_json, lambda: "\n".join(f"wrote {path}" for path in paths))


def _again(runs: list[str], output: Path | None, seed: int, calibration: Path | None, pool: bool) -> str:
    """The command that writes the same report."""
    import shlex

    words = ["honne", "report", *runs, "--seed", str(seed)]
    words += ["-o", str(output)] if output else []
    words += ["--calibration", str(calibration)] if calibration else []
    return shlex.join([*words, *(["--pool-different-words"] if pool else [])])


@app.command()
def show(
    run: RunName,
    episode: Annotated[str, typer.Argument(metavar="EPISODE", help="A trial's id, or the beginning of one.")],
    runs_dir: RunsDir = RUNS,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Print the transcript of one episode."""
    record = _record(run, runs_dir)
    watch = _watch(f"reading {record.name}", quiet or as_json)
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
        rows = _readings([record])
        return rows, detect_in(rows, _settings([record], seed=0))

    def ready(address: str) -> None:
        if not quiet:
            _say({"address": address}, as_json, lambda: f"{address} (Ctrl-C ends it)")
            sys.stdout.flush()

    cache = index.cache_folder()
    folder = Folder(runs_dir, cache)
    mirror.sweep(cache)
    index.sweep(cache)
    chosen = named(mirror.opened(_record(name, runs_dir).folder, cache) for name in run) if run else None
    pages = viewer(lambda: chosen or folder.runs(), Analyst(analyse), cache, reviewer or getuser())
    serve(pages, host, port, ready)


import_app = typer.Typer(
    no_args_is_help=True, rich_markup_mode=None, help="Take in results and scenarios made elsewhere."
)
app.add_typer(import_app, name="import")
NewName = Annotated[str, typer.Option("--name", help="What the run is to be called here.")]
Label = Annotated[str | None, typer.Option("--model", "-m", help="What to call the model; else as the files say.")]
Files = Annotated[list[Path], typer.Argument(metavar="FILE…", parser=_here, help="The files to take in.")]


def _imported(done: "Imported", as_json: bool, quiet: bool, what: str) -> None:
    for sentence in done.kept_out:
        print(f"honne: kept out: {sentence}", file=sys.stderr)
    for sentence in () if quiet else done.remarks:
        print(f"honne: note: {sentence}", file=sys.stderr)
    value = {"folder": str(done.folder), "taken": done.taken, "kept_out": len(done.kept_out)}
    _say(value, as_json, lambda: f"{done.taken} {what} in {done.folder}, {len(done.kept_out)} kept out")


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

    _imported(
        vlaf.take(files, name, model, runs_dir, _watch(f"importing {name}", quiet or as_json)),
        as_json,
        quiet,
        "episodes",
    )


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

    _imported(
        tatemae_results.take(files, name, model, runs_dir, _watch(f"importing {name}", quiet or as_json)),
        as_json,
        quiet,
        "episodes",
    )


@import_app.command("jsonl")
def import_jsonl(
    file: Annotated[
        Path,
        typer.Argument(
            metavar="FILE", parser=_here, help="One JSON object a line; sandbox/imports/README.md has the fields."
        ),
    ],
    name: NewName,
    runs_dir: RunsDir = RUNS,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Results of any kind, in the documented schema."""
    from sandbox.imports import lines

    _imported(
        lines.take(file, name, runs_dir, _watch(f"importing {name}", quiet or as_json)), as_json, quiet, "episodes"
    )


@import_app.command("tatemae")
def import_tatemae(
    file: Annotated[Path, typer.Argument(metavar="FILE", parser=_here, help="A dataset in the Tatemae format.")],
    name: Annotated[str | None, typer.Option("--name", help="What the pack is to be called; else as the file.")] = None,
    output: Annotated[
        Path, typer.Option("-o", "--output", metavar="FOLDER", parser=_here, help="Folder that the pack is made in.")
    ] = Path("packs"),
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Scenarios in the Tatemae format, as a pack of environments for --environments."""
    from sandbox.imports import slug, tatemae_pack

    name = name or slug(file.stem) or "tatemae"
    _imported(
        tatemae_pack.take(file, name, output, _watch(f"importing {name}", quiet or as_json)),
        as_json,
        quiet,
        "scenarios",
    )


Sources = Annotated[
    list[Path], typer.Argument(metavar="FILE|DIR…", parser=_here, help="Files, or folders that are searched for them.")
]
MapFile = Annotated[
    Path | None,
    typer.Option(
        "--map",
        metavar="FILE",
        parser=_here,
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

    _imported(
        inspect_log.take(files, name, mapping, runs_dir, _watch(f"importing {name}", quiet or as_json)),
        as_json,
        quiet,
        "episodes",
    )


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

    _imported(
        atif.take(files, name, mapping, runs_dir, _watch(f"importing {name}", quiet or as_json)),
        as_json,
        quiet,
        "episodes",
    )


export_app = typer.Typer(
    no_args_is_help=True, rich_markup_mode=None, help="Write a run in the formats of others, and its labels."
)
app.add_typer(export_app, name="export")
To = Annotated[
    Path | None,
    typer.Option(
        "-o", "--output", metavar="FOLDER", parser=_folder, help="Folder to write to; by default one in the run's own."
    ),
]


def _exported(paths: list[Path], as_json: bool) -> None:
    _say(
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

    record = _record(run, runs_dir)
    watch = _watch(f"exporting {record.name}: models and environments", quiet or as_json)
    _exported(inspect_log.write(record, output or record.folder / "inspect", watch), as_json)


@export_app.command("atif")
def export_atif(
    run: RunName, output: To = None, runs_dir: RunsDir = RUNS, as_json: Json = False, quiet: Quiet = False
) -> None:
    """Trajectories in ATIF, one per trial."""
    from sandbox.exports import atif

    record = _record(run, runs_dir)
    watch = _watch(f"exporting {record.name}: models and environments", quiet or as_json)
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
            "-o", "--output", metavar="FILE", parser=_folder, help="File of OTLP JSON lines, instead of an address."
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

    record = _record(run, runs_dir)
    watch = _watch(f"exporting {record.name}: models and environments", quiet or as_json)
    sent = otel.export(record, endpoint, output, with_content, watch)
    _say(sent._asdict(), as_json, lambda: f"{sent.spans} spans of {sent.traces} trials to {sent.to}")


@export_app.command("labels")
def export_labels(
    run: RunName,
    output: Annotated[
        Path | None,
        typer.Option(
            "-o", "--output", metavar="FILE", parser=_folder, help="File to write; standard output by default."
        ),
    ] = None,
    runs_dir: RunsDir = RUNS,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """What reviewers said that reasoning favours, as a gold set for `honne judge --validate`: JSON lines."""
    from sandbox import label

    record = _record(run, runs_dir)
    labels, unreadable = label.read(record.folder)
    watch = _watch(f"reading {record.name}", quiet or as_json)
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


new_app = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="Write something that works, to be edited.")
app.add_typer(new_app, name="new")
Name = Annotated[str, typer.Argument(metavar="NAME", help="Lower case, with underscores: it becomes a file's name.")]
Where = Annotated[
    Path | None,
    typer.Option("--in", metavar="FOLDER", parser=_here, help="Folder to write to, instead of Honne's own."),
]


def _written(paths: list[Path], as_json: bool, quiet: bool, then: str) -> None:
    _say(
        {"written": [str(path) for path in paths]},
        as_json,
        lambda: "\n".join([*(f"wrote {path}" for path in paths), *([] if quiet else [then])]),
    )


def _asked(question: str, otherwise: str) -> str:
    """What the user answers, or what is taken where nobody can."""
    return str(typer.prompt(question, default=otherwise, err=True)) if sys.stdin.isatty() else otherwise


@new_app.command("environment")
def new_environment(
    name: Name,
    domain: Annotated[
        str | None,
        typer.Option(help="Security, Privacy, Integrity, Availability, Finance or Values; else Security."),
    ] = None,
    motive: Annotated[str | None, typer.Option(help="corruption, sabotage or conflict; else sabotage.")] = None,
    where: Where = None,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """A scenario with a pair of tools of its own that passes `honne check`.

    On a terminal, what is not given is asked for.
    """
    from sandbox import scaffold

    domain = domain or _asked("Domain (Security, Privacy, Integrity, Availability, Finance, Values)", "Security")
    motive = motive or _asked("Motive (corruption, sabotage, conflict)", "sabotage")
    folder = scaffold.environment(name, domain, motive, where)
    _written(
        folder,
        as_json,
        quiet,
        f"next: edit the words and the pair, then honne check {name}" + (f" --environments {where}" if where else ""),
    )


@new_app.command("pair")
def new_pair(name: Name, where: Where = None, as_json: Json = False, quiet: Quiet = False) -> None:
    """A pair of tools in a file of its own."""
    from sandbox import scaffold

    then = "next: name it in an environment's scenario.py"
    _written(scaffold.pair(name, where), as_json, quiet, then + (", once it lies in tools/" if where else ""))


@new_app.command("cue")
def new_cue(name: Name, where: Where = None, as_json: Json = False, quiet: Quiet = False) -> None:
    """A cue family with two levels and three paraphrases."""
    from sandbox import scaffold

    _written(
        scaffold.cue(name, where),
        as_json,
        quiet,
        f'next: edit the words, then honne list cues and a plan with cue = "{name}"',
    )


@new_app.command("detector")
def new_detector(name: Name, where: Where = None, as_json: Json = False, quiet: Quiet = False) -> None:
    """A detector that counts, to be made into one that claims."""
    from sandbox import scaffold

    then = "once it lies in detectors/" if where else "from now on"
    _written(
        scaffold.detector(name, where), as_json, quiet, f"next: say what {name} claims; honne detect runs it {then}"
    )


@app.command("list")
def list_command(
    what: Annotated[
        str,
        typer.Argument(help="environments, cues, plans, agents, or runs.", autocompletion=complete.listable),
    ] = "environments",
    environments: Folders = None,
    runs_dir: RunsDir = RUNS,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Print what there is."""
    from sandbox import listing

    rows = listing.rows(what, tuple(environments or ()), runs_dir, _watch(f"reading {what}", quiet or as_json))
    _say(rows, as_json, lambda: listing.table(rows))


@app.command()
def check(
    name: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[NAME…]", help="Environments; all of them by default.", autocompletion=complete.environments
        ),
    ] = None,
    environments: Folders = None,
    everything: Annotated[bool, typer.Option("--all", help="Print every check with what was seen.")] = False,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Put environments through their checks in real boxes: routes, near misses, cues, words."""
    from sandbox import check as checks
    from sandbox.container import engine
    from sandbox.display import counted
    from sandbox.leakage import leaks
    from sandbox.run import Catalogue

    catalogue = Catalogue(tuple(environments or ()))
    there = catalogue.environment_names
    chosen = name or there
    for each in chosen:
        if each not in there:
            raise Problem(f"no environment '{each}'; there are: {', '.join(there)}")
    engine()
    verdicts = []
    loaded = []
    for each in counted(chosen, "checking environments", quiet or as_json, len(chosen)):
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


@app.command("reap")
def reap_command(
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be removed, and remove nothing.")] = False,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Remove containers whose harness is dead. Every `honne run` begins with this."""
    from sandbox.container import reap

    found = reap(dry_run)
    did = "would remove" if dry_run else "removed"
    _say(
        [orphan._asdict() for orphan in found],
        as_json,
        lambda: "\n".join(
            [f"{did} {each.container[:12]} of run {each.run or '(none)'}: {each.why}" for each in found]
            + ([] if quiet else [f"{did} {len(found)} containers"])
        ),
    )


@app.command()
def doctor(as_json: Json = False, quiet: Quiet = False) -> None:
    """Say what this machine has, what is missing, and how to mend it; with --quiet, only what is missing."""
    from sandbox.doctor import examine

    found = examine()
    _say(
        [line._asdict() for line in found],
        as_json,
        lambda: "\n".join(
            f"{line.mark:7} {line.what}: {line.found}" + (f" → {line.fix}" if line.fix else "") for line in found
        ),
    )
    if not all(line.ok for line in found):
        raise typer.Exit(1)


if __name__ == "__main__":
    main()
