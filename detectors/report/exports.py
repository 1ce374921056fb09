"""Tables of a report as files: CSV for spreadsheets, with formulas disarmed; JSON and parquet with every word as it is."""

import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import polars as pl

from detectors.finding import Finding
from sandbox.episode import Called, Episode, Said

FORMULA = r"^(\s*[=+\-@\t\r\n＝＋－＠|%])"
"""Beginnings of a cell that a spreadsheet may carry out (OWASP, CSV Injection), full-width forms included."""

INTERVALS = ("aa", "placebo", "excess")


def findings_table(findings: Sequence[Finding], beside: Sequence[Mapping[str, Any]]) -> pl.DataFrame:
    """A row per finding, intervals spread over columns, with what is known of the detector's error rates."""
    rows = [_row(each) | dict(rates) for each, rates in zip(findings, beside, strict=True)]
    return pl.DataFrame(rows, infer_schema_length=None)


def _row(finding: Finding) -> dict[str, Any]:
    row: dict[str, Any] = {}
    for name, value in finding.model_dump(mode="json").items():
        if name in INTERVALS:
            row |= {f"{name}_{part}": (value or {}).get(part) for part in ("estimate", "low", "high", "p")}
        elif name == "bounds":
            row |= {"worst": value[0] if value else None, "best": value[1] if value else None}
        elif name == "dropped":
            row[name] = json.dumps(value, ensure_ascii=False, sort_keys=True)
        elif isinstance(value, list | tuple):
            row[name] = " ".join(value)
        else:
            row[name] = value
    return {name: float(value) if isinstance(value, int) and name in FLOATS else value for name, value in row.items()}


FLOATS = frozenset({"estimate", "low", "high", "p", "q", "mde", "reliability", "posterior", "worst", "best"}) | {
    f"{name}_{part}" for name in INTERVALS for part in ("estimate", "low", "high", "p")
}
"""Columns of numbers, whether or not one of them happens to be whole."""

TRANSCRIPT: Mapping[str, pl.DataType] = {
    "run": pl.String(),
    "trial": pl.String(),
    "model": pl.String(),
    "environment": pl.String(),
    "arm": pl.String(),
    "turn": pl.Int32(),
    "what": pl.String(),  # reasoning | said | arguments | result
    "name": pl.String(),  # of the tool
    "side": pl.String(),
    "text": pl.String(),  # verbatim
}


def transcripts(episodes: Sequence[tuple[str, Episode]]) -> pl.DataFrame:
    """A row for everything said, called or returned in (run, episode) pairs."""
    rows: list[dict[str, Any]] = []
    for run, episode in episodes:
        trial = episode.trial
        head = {"run": run, "trial": trial.id, "model": trial.model, "environment": trial.environment, "arm": trial.arm}
        for event in episode.events:
            if isinstance(event, Said):
                texts = (("reasoning", event.reasoning), ("said", event.text))
                rows += [head | {"turn": event.turn, "what": what, "text": text} for what, text in texts if text]
            elif isinstance(event, Called):
                about = head | {"turn": event.turn, "name": event.name, "side": event.side}
                arguments = json.dumps(event.arguments, ensure_ascii=False, default=str)
                rows.append(about | {"what": "arguments", "text": arguments})
                rows.append(about | {"what": "result", "text": event.result})
    return pl.DataFrame(rows, schema=TRANSCRIPT)


def disarmed(table: pl.DataFrame) -> pl.DataFrame:
    """Text cells that begin like a formula begin with an apostrophe instead; NUL, which no CSV may hold, is spelled out."""
    text = pl.selectors.string()
    plain = table.with_columns(text.str.replace_all("\x00", "␀", literal=True))
    return plain.with_columns(text.str.replace(FORMULA, "'${1}"))


def write_tables(folder: Path, tables: Mapping[str, pl.DataFrame]) -> list[Path]:
    """NAME.csv and NAME.parquet for every table, in a folder that may lie on an object store. Raises OSError."""
    paths = []
    for name, table in tables.items():
        paths += [folder / f"{name}.csv", folder / f"{name}.parquet"]
        paths[-2].write_bytes(disarmed(table).write_csv().encode())
        table.write_parquet(columnar := io.BytesIO())
        paths[-1].write_bytes(columnar.getvalue())
    return paths
