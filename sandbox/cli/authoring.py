"""Commands for who writes scenarios: `new …`, `check`."""

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sandbox import complete
from sandbox.cli.options import Folders, Json, Quiet, here
from sandbox.cli.saying import say
from tools.problem import Problem

if TYPE_CHECKING:
    pass

app = typer.Typer()


new_app = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="Write something that works, to be edited.")

app.add_typer(new_app, name="new")

Name = Annotated[str, typer.Argument(metavar="NAME", help="Lower case, with underscores: it becomes a file's name.")]

Where = Annotated[
    Path | None,
    typer.Option("--in", metavar="FOLDER", parser=here, help="Folder to write to, instead of Honne's own."),
]


def _written(paths: list[Path], as_json: bool, quiet: bool, then: str) -> None:
    say(
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
