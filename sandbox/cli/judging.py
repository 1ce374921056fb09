"""Commands that ask models about reasoning: `judge`, `counterfactual`."""

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sandbox.cli.options import RUNS, Folders, Json, Options, Quiet, RunName, RunsDir, dollars_of, here, options_of
from sandbox.cli.reading import readings_of, record_of, settings_of
from sandbox.cli.saying import say
from tools.problem import Problem

if TYPE_CHECKING:
    from detectors.finding import Finding
    from detectors.judge.criteria import Criteria
    from detectors.judge.judging import Budget, Judge
    from detectors.judge.judging import Progress as Judging
    from sandbox.counterfactual import Standing
    from sandbox.plan import Plan

app = typer.Typer()


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
        typer.Option(metavar="FILE", parser=here, help="A LiteLLM YAML file with a model_list; --judge picks from it."),
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
        there = columns.sources(record_of(run or "", runs_dir).folder)
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
            say(rows, as_json, lambda: pages.shelf(there))
            return
        by = {f"{name}, {c}": columns.verdicts(k) for name, s in there.items() for c, (_, k) in s.by_criteria.items()}
        agreed = figures.compare(by)
        say([each.model_dump() for each in agreed], as_json, lambda: pages.agreements(agreed))
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
        say(value, as_json, lambda: f"{pages.measured(found)}\n{pages.progress(progress, f'kept in {where}')}")
    else:
        record = record_of(run or "", runs_dir)
        into = store.store(record.folder, reader.name, reader.criteria)
        episodes = counted(record.episodes(), f"reading {record.name}", quiet or as_json)
        asked = blinding.items(episodes, reader.criteria == criteria and load(criteria).belief)
        watch = None if quiet or as_json else now_and_then(5.0, _votes)
        progress = judging.judge(asked, reader, into, votes, concurrency, budget, limit, watch)
        say(asdict(progress), as_json, lambda: pages.progress(progress, f"kept in {into.path}"))
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

    dollars = {"price": dollars_of(given, given, "SENT,SAID")} if given else {}
    model = Model(name=name, options=options_of(option) | dollars)
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
        typer.Option(metavar="FILE", parser=here, help="The LiteLLM YAML file that the run was played with."),
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

    record = record_of(run, runs_dir)
    settings = settings_of([record], seed)
    ids = trial or _flagged(detect_in(readings_of([record], quiet or as_json), settings), finding)
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
    given = options_of(options)
    models = tuple(
        model.model_copy(update={"options": {k: v for k, v in model.options.items() if v != "***"} | given})
        for model in plan.models
    )
    return plan.model_copy(update={"models": models})
