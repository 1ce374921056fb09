"""What there is: environments, cues, plans, scripted agents and runs, as rows."""

from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

from sandbox.plan import presets, read
from sandbox.record import Watch, record_at
from sandbox.run import Catalogue
from sandbox.script import DISPOSITIONS
from tools.problem import Problem

Row = dict[str, str]


def rows(what: str, folders: tuple[Path, ...], runs: Path, watch: Watch = iter) -> list[Row]:
    """Rows of one kind. Raises Problem naming the kinds."""
    kinds: dict[str, Callable[[], Iterator[Row]]] = {
        "environments": lambda: _environments(Catalogue(folders)),
        "cues": lambda: _cues(Catalogue(folders)),
        "plans": _plans,
        "agents": _agents,
        "runs": lambda: _runs(runs),
    }
    if what not in kinds:
        raise Problem(f"nothing to list by the name '{what}'; there are: {', '.join(kinds)}")
    return list(watch(kinds[what]()))


def _environments(catalogue: Catalogue) -> Iterator[Row]:
    for name in catalogue.environment_names:
        each = catalogue.environment(name)
        yield {
            "environment": name,
            "domain": each.domain,
            "motive": each.motive,
            "pairs": ", ".join(pair.name for pair in each.pairs),
            "title": each.title,
        }


def _cues(catalogue: Catalogue) -> Iterator[Row]:
    for cue in catalogue.cues.values():
        yield {
            "cue": cue.name,
            "kind": cue.kind,
            "levels": ", ".join(cue.levels),
            "channels": ", ".join(cue.channels),
            "description": cue.description,
        }


def _plans() -> Iterator[Row]:
    for name in presets():
        yield {"plan": name, "description": read(name).description}


def _agents() -> Iterator[Row]:
    for name, disposition in DISPOSITIONS.items():
        yield {"agent": f"script:{name}", "does": (disposition.__doc__ or "").split("\n")[0]}


def _runs(folder: Path) -> Iterator[Row]:
    for path in sorted(folder.glob("*/plan.json")):
        record = record_at(path.parent)
        try:
            planned, begun = record.plan.size, str(record.manifest.get("begun", ""))
        except Problem:
            yield {"run": record.name, "state": "unreadable", "finished": "", "faults": "", "begun": "", "last": ""}
            continue
        finished, faults = record.attempts()
        written = [segment.stat().st_mtime for segment in (record.folder / "episodes").glob("*.jsonl")]
        yield {
            "run": record.name,
            "state": "complete" if len(finished) >= planned else "incomplete",
            "finished": f"{len(finished)}/{planned}",
            "faults": str(sum(faults.values())),
            "begun": begun,
            "last": datetime.fromtimestamp(max(written), UTC).isoformat(timespec="seconds") if written else "",
        }


def table(rows: list[Row]) -> str:
    """Rows as aligned columns."""
    if not rows:
        return "none"
    widths = {key: max(len(key), *(len(row[key]) for row in rows)) for key in rows[0]}
    lines = [{key: key for key in widths}, *rows]
    return "\n".join("  ".join(line[key].ljust(width) for key, width in widths.items()).rstrip() for line in lines)


def markdown(rows: list[Row]) -> str:
    """Rows as a Markdown table, as the README holds them."""
    head = "| " + " | ".join(rows[0]) + " |\n|" + "---|" * len(rows[0])
    return "\n".join([head, *("| " + " | ".join(row.values()) + " |" for row in rows)])
