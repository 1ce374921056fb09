"""Trajectories in the Agent Trajectory Interchange Format as a run: ATIF-v1.0 to v1.8, one conversation a file.

Fields as Harbor defines them (see `sandbox.exports.atif`). Embedded and referenced trajectories of other agents are
not read: their calls are not the agent's own.
"""

import re
from collections.abc import Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, Field, ValidationError

from environments.cue import explain
from sandbox.episode import Asked, Usage
from sandbox.exports import BLOCK
from sandbox.imports import Imported, KeptOut, Source, content, parsed, transcript
from sandbox.imports.transcript import Answer, Design, Listed, Transcript, Turn, found_in, read_map
from sandbox.record import RUNS, Watch
from tools.problem import Problem

VERSION = re.compile(r"ATIF-v1\.[0-8]")


class Part(BaseModel):
    type: str
    text: str | None = None


Message = str | list[Part] | None


class ToolCall(BaseModel):
    tool_call_id: str
    function_name: str
    arguments: dict[str, Any]


class Observed(BaseModel):
    source_call_id: str | None = None
    content: Message = None
    extra: dict[str, Any] | None = None


class Observation(BaseModel):
    results: list[Observed]


class Metrics(BaseModel):
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    cost_usd: float | None = None


class Step(BaseModel):
    source: Literal["system", "user", "agent"]
    message: Message
    model_name: str | None = None
    reasoning_content: str | None = None
    tool_calls: list[ToolCall] | None = None
    observation: Observation | None = None
    metrics: Metrics | None = None
    is_copied_context: bool | None = None


class Agent(BaseModel):
    name: str
    version: str
    model_name: str | None = None
    tool_definitions: list[dict[str, Any]] | None = None
    extra: dict[str, Any] | None = None


class Trajectory(BaseModel):
    """What is read of a document. Fields that are not here do not matter to a record."""

    schema_version: str
    session_id: str | None = None
    trajectory_id: str | None = None
    agent: Agent
    steps: list[Step] = Field(min_length=1)
    extra: dict[str, Any] | None = None


def take(
    paths: Sequence[Path], name: str, mapping: Path | None = None, runs: Path = RUNS, watch: Watch = iter
) -> Imported:
    """Import trajectories, or folders of them. Without a mapping, only what Honne exported can be read. Raises Problem."""
    by = read_map(mapping) if mapping else None
    sources, kept_out = found_in(paths, (".json",))
    found = chain(kept_out, _transcripts(sources))
    return transcript.take("atif", sources, found, by, _design(sources), name, runs, watch)


def _design(sources: Sequence[Source]) -> Design:
    for source in sources:
        try:
            return Design.model_validate((_read(source).extra or {})[BLOCK]["design"])
        except (Problem, ValueError, KeyError, TypeError):
            continue
    return Design()


def _transcripts(sources: Sequence[Source]) -> Iterator[Transcript | KeptOut]:
    for source in sources:
        try:
            yield _transcript(source.file, _read(source))
        except ValidationError as error:
            yield KeptOut(f"{source.file}: is no trajectory: {explain(error)}")
        except (Problem, ValueError) as error:
            yield KeptOut(f"{source.file}: is no trajectory: {error}")


def _read(source: Source) -> Trajectory:
    found = Trajectory.model_validate(parsed(content(source.path)))
    if not VERSION.fullmatch(found.schema_version):
        raise ValueError(f"its schema_version is '{found.schema_version[:40]}'; ATIF-v1.0 to ATIF-v1.8 can be read")
    return found


def _transcript(where: str, found: Trajectory) -> Transcript:
    steps = [step for step in found.steps if not step.is_copied_context]
    begun = next((at for at, step in enumerate(steps) if step.source == "agent"), len(steps))
    before, after = steps[:begun], steps[begun:]
    extra = found.extra or {}
    own = extra.get(BLOCK)
    model = found.agent.model_name or next((step.model_name for step in after if step.model_name), None)
    system = [_text(step.message) for step in before if step.source == "system"]
    return Transcript(
        where=where,
        model=model or found.agent.name,
        system="\n\n".join(system) if system else None,
        task="\n\n".join(_text(step.message) for step in before if step.source == "user"),
        moves=tuple(move for step in after for move in _moves(step)),
        tools=tuple(_listed(found.agent.tool_definitions or [])),
        fields={
            "id": found.trajectory_id or found.session_id,
            "session_id": found.session_id,
            "trajectory_id": found.trajectory_id,
            "agent": found.agent.model_dump(),
            "model": model,
            "metadata": extra,
            "faults": extra.get("faults"),
            "epoch": None,
        },
        own=own if isinstance(own, dict) else None,
        left_out=sum(step.source != "agent" for step in after) + sum(map(_media, steps)),
    )


def _moves(step: Step) -> Iterator[Turn | Answer]:
    """A step of the agent is a turn, and the results observed in it are the answers to its calls."""
    if step.source != "agent":
        return
    calls = step.tool_calls or []
    asked = tuple(Asked(id=each.tool_call_id, name=each.function_name, arguments=each.arguments) for each in calls)
    metrics = step.metrics or Metrics()
    usage = Usage(
        prompt_tokens=metrics.prompt_tokens, completion_tokens=metrics.completion_tokens, cost=metrics.cost_usd
    )
    yield Turn(_text(step.message), step.reasoning_content, asked, step.model_name, usage)
    names = {each.tool_call_id: each.function_name for each in calls}
    for each in step.observation.results if step.observation else []:
        id = each.source_call_id or ""
        yield Answer(id, names.get(id, ""), _text(each.content), bool((each.extra or {}).get("error")))


def _text(message: Message) -> str:
    if isinstance(message, list):
        return "\n".join(part.text for part in message if part.type == "text" and part.text)
    return message or ""


def _media(step: Step) -> bool:
    return isinstance(step.message, list) and any(part.type != "text" for part in step.message)


def _listed(definitions: list[dict[str, Any]]) -> Iterator[Listed]:
    """Tools in OpenAI's shape, as the format has them."""
    for each in definitions:
        function = each.get("function")
        if isinstance(function, dict) and isinstance(function.get("name"), str):
            description, parameters = function.get("description"), function.get("parameters")
            yield Listed(
                function["name"],
                description if isinstance(description, str) else "",
                parameters if isinstance(parameters, dict) else {},
            )
