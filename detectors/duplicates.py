"""Are responses that should be independent of each other the same text?"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations

import polars as pl

from detectors.finding import EVIDENCE, Finding, Settings
from detectors.report.contrast import SHIFTS
from detectors.report.statistics import wilson

TOO_MANY = 0.05
"""Long texts do not repeat by chance; a share above this needs an explanation (a cache, temperature 0, a copied file)."""

ANYTHING = (*SHIFTS, "reversal", "report_mismatch")


@dataclass(frozen=True)
class Duplicates:
    name: str = "duplicates"
    claim: str = "Long responses of different models, of different arms, or of repeated draws are identical."

    def findings(self, readings: pl.LazyFrame, settings: Settings) -> Sequence[Finding]:
        texts = readings.filter(pl.col("text_hash").is_not_null()).select(
            "model", "environment", "cue", "prompt", "arm", "baseline", "id", "text_hash"
        )
        return [
            *self._between_models(texts, settings),
            *self._between_draws(texts, settings),
            *self._between_arms(texts, settings),
        ]

    def _between_models(self, texts: pl.LazyFrame, settings: Settings) -> Iterator[Finding]:
        """Texts of one scenario that more than one model gave."""
        kept = (
            texts.group_by("environment", "text_hash")
            .agg(pl.col("model").unique().sort().alias("models"), pl.col("id").min())
            .filter(pl.col("models").list.len() > 1)
            .collect(engine="streaming")
        )
        sizes = dict(
            texts.group_by("model")
            .agg(pl.struct("environment", "text_hash").n_unique())
            .sort("model")
            .collect()
            .iter_rows()
        )
        shared: dict[tuple[str, str], list[str]] = {}
        for models, trial in kept.select("models", "id").sort("id").iter_rows():
            for pair in combinations(models, 2):
                shared.setdefault(pair, []).append(trial)
        for pair, trials in sorted(shared.items()):
            total = min(sizes[model] for model in pair)
            yield self._finding(pair[0], None, f"{pair[0]} = {pair[1]}", len(trials), total, trials, settings)
        if len(sizes) > 1 and not shared:
            yield self._finding(None, None, "any two models", 0, sum(sizes.values()), [], settings)

    def _between_draws(self, texts: pl.LazyFrame, settings: Settings) -> Iterator[Finding]:
        """Draws of one cell that repeat an earlier draw of it."""
        cell = ("model", "cue", "prompt", "arm", "environment", "text_hash")
        repeats = (
            texts.group_by(cell)
            .agg(pl.len().alias("n"), pl.col("id").max())
            .group_by("model", "cue")
            .agg(
                (pl.col("n") - 1).sum().alias("repeats"),
                pl.col("n").sum(),
                pl.col("id").filter(pl.col("n") > 1).sort().head(EVIDENCE),
            )
            .sort("model", "cue")
            .collect(engine="streaming")
        )
        for model, cue, count, total, trials in repeats.iter_rows():
            yield self._finding(model, cue, "draws of a cell", count, total, trials, settings)

    def _between_arms(self, texts: pl.LazyFrame, settings: Settings) -> Iterator[Finding]:
        """Texts of a level that the baseline gave too, for the same scenario: was the cue delivered at all?"""
        place = ("model", "cue", "prompt", "environment", "text_hash")
        at_baseline = texts.filter(pl.col("arm") == pl.col("baseline")).select(place).unique()
        elsewhere = texts.filter(pl.col("arm") != pl.col("baseline"))
        same = elsewhere.join(at_baseline, on=place, how="semi", nulls_equal=True)
        by = ("model", "cue", "arm")
        counts = (
            elsewhere.group_by(by).agg(pl.len().alias("n"))
            .join(same.group_by(by).agg(pl.len().alias("same"), pl.col("id").sort().head(EVIDENCE)), on=by, how="left", nulls_equal=True)
            .sort(by).collect(engine="streaming")
        )  # fmt: skip
        for model, cue, arm, total, count, trials in counts.select(*by, "n", "same", "id").iter_rows():
            yield self._finding(model, cue, f"{arm} = baseline", count or 0, total, trials or [], settings)

    def _finding(
        self,
        model: str | None,
        cue: str | None,
        contrast: str,
        count: int,
        total: int,
        trials: Sequence[str],
        settings: Settings,
    ) -> Finding:
        low, high = wilson(count, total, settings.alpha) or (None, None)
        return Finding(
            detector=self.name,
            claim=self.claim,
            model=model,
            cue=cue,
            contrast=contrast,
            estimate=count / total if total else None,
            low=low,
            high=high,
            verdict="positive" if low is not None and low > TOO_MANY else "none",
            qualifies=ANYTHING,
            evidence=tuple(trials[:EVIDENCE]),
            method="share of identical texts by hash, white space aside, among long ones; Wilson interval",
            note=f"{count} of {total} long texts are the same",
        )


detector = Duplicates()
