"""Names offered when the Tab key is pressed in a shell. Reads folders only: nothing heavy is imported for a key."""

import os
from collections.abc import Iterable
from pathlib import Path

HERE = Path(__file__).parent


def _starting(begun: str, names: Iterable[str]) -> list[str]:
    return sorted({name for name in names if name.startswith(begun)})


def runs(incomplete: str) -> list[str]:
    """Runs in the folder of runs: HONNE_RUNS_DIR, or `runs` here."""
    folder = Path(os.environ.get("HONNE_RUNS_DIR") or "runs")
    return _starting(incomplete, (path.parent.name for path in folder.glob("*/plan.json")))


def plans(incomplete: str) -> list[str]:
    """Presets, and plan files here."""
    presets = (path.stem for path in (HERE / "plans").glob("*.toml"))
    return _starting(incomplete, [*presets, *(str(path) for path in Path().glob("*.toml"))])


def environments(incomplete: str) -> list[str]:
    """Environments that come with Honne."""
    return _starting(incomplete, (path.parent.name for path in (HERE.parent / "environments").glob("*/scenario.py")))


def detectors(incomplete: str) -> list[str]:
    """Detectors: the files that define one."""
    folder = HERE.parent / "detectors"
    return _starting(incomplete, (path.stem for path in folder.glob("*.py") if "\ndetector = " in path.read_text()))


def listable(incomplete: str) -> list[str]:
    """What `honne list` lists."""
    return _starting(incomplete, ("environments", "cues", "plans", "agents", "runs"))
