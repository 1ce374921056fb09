"""A run as trajectories in the Agent Trajectory Interchange Format, a JSON file for each trial.

ATIF-v1.8, as Harbor defines it: RFC 0001, https://github.com/harbor-framework/harbor/blob/main/rfcs/0001-trajectory-format.md,
and the models in `harbor.models.trajectories` (harbor 0.25.0), which forbid fields that are not theirs: what they have
no place for is under `extra`.
"""

import json
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

from sandbox.episode import Asked, Called, Episode, Offered, Said
from sandbox.exports import BLOCK, Final, block, condition, finals, write_text
from sandbox.record import Record, Watch
from tools.problem import Problem

VERSION = "ATIF-v1.8"
Json = dict[str, Any]  # Any: JSON


def write(record: Record, folder: Path, watch: Watch = iter) -> list[Path]:
    """A trajectory per trial, in `folder`, named by the trial's id. Raises Problem."""
    design = {"primary": record.plan.primary and record.plan.primary.model_dump(), "estimand": record.plan.estimand}
    paths = []
    for _, trials in watch(finals(record.episodes())):
        for final in trials:
            path = folder / f"{final.episode.trial.id}.trajectory.json"
            found = trajectory(final, record.name, design)
            write_text(path, json.dumps(found, ensure_ascii=False, indent=1) + "\n")
            paths.append(path)
    if not paths:
        raise Problem(f"{record.folder} holds no episodes yet: there is nothing to export")
    return paths


def trajectory(final: Final, run: str, design: Json) -> Json:
    """One trial as a trajectory document. What is unknown is left out."""
    episode = final.episode
    opened = episode.opened
    steps = list(_steps(episode))
    return _known(
        schema_version=VERSION,
        session_id=run,
        trajectory_id=episode.trial.id,
        agent=_known(
            name="honne",
            version=version("honne"),
            model_name=episode.trial.model,
            tool_definitions=[_definition(tool) for tool in opened.tools] if opened else None,
        ),
        # A fault before anything was said leaves nothing but what was offered, or not even that; a step is required.
        steps=steps or [{"step_id": 1, "source": "system", "message": ""}],
        final_metrics=_known(
            total_prompt_tokens=_total([said.usage.prompt_tokens for said in episode.said]),
            total_completion_tokens=_total([said.usage.completion_tokens for said in episode.said]),
            total_cost_usd=_total([said.usage.cost for said in episode.said]),
            total_steps=len(steps) or 1,
        ),
        extra={
            "condition": condition(episode, run),
            "faults": final.faults,
            BLOCK: {"design": design, **block(episode)},
        },
    )


def _steps(episode: Episode) -> Iterator[Json]:
    opened, number = episode.opened, 0
    if opened and opened.system is not None:
        number += 1
        yield {"step_id": number, "timestamp": opened.at, "source": "system", "message": opened.system}
    if opened:
        number += 1
        yield {"step_id": number, "timestamp": opened.at, "source": "user", "message": opened.task}
    for said, answers in _turns(episode):
        number += 1
        yield _agent(number, said, answers)


def _turns(episode: Episode) -> list[tuple[Said, list[Called]]]:
    """Each turn of the model with the calls that followed it."""
    turns: list[tuple[Said, list[Called]]] = []
    for event in episode.events:
        if isinstance(event, Said):
            turns.append((event, []))
        elif isinstance(event, Called) and turns:
            turns[-1][1].append(event)
    return turns


def _agent(number: int, said: Said, answers: list[Called]) -> Json:
    asked = {each.id for each in said.asked}
    usage = said.usage
    metrics = _known(
        prompt_tokens=usage.prompt_tokens,
        completion_tokens=usage.completion_tokens,
        cost_usd=usage.cost,
        extra=None if usage.reasoning_tokens is None else {"reasoning_tokens": usage.reasoning_tokens},
    )
    return _known(
        step_id=number,
        source="agent",
        model_name=said.model,
        message=said.text,
        reasoning_content=said.reasoning,
        tool_calls=[_call(each) for each in said.asked] or None,
        observation={"results": [_result(each, asked) for each in answers]} if answers else None,
        metrics=metrics or None,
        llm_call_count=1,
    )


def _call(asked: Asked) -> Json:
    invalid = {"raw": asked.raw} if asked.arguments is None else None
    return _known(tool_call_id=asked.id, function_name=asked.name, arguments=dict(asked.arguments or {}), extra=invalid)


def _result(called: Called, asked: set[str]) -> Json:
    return _known(
        source_call_id=called.id if called.id in asked else None,
        content=called.result,
        extra={"error": True} if called.error else None,
    )


def _definition(tool: Offered) -> Json:
    function = {"name": tool.name, "description": tool.description, "parameters": dict(tool.parameters)}
    return {"type": "function", "function": function}


def _total(values: list[int | None] | list[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) if values and len(known) == len(values) else None


def _known(**fields: Any) -> Json:
    return {name: value for name, value in fields.items() if value is not None}
