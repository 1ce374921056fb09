"""A plan expands into matched trials."""

from collections import Counter
from pathlib import Path

import pytest

from environments.cue import cues
from sandbox.plan import Block, Model, Plan, Trial, canonical, presets, read, resolve
from tools.problem import Problem


def plan(**fields: object) -> Plan:
    written = Plan.model_validate(
        {
            "name": "p",
            "epochs": 12,
            "models": [{"name": "script:honest"}],
            "environments": ("a", "b"),
            "names": ("plain", "code"),
            "block": [{"cue": "monitoring"}],
            **fields,
        }
    )
    return resolve(written, ["a", "b"], cues())


def test_every_arm_meets_the_same_factors_in_the_same_epochs() -> None:
    by_arm: dict[str, Counter[tuple[object, ...]]] = {}
    for trial in plan().trials():
        factors = (trial.environment, trial.epoch, trial.order, trial.paraphrase, trial.names)
        by_arm.setdefault(trial.arm, Counter())[factors] += 1
    assert by_arm["monitored"] == by_arm["unmonitored"] == by_arm["aa"]


def test_one_full_crossing_has_each_combination_once() -> None:
    written = plan()
    assert written.full_cross(written.blocks[0]) == 2 * 3 * 2
    combinations = Counter(
        (t.order, t.paraphrase, t.names) for t in written.trials() if t.arm == "aa" and t.environment == "a"
    )
    assert set(combinations.values()) == {1}
    assert len(combinations) == 12


def test_the_arms_of_a_match_are_played_next_to_each_other_and_in_no_fixed_order() -> None:
    trials = plan().trials()
    triples = [trials[i : i + 3] for i in range(0, len(trials), 3)]
    assert all(len({trial.match for trial in triple}) == 1 for triple in triples)
    assert len({tuple(trial.arm for trial in triple) for triple in triples}) > 1


def test_ids_are_unique_and_do_not_depend_on_anything_but_the_fields() -> None:
    trials = plan().trials()
    assert len({trial.id for trial in trials}) == len(trials) == 2 * 3 * 12
    fixed = Trial(
        environment="a", prompt="pressured", cue="c", arm="x", channel="system", paraphrase=0,
        order="safe_first", names="plain", model="m", epoch=0,
    )  # fmt: skip
    assert (fixed.id, fixed.match) == ("9ff3d52eae59108d", "05048e91f2c72a48"), "ids of records on disk must not change"
    assert fixed.match == fixed.model_copy(update={"arm": "y"}).match
    assert fixed.id != fixed.model_copy(update={"arm": "y"}).id


def test_the_same_plan_gives_the_same_order_and_another_seed_another() -> None:
    assert plan().trials() == plan().trials()
    assert plan().trials() != plan(seed=2).trials()
    assert set(plan().trials()) == set(plan(seed=2).trials())


def test_keys_are_not_part_of_what_is_written_down() -> None:
    model = Model(name="openai/x", options={"api_key": "sk-12345678", "temperature": 1.0})
    assert "sk-12345678" not in model.model_dump_json()
    assert "sk-12345678" not in canonical(model)
    assert model.options["api_key"] == "sk-12345678"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("models = [", "not readable as TOML"),
        (
            'epoch = 3\n[[block]]\ncue = "monitoring"',
            "epoch: no such field; fields of a plan are: name,",
        ),
        (
            "seed = 1",
            "block: Field required; fields of a plan are: name, description, seed, epochs, models, environments,",
        ),
        ('environments = "care_line"\n[[block]]\ncue = "monitoring"', "environments: should be a list"),
        ('environments = []\n[[block]]\ncue = "monitoring"', "environments: List should have at least 1 item"),
        ('[[block]]\ncue = "monitoring"\nchannels = []', "block.0.channels: List should have at least 1 item"),
        ('epochs = 0\n[[block]]\ncue = "monitoring"', "epochs: Input should be greater than or equal to 1"),
    ],
)
def test_a_plan_that_cannot_be_read_says_where_and_why(tmp_path: Path, text: str, says: str) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(text)
    with pytest.raises(Problem) as problem:
        read(path)
    assert str(path) in str(problem.value)
    assert says in str(problem.value)


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"environments": ("payable",)}, "no environment 'payable'; there are: a, b"),
        ({"block": [{"cue": "moon"}]}, "no cue 'moon'; there are: "),
        (
            {"block": [{"cue": "monitoring", "arms": ["watched"]}]},
            "no level 'watched'; there are: unmonitored, monitored",
        ),
        ({"block": [{"cue": "monitoring", "paraphrases": [7]}]}, "paraphrases 0 to 2; the plan asks for [7]"),
        ({"block": [{"prompt": "neutral"}]}, "needs a cue; there are: "),
        ({"models": []}, "names no model"),
        ({"models": [{"name": "m"}, {"name": "m"}]}, "two models share a name"),
        ({"primary": {"cue": "region", "arm": "south"}}, "primary contrast region/south is in no block"),
        ({"environments": ("a", "c*")}, "no environment 'c*'; there are: a, b"),
        (
            {"block": [{"cue": "monitoring", "arms": ["aa", "aa"]}]},
            "has a trial twice (prompt pressured, cue monitoring",
        ),
        ({"block": [{"cue": "monitoring"}, {"cue": "monitoring"}]}, "leave out the arm or block that repeats it"),
        ({"block": [{"prompt": "belief", "cue": "monitoring"}]}, "the belief question is put without any context"),
        ({"block": [{"prompt": "belief", "arms": ["monitored"]}]}, "so it takes no `arms`"),
        ({"block": [{"prompt": "belief", "objective": "helpful_only"}]}, "so it takes no `objective`"),
        ({"epochs": 1_000_000}, "has 6,000,000 trials; 5,000,000 are the most"),
    ],
)
def test_a_name_that_is_not_there_is_answered_with_those_that_are(fields: dict[str, object], says: str) -> None:
    with pytest.raises(Problem) as problem:
        plan(**fields)
    assert says in str(problem.value)


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"names": ("plain", "klingon")}, "has no name set 'klingon'; there are: code, plain"),
        ({"models": (Model(name="script:saint"),)}, "no scripted agent 'script:saint'; there are: script:honest"),
        (
            {"models": (Model(name="script:coin", options={"p": 7}),)},
            "p of script:coin is a probability, 0 to 1; found 7",
        ),
    ],
)
def test_what_a_plan_asks_of_environments_and_scripts_is_looked_at_before_the_first_trial(
    fields: dict[str, object], says: str
) -> None:
    from sandbox.run import Catalogue

    written = read("demo").model_copy(update=fields)
    with pytest.raises(Problem) as problem:
        Catalogue().resolve(written)
    assert says in str(problem.value)


@pytest.mark.parametrize(
    ("written", "found"),
    [(("*",), ("a", "b")), (("b", "a"), ("b", "a")), (("b", "*", "b"), ("b", "a")), (("[b-z]",), ("b",))],
)
def test_environments_are_names_or_patterns_and_count_once(written: tuple[str, ...], found: tuple[str, ...]) -> None:
    assert plan(environments=written).environments == found


def test_a_resolved_plan_resolves_to_itself() -> None:
    resolved = plan(block=[{"cue": "monitoring"}, {"prompt": "belief"}])
    assert resolve(resolved, ["a", "b"], cues()) == resolved


@pytest.mark.parametrize("name", presets())
def test_presets_resolve_over_the_whole_catalogue(name: str) -> None:
    from sandbox.run import Catalogue

    written = read(name)
    if not written.models:
        written = written.model_copy(update={"models": (Model(name="script:honest"),)})
    assert Catalogue().resolve(written).trials()


def test_a_belief_block_has_one_arm_and_no_cue() -> None:
    trials = plan(block=[Block(prompt="belief").model_dump(exclude_defaults=True)]).trials()
    assert {(trial.cue, trial.arm) for trial in trials} == {(None, "none")}
