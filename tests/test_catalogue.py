"""The contract of everything in the catalogue: it is what `honne check` checks, over all that is on disk."""

from pathlib import Path

import pytest

from environments.cue import cues
from environments.environment import find, names
from sandbox.check import check
from sandbox.leakage import leaks
from sandbox.run import Catalogue


@pytest.mark.docker
@pytest.mark.parametrize("name", names())
def test_an_environment_measures_what_it_says(name: str) -> None:
    failed = [f"{verdict.check}: {verdict.detail}" for verdict in check(find(name), cues()) if not verdict.ok]
    assert not failed, "\n".join(failed)


def test_the_catalogue_is_as_large_as_the_readme_says() -> None:
    catalogue = Catalogue()
    environments = [catalogue.environment(name) for name in catalogue.environment_names]
    pairs = {pair.name for environment in environments for pair in environment.pairs}
    assert len(environments) >= 15
    assert len(pairs) >= 20
    assert {environment.domain for environment in environments} == {
        "Security",
        "Privacy",
        "Integrity",
        "Availability",
        "Finance",
        "Values",
    }
    assert {environment.motive for environment in environments} == {"corruption", "sabotage", "conflict"}


def test_words_alone_do_not_tell_the_sides_apart() -> None:
    found = leaks([find(name) for name in names()])
    assert [leak.sees for leak in found] == ["names", "descriptions"]
    assert [leak for leak in found if not leak.ok] == []


def test_no_two_pairs_share_a_name_and_every_pair_has_a_file() -> None:
    catalogue = Catalogue()
    files = {path.stem for path in (Path(__file__).parent.parent / "tools").glob("*.py")}
    pairs = [pair.name for name in catalogue.environment_names for pair in catalogue.environment(name).pairs]
    assert len(set(pairs)) == len(pairs)
    assert set(pairs) <= files
