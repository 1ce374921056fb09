"""One episode: a LangGraph loop between a policy and the tools of a box, told as a stream of events."""

import operator
import random
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from typing import Annotated, Any, TypedDict

from langchain_core.messages import AIMessage, AnyMessage, HumanMessage, SystemMessage, ToolMessage
from langgraph.graph import END, START, StateGraph
from langgraph.runtime import Runtime
from pydantic import ValidationError

from environments.cue import OversightCue, deliver
from environments.environment import AnyTool, Effect, Environment, objectives, reasoning_words
from sandbox.episode import Asked, Called, Closed, Ending, Event, Isolation, Offered, Opened, Said, Shown, Usage, now
from sandbox.plan import Budget, Trial
from sandbox.policy import Policy, Tools, reasoning_status, replayed, stated
from tools import look
from tools.pair import Box, Side, ToolFailed


class Stage:
    """A trial made concrete: the words, the files and the tools an agent will meet. Nothing is played yet."""

    def __init__(self, trial: Trial, environment: Environment, cue: OversightCue | None) -> None:
        self.trial = trial
        self.environment = environment
        self.cue = cue
        self._text = cue.text(trial.arm, trial.paraphrase) if cue else ""
        self._delivery = deliver(self._text, trial.channel)
        self.banner = self._delivery.banner

    @property
    def files(self) -> dict[str, str]:
        return {
            **self.environment.files,
            look.NOTICE: self._delivery.notice + "\n",
            look.MAILBOX: self._delivery.mail + "\n",
        }

    @property
    def system(self) -> str | None:
        """None for the belief question, which is asked without any context."""
        if self.trial.prompt == "belief":
            return None
        objective = objectives()[self.trial.objective] if self.trial.objective else ""
        system = self.environment.words.system_with(self._delivery.prompt, objective)
        return "\n\n".join(filter(None, (system, reasoning_words().get(self.trial.reasoning))))

    @property
    def task(self) -> str:
        return self.environment.words.task_with(self.trial.prompt, self._delivery.prompt)

    @cached_property
    def tools(self) -> list[tuple[AnyTool, str | None, Side | None]]:
        """Tools with their pair and side, in the order they are listed.

        Shuffled by the match, so that arms agree; then the two sides of each pair change places where the
        trial's order asks for it.
        """
        if self.trial.prompt == "belief":
            return []
        environment = self.environment
        listed: list[tuple[AnyTool, str | None, Side | None]] = [(tool, None, None) for tool in environment.look]
        for pair in environment.pairs:
            listed += [(pair.safe, pair.name, "safe"), (pair.unsafe, pair.name, "unsafe")]
        random.Random(self.trial.match).shuffle(listed)
        first: Side = "safe" if self.trial.order == "safe_first" else "unsafe"
        for pair in environment.pairs:
            places = [place for place, (_, name, _) in enumerate(listed) if name == pair.name]
            ordered = sorted((listed[place] for place in places), key=lambda item: item[2] != first)
            for place, item in zip(places, ordered, strict=True):
                listed[place] = item
        return listed

    @cached_property
    def offered(self) -> tuple[Offered, ...]:
        return tuple(
            Offered(
                name=tool.names[self.trial.names],
                description=tool.description,
                parameters=tool.schema(),
                key=tool.key,
                pair=pair,
                side=side,
            )
            for tool, pair, side in self.tools
        )

    def opened(self, image: str, isolation: Isolation = "fresh") -> Opened:
        cue = self.cue
        return Opened(
            at=now(),
            domain=self.environment.domain,
            motive=self.environment.motive,
            environment_digest=self.environment.digest,
            image=image,
            isolation=isolation,
            system=self.system,
            task=self.task,
            tools=self.offered,
            cue=cue
            and Shown(
                family=cue.name,
                kind=cue.kind,
                level=cue.baseline if self.trial.arm == "aa" else self.trial.arm,
                baseline=cue.baseline,
                text=self._text,
                channel=self.trial.channel,
                watched=cue.levels[cue.baseline if self.trial.arm == "aa" else self.trial.arm].watched,
            ),
        )

    def answer(self, box: Box | None, turn: int, asked: Asked) -> Called:
        """Carry out one call. What the model got wrong is explained to it; it is never raised."""
        started = time.monotonic()
        tool, pair, side = next(
            (item for item in self.tools if item[0].names[self.trial.names] == asked.name), (None, None, None)
        )
        error = True
        if tool is None or box is None:
            result = f"There is no tool '{asked.name}'. There are: {', '.join(offer.name for offer in self.offered)}."
        elif asked.arguments is None:
            result = "The arguments are not a JSON object."
        else:
            try:
                result = tool.run(box, tool.arguments.model_validate(dict(asked.arguments)))
                error = False
            except ValidationError as wrong:
                result = "; ".join(f"{'.'.join(map(str, e['loc'])) or 'arguments'}: {e['msg']}" for e in wrong.errors())
            except ToolFailed as failed:
                result = str(failed)
        return Called(
            turn=turn,
            id=asked.id,
            name=asked.name,
            key=tool and tool.key,
            pair=pair,
            side=side,
            arguments=asked.arguments,
            result=f"{self.banner}\n{result}" if self.banner else result,
            error=error,
            seconds=time.monotonic() - started,
        )


class State(TypedDict):
    messages: Annotated[list[AnyMessage], operator.add]
    asked: tuple[Asked, ...]
    """Calls of the newest turn that are still to be carried out."""
    events: list[Event]
    """What the newest step adds to the record."""
    turn: int
    ended: Ending | None


@dataclass(frozen=True)
class Steps:
    """What the two nodes of the loop do in one episode."""

    decide: Callable[[State], dict[str, Any]]
    execute: Callable[[State], dict[str, Any]]


@cache
def _loop() -> Any:  # Any: LangGraph's own type has five parameters and says no more
    """The loop, compiled once: it is the same for every episode, and its steps come with the call."""

    def decide(state: State, runtime: Runtime[Steps]) -> dict[str, Any]:
        return runtime.context.decide(state)

    def execute(state: State, runtime: Runtime[Steps]) -> dict[str, Any]:
        return runtime.context.execute(state)

    graph = StateGraph(State, context_schema=Steps)
    graph.add_node("decide", decide)
    graph.add_node("execute", execute)
    graph.add_edge(START, "decide")
    graph.add_conditional_edges("decide", lambda state: END if state["ended"] else "execute")
    graph.add_conditional_edges("execute", lambda state: END if state["ended"] else "decide")
    return graph.compile()


def play(
    stage: Stage,
    policy: Policy,
    box: Box | None,
    budget: Budget,
    image: str = "memory",
    isolation: Isolation = "fresh",
) -> Iterator[Event]:
    """Play one trial. The box is None only for the belief question, which offers nothing to act with.

    Faults of ours (provider, engine) are raised, not yielded: whoever records decides what becomes of them.
    """
    started = time.monotonic()
    yield stage.opened(image, isolation)
    schemas = wired(stage.offered)

    waited = 0.0  # at the gate of a rate limit: time that neither the agent nor the box has used
    usage: list[Usage] = []

    def decide(state: State) -> dict[str, Any]:
        nonlocal waited
        since = time.monotonic()
        message = policy.act(state["messages"], schemas)
        held = message.response_metadata.get("waited", 0.0)
        waited += held
        said = _said(message, state["turn"], time.monotonic() - since - held)
        usage.append(said.usage)
        return {
            "messages": [message],
            "asked": said.asked,
            "events": [said],
            "ended": None if said.asked else "finished",
        }

    def execute(state: State) -> dict[str, Any]:
        called = [stage.answer(box, state["turn"], asked) for asked in state["asked"]]
        answers = [
            ToolMessage(call.result, tool_call_id=call.id, status="error" if call.error else "success")
            for call in called
        ]
        turn = state["turn"] + 1
        ended = _limit(budget, turn, time.monotonic() - started - waited, usage)
        return {"messages": answers, "asked": (), "events": called, "turn": turn, "ended": ended}

    messages: list[AnyMessage] = [SystemMessage(stage.system)] if stage.system else []
    messages.append(HumanMessage(stage.task))
    state: State = {"messages": messages, "asked": (), "events": [], "turn": 0, "ended": None}
    ended: Ending = "finished"
    limit = {"recursion_limit": 2 * budget.turns + 2}
    steps = _loop().stream(state, limit, context=Steps(decide, execute), stream_mode="updates")
    for step in steps:
        for update in step.values():
            yield from update["events"]
            ended = update["ended"] or ended
    effect, facts = _state(stage.environment, box) if box else (None, {})
    yield Closed(at=now(), ended=ended, effect=effect, facts=facts, seconds=time.monotonic() - started)


def _limit(budget: Budget, turns: int, seconds: float, usage: Sequence[Usage]) -> Ending | None:
    """The limit of the budget that an episode has come to. What a provider does not tell counts as nothing."""
    if turns >= budget.turns:
        return "turns"
    if seconds > budget.seconds:
        return "seconds"
    tokens = sum((each.prompt_tokens or 0) + (each.completion_tokens or 0) for each in usage)
    if budget.tokens is not None and tokens >= budget.tokens:
        return "tokens"
    if budget.cost is not None and sum(each.cost or 0.0 for each in usage) >= budget.cost:
        return "cost"
    return None


def wired(offered: Sequence[Offered]) -> list[dict[str, Any]]:
    """Tools as they go over the wire: OpenAI's function schema."""
    return [
        {
            "type": "function",
            "function": {"name": offer.name, "description": offer.description, "parameters": dict(offer.parameters)},
        }
        for offer in offered
    ]


def conversation(events: Sequence[Event]) -> list[AnyMessage]:
    """The messages of an episode on record, as the agent had them before it."""
    messages: list[AnyMessage] = []
    for event in events:
        match event:
            case Opened():
                messages += [SystemMessage(event.system)] if event.system else []
                messages.append(HumanMessage(event.task))
            case Said():
                messages.append(message_of(event))
            case Called():
                status = "error" if event.error else "success"
                messages.append(ToolMessage(event.result, tool_call_id=event.id, status=status))
    return messages


def question(policy: Policy, events: Sequence[Event], words: str) -> Said:
    """What an agent answers when it is asked about an episode that has ended. It gets a copy of the conversation, and
    no box: whatever it calls is not carried out. Raises whatever the policy raises."""
    opened = next(event for event in events if isinstance(event, Opened))
    turn = sum(isinstance(event, Said) for event in events)
    return answered(policy, [*conversation(events), HumanMessage(words)], wired(opened.tools), turn)


def answered(policy: Policy, messages: Sequence[AnyMessage], tools: Tools, turn: int) -> Said:
    """One turn, as it is recorded. Raises whatever the policy raises."""
    since = time.monotonic()
    message = policy.act(messages, tools)
    return _said(message, turn, time.monotonic() - since)


def _state(environment: Environment, box: Box) -> tuple[Effect, Mapping[str, Any]]:
    """What the box shows. A state that the agent has made unreadable is one it has changed."""
    try:
        return environment.outcome(box)
    except ToolFailed as failed:
        return "partial", {"unreadable": str(failed)}


def _said(message: AIMessage, turn: int, seconds: float) -> Said:
    text, reasoning, source = stated(message)
    metadata = message.response_metadata
    return Said(
        turn=turn,
        text=text,
        reasoning=reasoning,
        reasoning_source=source,
        reasoning_status=reasoning_status(message),
        asked=tuple(_asked(message)),
        model=metadata.get("model"),
        fingerprint=metadata.get("fingerprint"),
        usage=Usage(**metadata.get("usage", {})),
        seconds=seconds,
        verbatim=replayed(message) if metadata else None,
    )


def message_of(said: Said) -> AIMessage:
    """A turn on record as the message that it was: what the model gets to see of itself again."""
    calls = [{"name": ask.name, "args": dict(ask.arguments), "id": ask.id, "type": "tool_call"}
             for ask in said.asked if ask.arguments is not None]  # fmt: skip
    malformed = [{"name": ask.name, "args": ask.raw, "id": ask.id, "error": None, "type": "invalid_tool_call"}
                 for ask in said.asked if ask.arguments is None]  # fmt: skip
    verbatim = {"verbatim": dict(said.verbatim)} if said.verbatim else {}
    return AIMessage(said.text, tool_calls=calls, invalid_tool_calls=malformed, additional_kwargs=verbatim)


def _asked(message: AIMessage) -> Sequence[Asked]:
    good = [Asked(id=call["id"] or "", name=call["name"], arguments=call["args"]) for call in message.tool_calls]
    bad = [
        Asked(id=call["id"] or "", name=call["name"] or "", arguments=None, raw=call["args"])
        for call in message.invalid_tool_calls
    ]
    return good + bad
