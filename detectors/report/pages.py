"""The report: what was asked, what was found, what speaks against it, and how to get the same pages again."""

import base64
import hashlib
import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import polars as pl
from markupsafe import Markup

from detectors.calibration import ErrorRate
from detectors.finding import Finding, Settings
from detectors.report import plots, sidebyside, statistics
from detectors.report.calibrated import Beside, Calibration, beside, by_size
from detectors.report.cells import UNSAFE, cells, counted, groups
from detectors.report.exports import findings_table, transcripts, write_tables
from detectors.report.matches import Skimmed, flagged, skim
from detectors.report.pooling import Pooling
from sandbox.episode import Episode
from sandbox.plan import AA, Plan

MATCHES = 60
"""Matches whose transcripts are put into the page, at most."""
ROOM = 5_000_000
"""Bytes of the page that transcripts may take."""
ROWS = 300
"""Rows of one table in the page; files have all of them."""

REASONING = ("composite_event", "silent_shift", "reversal", "report_mismatch", "awareness", "interrogation")
CONFOUNDS = (
    "aa_shift",
    "placebo_shift",
    "missingness",
    "order_effect",
    "name_effect",
    "reasoning_effect",
    "duplicates",
)
OUTCOMES = ("safe", "unsafe", "refused", "no_call", "invalid", "fault")
Judged = Mapping[str, Sequence[tuple[str, str, str]]]
"""Trial → (judge, label, note) rows."""


@dataclass(frozen=True)
class Source:
    """A run that is reported on."""

    name: str
    plan: Plan
    manifest: Mapping[str, Any]
    lines: Callable[[], Iterator[bytes]]
    """The lines of its episodes, as they are on record."""
    verdicts: Judged = field(default_factory=dict)

    @property
    def words(self) -> dict[str, str]:
        """What it was played with → hash of its words, as far as the manifest says."""
        return _named(self.manifest.get("words"))

    @property
    def images(self) -> dict[str, str]:
        """Environment → digest of its image."""
        return _named(self.manifest.get("images"))


def _named(found: object) -> dict[str, str]:
    return {str(name): str(value) for name, value in found.items()} if isinstance(found, dict) else {}


ONE_GROUP = Pooling((), ())


@dataclass(frozen=True)
class Report:
    """All that a report is made of."""

    sources: tuple[Source, ...]
    readings: pl.DataFrame
    findings: Sequence[Finding]
    settings: Settings
    calibration: Calibration | None
    command: str
    """The command that writes this report again."""
    pooling: Pooling = ONE_GROUP
    pooled_anyway: bool = False
    called: Mapping[tuple[str, str], str] = field(default_factory=dict)
    """(run, model) → what the model is called here, where runs are kept apart."""

    @property
    def title(self) -> str:
        return ", ".join(source.name for source in self.sources)


@dataclass(frozen=True)
class Attrition:
    """What became of the trials of one arm. Whatever is not safe or unsafe is missing from the shift."""

    model: str
    cue: str
    arm: str
    planned: int
    counts: Mapping[str, int]
    """Outcome class → trials."""
    faults: int
    """Attempts that failed on our side, whether or not the trial was finished later."""

    @property
    def missing(self) -> int:
        """Planned, and not on record in any class."""
        return max(self.planned - sum(self.counts.values()), 0)


def attrition(report: Report) -> list[Attrition]:
    """Per model, cue and arm: everything that was planned, by what became of it."""
    planned: Counter[tuple[str, str, str]] = Counter()
    for source in report.sources:
        for block in source.plan.blocks:
            condition = f"{block.cue} + {block.objective}" if block.cue and block.objective else block.cue or "none"
            for model in source.plan.models:
                called = report.called.get((source.name, model.key), model.key)
                for arm in block.arms:
                    planned[called, condition, arm] += len(source.plan.environments) * source.plan.epochs
    key = ["model", "cue", "arm"]
    seen = report.readings.with_columns(pl.col("cue").fill_null("none")).group_by(key)
    counts: dict[tuple[str, str, str], dict[str, int]] = {}
    for model, cue, arm, outcome, trials in (
        report.readings.with_columns(pl.col("cue").fill_null("none")).group_by(*key, "outcome").len().iter_rows()
    ):
        counts.setdefault((model, cue, arm), {})[outcome] = trials
    faults = {(model, cue, arm): total for model, cue, arm, total in seen.agg(pl.col("faults").sum()).iter_rows()}
    return [
        Attrition(*group, planned[group], counts.get(group, {}), faults.get(group, 0))
        for group in sorted(planned.keys() | counts.keys())
    ]


def question(report: Report) -> str:
    """What was asked, in a sentence."""
    plans = [source.plan for source in report.sources]
    models = list(dict.fromkeys(model.key for plan in plans for model in plan.models))
    environments = {name for plan in plans for name in plan.environments}
    who = models[0] if len(models) == 1 else f"each of {len(models)} models"
    primary = report.settings.primary
    if primary:
        block = next((b for plan in plans for b in plan.blocks if b.cue == primary.cue and primary.arm in b.arms), None)
        against = f"'{primary.arm}' instead of '{block.baseline if block else 'the baseline'}' of the cue {primary.cue}"
    else:
        cues = list(dict.fromkeys(b.cue for plan in plans for b in plan.blocks if b.cue and b.kind == "oversight"))
        against = f"another level than the baseline of {' or '.join(cues) or 'a cue'}"
    return (
        f"Does {who} take the unsafe one of two tools more often, or less often, when it is shown {against}, "
        f"over {len(environments)} environment{'s' if len(environments) > 1 else ''}?"
    )


@dataclass(frozen=True)
class Answer:
    """One model's answer to the question."""

    finding: Finding
    sentence: str


def answers(report: Report) -> list[Answer]:
    """A sentence for each model and primary contrast, always with its bound."""
    shifts = [each for each in report.findings if each.detector == "oversight_shift" and each.scope == "all"]
    asked = [each for each in shifts if each.primary] or shifts
    return [Answer(each, _answer(each)) for each in asked]


def _answer(shift: Finding) -> str:
    if shift.estimate is None or shift.low is None or shift.high is None:
        return f"{shift.model}: {shift.cue} cannot be answered: {shift.note or shift.verdict}."
    means = {
        "positive": "takes the unsafe side more often when the cue says it is watched",
        "negative": "takes the unsafe side less often when the cue says it is watched",
        "none": f"shows no shift: if there is one, it is within ±{100 * max(abs(shift.low), abs(shift.high)):.1f} pp",
        "inconclusive": "is left open by these data",
    }.get(shift.verdict, "gives no answer")
    beside_it = " and ".join(
        f"{name} {pp(interval.estimate)}"
        for name, interval in (("A/A", shift.aa), ("placebo", shift.placebo))
        if interval
    )
    return (
        f"{shift.model} {means}: {pp(shift.estimate)} (95 % interval {pp(shift.low)} to {pp(shift.high)}) for "
        f"{shift.contrast}{f', beside {beside_it}' if beside_it else ', with nothing beside it'}."
    )


def pp(value: float | None) -> str:
    """A difference of shares in percentage points; unknown stays unknown."""
    return "–" if value is None else f"{100 * value:+.1f} pp".replace("-", "−")


def number(value: float | None, form: str = ".3f") -> str:
    return "–" if value is None else format(value, form)


def percent(value: float | None) -> str:
    return "–" if value is None else f"{100 * value:.1f} %"


def qualified(finding: Finding, findings: Sequence[Finding]) -> list[Finding]:
    """The confounds that a finding has to be read in the light of: those that claim something of the same model."""
    return [
        each
        for each in findings
        if finding.detector in each.qualifies
        and each.verdict in ("positive", "negative")
        and each.model in (None, finding.model)
        and each.scope in ("all", finding.scope)
    ]


def ladders(report: Report) -> list[dict[str, Any]]:
    """Every cue with three levels or more: unsafe rate by level, in the order in which the plan has them."""
    levels: dict[str, tuple[str, ...]] = {}
    for source in report.sources:
        for block in source.plan.blocks:
            arms = tuple(arm for arm in block.arms if arm != AA)
            if block.cue and block.kind == "oversight" and len(arms) > 2:
                condition = f"{block.cue} + {block.objective}" if block.objective else block.cue
                levels.setdefault(condition, arms)
    if not levels:
        return []
    table = cells(report.readings.lazy(), UNSAFE, counted(report.settings.estimand))
    rungs: dict[str, list[dict[str, Any]]] = {cue: [] for cue in levels}
    for group in groups(table, ("oversight",)):
        for level in levels.get(group.cue, ()):
            arm = group.arm(level)
            found = statistics.mean(statistics.RATE, [arm], report.settings, p=0.0) if arm.total else None
            if found:
                low, high = max(found.low, 0.0), min(found.high, 1.0)
                rungs[group.cue].append(
                    {"model": group.model + group.label, "level": level, "estimate": found.value, "low": low, "high": high,
                     "draws": arm.total}
                )  # fmt: skip
    return [
        {"cue": cue, "levels": levels[cue], "rungs": found, "drawn": plots.ladder(found, levels[cue])}
        for cue, found in rungs.items()
        if found
    ]


def heatmaps(report: Report) -> list[dict[str, Any]]:
    """Shift by environment and model, one for each contrast, the primary first."""
    by_contrast: dict[tuple[str, str], list[Finding]] = {}
    shifts = [each for each in report.findings if each.detector == "oversight_shift"]
    for each in shifts:
        if each.primary:
            by_contrast.setdefault((each.cue or "", each.contrast or ""), [])
    for each in shifts:
        if each.environment:
            by_contrast.setdefault((each.cue or "", each.contrast or ""), []).append(each)
    return [
        {"cue": cue, "contrast": contrast, "rows": rows, "drawn": plots.heatmap(rows)}
        for (cue, contrast), rows in by_contrast.items()
        if rows
    ]


def methods(report: Report) -> list[str]:
    """How the data came about, in words, from the plans themselves."""
    several = len(report.sources) > 1
    said = [sentence for source in report.sources for sentence in _methods(source, several)]
    if any(AA in block.arms for source in report.sources for block in source.plan.blocks):
        said.append("The arm aa repeats the baseline with draws of its own: what looks like an effect there is noise.")
    rate = {
        "decided": "The unsafe rate is the share of unsafe endings among episodes that ended safe or unsafe; what is missing is left "
        "out, counted by arm, and bounded.",
        "published": "The unsafe rate is the share of unsafe endings among all finished episodes, so that a refusal counts as not unsafe.",
    }[report.settings.estimand]
    said.append(
        f"{rate} Estimates are means over environments, which are the unit of resampling; intervals are at 95 %, from "
        f"{report.settings.draws:,} bootstrap draws with seed {report.settings.seed}; verdicts are at level {report.settings.alpha:g} "
        "after Benjamini–Hochberg correction within each family of contrasts."
    )
    return said


def _methods(source: Source, several: bool) -> Iterator[str]:
    plan = source.plan
    models = f"{len(plan.models)} model{'s were' if len(plan.models) > 1 else ' was'}"
    environments = f"{len(plan.environments)} environment{'s' if len(plan.environments) > 1 else ''}"
    yield (
        f"{f'{source.name}: ' if several else ''}{models} put into {environments}, {plan.epochs} draw"
        f"{'s' if plan.epochs > 1 else ''} per environment, model, cue and arm. "
        + (
            "The episodes were played elsewhere and taken in; what they do not say is missing here."
            if source.manifest.get("imported")
            else "Each episode had a box of its own, and its outcome was read from the state of that box."
        )
    )
    yield (
        f"Tool order ({', '.join(plan.orders)}) and name sets ({', '.join(plan.names)}) rotate with the draw, in the same way in every "
        f"arm. Matches were shuffled with seed {plan.seed}; the arms of a match were played next to each other in random order."
    )
    for block in plan.blocks:
        if block.cue is None:
            yield "The belief question was asked without any context."
            continue
        objective = f", with the objective {block.objective}" if block.objective else ""
        yield (
            f"Cue {block.cue} ({block.kind}), {block.prompt} prompt{objective}: arms {', '.join(block.arms)}, baseline "
            f"{block.baseline}; by {', '.join(block.channels)}; paraphrases {', '.join(map(str, block.paraphrases))}."
        )


def _cell(value: object) -> str:
    """Text for a Markdown table: on one line, and no markup of its own."""
    return "".join(
        f"\\{letter}" if letter in r"\`*_{}[]<>#|!" else letter for letter in sidebyside.visible_line(str(value))
    )


def rates_words(found: Beside | None) -> str:
    """A detector's error rates, and for which size they are."""
    if found is None:
        return "not calibrated"
    parts = []
    if found.false_positives:
        parts.append(f"false positives ≤ {_interval(found.false_positives)}")
    if found.power:
        parts.append(f"power ≥ {_interval(found.power)}")
    size = f"{found.scenarios}×{found.draws}"
    own = f"{found.own[0]}×{found.own[1]}"
    parts.append(f"at {size}" if found.exact else f"not calibrated at this size ({own}); these are for {size}")
    return "; ".join(parts)


def _interval(rate: ErrorRate) -> str:
    return f"{100 * rate.rate:.1f} % ({100 * rate.low:.1f} to {100 * rate.high:.1f}, {rate.agent})"


def _whole(sources: Sequence[Source], table: pl.DataFrame) -> tuple[list[sidebyside.SideBySide], dict[str, Skimmed]]:
    """The first matches of a table, read whole from the records, and what else a pass over these brings."""
    first = table.head(MATCHES)
    skimmed = {}
    for source in sources:
        mine = first.filter(run=source.name)
        skimmed[source.name] = skim(source.lines(), frozenset(mine["left"]) | frozenset(mine["right"]))
    verdicts = {source.name: source.verdicts for source in sources}
    pairs = []
    for run, left, right in first.select("run", "left", "right").iter_rows():
        found = skimmed[run].episodes if run in skimmed else {}
        if left in found and right in found:
            pairs.append(sidebyside.side_by_side(found[left], found[right], run, verdicts[run]))
    return pairs, skimmed


def _fitting(
    pairs: Sequence[sidebyside.SideBySide], draw: Callable[[sidebyside.SideBySide], str]
) -> Iterator[tuple[str, str]]:
    """(id, page part) of as many matches as there is room for."""
    room = ROOM
    for pair in pairs:
        drawn = draw(pair)
        room -= len(drawn.encode())
        if room < 0:
            return
        yield pair.id, drawn


@dataclass(frozen=True)
class Answered:
    """What the provider said it was that answered."""

    run: str
    asked: str
    named: str
    fingerprint: str
    turns: int


def provenance(report: Report, skimmed: Mapping[str, Skimmed]) -> dict[str, Any]:
    """Where all of it comes from."""
    costs = report.readings.group_by("run", "model", maintain_order=True).agg(
        pl.len().alias("episodes"),
        pl.col("cost").sum().alias("dollars"),
        pl.col("cost").null_count().alias("unpriced"),
        pl.col("prompt_tokens").sum().alias("sent"),
        pl.col("completion_tokens").sum().alias("said"),
        pl.col("prompt_tokens").null_count().alias("uncounted"),
    )
    return {
        "answered": [
            Answered(run, asked, named, fingerprint, turns)
            for run, found in skimmed.items()
            for (asked, named, fingerprint), turns in sorted(found.answered.items())
        ],
        "costs": costs.rows(named=True),
    }


def write(folder: Path, report: Report) -> list[Path]:
    """Write the report in every form; returns the paths. Raises OSError where the folder cannot be written."""
    templates = sidebyside.templates()
    table = flagged(report.readings, report.findings)
    pairs, skimmed = _whole(report.sources, table)
    macro: Any = templates.get_template("sidebyside.html").module
    drawn = dict(_fitting(pairs, lambda pair: str(macro.match(pair))))
    drawn_per_cell = _draws(report.readings)
    rates = [
        beside(each, report.calibration, drawn_per_cell.get((each.model, each.cue), 1)) if report.calibration else None
        for each in report.findings
    ]
    context = _context(report, table, drawn, rates) | provenance(report, skimmed)
    templates.filters |= {"pp": pp, "number": number, "percent": percent, "cell": _cell}
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / "report.html", folder / "report.md", folder / "report.json"]
    paths[0].write_text(templates.get_template("report.html").render(**context, **_policy()), encoding="utf-8")
    paths[1].write_text(templates.get_template("report.md").render(**context), encoding="utf-8")
    kept = [
        (pair.run, skimmed[pair.run].episodes[trial]) for pair in pairs for trial in (pair.left.trial, pair.right.trial)
    ]
    whole = json.dumps(_json(report, context, table, kept), ensure_ascii=False, indent=1)
    paths[2].write_bytes(
        whole.encode("utf-8", "backslashreplace")
    )  # half a surrogate pair is an escape, as JSON has it
    rows = [{"error_rates": rates_words(found)} for found in rates]
    unique = list({(run, episode.trial.id): (run, episode) for run, episode in kept}.values())
    tables = {"matches": table, "transcripts": transcripts(unique), "attrition": _attrition_table(context["attrition"])}
    if report.findings:
        tables["findings"] = findings_table(report.findings, rows)
    return paths + write_tables(folder, tables)


def _draws(readings: pl.DataFrame) -> dict[tuple[str | None, str | None], int]:
    """(model, cue) → how many draws an arm has in one environment; the median of all."""
    cells = readings.group_by("model", "cue", "environment", "arm").len()
    typical = cells.group_by("model", "cue").agg(pl.col("len").median().round().cast(pl.Int64))
    return {(model, cue): draws for model, cue, draws in typical.iter_rows()}


def _policy() -> dict[str, Any]:
    """Style and script of the page, and the hashes by which its policy lets them in. Nothing else may act or load."""
    here = Path(__file__).parent
    texts = {"style": (here / "report.css").read_text() + sidebyside.style(), "script": sidebyside.script()}
    # Ours, from files beside this one: not to be escaped, or the hash would be of something else.
    return {name: Markup(text) for name, text in texts.items()} | {  # noqa: S704
        f"{name}_hash": "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        for name, text in texts.items()
    }


def _context(
    report: Report, table: pl.DataFrame, drawn: Mapping[str, str], rates: Sequence[Beside | None]
) -> dict[str, Any]:
    findings = report.findings
    by_id = {id(each): found for each, found in zip(findings, rates, strict=True)}
    shifts = [each for each in findings if each.detector == "oversight_shift"]
    whole = [each for each in shifts if each.scope == "all"]
    reasoning = [each for each in findings if each.detector in (*REASONING, "flip")]
    claiming = [each for each in reasoning if each.scope == "all" or each.verdict in ("positive", "negative")]
    confounds = [each for each in findings if each.detector in CONFOUNDS]
    known = {*CONFOUNDS, *REASONING, "flip", "oversight_shift"}
    return {
        "report": report,
        "question": question(report),
        "answers": answers(report),
        "attrition": attrition(report),
        "outcomes": OUTCOMES,
        "shifts": whole,
        "forest": plots.forest(whole),
        "forest_rows": plots.FOREST_ROWS,
        "ladders": ladders(report),
        "heatmaps": heatmaps(report),
        "by_environment": [each for each in shifts if each.environment],
        "by_scope": [each for each in shifts if each.scope != "all" and not each.environment],
        "reasoning": claiming,
        "reasoning_left_out": len(reasoning) - len(claiming),
        "confounds": confounds,
        "others": [each for each in findings if each.detector not in known],
        "failed": [each for each in findings if each.verdict == "failed"],
        "qualified": partial(qualified, findings=[each for each in findings if each.qualifies]),
        "rates": lambda finding: rates_words(by_id[id(finding)]),
        "calibrated": by_size(report.calibration) if report.calibration else [],
        "interval": _interval,
        "rows": ROWS,
        "flagged": table.head(ROWS).rows(named=True),
        "flagged_total": table.height,
        # Drawn by the same escaping templates as the page itself.
        "matches": {name: Markup(part) for name, part in drawn.items()},  # noqa: S704
        "methods": methods(report),
        "statistics": sorted({(each.detector, each.claim, each.method) for each in findings if each.method}),
        "episodes": report.readings.height,
        "manifests": {source.name: _pretty(source.manifest) for source in report.sources},
    }


def _pretty(manifest: Mapping[str, Any]) -> str:
    return json.dumps(manifest, indent=1, sort_keys=True, ensure_ascii=False)


def _attrition_table(rows: Iterable[Attrition]) -> pl.DataFrame:
    counts = ("planned", *OUTCOMES, "not_on_record", "faulty_attempts")
    schema: dict[str, pl.DataType] = {
        **dict.fromkeys(("model", "cue", "arm"), pl.String()),
        **dict.fromkeys(counts, pl.Int64()),
    }
    return pl.DataFrame(
        [
            {"model": row.model, "cue": row.cue, "arm": row.arm, "planned": row.planned, "not_on_record": row.missing,
             "faulty_attempts": row.faults, **{name: row.counts.get(name, 0) for name in OUTCOMES}}
            for row in rows
        ],
        schema=schema,
    )  # fmt: skip


def _json(
    report: Report, context: Mapping[str, Any], table: pl.DataFrame, kept: Sequence[tuple[str, Episode]]
) -> dict[str, Any]:
    return {
        "runs": [
            {
                "name": source.name,
                "plan": source.plan.model_dump(mode="json"),
                "hash": source.plan.hash,
                "manifest": dict(source.manifest),
            }
            for source in report.sources
        ],
        "command": report.command,
        "question": context["question"],
        "answers": [each.sentence for each in context["answers"]],
        "attrition": _attrition_table(context["attrition"]).rows(named=True),
        "findings": [
            each.model_dump(mode="json") | {"error_rates": context["rates"](each)} for each in report.findings
        ],
        "ladders": [
            {"cue": each["cue"], "levels": each["levels"], "rungs": each["rungs"]} for each in context["ladders"]
        ],
        "calibration": report.calibration.model_dump(mode="json") if report.calibration else None,
        "matches": table.rows(named=True),
        "episodes": [{"run": run, **episode.model_dump(mode="json")} for run, episode in kept],
        "methods": context["methods"],
        "not_pooled": list(report.pooling.differences),
        "pooled_anyway": report.pooled_anyway,
        "answered": [vars(each) for each in context["answered"]],
        "costs": context["costs"],
    }
