"""What a person sees in a terminal: progress, findings, transcripts. Text of models and boxes is shown inert."""

import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, TypeVar

from rich.console import Console, Group
from rich.live import Live
from rich.progress import MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from sandbox.episode import Called, Closed, Episode, Opened, Said
from tools.hidden import spelled

if TYPE_CHECKING:
    from detectors.calibration import ErrorRate
    from detectors.compare import Comparison
    from detectors.finding import Finding
    from detectors.report.counterfactual import Effect
    from sandbox.check import Verdict
    from sandbox.run import Progress as Played


def _rate(progress: "Played") -> float:
    return (progress.finished - progress.resumed) / max(time.monotonic() - progress.started, 1e-9)


def _status(progress: "Played") -> str:
    rate = _rate(progress)
    left = (progress.planned - progress.finished) / rate if rate else None
    eta = f"{left:.0f} s left" if left is not None else "no estimate yet"
    return f"{progress.finished}/{progress.planned} trials, {rate:.1f}/s, {eta}, {progress.faults} faults"


def _trouble(progress: "Played") -> list[str]:
    """Why it goes no faster, or not on: a line each."""
    ending = f"{progress.ended}: {progress.running} still run" if progress.ended and progress.running else None
    found = [*progress.stalled, *progress.given_up.values(), *([ending] if ending else [])]
    return [spelled(line) for line in found]


def _arms(progress: "Played") -> str:
    return "  ".join(f"{arm} {unsafe}/{decided}" for arm, (unsafe, decided) in sorted(progress.unsafe.items()))


def lines(every: float) -> Callable[["Played"], None]:
    """Progress as plain lines: at most one per `every` seconds, one at the end, and whenever something is given up."""
    last = 0.0
    told: list[str] = []

    def watch(progress: "Played") -> None:
        nonlocal last, told
        news = [*progress.given_up, progress.ended or ""]
        if time.monotonic() - last >= every or progress.finished == progress.planned or news != told:
            last, told = time.monotonic(), news
            print(
                f"{_status(progress)}; unsafe so far: {_arms(progress) or 'none decided'}", file=sys.stderr, flush=True
            )
            for line in _trouble(progress):
                print(line, file=sys.stderr, flush=True)

    return watch


@contextmanager
def live() -> Iterator[Callable[["Played"], None]]:
    """Progress that redraws itself."""
    with Live(console=Console(stderr=True), refresh_per_second=4) as screen:

        def watch(progress: "Played") -> None:
            unsafe = Table.grid(padding=(0, 2))
            for arm, (count, decided) in sorted(progress.unsafe.items()):
                unsafe.add_row(arm, f"{count}/{decided}", f"{count / decided:.0%} unsafe")
            bar = ProgressBar(total=max(progress.planned, 1), completed=progress.finished, width=60)
            trouble = [Text(line, style="yellow") for line in _trouble(progress)]
            screen.update(Group(Text(_status(progress)), bar, unsafe, *trouble))

        yield watch


@contextmanager
def working(what: str, quiet: bool) -> Iterator[None]:
    """Says what is being done, on a terminal with the seconds it has taken, elsewhere as a line once it has begun.
    On standard error."""
    if quiet:
        yield
    elif not sys.stderr.isatty():
        print(f"{what} …", file=sys.stderr, flush=True)
        yield
    else:
        columns = (SpinnerColumn(), TextColumn("{task.description}", markup=False), TimeElapsedColumn())
        with Progress(*columns, console=Console(stderr=True), transient=True) as screen:
            screen.add_task(what, total=None)
            yield


Item = TypeVar("Item")


def now_and_then(every: float, text: Callable[[Item], str]) -> Callable[[Item], None]:
    """How something stands, as a line at most every so many seconds. On standard error."""
    said = time.monotonic()

    def watch(standing: Item) -> None:
        nonlocal said
        if time.monotonic() - said >= every:
            said = time.monotonic()
            print(text(standing), file=sys.stderr, flush=True)

    return watch


def counted(
    items: Iterable[Item], what: str, quiet: bool, total: int | None = None, every: float = 5.0
) -> Iterator[Item]:
    """The same items, with their number so far: redrawn on a terminal, as a plain line now and then elsewhere."""
    if quiet:
        yield from items
    elif sys.stderr.isatty():
        columns = (
            SpinnerColumn(),
            TextColumn("{task.description}", markup=False),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
        )
        with Progress(*columns, console=Console(stderr=True), transient=True) as screen:
            yield from screen.track(items, total=total, description=what, update_period=0.25)
    else:
        last = time.monotonic()
        for number, item in enumerate(items, 1):
            yield item
            if time.monotonic() - last >= every:
                last = time.monotonic()
                print(f"{what}: {number:,}{f' of {total:,}' if total else ''}", file=sys.stderr, flush=True)


def comparison_tables(comparisons: "Sequence[Comparison]") -> None:
    for each in comparisons:
        print(f"{each.first} minus {each.second}")
        table = Table(
            "cue", "what", "first", "second", "difference", "95 % interval", "p", "q", "MDE", "n", "verdict", "note"
        )
        for row in each.differences:
            interval = "" if row.low is None or row.high is None else f"{row.low:+.3f} to {row.high:+.3f}"
            table.add_row(
                row.cue, row.what, _number(row.first, "+.3f"), _number(row.second, "+.3f"),
                _number(row.difference, "+.3f"), interval, _number(row.p, ".4f"), _number(row.q, ".4f"),
                _number(row.mde, ".3f"), str(row.n_scenarios), row.verdict, row.note,
            )  # fmt: skip
        Console(width=None if sys.stdout.isatty() else 220).print(table)
        lost = {f"{reason}, {row.what}": n for row in each.differences for reason, n in row.dropped.items()}
        for what, (one, two) in lost.items():
            print(f"made without, {what}: {one} of the first, {two} of the second")
        for reason, names in each.kept_out.items():
            print(f"left out, {reason}: {len(names)} ({', '.join(names)})")
        for remark in each.remarks:
            print(remark)


def findings_table(findings: "Sequence[Finding]") -> None:
    table = Table("detector", "model", "cue", "contrast", "scope", "estimate", "95 % interval", "p", "q", "verdict")
    for each in findings:
        interval = "" if each.low is None or each.high is None else f"{each.low:+.3f} to {each.high:+.3f}"
        table.add_row(
            each.detector, each.model or "", each.cue or "", each.contrast or "", each.scope,
            _number(each.estimate, "+.3f"), interval, _number(each.p, ".4f"), _number(each.q, ".4f"), each.verdict,
        )  # fmt: skip
    Console(width=None if sys.stdout.isatty() else 200).print(table)


def verdict_table(verdicts: "Sequence[Verdict]", everything: bool = False) -> None:
    """A row per environment, then whatever failed, whole; or everything."""
    rows: dict[str, list[Verdict]] = {}
    for each in verdicts:
        rows.setdefault(each.environment, []).append(each)
    table = Table("environment", "checks", "routes", "near misses", "words and cues", "")
    for name, mine in rows.items():
        groups = {"route": 0, "near miss": 0, "other": 0}
        for each in mine:
            groups[next((group for group in ("route", "near miss") if group in each.check), "other")] += 1
        failed = sum(not each.ok for each in mine)
        verdict = f"{failed} FAILED" if failed else "ok"
        table.add_row(
            name, str(len(mine)), str(groups["route"]), str(groups["near miss"]), str(groups["other"]), verdict
        )
    Console(width=None if sys.stdout.isatty() else 120).print(table)
    for each in verdicts:
        if everything or not each.ok or each.environment == "all":
            print(f"{'ok  ' if each.ok else 'FAIL'} {each.environment}: {each.check}: {spelled(each.detail)}")
    print(f"{len(verdicts)} checks, {sum(not each.ok for each in verdicts)} failed")


def calibration_table(rows: "Sequence[ErrorRate]") -> None:
    """Per detector and size: the worst false-positive rate and the least power, and which agents gave them."""
    table = Table("tier", "detector", "size", "false positives at worst", "agent", "power at least", "agent ")
    groups: dict[tuple[str, str, str], list[ErrorRate]] = {}
    for row in rows:
        groups.setdefault((row.tier, row.detector, row.size), []).append(row)
    for (tier, detector, size), mine in groups.items():
        cells = []
        for has, pick in ((False, max), (True, min)):
            these = [row for row in mine if row.has_property == has]
            if these:
                row = pick(these, key=lambda each: each.rate)
                cells += [f"{row.rate:.3f} ({row.low:.3f} to {row.high:.3f})", row.agent]
            else:
                cells += ["", ""]
        table.add_row(tier, detector, size, *cells)
    Console(width=None if sys.stdout.isatty() else 160).print(table)
    played = [row for row in rows if row.tier == "played"]
    wrong = [row for row in played if row.flagged != row.has_property]
    print(
        f"played: {len(played) - len(wrong)} of {len(played)} recognised; simulated rates with Wilson intervals, 95 %"
    )
    for row in wrong:
        print(f"  {row.detector} on {row.agent}: {'missed' if row.has_property else 'false alarm'}")


def effects_table(effects: "Sequence[Effect]") -> None:
    """The versions over all trials, then trial by trial."""
    table = Table("version", "trial", "effect on unsafe", "95 % interval", "p", "as it was", "changed")
    for each in effects:
        found = each.effect
        interval = "" if found is None or found.low is None else f"{found.low:+.3f} to {found.high:+.3f}"
        counts = [" ".join(f"{count} {what}" for what, count in sorted(of.items())) for of in each.counts.values()]
        name = each.trial or f"all ({each.trials} with choices in both)"
        estimate, p = (_number(found.estimate, "+.3f"), _number(found.p, ".4f")) if found else ("", "")
        table.add_row(f"cue {each.version}", name, estimate, interval, p, *counts)
    Console(width=None if sys.stdout.isatty() else 160).print(table)


def _number(value: float | None, form: str) -> str:
    return "" if value is None else format(value, form)


def transcript(episode: Episode) -> None:
    console = Console(highlight=False, markup=False)
    trial = episode.trial
    console.print(
        f"trial {trial.id}, match {trial.match}, attempt {episode.attempt}: outcome {episode.outcome}", style="bold"
    )
    for name, value in trial.model_dump().items():
        console.print(f"  {name}: {value}")
    for event in episode.events:
        match event:
            case Opened():
                _part(console, "system", event.system or "(none)")
                _part(console, "task", event.task)
                _part(
                    console,
                    "tools",
                    "\n".join(f"{tool.name} [{tool.side or 'neutral'}]: {tool.description}" for tool in event.tools),
                )
            case Said():
                if event.reasoning:
                    source = ", ".join(filter(None, (event.reasoning_source, event.reasoning_status)))
                    _part(console, f"reasoning ({source}), turn {event.turn + 1}", event.reasoning)
                asked = "\n".join(
                    f"→ {call.name} {call.raw if call.arguments is None else dict(call.arguments)}"
                    for call in event.asked
                )
                _part(console, f"model, turn {event.turn + 1}", "\n".join(filter(None, (event.text, asked))))
            case Called():
                _part(console, f"{event.name}{' (error)' if event.error else ''}", event.result)
            case Closed():
                _part(console, f"ended: {event.ended}", event.fault or f"state: {event.effect} {dict(event.facts)}")

    if episode.questioned:
        said = episode.questioned.said
        _part(console, "asked afterwards, in a copy of the conversation", episode.questioned.question)
        if said and said.reasoning:
            _part(console, f"reasoning ({said.reasoning_source})", said.reasoning)
        _part(console, "answer", said.text if said else f"none: {episode.questioned.fault}")


def _part(console: Console, title: str, text: str) -> None:
    console.print(f"\n── {title}", style="bold")
    console.print(spelled(text))
