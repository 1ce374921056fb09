"""What commands take, and what is made of it."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sandbox import complete
from tools.problem import Problem

if TYPE_CHECKING:
    from sandbox.plan import Model, Plan


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


def anywhere(where: Any) -> Path:  # Any: the option's text, or its default
    if "://" not in str(where):
        return Path(where)
    from sandbox.store import place

    return place(where)


def here(where: Any) -> Path:  # Any: the option's text, or its default
    """A path on this machine. A URL would become a folder by the name of `s3:`."""
    if "://" in str(where):
        raise Problem(f"{where}: has to be a file or folder on this machine")
    return Path(where)


RunsDir = Annotated[
    Path,
    typer.Option(
        envvar="HONNE_RUNS_DIR",
        metavar="FOLDER",
        parser=anywhere,
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
        parser=here,
        help="A folder with environments (and cues/) of your own; repeatable.",
    ),
]

JudgeName = Annotated[
    str | None, typer.Option("--judge", help="Whose verdicts to use, where a run has some by several judges.")
]

RUNS = Path("runs")


def _value(text: str) -> Any:  # Any: whatever JSON the user wrote
    try:
        return json.loads(text)
    except ValueError:
        return text


def options_of(pairs: list[str] | None) -> dict[str, Any]:
    for pair in pairs or []:
        if "=" not in pair[1:]:  # not repeated here: it may be a key
            raise Problem("-M: write KEY=VALUE, for example -M temperature=1")
    return {key: _value(value) for key, _, value in (pair.partition("=") for pair in pairs or [])}


def dollars_of(price: str, numbers: str, shape: str) -> list[float]:
    """US dollars per million tokens sent and said."""
    try:
        sent, said = (float(number) for number in numbers.split(","))
        if not (sent >= 0 and said >= 0):
            raise ValueError(numbers)
    except ValueError as error:
        raise Problem(f"--price {price}: write {shape}, in US dollars per million tokens, as in 2.5,10") from error
    return [sent, said]


def with_options(plan: "Plan", more: "Callable[[Model], dict[str, Any]]") -> "Plan":
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


def plan_of(
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
    return with_options(plan, lambda _: options_of(options)) if options else plan


def with_a_model(plan: "Plan") -> "Plan":
    """A plan that names no model can still be looked at."""
    from sandbox.plan import Model

    stand_in = (Model(name="script:honest", label="(no model named)"),)
    return plan if plan.models else plan.model_copy(update={"models": stand_in})
