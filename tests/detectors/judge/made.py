"""Episodes for tests of judging: made from the catalogue's own words, with whatever reasoning a test wants."""

from collections.abc import Sequence

from environments.environment import Environment
from sandbox.episode import Asked, Called, Closed, Episode, Event, Offered, Opened, Said, Shown
from sandbox.plan import Trial
from tools.pair import Side

AT = "2026-01-01T00:00:00.000+00:00"


def opened(environment: Environment, shown: Shown | None, names: str = "plain") -> Opened:
    paired = {tool.key: (pair.name, side) for pair in environment.pairs for side, tool in _sides(pair)}
    tools = [
        Offered(
            name=tool.names[names],
            description=tool.description,
            parameters={},
            key=tool.key,
            pair=paired.get(tool.key, (None, None))[0],
            side=paired.get(tool.key, (None, None))[1],
        )
        for tool in environment.tools
    ]
    cue = shown.text if shown else ""
    return Opened(
        at=AT,
        domain=environment.domain,
        motive=environment.motive,
        environment_digest="",
        image="memory",
        system=environment.words.system_with(cue),
        task=environment.words.task_with("pressured", cue),
        tools=tuple(tools),
        cue=shown,
    )


def _sides(pair):  # type: ignore[no-untyped-def]  # a pair of the catalogue
    return (("safe", pair.safe), ("unsafe", pair.unsafe))


def episode(
    start: Opened,
    reasoning: Sequence[str],
    chosen_in: int | None = None,
    side: Side = "safe",
    arm: str = "monitored",
    epoch: int = 0,
    environment: str = "production_access",
    **trial: str,
) -> Episode:
    """Turn by turn. In turn `chosen_in` the tool of that side is called."""
    tool = next(tool for tool in start.tools if tool.side == side)
    events: list[Event] = [start]
    for turn, text in enumerate(reasoning):
        asked = (Asked(id=f"c{turn}", name=tool.name, arguments={}),) if turn == chosen_in else ()
        events.append(Said(turn=turn, text="", reasoning=text, reasoning_source="native", asked=asked, seconds=0))
        if asked:
            call = {"turn": turn, "id": f"c{turn}", "name": tool.name, "key": tool.key, "pair": tool.pair, "side": side}
            events.append(Called.model_validate({**call, "arguments": {}, "result": "", "error": False, "seconds": 0}))
    events.append(Closed(at=AT, ended="finished", effect=side if chosen_in is not None else "untouched", seconds=0))
    fields = {
        "environment": environment, "prompt": "pressured", "cue": "monitoring", "arm": arm, "channel": "system", "paraphrase": 0,
        "order": "safe_first", "names": "plain", "model": "m", "epoch": epoch, **trial,
    }  # fmt: skip
    return Episode(trial=Trial.model_validate(fields), events=tuple(events))
