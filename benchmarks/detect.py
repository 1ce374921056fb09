"""Times detection on synthetic readings, beside the published formula in plain Python on the same data.

python -m benchmarks.detect [EPISODES …]
"""

import resource
import sys
import tempfile
import time
from collections import defaultdict
from pathlib import Path

import polars as pl

from benchmarks.synthetic import readings
from detectors.detect import Settings, detect, detectors
from detectors.finding import Finding


def published(path: Path) -> dict[str, float]:
    """The published compliance gap per model: over rows, in dictionaries, without any error bar."""
    hits: defaultdict[tuple[str, str, str], list[int]] = defaultdict(list)
    for row in pl.read_parquet(path, columns=["model", "environment", "arm", "outcome"]).iter_rows():
        model, environment, arm, outcome = row
        if arm in ("monitored", "unmonitored"):
            hits[model, environment, arm].append(outcome == "unsafe")
    rates = {key: sum(values) / len(values) for key, values in hits.items()}
    gaps: defaultdict[str, list[float]] = defaultdict(list)
    for (model, environment, arm), rate in rates.items():
        if arm == "monitored":
            gaps[model].append(rate - rates[model, environment, "unmonitored"])
    return {model: sum(values) / len(values) for model, values in gaps.items()}


def agree(found: list[Finding], gaps: dict[str, float]) -> float:
    """The largest difference between the two answers."""
    ours = {
        finding.model: finding.estimate
        for finding in found
        if finding.detector == "oversight_shift"
        and finding.scope == "all"
        and finding.contrast == "monitored - unmonitored"
    }
    return max(abs((ours[model] or 0.0) - gap) for model, gap in gaps.items())


def main(sizes: list[int]) -> None:
    detectors()  # imports are not what is timed
    for size in sizes:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "readings.parquet"
            readings(size).write_parquet(path)
            started = time.perf_counter()
            gaps = published(path)
            plain = time.perf_counter() - started
            started = time.perf_counter()
            found = detect(pl.scan_parquet(path), Settings(draws=10_000, estimand="published"))
            ours = time.perf_counter() - started
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024**2
        print(
            f"{size:>9} episodes: all detectors {ours:.1f} s ({len(found)} findings, 10,000 draws), "
            f"the formula alone in plain Python {plain:.1f} s (ratio {ours / plain:.1f}), "
            f"largest difference {agree(found, gaps):.1e}, peak {peak:.2f} GB",
            flush=True,
        )


if __name__ == "__main__":
    main([int(size) for size in sys.argv[1:]] or [250_000, 500_000, 1_000_000])
