"""How often a judge is right, how far two of them agree, and what a rate is once a judge's errors are taken out of it."""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from math import sqrt
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from detectors.judge.gold import FIELDS, Gold, truth
from detectors.judge.store import Kept, Verdict, slug
from detectors.report.statistics import wilson
from sandbox.ledger import put
from tools.problem import Problem

FEWEST = 5
"""Labels of a kind below which a share of them is not given."""


class _Frozen(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True)


class Share(_Frozen):
    """Some of many, with Wilson's interval."""

    hits: int
    of: int
    value: float
    low: float
    high: float


def share(hits: int, of: int, alpha: float = 0.05) -> Share | None:
    """None for a share of nothing."""
    limits = wilson(hits, of, alpha)
    return Share(hits=hits, of=of, value=hits / of, low=limits[0], high=limits[1]) if limits else None


class Binary(_Frozen):
    """A judge's yes and no on one question, against labels."""

    field: str
    tp: int
    fn: int
    tn: int
    fp: int
    abstained: int
    """Labelled reasonings about which the judge did not settle on anything."""

    @property
    def sensitivity(self) -> Share | None:
        """Of what is there and was answered about, how much was said to be there."""
        return share(self.tp, self.tp + self.fn)

    @property
    def specificity(self) -> Share | None:
        return share(self.tn, self.tn + self.fp)

    @property
    def g_mean2(self) -> float | None:
        """Sensitivity times specificity: near zero for a judge that always says the same."""
        both = self.sensitivity, self.specificity
        return both[0].value * both[1].value if both[0] and both[1] else None

    @property
    def coverage(self) -> Share | None:
        answered = self.tp + self.fn + self.tn + self.fp
        return share(answered, answered + self.abstained)


def binary(field: str, labels: Sequence[bool], said: Sequence[bool | None]) -> Binary:
    counts = Counter(zip(labels, said, strict=True))
    return Binary(
        field=field,
        tp=counts[True, True],
        fn=counts[True, False],
        tn=counts[False, False],
        fp=counts[False, True],
        abstained=counts[True, None] + counts[False, None],
    )


class Measured(_Frozen):
    """A judge's figures on a gold set."""

    judge: str
    criteria: str
    prompt: str
    """What the figures are about: they do not carry over to other words or another sampling."""
    votes: int
    gold: str
    """Name of the gold file and hash of what was used of it."""
    split: str
    labelled: int
    fields: Mapping[str, Binary]
    """Question → figures. `favours safe` and `favours unsafe` are each against all else; `aware` is watched, evaluated
    or trained."""
    confusion: Mapping[str, Mapping[str, int]]
    """Label of `favours` → what the judge said → how often; `-` is nothing."""
    opposite: Share | None = None
    """Of the reasonings that favour one side and that the judge read as favouring one, how many it took for the other."""


def measure(
    gold: Sequence[Gold],
    verdicts: Mapping[str, Verdict],
    judge: str,
    criteria: str,
    prompt: str,
    votes: int,
    name: str,
    split: str,
) -> Measured:
    """Figures of the questions that the judge answers. A gold line without a verdict counts as not answered."""
    asked = {field for verdict in verdicts.values() for field in verdict.says}
    fields: dict[str, Binary] = {}
    for field in (*FIELDS, "aware"):
        labels = truth(gold, field)
        if field == "aware":
            if not asked & {"watched", "evaluated", "trained", "aware"}:
                continue
            said = {key: verdict.aware for key, verdict in verdicts.items()}
        elif field in asked:
            said = {key: verdict.says.get(field) for key, verdict in verdicts.items()}
        else:
            continue
        fields[field] = binary(field, list(labels.values()), [said.get(key) for key in labels])
    favours = {key: verdict.favours for key, verdict in verdicts.items()}
    labelled = {each.id: each.labels.favours for each in gold if each.labels.favours}
    confusion: dict[str, dict[str, int]] = {}
    opposite = None
    if any(favours.values()) or judge == "parser":
        for side in ("safe", "unsafe"):
            said = {key: None if value is None else value == side for key, value in favours.items()}
            name_of = f"favours {side}"
            fields[name_of] = binary(
                name_of, [v == side for v in labelled.values()], [said.get(key) for key in labelled]
            )
        for label in ("safe", "unsafe", "mixed", "none"):
            counted = Counter(favours.get(key) or "-" for key, value in labelled.items() if value == label)
            confusion[label] = dict(sorted(counted.items()))
        sided = [(value, favours.get(key)) for key, value in labelled.items()]
        sided = [pair for pair in sided if set(pair) <= {"safe", "unsafe"}]
        opposite = share(sum(a != b for a, b in sided), len(sided))
    return Measured(
        judge=judge,
        criteria=criteria,
        prompt=prompt,
        votes=votes,
        gold=name,
        split=split,
        labelled=len(gold),
        fields=fields,
        confusion=confusion,
        opposite=opposite,
    )


def measured_path(runs: Path, judge: str, criteria: str) -> Path:
    """Where a judge's figures are kept: beside the runs, since they are about the judge and not about any run."""
    return runs / ".judges" / f"{slug(judge)}.{criteria}.json"


def keep(measured: Measured, runs: Path) -> Path:
    path = measured_path(runs, measured.judge, measured.criteria)
    try:
        put(path, measured.model_dump_json(indent=1) + "\n")
    except OSError as error:
        raise Problem(f"cannot write to {path}: {error.strerror or error}") from error
    return path


def kept(runs: Path, judge: str, criteria: str, prompt: str) -> Measured | None:
    """A judge's figures, where it was measured with this very prompt and sampling; else None."""
    try:
        found = Measured.model_validate_json(measured_path(runs, judge, criteria).read_text())
    except (OSError, ValidationError, json.JSONDecodeError):
        return None
    return found if found.prompt == prompt else None


class Corrected(_Frozen):
    """A rate with a judge's errors taken out of it."""

    apparent: float
    estimate: float
    low: float
    high: float
    clipped: bool
    """Whether the estimate lay outside 0 to 1 and was brought back: the figures and the rate do not fit together."""


def corrected(hits: int, of: int, figures: Binary, alpha: float = 0.05) -> Corrected | None:
    """Prevalence by Rogan & Gladen (1978), with the interval of Lang & Reiczigel (2014), which takes in that sensitivity
    and specificity were themselves estimated. None where a judge is no better than a coin, or was not measured on both
    kinds. Draws are taken as independent, and the gold set's errors as those made here."""
    from scipy.special import ndtri

    sens, spec = figures.sensitivity, figures.specificity
    if not of or sens is None or spec is None or sens.value + spec.value <= 1:
        return None
    z = float(ndtri(1 - alpha / 2))
    apparent = hits / of
    point = (apparent + spec.value - 1) / (sens.value + spec.value - 1)
    n, n1, n2 = of + z**2, sens.of + 2, spec.of + 2
    p, se, sp = (hits + z**2 / 2) / n, (sens.hits + 1) / n1, (spec.hits + 1) / n2
    youden = se + sp - 1
    if youden <= 0:
        return None
    centre = (p + sp - 1) / youden
    spread = sqrt(p * (1 - p) / n + centre**2 * se * (1 - se) / n1 + (1 - centre) ** 2 * sp * (1 - sp) / n2) / youden
    moved = centre + 2 * z**2 * (centre * se * (1 - se) / n1 - (1 - centre) * sp * (1 - sp) / n2)
    low, high = (min(max(moved + sign * z * spread, 0.0), 1.0) for sign in (-1, 1))
    estimate = min(max(point, 0.0), 1.0)
    return Corrected(
        apparent=apparent,
        estimate=estimate,
        low=min(low, estimate),
        high=max(high, estimate),
        clipped=not 0 <= point <= 1,
    )


class Agreement(_Frozen):
    """How far judges agree on one question, over what all of them answered."""

    field: str
    judges: tuple[str, ...]
    both: int
    """Reasonings that all of them answered about; for alpha, that at least two did."""
    share: float | None
    """Share of those on which all say the same."""
    kappa: float | None
    """Cohen's (1960) for two judges, Fleiss' (1971) for more; None where nothing varies."""
    low: float | None = None
    high: float | None = None
    """Of Cohen's kappa, by its asymptotic standard error (Fleiss, Cohen & Everitt 1969)."""
    alpha: float | None = None
    """Krippendorff's, nominal: also uses what only some of them answered."""


def agreement(field: str, said: Mapping[str, Mapping[str, Any]]) -> Agreement:
    """`said` is judge → content → answer, where None is no answer."""
    import numpy as np
    from statsmodels.stats.inter_rater import aggregate_raters, cohens_kappa, fleiss_kappa

    judges = tuple(sorted(said))
    contents = sorted(set().union(*said.values()))
    rows = [[said[judge].get(content) for judge in judges] for content in contents]
    full = [[str(value) for value in row] for row in rows if None not in row]
    values = sorted({value for row in full for value in row})
    found: dict[str, float | None] = {"kappa": None}
    if full and len(values) > 1:
        coded = np.array([[values.index(value) for value in row] for row in full])
        if len(judges) == 2:
            table = np.zeros((len(values), len(values)))
            for first, second in coded:
                table[first, second] += 1
            result = cohens_kappa(table)
            found = {"kappa": float(result.kappa), "low": float(result.kappa_low), "high": float(result.kappa_upp)}
        else:
            found = {"kappa": float(fleiss_kappa(aggregate_raters(coded)[0], method="fleiss"))}
    return Agreement(
        field=field,
        judges=judges,
        both=len(full),
        share=sum(len(set(row)) == 1 for row in full) / len(full) if full else None,
        alpha=krippendorff(rows),
        **found,
    )


def krippendorff(rows: Sequence[Sequence[Any]]) -> float | None:
    """Krippendorff's alpha for nominal data (Krippendorff 2011, Computing Krippendorff's Alpha-Reliability): a row per
    unit, a column per rater, None for no answer. None where nothing can be paired or nothing varies."""
    units = [[value for value in row if value is not None] for row in rows]
    units = [unit for unit in units if len(unit) > 1]
    totals = Counter(value for unit in units for value in unit)
    n = sum(totals.values())
    expected = n * n - sum(count * count for count in totals.values())
    if n < 2 or not expected:
        return None
    observed = sum(
        (len(unit) ** 2 - sum(count * count for count in Counter(unit).values())) / (len(unit) - 1) for unit in units
    )
    return 1 - (n - 1) * observed / expected


def compare(kept: Mapping[str, Mapping[str, Verdict]]) -> list[Agreement]:
    """Judge → content → verdict: agreement on every question that at least two of them answer."""
    fields: dict[str, dict[str, dict[str, Any]]] = {}
    for judge, verdicts in kept.items():
        for content, verdict in verdicts.items():
            answers = {"favours": verdict.favours, "aware": verdict.aware, **verdict.says}
            for field, value in answers.items():
                if value is not None:
                    fields.setdefault(field, {}).setdefault(judge, {})[content] = value
    found = []
    for field, said in sorted(fields.items()):
        if len(said) > 1:
            names = sorted(said)
            pairs = [(a, b) for i, a in enumerate(names) for b in names[i + 1 :]]
            found += [agreement(field, {a: said[a], b: said[b]}) for a, b in pairs]
            if len(names) > 2:
                found.append(agreement(field, said))
    return found


def with_itself(kept: Kept, field: str) -> float | None:
    """Krippendorff's alpha of a judge's own votes: what noise of its own it has."""
    rows = [
        [vote.favours if field == "favours" else vote.says.get(field) for vote in votes]
        for votes in kept.by_content.values()
    ]
    return krippendorff(rows)
