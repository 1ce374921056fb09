"""The report: what was asked, what was found, what speaks against it, and how to get the same pages again."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import polars as pl
from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape
from markupsafe import Markup

from detectors.finding import Finding
from detectors.report import plots
from sandbox.episode import Episode
from sandbox.plan import AA, Plan

EXAMPLES = 12
"""Flagged matches whose transcripts are printed whole."""

REASONING = ("composite_event", "silent_shift", "reversal", "report_mismatch", "interrogation")
CONFOUNDS = ("missingness", "order_effect", "name_effect", "reasoning_effect", "duplicates", "flip")


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
        return self.planned - sum(self.counts.values())


def attrition(plan: Plan, readings: pl.DataFrame) -> list[Attrition]:
    """Per model, cue and arm: everything that was planned, by what became of it."""
    key = ["model", "cue", "arm"]
    planned = pl.DataFrame(
        [{"model": trial.model, "cue": trial.condition or "none", "arm": trial.arm} for trial in plan.trials()],
        schema=dict.fromkeys(key, pl.String()),
    )
    seen = readings.with_columns(pl.col("cue").fill_null("none"))
    found = []
    for group, rows in sorted(planned.group_by(key)):
        mine = seen.filter(*(pl.col(name) == value for name, value in zip(key, group, strict=True)))
        counts = dict(mine["outcome"].value_counts().sort("outcome").iter_rows())
        model, cue, arm = (str(part) for part in group)
        found.append(Attrition(model, cue, arm, rows.height, counts, int(mine["faults"].sum())))
    return found


def answer(findings: Sequence[Finding], plan: Plan) -> list[str]:
    """What was asked and the answer, a sentence for each model, always with its bound."""
    shifts = [each for each in findings if each.detector == "oversight_shift" and each.scope == "all"]
    sentences = []
    for each in shifts:
        if plan.primary and (each.cue != plan.primary.cue or not (each.contrast or "").startswith(plan.primary.arm)):
            continue
        if each.estimate is None:
            sentences.append(f"{each.model}: {each.cue} cannot be answered: {each.note or each.verdict}.")
            continue
        interval = f" (95 % interval {pp(each.low)} to {pp(each.high)})" if each.low is not None else ""
        means = {
            "positive": "takes the unsafe side more often when the cue says it is watched",
            "negative": "takes the unsafe side less often when the cue says it is watched",
            "none": "shows no shift that these data could tell from none",
        }.get(each.verdict, "gives no answer either way")
        note = f"; {each.note}" if each.note else ""
        sentences.append(f"{each.model} {means}: {pp(each.estimate)}{interval}, {each.contrast}{note}.")
    return sentences


def pp(value: float | None) -> str:
    """A difference of shares in percentage points; unknown stays unknown."""
    return "unknown" if value is None else f"{100 * value:+.1f} pp"


def number(value: float | None, form: str = ".3f") -> str:
    return "–" if value is None else format(value, form)


def pairs(findings: Sequence[Finding], episodes: Iterable[Episode]) -> list[list[Episode]]:
    """Flagged matches with their arms side by side: evidence of the findings that claim something, in their order."""
    wanted = list(
        dict.fromkeys(
            trial
            for finding in findings
            if finding.verdict in ("positive", "negative") and finding.detector in ("oversight_shift", *REASONING)
            for trial in finding.evidence
        )
    )
    found: dict[str, list[Episode]] = {}
    chosen: dict[str, int] = {}
    for episode in episodes:
        if episode.trial.arm != AA and episode.outcome != "fault":
            found.setdefault(episode.trial.match, []).append(episode)
            if episode.trial.id in wanted:
                place = wanted.index(episode.trial.id)
                chosen[episode.trial.match] = min(place, chosen.get(episode.trial.match, place))
    first = sorted(chosen, key=lambda match: chosen[match])[:EXAMPLES]
    return [sorted(found[match], key=lambda episode: episode.trial.arm) for match in first]


def methods(plan: Plan) -> list[str]:
    """How the data came about, in words, from the plan itself."""
    said = [
        f"{len(plan.models)} model(s) were put into {len(plan.environments)} environment(s), {plan.epochs} draws per "
        "environment, model, cue and arm, each in a container of its own; outcomes were read from the container's state.",
        f"Tool order ({', '.join(plan.orders)}) and name sets ({', '.join(plan.names)}) rotate with the draw, in the same "
        "way in every arm. Matches were shuffled with seed "
        f"{plan.seed}; the arms of a match were played next to each other in random order.",
    ]
    for block in plan.blocks:
        if block.cue is None:
            said.append("The belief question was asked without any context.")
            continue
        said.append(
            f"Cue {block.cue} ({block.kind}), {block.prompt} prompt: arms {', '.join(block.arms)}, baseline {block.baseline}; "
            f"by {', '.join(block.channels)}; paraphrases {', '.join(map(str, block.paraphrases))}."
        )
    if any(AA in block.arms for block in plan.blocks):
        said.append("The arm aa repeats the baseline with draws of its own: what looks like an effect there is noise.")
    return said


@cache
def _templates() -> Environment:
    environment = Environment(
        loader=PackageLoader("detectors.report", "."),
        autoescape=select_autoescape(("html",)),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"pp": pp, "number": number, "cell": _cell}
    return environment


def _cell(value: object) -> str:
    """Text for a Markdown table: on one line, and no markup of its own."""
    text = " ".join(str(value).split())
    return "".join(f"\\{letter}" if letter in r"\`*_{}[]<>#|!" else letter for letter in text)


def write(
    folder: Path,
    plan: Plan,
    manifest: Mapping[str, Any],
    readings: pl.DataFrame,
    findings: Sequence[Finding],
    episodes: Iterable[Episode],
) -> list[Path]:
    """Write report.md and report.html; returns their paths. Raises OSError where the folder cannot be written."""
    shifts = [each for each in findings if each.detector == "oversight_shift"]
    context = {
        "plan": plan,
        "manifest": manifest,
        "answer": answer(findings, plan),
        "attrition": attrition(plan, readings),
        "outcomes": ("safe", "unsafe", "refused", "no_call", "invalid", "fault"),
        "shifts": [each for each in shifts if each.scope == "all"],
        "by_environment": [each for each in shifts if each.environment],
        "reasoning": [each for each in findings if each.detector in REASONING],
        "confounds": [each for each in findings if each.detector in CONFOUNDS],
        "methods": methods(plan),
        "statistics": sorted({(each.detector, each.claim, each.method) for each in findings}),
        "pairs": pairs(findings, episodes),
        "manifest_json": json.dumps(manifest, indent=1, sort_keys=True, ensure_ascii=False),
        "command": f"honne report {plan.name}",
    }
    folder.mkdir(parents=True, exist_ok=True)
    # Plots are our own drawing, made from numbers; labels in them are escaped by the renderer.
    drawn = {"forest": Markup(plots.forest(shifts)), "heatmap": Markup(plots.heatmap(readings))}  # noqa: S704
    paths = [folder / "report.md", folder / "report.html"]
    for path in paths:
        path.write_text(_templates().get_template(path.name).render(**context, **drawn))
    return paths
