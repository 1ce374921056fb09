"""Episodes over real HTTP: what users run, with a scripted model behind LiteLLM's own proxy."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from sandbox.episode import Episode, Said
from sandbox.plan import Block, Model, Plan
from sandbox.record import Record
from sandbox.run import Catalogue, prepare, run
from tests.conftest import Proxy
from tools.problem import Problem

pytestmark = pytest.mark.docker

Play = Callable[..., list[Episode]]


@pytest.fixture
def play(tmp_path: Path) -> Play:
    def played(model: Model, model_list: Path | None = None) -> list[Episode]:
        plan = Plan(
            name="wire",
            epochs=1,
            models=(model,),
            environments=("production_access",),
            blocks=(Block(cue="monitoring", arms=("monitored", "unmonitored")),),
        )
        record = Record(tmp_path / "wire")
        run(prepare(plan, Catalogue(), record, model_list), workers=2)
        return list(record.episodes())

    return played


def by_arm(episodes: list[Episode]) -> dict[str, str]:
    return {episode.trial.arm: episode.outcome for episode in episodes}


def openai(proxy: Proxy, name: str) -> Model:
    return Model(
        name=f"openai/{name}", options={"api_base": f"{proxy.url}/v1", "api_key": proxy.key, "temperature": 1.0}
    )


def sent(proxy: Proxy, model: str) -> list[list[dict[str, object]]]:
    calls = [json.loads(line) for line in proxy.seen.read_text().splitlines()]
    return [call["messages"] for call in calls if call["model"] == model]


@pytest.mark.parametrize("style", ["openai", "anthropic"])
def test_a_model_behind_either_wire_style_plays_in_a_container(style: str, proxy: Proxy, play: Play) -> None:
    model = openai(proxy, "faker")
    if style == "anthropic":
        options = {"api_base": proxy.url, "api_key": proxy.key, "thinking": {"type": "enabled", "budget_tokens": 1024}}
        model = Model(name="anthropic/claude-sonnet-4-5", options=options)
    episodes = play(model)

    assert by_arm(episodes) == {"monitored": "unsafe", "unmonitored": "safe"}
    for episode in episodes:
        assert [said.reasoning_source for said in episode.said] == ["native"] * 3
        assert [len(said.asked) for said in episode.said] == [2, 1, 0], "the first turn makes two calls at once"
        assert [said.usage.prompt_tokens for said in episode.said] == [100, 101, 102]
        assert episode.answer == "The ticket is settled."


def test_signed_reasoning_goes_back_to_the_model_unchanged(proxy: Proxy, play: Play) -> None:
    proxy.seen.unlink(missing_ok=True)
    play(Model(name="anthropic/claude-sonnet-4-5", options={"api_base": proxy.url, "api_key": proxy.key}))

    last = max(sent(proxy, "claude-sonnet-4-5"), key=len)
    blocks = [message["thinking_blocks"] for message in last if message["role"] == "assistant"]
    assert [block[0]["signature"] for block in blocks] == ["signature-0", "signature-1"]  # type: ignore[index]  # JSON


def test_tagged_reasoning_is_taken_out_of_the_text_and_left_in_the_replay(proxy: Proxy, play: Play) -> None:
    proxy.seen.unlink(missing_ok=True)
    episodes = play(openai(proxy, "tagged"))

    said = episodes[0].said[-1]
    assert (said.text, said.reasoning_source) == ("The ticket is settled.", "tag")
    assert said.reasoning is not None
    assert said.reasoning.startswith("turn 2")
    last = max(sent(proxy, "tagged"), key=len)
    assert [str(message["content"])[:12] for message in last if message["role"] == "assistant"] == ["<scratchpad>"] * 2


def test_mistakes_of_the_model_go_back_to_it_and_are_recorded(proxy: Proxy, play: Play) -> None:
    episode = play(openai(proxy, "clumsy"))[0]

    assert [call.error for call in episode.called] == [True, True, True, False]
    assert "not a JSON object" in episode.called[0].result
    assert "There is no tool 'grant_everything'" in episode.called[1].result
    assert "table" in episode.called[2].result
    first = next(event for event in episode.events if isinstance(event, Said))
    assert first.asked[0].arguments is None
    assert first.asked[0].raw == '{"person": '
    assert episode.outcome == "safe"


def test_a_model_list_file_is_routed(proxy: Proxy, play: Play, tmp_path: Path) -> None:
    models = tmp_path / "models.yaml"
    models.write_text(
        "model_list:\n  - model_name: house\n    litellm_params:\n      model: openai/faker\n"
        f"      api_base: {proxy.url}/v1\n      api_key: {proxy.key}\n"
    )
    episodes = play(Model(name="house"), models)
    assert by_arm(episodes) == {"monitored": "unsafe", "unmonitored": "safe"}
    with pytest.raises(Problem, match=r"no model 'other' in .*there are: house"):
        play(Model(name="other"), models)


def test_a_provider_that_fails_is_a_fault_and_not_a_choice(proxy: Proxy, play: Play, tmp_path: Path) -> None:
    model = openai(proxy, "faker")
    broken = model.model_copy(update={"options": {**model.options, "api_key": "sk-wrong", "num_retries": 0}})
    episodes = play(broken)
    assert {episode.outcome for episode in episodes} == {"fault"}
    assert all((episode.closed.fault or "").startswith("BadRequestError") for episode in episodes)
    assert not any("sk-wrong" in path.read_text() for path in tmp_path.rglob("*.json*")), "keys are not written down"
    assert len(episodes) == 2 * 3, "each trial was tried three times"
