"""Commands that plan and play: `plan`, `power`, `run`."""

import contextlib
import json
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from sandbox.cli.options import (
    RUNS,
    Epochs,
    Folders,
    Json,
    Models,
    Only,
    Options,
    PlanFile,
    Quiet,
    RunsDir,
    dollars_of,
    here,
    plan_of,
    with_a_model,
    with_options,
)
from sandbox.cli.saying import say
from tools.problem import Problem

if TYPE_CHECKING:
    from sandbox.plan import Plan
    from sandbox.pool import Reuse
    from sandbox.record import Record
    from sandbox.run import Progress, Retry

app = typer.Typer()


class Stopped(BaseException):
    """A second interrupt. A name of its own, because click would take a KeyboardInterrupt and wait for the threads."""


def _priced(plan: "Plan", prices: list[str] | None) -> dict[str, list[float]]:
    """Model → US dollars per million tokens sent and said."""
    found: dict[str, list[float]] = {}
    for price in prices or []:
        name, _, numbers = price.rpartition("=")
        dollars = dollars_of(price, numbers, "[MODEL=]SENT,SAID")
        named = [model.key for model in plan.models if name in ("", model.key, model.name)]
        if not named:
            raise Problem(
                f"--price {price}: no such model in the plan; there are: {', '.join(m.key for m in plan.models)}"
            )
        found |= dict.fromkeys(named, dollars)
    return found


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

    written = with_a_model(plan_of(plan, model, option, epochs, only))
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
    resolved = catalogue.resolve(with_a_model(plan_of(plan, model, option, epochs, only)))
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
        typer.Option(metavar="FILE", parser=here, help="A LiteLLM YAML file with a model_list; --model picks from it."),
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
    written = plan_of(plan, model, option, epochs, only, begun.plan if begun else None)
    traffic = {"max_connections": max_connections, "max_retries": max_retries}
    limits = {"turns": turn_limit, "seconds": time_limit, "tokens": token_limit, "cost": cost_limit}
    prices = _priced(written, price)
    written = with_options(
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
    say(final, as_json, lambda: _summary(progress, record, final["seconds"]))
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
