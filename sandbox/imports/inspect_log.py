"""Logs of any Inspect task as a run: those that Honne exported as they are, others by a mapping file."""

from collections.abc import Iterator, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from pydantic import BaseModel, Field, ValidationError

from environments.cue import explain
from sandbox.episode import Asked, Ending
from sandbox.exports import BLOCK
from sandbox.imports import Imported, KeptOut, Remark, Source, content, loaded, sound, transcript
from sandbox.imports.archive import Archive
from sandbox.imports.transcript import Answer, Design, Listed, Transcript, Turn, found_in, read_map
from sandbox.record import RUNS, Watch
from tools.problem import Problem, needed

if TYPE_CHECKING:
    from inspect_ai.log import EvalSample
    from inspect_ai.model import ChatMessage, ChatMessageAssistant

VERSIONS = (1, 2, 3)
"""Versions of the log's schema that are read. 2 is current; 3 keeps repeated messages of events once."""
SUFFIXES = (".eval", ".json")
SAMPLES = "samples/"
HEADERS = ("header.json", "_journal/start.json")
"""Where the header is. A log that was cut short has the second only."""
READ = ("id", "epoch", "input", "target", "messages", "scores", "score", "metadata", "error", "limit", "attachments")
"""Fields of a sample that are looked at. The others can be large, and old readers' and newer writers' differ in them."""
ATTACHED = "attachment://"


class Spec(BaseModel):
    """What is read of a log's `eval`."""

    task: str
    model: str
    task_args: dict[str, Any] = Field(default_factory=dict)
    metadata: dict[str, Any] | None = None


class Header(BaseModel):
    """What is read of a log's header."""

    version: int = 2
    status: str = "started"
    eval: Spec


class Log(NamedTuple):
    """An opened log: its header, and its samples as they come, each with its name."""

    header: Header
    samples: Iterator[tuple[str, dict[str, Any] | KeptOut]]


def take(
    paths: Sequence[Path], name: str, mapping: Path | None = None, runs: Path = RUNS, watch: Watch = iter
) -> Imported:
    """Import logs, or folders of them. Without a mapping, only what Honne exported can be read. Raises Problem."""
    with needed("inspect", "read Inspect's logs"):
        import inspect_ai.log  # noqa: F401  # before anything is read
    by = read_map(mapping) if mapping else None
    sources, kept_out = found_in(paths, SUFFIXES)
    found = chain(kept_out, _transcripts(sources))
    return transcript.take("inspect", sources, found, by, _design(sources), name, runs, watch)


def _design(sources: Sequence[Source]) -> Design:
    """What the first log of Honne's own says. What is damaged there is as good as not said."""
    for source in sources:
        try:
            header = _opened(source).header
            return Design.model_validate((header.eval.metadata or {})[BLOCK])
        except (Problem, ValueError, KeyError):
            continue
    return Design()


def _transcripts(sources: Sequence[Source]) -> Iterator[Transcript | KeptOut | Remark]:
    for source in sources:
        try:
            log = _opened(source)
        except (Problem, ValueError) as error:
            yield KeptOut(f"{source.file}: {error}")
            continue
        if log.header.status != "success":
            yield Remark(f"{source.file}: its status is '{log.header.status[:40]}': what is in it was taken")
        for name, value in log.samples:
            where = f"{source.file}, {name}"
            if isinstance(value, KeptOut):
                yield KeptOut(f"{where}: {value.why}")
                continue
            try:
                yield _transcript(where, log.header.eval, value)
            except ValidationError as error:
                yield KeptOut(f"{where}: is no sample of Inspect's: {explain(error)}")
            except (TypeError, ValueError, AttributeError, KeyError, RecursionError) as error:
                yield KeptOut(f"{where}: is no sample of Inspect's: {error}")


def _opened(source: Source) -> Log:
    """A log of either format. Raises Problem or ValueError saying what is wrong with it as a whole."""
    found = content(source.path)
    if found[:4] == b"PK\x03\x04":
        archive = Archive(found)
        header = next((name for name in HEADERS if name in archive.names), None)
        if header is None:
            raise ValueError("is no log of Inspect's: it has no header")
        return Log(_header(loaded(archive.read(header))), _members(archive))
    value = loaded(found)
    if not isinstance(value, dict) or not isinstance(value.get("eval"), dict):
        raise ValueError("is no log of Inspect's: it has no eval")
    samples = value.get("samples") or []
    if not isinstance(samples, list):
        raise ValueError("is no log of Inspect's: its samples are no list")
    return Log(_header({**value, "samples": None}), _listed(samples))


def _header(value: Any) -> Header:  # Any: whatever the log holds
    try:
        header = Header.model_validate(
            sound({key: value[key] for key in ("version", "status", "eval") if key in value})
        )
    except (ValidationError, TypeError) as error:
        why = explain(error) if isinstance(error, ValidationError) else str(error)
        raise ValueError(f"its header cannot be read: {why}") from error
    if header.version not in VERSIONS:
        raise ValueError(f"is of version {header.version}; {VERSIONS[0]} to {VERSIONS[-1]} can be read")
    return header


def _members(archive: Archive) -> Iterator[tuple[str, dict[str, Any] | KeptOut]]:
    for name in sorted(archive.names, key=_natural):
        if not (name.startswith(SAMPLES) and name.endswith(".json")):
            continue
        shown = name[:200].encode("unicode_escape").decode()
        try:
            value = loaded(archive.read(name))
        except ValueError as error:
            yield shown, KeptOut(f"cannot be read: {error}")
            continue
        yield shown, value if isinstance(value, dict) else KeptOut("is no JSON object")


def _natural(name: str) -> tuple[str, int]:
    """Epoch 10 after epoch 9."""
    begin, _, number = name.removesuffix(".json").rpartition("_")
    return (begin, int(number)) if number.isascii() and number.isdigit() and len(number) < 10 else (name, 0)


def _listed(samples: list[Any]) -> Iterator[tuple[str, dict[str, Any] | KeptOut]]:
    for number, value in enumerate(samples, 1):
        yield f"sample {number}", value if isinstance(value, dict) else KeptOut("is no JSON object")


def _transcript(where: str, spec: Spec, value: dict[str, Any]) -> Transcript:
    """A sample as a transcript. Raises ValueError, and what follows from values of other types than Inspect's."""
    from inspect_ai.log import EvalSample, resolve_sample_attachments

    sample = EvalSample.model_validate(sound({key: value[key] for key in READ if key in value}))
    if sample.attachments:
        sample = resolve_sample_attachments(sample, "full")
    said = next((at for at, each in enumerate(sample.messages) if each.role == "assistant"), len(sample.messages))
    before, after = sample.messages[:said], sample.messages[said:]
    system = [each.text for each in before if each.role == "system"]
    asked = [each.text for each in before if each.role == "user"]
    own = sample.metadata.get(BLOCK)
    return Transcript(
        where=where,
        model=spec.model,
        system="\n\n".join(system) if system else None,
        task="\n\n".join(asked) if asked else _input(sample),
        moves=tuple(move for each in after if (move := _move(each))),
        tools=_tools(value),
        fields={
            "id": sample.id,
            "epoch": sample.epoch,
            "target": sample.target,
            "task": spec.task,
            "model": spec.model,
            "task_args": spec.task_args,
            "eval_metadata": spec.metadata or {},
            "metadata": sample.metadata,
            "scores": {name: score.value for name, score in (sample.scores or {}).items()},
            "faults": sample.metadata.get("faults"),
        },
        own=own if isinstance(own, dict) else None,
        error=sample.error.message if sample.error else None,
        ended=_ending(sample),
        left_out=sum(each.role in ("user", "system") for each in after) + sum(map(_media, sample.messages)),
    )


def _input(sample: "EvalSample") -> str:
    return sample.input if isinstance(sample.input, str) else "\n\n".join(each.text for each in sample.input)


def _ending(sample: "EvalSample") -> Ending:
    if sample.limit is None:
        return "finished"
    return "seconds" if sample.limit.type in ("time", "working") else "turns"


def _media(message: "ChatMessage") -> bool:
    return any(each.type not in ("text", "reasoning") for each in message.content_list)


def _move(message: "ChatMessage") -> Turn | Answer | None:
    if message.role == "assistant":
        asked = tuple(
            Asked(
                id=call.id,
                name=call.function,
                arguments=None if call.parse_error else call.arguments,
                raw=call.parse_error,
            )
            for call in message.tool_calls or []
        )
        return Turn(message.text, _reasoning(message), asked, message.model)
    if message.role == "tool":
        return Answer(message.tool_call_id or "", message.function or "", message.text, message.error is not None)
    return None


def _reasoning(message: "ChatMessageAssistant") -> str | None:
    """Reasoning blocks, by their summary where the provider withholds them; None where there is nothing to read."""
    blocks = [each for each in message.content_list if each.type == "reasoning"]
    shown = [each.summary if each.redacted else each.reasoning or each.summary for each in blocks]
    read = [each or "" for each, block in zip(shown, blocks, strict=True) if each or not block.redacted]
    return "\n\n".join(read) if read else None


def _tools(value: Mapping[str, Any]) -> tuple[Listed, ...]:
    """The tools of the first call of the model, in their order. Empty where no event tells: not every log has them."""
    events, attachments = value.get("events"), value.get("attachments")
    kept = attachments if isinstance(attachments, dict) else {}
    for event in events if isinstance(events, list) else []:
        tools = event.get("tools") if isinstance(event, dict) and event.get("event") == "model" else None
        if isinstance(tools, list) and tools:
            return tuple(
                Listed(_text(tool["name"], kept), _text(tool.get("description"), kept), _parameters(tool))
                for tool in sound(tools)
                if isinstance(tool, dict) and isinstance(tool.get("name"), str)
            )
    return ()


def _text(value: Any, attachments: Mapping[str, Any]) -> str:  # Any: whatever the log holds
    found = attachments.get(value.removeprefix(ATTACHED), value) if isinstance(value, str) else ""
    return sound(found) if isinstance(found, str) else ""


def _parameters(tool: Mapping[str, Any]) -> dict[str, Any]:
    found = tool.get("parameters")
    return found if isinstance(found, dict) else {}
