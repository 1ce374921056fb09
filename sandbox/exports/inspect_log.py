"""A run as `.eval` logs of Inspect, one for each model and environment, written by Inspect's own classes.

`inspect view`, `read_eval_log` and its data frames open them. An environment is a task, a cell of the design a sample,
a draw an epoch. What is missing has no score: a refusal, a silence and a fault are neither 0 nor 1.
"""

import itertools
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, Literal, cast

from pydantic import ValidationError

from sandbox.episode import Asked, Called, Closed, Episode, Offered, Said
from sandbox.exports import BLOCK, Final, block, cell, condition, finals
from sandbox.imports import slug
from sandbox.plan import Plan, Trial, digest
from sandbox.record import Record, Watch
from tools.problem import Problem, needed

if TYPE_CHECKING:
    from inspect_ai.event import Event
    from inspect_ai.log import EvalError, EvalLog, EvalResults, EvalSample
    from inspect_ai.model import ChatMessage, ChatMessageAssistant, ChatMessageTool, ModelUsage
    from inspect_ai.scorer import Score
    from inspect_ai.tool import ToolCall, ToolInfo

REFUSED_ARGUMENTS = "the arguments are not a JSON object"
LIMITS: Mapping[str, Literal["turn", "time"]] = {"turns": "turn", "seconds": "time"}
"""How an episode ended → the limit by Inspect's name."""


def write(record: Record, folder: Path, watch: Watch = iter) -> list[Path]:
    """The logs of a run, in `folder`. Names repeat from export to export. Raises Problem."""
    with needed("inspect", "write Inspect's logs"):
        from inspect_ai.log import write_eval_log
    paths = []
    plan, begun = record.plan, str(record.manifest.get("begun", ""))
    for (model, environment), trials in watch(finals(record.episodes())):
        log = _log(record.name, plan, begun, model, environment, trials)
        name = f"{slug(environment)}-{slug(model)}"
        stamp = datetime.fromisoformat(log.eval.created).strftime("%Y-%m-%dT%H-%M-%S+00-00")
        path = folder / f"{stamp}_{name}_{log.eval.eval_id}.eval"
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with TemporaryDirectory(prefix="honne-export-") as here:
                written = Path(here) / path.name
                write_eval_log(log, written)
                path.write_bytes(written.read_bytes())  # `folder` may be in a store
        except OSError as error:
            raise Problem(f"cannot write to {folder}: {error.strerror or error}") from error
        paths.append(path)
    if not paths:
        raise Problem(f"{record.folder} holds no episodes yet: there is nothing to export")
    return paths


def _log(run: str, plan: Plan, begun: str, model: str, environment: str, trials: Sequence[Final]) -> "EvalLog":
    from inspect_ai.log import EvalConfig, EvalDataset, EvalLog, EvalSpec, EvalStats

    samples = [
        _sample(final, run, id) for final, id in zip(trials, _ids([f.episode.trial for f in trials]), strict=True)
    ]
    ids = list(dict.fromkeys(str(sample.id) for sample in samples))
    started = [sample.started_at for sample in samples if sample.started_at]
    ended = [sample.completed_at for sample in samples if sample.completed_at]
    id = digest(f"{run}\n{plan.hash}\n{model}\n{environment}")
    return EvalLog(
        status="success",
        eval=EvalSpec(
            created=begun or min(started, default="1970-01-01T00:00:00+00:00"),
            eval_id=id,
            run_id=plan.hash,
            task=environment,
            task_id=id,
            task_attribs={},
            tags=["honne"],
            dataset=EvalDataset(name=environment, samples=len(ids), sample_ids=ids),
            model=model,
            config=EvalConfig(epochs=max((sample.epoch for sample in samples), default=1)),
            packages={"honne": version("honne")},
            metadata={
                BLOCK: {
                    "run": run,
                    "plan": plan.name,
                    "plan_hash": plan.hash,
                    "primary": plan.primary and plan.primary.model_dump(),
                    "estimand": plan.estimand,
                }
            },
        ),
        stats=EvalStats(started_at=min(started, default=""), completed_at=max(ended, default="")),
        results=_results([final.episode for final in trials]),
        samples=samples,
    )


def _results(episodes: Sequence[Episode]) -> "EvalResults":
    """The unsafe rate of each arm among episodes that ended safe or unsafe. No test and no interval: those are ours."""
    from inspect_ai.log import EvalMetric, EvalResults, EvalScore

    arms: dict[str, list[bool]] = {}
    for episode in episodes:
        trial = episode.trial
        if episode.outcome in ("safe", "unsafe"):
            name = " ".join(filter(None, (trial.condition, trial.arm, trial.prompt)))
            arms.setdefault(name, []).append(episode.outcome == "unsafe")
    decided = sum(map(len, arms.values()))
    score = EvalScore(
        name="unsafe",
        scorer="unsafe",
        scored_samples=decided,
        unscored_samples=len(episodes) - decided,
        metrics={
            arm: EvalMetric(name=arm, value=sum(unsafe) / len(unsafe), metadata={"n": len(unsafe)})
            for arm, unsafe in sorted(arms.items())
        },
    )
    return EvalResults(
        total_samples=len(episodes),
        completed_samples=sum(episode.outcome != "fault" for episode in episodes),
        scores=[score],
    )


def _ids(trials: Sequence[Trial]) -> list[str]:
    """The same for all draws of a cell, as Inspect's epochs are; told apart by a hash where that would not be unique."""
    names = [slug("-".join(filter(None, (trial.condition, trial.arm, trial.prompt)))) for trial in trials]
    shared = Counter(zip(names, (trial.epoch for trial in trials), strict=True))
    return [
        f"{name}-{cell(trial)}" if shared[name, trial.epoch] > 1 else name
        for name, trial in zip(names, trials, strict=True)
    ]


def _sample(final: Final, run: str, id: str) -> "EvalSample":
    from inspect_ai.log import EvalSample, EvalSampleLimit

    episode, trial, opened, closed = final.episode, final.episode.trial, final.episode.opened, final.episode.closed
    messages = list(_messages(episode))
    usage = _usage(episode.said)
    reached = len(episode.said) if closed.ended == "turns" else closed.seconds
    return EvalSample(
        id=id,
        epoch=trial.epoch + 1,
        input=[message for message in messages if message.role in ("system", "user")],
        target="",
        messages=messages,
        scores=_scores(episode),
        events=list(_events(episode, id, messages)),
        metadata={**condition(episode, run), "faults": final.faults, BLOCK: block(episode)},
        model_usage={trial.model: usage} if usage else {},
        started_at=opened.at if opened else closed.at,
        completed_at=closed.at,
        total_time=closed.seconds,
        uuid=trial.id,
        error=_error(closed),
        limit=EvalSampleLimit(type=LIMITS[closed.ended], limit=reached) if closed.ended in LIMITS else None,
        turn_count=len(episode.said),
    )


def _error(closed: Closed) -> "EvalError | None":
    from inspect_ai.log import EvalError

    fault = closed.ended == "fault"
    return EvalError(message=closed.fault or "a fault", traceback="", traceback_ansi="") if fault else None


def _events(episode: Episode, id: str, messages: "Sequence[ChatMessage]") -> "Iterator[Event]":
    """What happened, as Inspect's transcript has it. Turns and calls follow one another from the beginning: how long
    each took was measured, and the time between them was not."""
    from inspect_ai.dataset import Sample
    from inspect_ai.event import (
        ErrorEvent,
        InfoEvent,
        ModelEvent,
        SampleInitEvent,
        SampleLimitEvent,
        ScoreEvent,
        ToolEvent,
    )
    from inspect_ai.model import ChatCompletionChoice, GenerateConfig, ModelOutput

    trial, opened, closed = episode.trial, episode.opened, episode.closed
    begun = datetime.fromisoformat(opened.at if opened else closed.at)
    tools = _tools(opened.tools) if opened else []
    at, place = 0.0, sum(message.role in ("system", "user") for message in messages)
    number = itertools.count()

    def when(seconds: float = 0.0) -> dict[str, Any]:
        """Where an event stands. The clock goes on by the time it took."""
        nonlocal at
        began, at = at, at + seconds
        stamps = {"timestamp": begun + timedelta(seconds=began), "working_start": began}
        took = {"completed": begun + timedelta(seconds=at), "working_time": seconds} if seconds else {}
        return {"uuid": f"{trial.id}-event-{next(number)}", **stamps, **took}

    sample = Sample(id=id, input=list(messages[:place]), target="")
    yield SampleInitEvent(sample=sample, state={}, **when())
    for event in episode.events:
        if isinstance(event, Said):
            message = cast("ChatMessageAssistant", messages[place])
            stopped: Literal["tool_calls", "stop"] = "tool_calls" if event.asked else "stop"
            output = ModelOutput(
                model=event.model or trial.model,
                choices=[ChatCompletionChoice(message=message, stop_reason=stopped)],
                usage=_usage([event]),
                time=event.seconds,
            )
            yield ModelEvent(
                model=trial.model,
                input=list(messages[:place]),
                tools=tools,
                tool_choice="auto",
                config=GenerateConfig(),
                output=output,
                **when(event.seconds),
            )
            place += 1
        elif isinstance(event, Called):
            answer = cast("ChatMessageTool", messages[place])
            yield ToolEvent(
                id=event.id,
                function=event.name,
                arguments=dict(event.arguments or {}),
                result=event.result,
                error=answer.error,
                failed=event.error or None,
                message_id=answer.id,
                metadata={"side": event.side, "pair": event.pair} if event.side else None,
                **when(event.seconds),
            )
            place += 1
    if asked := episode.questioned:
        yield InfoEvent(source=f"{BLOCK}, asked afterwards", data=asked.model_dump(mode="json"), **when())
    state = {"ended": closed.ended, "effect": closed.effect, "facts": dict(closed.facts)}
    yield InfoEvent(source=f"{BLOCK}, state of the box", data=state, **when())
    if closed.ended in LIMITS:
        yield SampleLimitEvent(type=LIMITS[closed.ended], message=f"ended by its limit of {closed.ended}", **when())
    if error := _error(closed):
        yield ErrorEvent(error=error, **when())
    for name, score in _scores(episode).items():
        yield ScoreEvent(score=score, scorer=name, **when())


def _tools(offered: Sequence[Offered]) -> "list[ToolInfo]":
    """As they were listed. A schema that Inspect has no type for is left out; it is in the block."""
    from inspect_ai.tool import ToolInfo, ToolParams

    found = []
    for tool in offered:
        try:
            parameters = ToolParams.model_validate(dict(tool.parameters))
        except ValidationError:
            parameters = ToolParams()
        found.append(ToolInfo(name=tool.name, description=tool.description, parameters=parameters))
    return found


def _scores(episode: Episode) -> "dict[str, Score]":
    from inspect_ai.scorer import Score

    outcome = episode.outcome
    facts = {"effect": episode.closed.effect, "facts": dict(episode.closed.facts)}
    found = {"outcome": Score(value=outcome, answer=episode.choice, metadata=facts)}
    if outcome in ("safe", "unsafe"):
        found["unsafe"] = Score(value=int(outcome == "unsafe"), answer=episode.choice)
    return found


def _messages(episode: Episode) -> "Iterator[ChatMessage]":
    """The conversation. Content is always a list: a plain string would be searched for reasoning tags by the reader."""
    from inspect_ai.model import ChatMessageSystem, ChatMessageUser, ContentText

    id, opened = episode.trial.id, episode.opened
    if opened and opened.system is not None:
        yield ChatMessageSystem(id=f"{id}-system", content=[ContentText(text=opened.system)])
    if opened:
        yield ChatMessageUser(id=f"{id}-task", content=[ContentText(text=opened.task)])
    for number, event in enumerate(episode.events):
        if isinstance(event, Said):
            yield _assistant(event, f"{id}-{number}")
        elif isinstance(event, Called):
            yield _tool(event, f"{id}-{number}")


def _assistant(said: Said, id: str) -> "ChatMessageAssistant":
    from inspect_ai.model import ChatMessageAssistant, ContentReasoning, ContentText

    reasoned = [] if said.reasoning is None else [ContentReasoning(reasoning=said.reasoning)]
    return ChatMessageAssistant(
        id=id,
        content=[*reasoned, ContentText(text=said.text)],
        tool_calls=[_call(asked) for asked in said.asked] or None,
        model=said.model,
        source="generate",
    )


def _call(asked: Asked) -> "ToolCall":
    from inspect_ai.tool import ToolCall

    return ToolCall(
        id=asked.id,
        function=asked.name,
        arguments=dict(asked.arguments or {}),
        parse_error=REFUSED_ARGUMENTS if asked.arguments is None else None,
    )


def _tool(called: Called, id: str) -> "ChatMessageTool":
    from inspect_ai.model import ChatMessageTool, ContentText
    from inspect_ai.tool import ToolCallError

    return ChatMessageTool(
        id=id,
        content=[ContentText(text=called.result)],
        tool_call_id=called.id,
        function=called.name,
        error=ToolCallError("unknown", called.result) if called.error else None,
    )


def _usage(turns: Sequence[Said]) -> "ModelUsage | None":
    """Tokens of turns; None where any turn's are unknown."""
    from inspect_ai.model import ModelUsage

    used = [said.usage for said in turns]
    sent = [usage.prompt_tokens for usage in used]
    made = [usage.completion_tokens for usage in used]
    if not used or None in sent or None in made:
        return None
    prompt, completion = sum(each or 0 for each in sent), sum(each or 0 for each in made)
    costs = [usage.cost for usage in used]
    reasoned = [usage.reasoning_tokens for usage in used]
    return ModelUsage(
        input_tokens=prompt,
        output_tokens=completion,
        total_tokens=prompt + completion,
        reasoning_tokens=None if None in reasoned else sum(each or 0 for each in reasoned),
        total_cost=None if None in costs else sum(each or 0 for each in costs),
    )
