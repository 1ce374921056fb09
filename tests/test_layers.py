"""The layers of DESIGN, as a table and as a check: what each package may import of the others."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGES = ("tools", "environments", "sandbox", "detectors")

MAY_IMPORT: dict[str, tuple[str, ...]] = {
    "tools": ("tools",),
    "environments": ("environments", "tools"),
    "sandbox": ("sandbox", "environments", "tools"),
    "detectors": (
        "detectors",
        "sandbox.plan",
        "sandbox.episode",
        "sandbox.ledger",
        "tools.problem",
        "tools.hidden",
        "tools.pair.Side",
    ),
    # The command line puts the parts together, so it alone sees all of them.
    "sandbox/cli": PACKAGES,
    "sandbox/display.py": PACKAGES,
    # Pages show what detectors say of a run, as the display does.
    "sandbox/view/analysis.py": ("sandbox", "detectors"),
}
"""Package or file, the nearest counts → module prefixes it may import of ours."""

ONE_FILE: dict[str, str] = {
    "docker": "sandbox/container.py",
    "langgraph": "sandbox/agent.py",
    "litellm": "sandbox/policy.py",
    "ray": "sandbox/cluster.py",
    "upath": "sandbox/store.py",
}
"""Library → the one file that may import it."""


def modules() -> list[Path]:
    return [
        path for package in PACKAGES for path in sorted((ROOT / package).rglob("*.py")) if "files" not in path.parts
    ]


def imported(path: Path) -> set[str]:
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(ROOT)))
def test_a_module_imports_only_from_its_own_layer_and_below(path: Path) -> None:
    where = path.relative_to(ROOT)
    nearest = next(each.as_posix() for each in (where, *where.parents) if each.as_posix() in MAY_IMPORT)
    allowed = MAY_IMPORT[nearest]
    ours = {name for name in imported(path) if name.split(".")[0] in PACKAGES}
    outside = {name for name in ours if not any(f"{name}.".startswith(f"{prefix}.") for prefix in allowed)}
    assert not outside, f"{where} may import {', '.join(allowed)} and imports {', '.join(sorted(outside))}"


@pytest.mark.parametrize(("library", "home"), ONE_FILE.items())
def test_a_framework_is_imported_in_one_file(library: str, home: str) -> None:
    users = [
        path.relative_to(ROOT).as_posix()
        for path in modules()
        if any(name.split(".")[0] == library for name in imported(path))
    ]
    assert users == [home]
