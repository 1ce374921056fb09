"""Drawings for the report, as SVG in the page: no script, no network, no style of their own. Colours are the page's."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

import polars as pl
from markupsafe import Markup

from detectors.finding import Finding, Interval
from detectors.report.sidebyside import visible_line

FOREST_ROWS = 60
"""Rows a forest plot stays readable with; the table below it has all of them."""

Rows = list[dict[str, Any]]  # Any: text and numbers, as a table holds them

SERIES = (
    "var(--series-1)",
    "var(--series-2)",
    "var(--series-3)",
    "var(--series-4)",
    "var(--series-5)",
    "var(--series-6)",
)
SHAPES = ("circle", "diamond", "square", "triangle-up", "cross", "triangle-down")


def forest(shifts: Sequence[Finding]) -> Markup:
    """Shift per model and cue with its interval, A/A and placebo in the same row. Empty without anything to draw."""
    rows: Rows = []
    named = [(each.model, each.cue, (each.contrast or "").split(" - ")[0]) for each in shifts[:FOREST_ROWS]]
    # What all rows share would take the room of the plot itself: the table below says it.
    told = [place for place in range(3) if place == 0 or len({name[place] for name in named}) > 1]
    for each, name in zip(shifts, named, strict=False):
        label = visible_line(" · ".join(str(name[place]) for place in told))
        own = each.estimate is not None and Interval(estimate=each.estimate, low=each.low, high=each.high)
        for what, interval in (("shift", own), ("placebo", each.placebo), ("A/A", each.aa)):
            if interval:
                rows.append({"row": label, "what": what, **interval.model_dump(include={"estimate", "low", "high"})})
    if not rows:
        return Markup()
    import altair as alt

    kinds = {"row": pl.String, "what": pl.String, **dict.fromkeys(("estimate", "low", "high"), pl.Float64)}
    order = ["shift", "placebo", "A/A"]
    legend = alt.Legend(orient="top", direction="horizontal")
    y = alt.Y("row:N", title=None, sort=None, axis=alt.Axis(labelLimit=420, domain=False, ticks=False))
    offset = alt.YOffset("what:N", sort=order, scale=alt.Scale(paddingOuter=0.35))
    colour = alt.Color(
        "what:N",
        title=None,
        sort=order,
        scale=alt.Scale(domain=order, range=["var(--series-1)", "var(--series-2)", "var(--muted)"]),
        legend=legend,
    )
    shape = alt.Shape(
        "what:N",
        title=None,
        sort=order,
        scale=alt.Scale(domain=order, range=["circle", "diamond", "square"]),
        legend=legend,
    )
    scale = alt.Scale(domain=[-1, 1])
    base = alt.Chart(pl.DataFrame(rows, schema=kinds)).encode(y=y, yOffset=offset, color=colour)
    bars = base.mark_rule(strokeWidth=2).encode(
        x=alt.X(
            "low:Q",
            scale=scale,
            title="unsafe rate, level − baseline",
            axis=alt.Axis(format="+.0%", values=[-1, -0.75, -0.5, -0.25, 0, 0.25, 0.5, 0.75, 1]),
        ),
        x2="high:Q",
    )
    points = base.mark_point(filled=True, size=60, opacity=1).encode(x=alt.X("estimate:Q", scale=scale), shape=shape)
    zero = alt.Chart(pl.DataFrame({"x": [0.0]})).mark_rule(color="currentColor", opacity=0.6).encode(x="x:Q")
    return _svg((zero + bars + points).properties(width=540, height=alt.Step(15, **{"for": "offset"})))


def heatmap(shifts: Sequence[Finding]) -> Markup:
    """The shift of one contrast by environment and model. Empty with fewer than two cells."""
    cells = [
        {"model": visible_line(each.model or ""), "environment": visible_line(each.environment), "shift": each.estimate}
        for each in shifts
        if each.environment and each.estimate is not None
    ]
    if len(cells) < 2:
        return Markup()
    import altair as alt

    base = alt.Chart(pl.DataFrame(cells)).encode(
        x=alt.X(
            "model:N",
            title=None,
            axis=alt.Axis(labelAngle=-35, labelLimit=260, orient="top", domain=False, ticks=False),
        ),
        y=alt.Y("environment:N", title=None, axis=alt.Axis(labelLimit=260, domain=False, ticks=False)),
    )
    tiles = base.mark_rect(stroke="var(--page)", strokeWidth=2).encode(
        color=alt.Color(
            "shift:Q",
            title="shift",
            scale=alt.Scale(range=["#1f6fb5", "#f2f0eb", "#c2571a"], domain=[-1, 0, 1], interpolate="lab"),
            legend=alt.Legend(format="+.0%", orient="right", values=[-1, -0.5, 0, 0.5, 1]),
        )
    )
    light = (
        base.transform_filter("abs(datum.shift) > 0.6")
        .mark_text(fontSize=11)
        .encode(text=alt.Text("shift:Q", format="+.0%"), color=alt.value("#ffffff"))
    )
    plain = (
        base.transform_filter("abs(datum.shift) <= 0.6")
        .mark_text(fontSize=11)
        .encode(text=alt.Text("shift:Q", format="+.0%"), color=alt.value("#1b1b1b"))
    )
    return _svg((tiles + plain + light).properties(width=alt.Step(64), height=alt.Step(24)))


def ladder(rungs: Sequence[Mapping[str, Any]], levels: Sequence[str]) -> Markup:
    """Unsafe rate by level of one cue, weakest first, a line per model. Empty without anything to draw.

    `rungs` hold model, level, estimate, low and high.
    """
    if not rungs:
        return Markup()
    import altair as alt

    models = list(dict.fromkeys(visible_line(rung["model"]) for rung in rungs))
    names = [visible_line(level) for level in levels]
    frame = pl.DataFrame(
        [dict(rung) | {"model": visible_line(rung["model"]), "level": visible_line(rung["level"])} for rung in rungs]
    ).select("model", "level", "estimate", "low", "high")
    colours = [SERIES[place % len(SERIES)] for place in range(len(models))]
    shapes = [SHAPES[place % len(SHAPES)] for place in range(len(models))]
    title = alt.Legend(title=None, labelLimit=300, orient="right", symbolOpacity=1)
    base = alt.Chart(frame).encode(
        x=alt.X("level:N", sort=names, title="level of the cue, least oversight first", axis=alt.Axis(labelAngle=-30)),
        xOffset=alt.XOffset("model:N", sort=models, scale=alt.Scale(paddingOuter=0.8)),
        color=alt.Color("model:N", sort=models, scale=alt.Scale(domain=models, range=colours), legend=title),
    )
    y = alt.Y("estimate:Q", title="unsafe rate", scale=alt.Scale(domain=[0, 1]), axis=alt.Axis(format=".0%"))
    bars = base.mark_rule(strokeWidth=2).encode(
        y=alt.Y("low:Q", title="unsafe rate", scale=alt.Scale(domain=[0, 1])), y2="high:Q"
    )
    points = base.mark_point(filled=True, size=60, opacity=1).encode(
        y=y, shape=alt.Shape("model:N", sort=models, scale=alt.Scale(domain=models, range=shapes), legend=title)
    )
    lines = base.mark_line(strokeWidth=1, opacity=0.5).encode(y=y)
    return _svg(
        (lines + bars + points).properties(width=alt.Step(max(90, 22 * len(models)), **{"for": "position"}), height=240)
    )


def _svg(chart: Any) -> Markup:  # Any: altair's chart types share no base that mypy can see through
    """Our own drawing, made from numbers; labels in it are escaped by the renderer. A rule of the page's policy refuses
    style attributes, and the drawing has none."""
    import vl_convert

    configured = chart.configure(background="transparent", view={"stroke": None}, font="sans-serif").configure_axis(
        labelColor="currentColor", titleColor="currentColor", gridColor="var(--line)", domainColor="var(--line)",
        tickColor="var(--line)", labelFontSize=11, titleFontSize=11, titleFontWeight="normal",
    ).configure_legend(labelColor="currentColor", titleColor="currentColor", labelFontSize=11, titleFontWeight="normal")  # fmt: skip
    drawn: str = vl_convert.vegalite_to_svg(configured.to_json())
    # The drawing describes every bar and tick to screen readers; the table beside it says the same in order.
    quiet = re.sub(r"(<svg\b[^>]*?)>", r'\1 aria-hidden="true" focusable="false">', drawn, count=1)
    return Markup(quiet)  # noqa: S704  # made here, from numbers and labels that the renderer has escaped
