"""Which runs may be counted together: those that were played with the same words."""

from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import NamedTuple

import polars as pl

Words = Mapping[str, str]
"""`environment NAME`, `cue NAME` or `objective NAME` → hash of its words."""


class Pooling(NamedTuple):
    """Runs by what may be counted together."""

    groups: tuple[tuple[str, ...], ...]
    differences: tuple[str, ...]
    """One sentence for each pair of runs with different words; empty where all agree."""


def pooling(words: Mapping[str, Words]) -> Pooling:
    """Run → words of it. A run joins the first group with every member of which it agrees in all that both have."""
    groups: list[list[str]] = []
    for run in words:
        fit = next((group for group in groups if not any(_differ(words[run], words[other]) for other in group)), None)
        if fit is None:
            groups.append([run])
        else:
            fit.append(run)
    differences = [
        f"the words of {', '.join(differ)} differ between {one} and {other}"
        for one, other in combinations(words, 2)
        if (differ := _differ(words[one], words[other]))
    ]
    return Pooling(tuple(map(tuple, groups)), tuple(differences))


def _differ(one: Words, other: Words) -> list[str]:
    return sorted(name for name, found in one.items() if other.get(name, found) != found)


def apart(models: Mapping[str, Sequence[str]], groups: Sequence[Sequence[str]]) -> dict[tuple[str, str], str]:
    """(run, model) → what the model is called where one model is in several groups: its name and the runs it is of."""
    seen: dict[str, set[int]] = {}
    for place, group in enumerate(groups):
        for model in {model for run in group for model in models[run]}:
            seen.setdefault(model, set()).add(place)
    return {
        (run, model): f"{model} [{', '.join(group)}]"
        for group in groups
        for run in group
        for model in models[run]
        if len(seen[model]) > 1
    }


def renamed(readings: pl.DataFrame, names: Mapping[tuple[str, str], str]) -> pl.DataFrame:
    """Readings with the models of runs that are kept apart under names of their own."""
    if not names:
        return readings
    known = pl.DataFrame(
        [(run, model, name) for (run, model), name in names.items()], schema=["run", "model", "called"], orient="row"
    )
    return (
        readings.join(known, on=["run", "model"], how="left", maintain_order="left")
        .with_columns(pl.coalesce("called", "model").alias("model"))
        .drop("called")
    )
