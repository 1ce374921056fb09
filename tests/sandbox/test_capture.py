"""Reasoning as each provider sends it, over HTTP and through LiteLLM's own adapters: kept, marked, and given back."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from langchain_core.messages import AIMessage, HumanMessage, ToolMessage

from sandbox import played
from sandbox.agent import message_of
from sandbox.episode import Episode, ReasoningStatus, Said
from sandbox.plan import Block, Model, Plan
from sandbox.policy import LiteLLM, reasoning_status, replayed, stated
from tests.provider_shapes import Anthropic, Gemini, Ollama, OpenAI, Responses, Served, Shape, Turn, deepseek, serve

FIRST = "They want R-1 settled. First I read what is there: 'notices' & <requests>."
SCRIPT = (
    Turn("I look first.", FIRST, (("read_notices", {}), ("read_file", {"path": "/srv/desk/requests.txt"})), True),
    Turn("", "It is one request.\nI settle it.", (("settle_request", {"number": "R-1"}),)),
    Turn("Request R-1 is settled.", "Done; I say so."),
)
SILENT = tuple(Turn(turn.text, "", turn.calls) for turn in SCRIPT)
THINKING = {"thinking": {"type": "enabled", "budget_tokens": 1024}, "max_tokens": 4096}


class Case(NamedTuple):
    model: str
    shape: Shape
    source: str
    statuses: tuple[ReasoningStatus, ReasoningStatus, ReasoningStatus]
    """Of the three turns; the provider withholds some of the first one's reasoning, where it can."""
    options: Mapping[str, Any] = {}
    shown: bool = True
    streams: bool = True


CASES = {
    "openai": Case(
        "openai/gpt-5", OpenAI(), "none", ("redacted", "absent", "absent"), shown=False
    ),  # that it reasoned is known from its usage
    "openai summaries": Case(
        "openai/responses/gpt-5", Responses(), "native", ("summarised",) * 3,
        {"reasoning_effort": {"effort": "medium", "summary": "detailed"}},
    ),
    "openai-compatible": Case("openai/qwen3", OpenAI("reasoning_content"), "native", ("present",) * 3),
    "openai-compatible, newer": Case(
        # LiteLLM renames the field in streams, and so it cannot go back as it came
        "openai/qwen3", OpenAI("reasoning"), "native", ("present",) * 3, streams=False,
    ),
    "deepseek": Case("deepseek/deepseek-reasoner", deepseek(), "native", ("present",) * 3),
    "anthropic": Case(
        "anthropic/claude-sonnet-4-5", Anthropic(), "native", ("redacted", "summarised", "summarised"), THINKING
    ),
    "anthropic, own words": Case(
        "anthropic/claude-3-7-sonnet-20250219", Anthropic(), "native", ("redacted", "present", "present"), THINKING
    ),
    "anthropic, not shown": Case(
        "anthropic/claude-opus-4-7", Anthropic(shown=False), "none", ("redacted",) * 3, THINKING, shown=False
    ),
    "gemini": Case("gemini/gemini-3-pro-preview", Gemini(), "native", ("summarised",) * 3),
    "ollama": Case("ollama_chat/qwen3", Ollama(), "native", ("present",) * 3),
    "ollama, in the text": Case("ollama_chat/deepseek-r1", Ollama("content"), "tag", ("present",) * 3),
    "<think>": Case("openai/local", OpenAI("<think>"), "tag", ("present",) * 3),
    "<thinking>": Case("openai/local", OpenAI("<thinking>"), "tag", ("present",) * 3),
    "<scratchpad>": Case("openai/local", OpenAI("<scratchpad>"), "tag", ("present",) * 3),
}  # fmt: skip
STREAMED = [
    (name, streamed) for name, case in CASES.items() for streamed in (False, True) if case.streams or not streamed
]

Episodes = Callable[[Model], list[Episode]]


def model(case: Case, served: Served, **options: Any) -> Model:
    base = served.url + ("/v1/messages" if case.model.startswith("anthropic") else "")
    own = {"api_base": base, "api_key": "sk-of-nobody", "num_retries": 0, **case.options, **options}
    return Model(name=case.model, options=own)


@pytest.fixture
def episodes(tmp_path: Path) -> Episodes:
    """One trial, played in memory by a model behind HTTP."""

    def played_by(model: Model) -> list[Episode]:
        block = Block(cue="monitoring", arms=("monitored",), paraphrases=(0,))
        plan = Plan(name="capture", epochs=1, models=(model,), environments=("desk_0",), blocks=(block,))
        return played.episodes(tmp_path, docker=False, written=plan, workers=1)

    return played_by


@pytest.mark.parametrize(("name", "streamed"), STREAMED)
def test_reasoning_is_kept_marked_and_given_back(name: str, streamed: bool, episodes: Episodes) -> None:
    case = CASES[name]
    with serve(case.shape, SCRIPT) as served:
        (episode,) = episodes(model(case, served, **({"stream": True} if streamed else {})))

    assert (served.refused, episode.closed.fault) == ([], None)
    assert episode.outcome == "safe"
    assert len(served.seen) == 3
    assert [said.text for said in episode.said] == [turn.text for turn in SCRIPT]
    assert [said.reasoning for said in episode.said] == [turn.reasoning if case.shown else None for turn in SCRIPT]
    assert {said.reasoning_source for said in episode.said} == {case.source}
    assert tuple(said.reasoning_status for said in episode.said) == case.statuses
    assert [[(ask.name, ask.arguments) for ask in said.asked] for said in episode.said] == [
        [(name, dict(arguments)) for name, arguments in turn.calls] for turn in SCRIPT
    ]
    assert [said.usage.prompt_tokens for said in episode.said] == [100, 101, 102], (
        "usage is the provider's, streamed or not"
    )


@pytest.mark.parametrize("name", ["openai", "deepseek", "anthropic", "gemini", "ollama"])
def test_no_reasoning_is_marked_as_absent(name: str, episodes: Episodes) -> None:
    case = CASES[name]
    with serve(Gemini(sealed=False) if name == "gemini" else case.shape, SILENT) as served:
        (episode,) = episodes(model(case, served))
    assert served.refused == []
    assert [(said.reasoning, said.reasoning_source, said.reasoning_status) for said in episode.said] == [
        (None, "none", "absent")
    ] * 3


def test_signatures_without_thoughts_are_redacted_reasoning(episodes: Episodes) -> None:
    with serve(Gemini(), SILENT) as served:
        (episode,) = episodes(model(CASES["gemini"], served))
    assert served.refused == []
    assert [said.reasoning_status for said in episode.said] == ["redacted"] * 3


SEALED = ("anthropic", "gemini", "deepseek", "openai summaries")


@pytest.mark.parametrize("name", SEALED)
@pytest.mark.parametrize("what", ["dropped", "altered"])
def test_these_servers_refuse_what_the_providers_refuse(name: str, what: str) -> None:
    """The other tests would show nothing if a server took whatever it is sent."""
    case = CASES[name]
    with serve(case.shape, SCRIPT) as served:
        policy = LiteLLM(model(case, served))
        first = policy.act([HumanMessage("Settle R-1.")], TOOLS)
        verbatim = first.additional_kwargs["verbatim"]
        spoiled = (
            {key: value for key, value in verbatim.items() if key in ("content", "tool_calls")}
            if what == "dropped"
            else _altered(verbatim)
        )
        if name == "gemini" and what == "dropped":
            calls = [{**call, "provider_specific_fields": None} for call in verbatim["tool_calls"]]
            spoiled["tool_calls"] = [{**call, "id": call["id"].partition("__")[0]} for call in calls]
        second = AIMessage("", additional_kwargs={"verbatim": spoiled})
        answers = [ToolMessage("ok", tool_call_id=call["id"]) for call in spoiled["tool_calls"]]
        with pytest.raises(Exception, match=r"(?i)signature|thinking|reasoning|encrypted"):
            policy.act([HumanMessage("Settle R-1."), second, *answers], TOOLS)
    assert len(served.refused) == 1


TOOLS = [
    {
        "type": "function",
        "function": {"name": name, "description": name, "parameters": {"type": "object", "properties": {}}},
    }
    for name in ("read_notices", "read_file", "settle_request")
]


def _altered(value: Any) -> Any:
    """The same with the last letter of every signature and every word of reasoning changed."""
    sealed = ("signature", "reasoning_content", "thought_signature", "encrypted_content", "data")
    if isinstance(value, dict):
        return {
            key: (inner[:-3] + "AA=" if key in sealed and isinstance(inner, str) else _altered(inner))
            for key, inner in value.items()
        }
    return [_altered(item) for item in value] if isinstance(value, list) else value


@pytest.mark.parametrize("name", CASES)
def test_a_turn_on_record_is_the_message_that_was_played_back(name: str, episodes: Episodes) -> None:
    case = CASES[name]
    with serve(case.shape, SCRIPT) as served:
        (episode,) = episodes(model(case, served))
        seen = case.shape.said(served.seen[-1])
        again = [HumanMessage("x")]
        for said in episode.said[:2]:
            read = Said.model_validate_json(said.model_dump_json())
            again += [message_of(read), *(ToolMessage("ok", tool_call_id=ask.id) for ask in read.asked)]
        LiteLLM(model(case, served)).act(again, TOOLS)
    assert served.refused == []
    assert case.shape.said(served.seen[-1]) == seen


def test_only_what_text_and_calls_do_not_give_is_kept_beside_them(episodes: Episodes) -> None:
    with serve(OpenAI(), SILENT) as served:
        (episode,) = episodes(model(CASES["openai"], served))
    assert [said.verbatim for said in episode.said] == [None] * 3


def test_usage_that_no_piece_of_a_stream_tells_stays_unknown(episodes: Episodes) -> None:
    with serve(OpenAI(), SILENT) as served:
        (episode,) = episodes(model(CASES["openai"], served, stream=True, stream_options={"include_usage": False}))
    assert [(said.usage.prompt_tokens, said.usage.completion_tokens) for said in episode.said] == [(None, None)] * 3


def test_calls_without_ids_are_answered_by_the_ids_they_are_given(episodes: Episodes) -> None:
    with serve(OpenAI(ids=False), SILENT) as served:
        (episode,) = episodes(model(CASES["openai"], served))
    last = served.seen[-1]["messages"]
    asked = [call["id"] for message in last for call in message.get("tool_calls", [])]
    assert (episode.outcome, len(asked), None in asked) == ("safe", 3, False)
    assert asked == [message["tool_call_id"] for message in last if message["role"] == "tool"]


def test_a_stream_that_breaks_off_is_a_fault(episodes: Episodes) -> None:
    case = CASES["anthropic"]
    with serve(case.shape, SCRIPT, break_after=4) as served:
        found = episodes(model(case, served, stream=True))
    assert {episode.outcome for episode in found} == {"fault"}
    assert all(not episode.said for episode in found), "half a turn is no turn"


@pytest.mark.parametrize(
    ("verbatim", "source", "status"),
    [
        ({"content": "plain"}, "none", "absent"),
        ({"content": "<think>why</think>what"}, "tag", "present"),
        ({"content": "why</think>what"}, "tag", "present"),
        ({"reasoning_content": "why"}, "native", "present"),
        ({"thinking_blocks": [{"type": "redacted_thinking", "data": "x"}]}, "none", "redacted"),
        ({"reasoning_items": [{"type": "reasoning", "summary": [], "encrypted_content": "x"}]}, "none", "redacted"),
    ],
)
def test_a_message_is_read_by_where_its_reasoning_is(verbatim: dict[str, Any], source: str, status: str) -> None:
    message = AIMessage(verbatim.get("content", ""), additional_kwargs={"verbatim": verbatim})
    assert (stated(message).source, reasoning_status(message)) == (source, status)


def test_a_record_without_a_status_reads_as_unknown() -> None:
    old = '{"event":"said","turn":0,"text":"x","reasoning":"y","reasoning_source":"native","asked":[],"seconds":1.0}'
    assert Said.model_validate_json(old).reasoning_status is None
    assert replayed(AIMessage("x")) is None
