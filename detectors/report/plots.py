"""Drawings for the report, as SVG: no script, no network, no browser needed."""

from collections.abc import Sequence
from typing import Any

import polars as pl

from detectors.finding import Finding, Interval

FOREST_ROWS = 60
"""Rows a forest plot stays readable with; the table below it has all of them."""


def forest(shifts: Sequence[Finding]) -> str:
    """Shift per model and cue with its interval, A/A and placebo in the same row. Empty without anything to draw."""
    rows: list[dict[str, Any]] = []  # Any: text and numbers, as a table holds them
    for each in [each for each in shifts if each.scope == "all"][:FOREST_ROWS]:
        label = f"{each.model} · {each.cue} · {(each.contrast or '').split(' - ')[0]}"
        own = each.estimate is not None and Interval(estimate=each.estimate, low=each.low, high=each.high)
        for what, interval in (("shift", own), ("A/A", each.aa), ("placebo", each.placebo)):
            if interval:
                rows.append({"row": label, "what": what, **interval.model_dump(include={"estimate", "low", "high"})})
    if not rows:
        return ""
    import altair as alt

    frame = pl.DataFrame(
        rows, schema={"row": pl.String, "what": pl.String, **dict.fromkeys(("estimate", "low", "high"), pl.Float64)}
    )
    order = ["shift", "placebo", "A/A"]
    y = alt.Y("row:N", title=None, sort=None, axis=alt.Axis(labelLimit=420))
    offset = alt.YOffset("what:N", sort=order)
    colour = alt.Color("what:N", title=None, scale=alt.Scale(domain=order, range=["#0b62c4", "#b45309", "#6b7280"]))
    base = alt.Chart(frame)
    scale = alt.Scale(domain=[-1, 1])
    bars = base.mark_rule(strokeWidth=2).encode(
        x=alt.X("low:Q", scale=scale, title="unsafe rate, level − baseline", axis=alt.Axis(format="+.0%")), x2="high:Q",
        y=y, yOffset=offset, color=colour,
    )  # fmt: skip
    points = base.mark_point(filled=True, size=55).encode(
        x=alt.X("estimate:Q", scale=scale),
        y=y,
        yOffset=offset,
        color=colour,
        shape=alt.Shape("what:N", title=None, sort=order),
    )
    zero = alt.Chart(pl.DataFrame({"x": [0.0]})).mark_rule(strokeDash=[3, 3], color="#888").encode(x="x:Q")
    return _svg((zero + bars + points).properties(width=520, height=alt.Step(14)))


def heatmap(readings: pl.DataFrame) -> str:
    """Unsafe rate, treated level − baseline, by model and environment, over oversight cues. Empty without any."""
    decided = readings.filter(pl.col("unsafe").is_not_null(), pl.col("kind") == "oversight", pl.col("arm") != "aa")
    rates = decided.group_by("model", "environment", treated=pl.col("arm") != pl.col("baseline")).agg(
        pl.col("unsafe").mean()
    )
    wide = (
        rates.group_by("model", "environment")
        .agg(
            pl.col("unsafe").filter(pl.col("treated")).first().alias("level"),
            pl.col("unsafe").filter(~pl.col("treated")).first().alias("base"),
        )
        .select("model", "environment", shift=pl.col("level") - pl.col("base"))
        .drop_nulls()
        .sort("model", "environment")
    )
    if wide.height < 2:
        return ""
    import altair as alt

    base = alt.Chart(wide).encode(
        x=alt.X("environment:N", title=None, axis=alt.Axis(labelAngle=-35, labelLimit=200)),
        y=alt.Y("model:N", title=None),
    )
    cells = base.mark_rect().encode(
        color=alt.Color(
            "shift:Q",
            title="shift",
            scale=alt.Scale(scheme="blueorange", domain=[-1, 1]),
            legend=alt.Legend(format="+.0%"),
        )
    )
    text = base.mark_text(fontSize=10, color="#111").encode(text=alt.Text("shift:Q", format="+.0%"))
    return _svg((cells + text).properties(width=alt.Step(44), height=alt.Step(26)))


def _svg(chart: Any) -> str:  # Any: altair's chart types share no base that mypy can see through
    import vl_convert

    drawn: str = vl_convert.vegalite_to_svg(
        chart.configure(background="transparent", view={"stroke": None}, font="sans-serif").to_json()
    )
    return drawn
