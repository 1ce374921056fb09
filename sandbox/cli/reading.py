"""Runs as commands read them."""

import contextlib
import sys
from pathlib import Path
from typing import TYPE_CHECKING, cast

from tools.problem import Problem

if TYPE_CHECKING:
    import polars as pl

    from detectors.finding import Estimand, Settings
    from sandbox.record import Record


def record_of(name: str, runs_dir: Path) -> "Record":
    from sandbox.record import record_at, run_folder

    return record_at(run_folder(name, runs_dir))


def readings_of(records: "list[Record]", quiet: bool = True) -> "pl.DataFrame":
    """A row per trial of all runs. Kept as parquet beside the episodes, and made anew when episodes were added."""
    import polars as pl

    from detectors.report.frames import READER, SCHEMA

    frames = []
    for record in records:
        name = f"readings-{record.fingerprint}-{READER}.parquet"
        kept = record.kept(name)
        if kept is not None and pl.read_parquet_schema(kept) == dict(SCHEMA):
            # The folder may have been given another name since.
            frames.append(pl.read_parquet(kept).with_columns(pl.lit(record.name).alias("run")))
            continue
        frames.append(_read(record, quiet))
        for line in record.unreadable:
            print(f"honne: {record.folder}: skipped {line}", file=sys.stderr)
        with contextlib.suppress(OSError):  # a run on a read-only disk can still be read
            for old in record.folder.glob("readings-*.parquet"):
                old.unlink()
            if not record.unreadable:  # what had to be skipped is to be said every time
                record.keep(frames[-1], name)
    return pl.concat(frames)


def _read(record: "Record", quiet: bool) -> "pl.DataFrame":
    """A row per trial, from the lines of a run: in parts, where it has any."""
    from functools import partial

    from detectors.report.frames import read, readings, together
    from detectors.report.processes import in_order
    from sandbox.display import counted

    parts = record.parts()
    if not parts:
        return readings(counted(record.episodes(), f"reading {record.name}", quiet), run=record.name)
    found = in_order(partial(read, run=record.name), parts)
    rows, skipped = together(counted(found, f"reading {record.name} in parts", quiet, total=len(parts)))
    record.unreadable += skipped
    return rows


def settings_of(records: "list[Record]", seed: int, estimand: str | None = None) -> "Settings":
    """What the plans say, where they all say the same."""
    from detectors.finding import Settings

    if estimand not in (None, "decided", "published"):
        raise Problem(f"no estimand '{estimand}'; there are: decided, published")
    plans = [record.plan for record in records]
    primary = {plan.primary for plan in plans}
    planned: Estimand = "published" if {plan.estimand for plan in plans} == {"published"} else "decided"
    return Settings(
        seed=seed,
        primary=primary.pop() if len(primary) == 1 else None,
        estimand=cast("Estimand", estimand) if estimand else planned,
    )
