"""Commands about what is here: `list`, `reap`, `doctor`."""

from typing import TYPE_CHECKING, Annotated

import typer

from sandbox import complete
from sandbox.cli.options import RUNS, Folders, Json, Quiet, RunsDir
from sandbox.cli.saying import say, watching

if TYPE_CHECKING:
    pass

app = typer.Typer()


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

    rows = listing.rows(what, tuple(environments or ()), runs_dir, watching(f"reading {what}", quiet or as_json))
    say(rows, as_json, lambda: listing.table(rows))


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
    say(
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
    say(
        [line._asdict() for line in found],
        as_json,
        lambda: "\n".join(
            f"{line.mark:7} {line.what}: {line.found}" + (f" → {line.fix}" if line.fix else "") for line in found
        ),
    )
    if not all(line.ok for line in found):
        raise typer.Exit(1)
