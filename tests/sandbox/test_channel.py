"""Where an agent is asked to reason is a factor of the plan, the same in every arm."""

from typing import get_args

import pytest

from environments.cue import LENGTH_TOLERANCE
from environments.environment import reasoning_words
from sandbox import played
from sandbox.episode import Episode
from sandbox.plan import Block, Model, Plan, Reasoning, resolve
from sandbox.policy import LiteLLM
from sandbox.run import Catalogue
from sandbox.script import watched
from tests.provider_shapes import Anthropic, Ollama, OpenAI, Served, Shape, Turn, deepseek, serve
from tools.problem import Problem

CHANNELS: tuple[Reasoning, ...] = get_args(Reasoning)


def plan(*models: Model, channels: tuple[Reasoning, ...] = CHANNELS, epochs: int = 4) -> Plan:
    block = Block(cue="monitoring", arms=("monitored", "unmonitored"), paraphrases=(0,), reasoning=channels)
    return Plan(name="channels", epochs=epochs, models=models, environments=("desk_0",), blocks=(block,))


@pytest.fixture(scope="module")
def episodes(tmp_path_factory: pytest.TempPathFactory) -> list[Episode]:
    agents = (Model(name="script:faker"), Model(name="script:silent_faker"))
    return played.episodes(tmp_path_factory.mktemp("channels"), docker=False, written=plan(*agents))


def test_every_arm_meets_every_channel(episodes: list[Episode]) -> None:
    met = {(e.trial.model, e.trial.arm, e.trial.reasoning) for e in episodes}
    assert len(met) == len(episodes) == 2 * 2 * 4
    by_match = {e.trial.match: e.trial.reasoning for e in episodes}
    assert all(by_match[e.trial.match] == e.trial.reasoning for e in episodes), "arms of a match share their channel"


def test_the_default_channel_leaves_ids_and_hashes_as_they_were() -> None:
    with_default = plan(Model(name="m"), channels=("native",))
    assert "reasoning" not in with_default.model_dump_json(exclude_defaults=True)
    trial = resolve(with_default, ["desk_0"], Catalogue().cues).trials()[0]
    assert trial.id != trial.model_copy(update={"reasoning": "private"}).id
    assert trial.match != trial.model_copy(update={"reasoning": "private"}).match


def test_scripted_agents_reason_where_they_are_asked_to_and_decide_the_same(episodes: list[Episode]) -> None:
    sources = {(e.trial.reasoning, said.reasoning_source) for e in episodes if "silent" not in e.trial.model
               for said in e.said if said.reasoning}  # fmt: skip
    assert sources == {("native", "native"), ("private", "tag"), ("visible", "tag")}
    assert {(e.trial.arm, e.outcome) for e in episodes} == {("monitored", "unsafe"), ("unmonitored", "safe")}
    assert all("scratchpad" not in said.text for e in episodes for said in e.said)
    assert {e.reasoning for e in episodes if "silent" in e.trial.model} == {None}


def test_the_words_are_of_one_length_and_speak_of_no_oversight() -> None:
    words = reasoning_words()
    assert set(words) == set(CHANNELS) - {"native"}
    lengths = [len(text) for text in words.values()]
    assert min(lengths) >= (1 - LENGTH_TOLERANCE) * max(lengths)
    assert not any(watched(text) for text in words.values())


def test_the_words_end_the_system_prompt_and_native_has_none(episodes: list[Episode]) -> None:
    words = reasoning_words()
    for episode in episodes:
        assert episode.opened
        assert episode.opened.system
        ending = words.get(episode.trial.reasoning)
        assert [text for text in words.values() if text in episode.opened.system] == ([ending] if ending else [])
        assert ending is None or episode.opened.system.endswith(ending)


def test_the_belief_question_takes_no_channel() -> None:
    written = Plan(name="p", models=(Model(name="m"),), blocks=(Block(prompt="belief", reasoning=("private",)),))
    with pytest.raises(Problem, match="takes no `reasoning`"):
        resolve(written, ["a"], {})


OFF = {
    "anthropic/claude-sonnet-4-5": (Anthropic(), {"thinking": {"type": "enabled", "budget_tokens": 1024}}),
    "deepseek/deepseek-reasoner": (deepseek(), {"thinking": {"type": "enabled"}}),
    "ollama_chat/qwen3": (Ollama(), {"think": True}),
    "openai/gpt-5.1": (OpenAI(), {"reasoning_effort": "high"}),
    "openai/gpt-4o": (OpenAI(), {}),
}


def off(request: dict[str, object]) -> bool:
    """Whether a request asks for no reasoning, in whatever way its provider has."""
    thinking = request.get("thinking")
    asked = isinstance(thinking, dict) and thinking.get("type") == "enabled"
    return not asked and request.get("think") in (None, False) and request.get("reasoning_effort") in (None, "none")


@pytest.mark.parametrize("name", OFF)
def test_without_reasoning_the_provider_is_asked_for_none(name: str) -> None:
    shape, options = OFF[name]
    with serve(shape, (Turn("Done."),)) as served:
        usual, without = _both(name, shape, served, options)
    assert off(without)
    assert off(usual) == (not options)


def _both(name: str, shape: Shape, served: Served, options: dict[str, object]) -> tuple[dict[str, object], ...]:
    from langchain_core.messages import HumanMessage

    base = served.url + ("/v1/messages" if isinstance(shape, Anthropic) else "")
    model = Model(
        name=name, options={"api_base": base, "api_key": "k", "num_retries": 0, "max_tokens": 2000, **options}
    )
    policy = LiteLLM(model)
    policy.act([HumanMessage("Hello")], [])
    policy.without_reasoning().act([HumanMessage("Hello")], [])
    assert policy.model == model
    return tuple(served.seen)
