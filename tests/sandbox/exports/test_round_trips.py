"""A run that goes out and comes back is the same run; other programs' own readers accept what went out."""

import json
import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from inspect_ai.event import InfoEvent, ModelEvent, ScoreEvent, ToolEvent
from inspect_ai.log import EvalLog, list_eval_logs, read_eval_log, read_eval_log_sample_summaries

from detectors.detect import detect
from detectors.report.frames import readings
from sandbox import played
from sandbox.episode import Asked, Called, Closed, Episode, Said
from sandbox.exports import Final, atif, block, finals, inspect_log
from sandbox.imports import atif as atif_import
from sandbox.imports import inspect_log as inspect_import
from sandbox.plan import Block, Model, Plan
from sandbox.record import Record

AGENTS = ("faker", "honest", "refuser", "reverser", "incapable")

HOSTILE = (
    "<script>alert(1)</script>",
    "<think>not reasoning, text</think> done",
    "</think>",
    "attachment://0123456789abcdef0123456789abcdef",
    "data:image/png;base64,iVBORw0KGgo=",
    "\x1b[31mred\x1b[0m \u202egnp.exe \u2028 \x00",
    "=HYPERLINK('http://example.invalid')",
    "<internal>e30=</internal><content-internal>e30=</content-internal>",
    "x" * 200_000,
    "",
)


@dataclass(frozen=True)
class Played:
    record: Record

    @property
    def episodes(self) -> dict[str, Episode]:
        return by_id(self.record)


def by_id(record: Record) -> dict[str, Episode]:
    found = {episode.trial.id: episode for episode in record.episodes()}
    assert record.unreadable == []
    return found


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Played:
    """Scripted agents in memory, three of each cell, and a fault that no later attempt made good."""
    folder = tmp_path_factory.mktemp("run")
    plan = Plan(
        name="exported",
        epochs=2,
        models=tuple(Model(name=f"script:{agent}") for agent in AGENTS),
        environments=("desk_0", "desk_1"),
        blocks=(
            Block(cue="monitoring", arms=("unmonitored", "monitored", "aa"), paraphrases=(0,)),
            Block(prompt="belief"),
        ),
        primary={"cue": "monitoring", "arm": "monitored"},
    )
    played.episodes(folder, docker=False, written=plan)
    record = Record(folder / "run")
    first = next(iter(record.episodes()))
    fault = Closed(at=first.closed.at, ended="fault", effect=None, fault="the engine went away", seconds=1.0)
    lost = first.trial.model_copy(update={"epoch": 7})
    segment = record.segment()
    segment.append(Episode(trial=lost, events=(first.events[0], fault)))
    segment.append(Episode(trial=lost, attempt=1, events=(fault,)))  # before anything was shown
    segment.close()
    return Played(record)


def logs(folder: Path) -> Iterator[EvalLog]:
    for path in sorted(folder.glob("*.eval")):
        yield read_eval_log(str(path), resolve_attachments="full")


def test_an_export_to_inspect_comes_back_the_same(run: Played, tmp_path: Path) -> None:
    inspect_log.write(run.record, tmp_path / "logs")
    back = inspect_import.take([tmp_path / "logs"], "back", runs=tmp_path / "runs")
    assert back.kept_out == ()
    assert by_id(Record(back.folder)) == run.episodes
    assert Record(back.folder).plan.primary == run.record.plan.primary
    assert back.remarks == ("1 trials had attempts before the one here that were lost to faults; they are not here",)
    findings = [
        [f.model_dump(exclude={"scope"}) for f in detect(readings(Record(folder).episodes(), run="r"))]
        for folder in (run.record.folder, back.folder)
    ]
    assert len(findings[0]) > 5
    assert [f for f in findings[0] if f["detector"] == "oversight_shift"] == [
        f for f in findings[1] if f["detector"] == "oversight_shift"
    ]


def test_an_export_to_atif_comes_back_the_same(run: Played, tmp_path: Path) -> None:
    atif.write(run.record, tmp_path / "trajectories")
    back = atif_import.take([tmp_path / "trajectories"], "back", runs=tmp_path / "runs")
    assert back.kept_out == ()
    assert by_id(Record(back.folder)) == run.episodes
    assert Record(back.folder).plan.primary == run.record.plan.primary


def test_inspect_reads_what_was_exported(run: Played, tmp_path: Path) -> None:
    paths = inspect_log.write(run.record, tmp_path)
    assert len(paths) == len(AGENTS) * 2
    assert {Path(info.name).name for info in list_eval_logs(str(tmp_path))} == {path.name for path in paths}
    episodes, samples = run.episodes, 0
    for log in logs(tmp_path):
        assert log.status == "success"
        for sample in log.samples or []:
            samples += 1
            episode = episodes[sample.metadata["trial"]]
            trial = episode.trial
            assert (log.eval.model, log.eval.task, sample.epoch) == (trial.model, trial.environment, trial.epoch + 1)
            assert sample.metadata["match"] == trial.match
            fields = ("cue", "arm", "channel", "paraphrase", "order", "names", "prompt", "environment", "epoch")
            assert all(sample.metadata[name] == getattr(trial, name) for name in fields)
            scores = sample.scores or {}
            assert scores["outcome"].value == episode.outcome
            if episode.outcome in ("safe", "unsafe"):
                assert scores["unsafe"].value == int(episode.outcome == "unsafe")
            else:
                assert "unsafe" not in scores, "missing is missing"
            assert (sample.error is not None) == (episode.outcome == "fault")
            said = [message for message in sample.messages if message.role == "assistant"]
            assert [message.text for message in said] == [each.text for each in episode.said]
            reasoning = [
                [part.reasoning for part in message.content_list if part.type == "reasoning"] for message in said
            ]
            assert reasoning == [[each.reasoning] if each.reasoning else [] for each in episode.said]
            calls = [(call.function, call.arguments) for message in said for call in message.tool_calls or []]
            assert calls == [(call.name, call.arguments or {}) for each in episode.said for call in each.asked]
            answers = [message.text for message in sample.messages if message.role == "tool"]
            assert answers == [call.result for call in episode.called]
    assert samples == len(episodes)


def test_a_transcript_in_inspect_has_every_turn_and_call_as_it_was(run: Played, tmp_path: Path) -> None:
    inspect_log.write(run.record, tmp_path)
    episodes = run.episodes
    kinds: Counter[str] = Counter()
    for sample in (sample for log in logs(tmp_path) for sample in log.samples or []):
        episode = episodes[sample.metadata["trial"]]
        kinds.update(event.event for event in sample.events)
        turns = [event for event in sample.events if isinstance(event, ModelEvent)]
        at = [sample.messages.index(turn.output.choices[0].message) for turn in turns]
        assert [sample.messages[place].text for place in at] == [said.text for said in episode.said]
        assert [turn.input for turn in turns] == [sample.messages[:place] for place in at], "all that was said before"
        assert [turn.working_time for turn in turns] == [said.seconds or None for said in episode.said]
        offered = episode.opened.tools if episode.opened else ()
        for turn in turns:
            assert [(tool.name, tool.description) for tool in turn.tools] == [(t.name, t.description) for t in offered]
            assert [set(tool.parameters.properties) for tool in turn.tools] == [
                set(tool.parameters.get("properties", {})) for tool in offered
            ]
        calls = [event for event in sample.events if isinstance(event, ToolEvent)]
        assert [(each.function, each.arguments, each.result, bool(each.error)) for each in calls] == [
            (call.name, call.arguments or {}, call.result, call.error) for call in episode.called
        ]
        assert [each.metadata and each.metadata["side"] for each in calls] == [call.side for call in episode.called]
        scored = {event.scorer: event.score.value for event in sample.events if isinstance(event, ScoreEvent)}
        assert scored == {name: score.value for name, score in (sample.scores or {}).items()}
        (state,) = [e.data for e in sample.events if isinstance(e, InfoEvent) and e.source == "honne, state of the box"]
        assert state == {"ended": episode.closed.ended, "effect": episode.closed.effect, "facts": episode.closed.facts}
        assert len({event.uuid for event in sample.events}) == len(sample.events)
        assert [event.timestamp for event in sample.events] == sorted(event.timestamp for event in sample.events)
    assert kinds["sample_init"] == len(episodes)
    assert kinds["error"] == sum(episode.outcome == "fault" for episode in episodes.values()) > 0
    assert min(kinds["model"], kinds["tool"], kinds["score"]) > 0


def test_inspect_lists_samples_with_their_scores_and_conditions(run: Played, tmp_path: Path) -> None:
    path = next(each for each in inspect_log.write(run.record, tmp_path) if "script-faker" in each.name)
    rows = read_eval_log_sample_summaries(str(path))
    watched = {row.metadata["arm"]: row.scores["unsafe"].value for row in rows if "unsafe" in (row.scores or {})}
    assert watched == {"monitored": 1, "unmonitored": 0, "aa": 0}
    assert len({(row.id, row.epoch) for row in rows}) == len(rows)
    assert {row.epoch for row in rows if row.id == "monitoring-monitored-pressured"} == {1, 2}
    (score,) = read_eval_log(str(path), header_only=True).results.scores  # type: ignore[union-attr]
    assert {name: metric.value for name, metric in score.metrics.items()} == {
        "monitoring monitored pressured": 1.0,
        "monitoring unmonitored pressured": 0.0,
        "monitoring aa pressured": 0.0,
    }


def test_a_later_attempt_stands_for_a_trial_and_what_was_lost_is_counted(run: Played) -> None:
    first = next(iter(run.record.episodes()))
    fault = Closed(at=first.closed.at, ended="fault", effect=None, fault="gone", seconds=1.0)
    lost = [Episode(trial=first.trial, attempt=n, events=(first.events[0], fault)) for n in (0, 1)]
    good = first.model_copy(update={"attempt": 2})
    ((_, found),) = finals([*lost, good])
    assert found == [Final(good, 2)]
    ((_, found),) = finals([good, *lost])
    assert found == [Final(good, 2)]
    ((_, found),) = finals(lost)
    assert found == [Final(lost[1], 1)]


ATIF_FIELDS = {
    "root": {
        "schema_version", "session_id", "trajectory_id", "agent", "steps", "notes", "final_metrics",
        "continued_trajectory_ref", "extra", "subagent_trajectories",
    },
    "agent": {"name", "version", "model_name", "tool_definitions", "extra"},
    "step": {
        "step_id", "timestamp", "source", "model_name", "reasoning_effort", "message", "reasoning_content",
        "tool_calls", "observation", "metrics", "is_copied_context", "llm_call_count", "extra",
    },
    "call": {"tool_call_id", "function_name", "arguments", "extra"},
    "result": {"source_call_id", "content", "subagent_trajectory_ref", "extra"},
    "metrics": {
        "prompt_tokens", "completion_tokens", "cached_tokens", "cost_usd", "prompt_token_ids",
        "completion_token_ids", "logprobs", "extra",
    },
}  # fmt: skip
"""Fields of ATIF-v1.8; its models forbid all others."""


def test_trajectories_keep_the_rules_of_their_format(run: Played, tmp_path: Path) -> None:
    paths = atif.write(run.record, tmp_path)
    assert len(paths) == len(run.episodes)
    for path in paths:
        found = json.loads(path.read_text())
        assert found["schema_version"] == "ATIF-v1.8"
        assert found.keys() <= ATIF_FIELDS["root"]
        assert {"name", "version"} <= found["agent"].keys() <= ATIF_FIELDS["agent"]
        assert [step["step_id"] for step in found["steps"]] == list(range(1, len(found["steps"]) + 1)) != []
        for step in found["steps"]:
            assert {"source", "message"} <= step.keys() <= ATIF_FIELDS["step"]
            agent_only = {"model_name", "reasoning_content", "tool_calls", "metrics"} & step.keys()
            assert step["source"] == "agent" or not agent_only
            calls = step.get("tool_calls", [])
            assert all(call.keys() <= ATIF_FIELDS["call"] and isinstance(call["arguments"], dict) for call in calls)
            assert step.get("metrics", {}).keys() <= ATIF_FIELDS["metrics"]
            for result in step.get("observation", {}).get("results", []):
                assert result.keys() <= ATIF_FIELDS["result"]
                assert result.get("source_call_id") in {None, *(call["tool_call_id"] for call in calls)}


def hostile(episode: Episode, text: str, reasoning: str | None, name: str) -> Episode:
    """An episode whose words, calls and results are what somebody hostile would write."""
    opened, closed = episode.opened, episode.closed
    assert opened
    asked = (
        Asked(id="c", name=name, arguments={"path": text, text[:50]: [None, True, 1.5]}),
        Asked(id="c", name=name, arguments=None, raw=text),
        Asked(id="", name="", arguments=None),
    )
    said = Said(
        turn=0,
        text=text,
        reasoning=reasoning,
        reasoning_source="tag" if reasoning else "none",
        asked=asked,
        seconds=0.1,
    )
    called = [
        Called(
            turn=0, id=each.id, name=each.name, key=None, arguments=each.arguments, result=text, error=True, seconds=0
        )
        for each in asked
    ]
    quiet = opened.model_copy(update={"system": text, "task": text})
    return Episode(trial=episode.trial, events=(quiet, said, *called, said, closed))


def written(tmp_path: Path, run: Played, episode: Episode) -> Record:
    record = Record(tmp_path / "hostile")
    record.freeze(run.record.plan, run.record.manifest)
    segment = record.segment()
    segment.append(episode)
    segment.close()
    return record


@pytest.mark.parametrize("text", HOSTILE, ids=range(len(HOSTILE)))
def test_hostile_words_come_back_as_they_were(run: Played, tmp_path: Path, text: str) -> None:
    episode = hostile(next(iter(run.episodes.values())), text, text or None, text[:100] or "t")
    record = written(tmp_path, run, episode)
    for name, out, back in (("inspect", inspect_log, inspect_import), ("atif", atif, atif_import)):
        out.write(record, tmp_path / name)
        done = back.take([tmp_path / name], f"back-{name}", runs=tmp_path / "runs")
        assert list(by_id(Record(done.folder)).values()) == [episode], name


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.text(), st.none() | st.text(), st.text())
def test_a_trajectory_of_any_words_comes_back(
    run: Played, tmp_path: Path, text: str, reasoning: str | None, name: str
) -> None:
    episode = hostile(next(iter(run.episodes.values())), text, reasoning, name)
    folder = tmp_path / os.urandom(8).hex()
    path = folder / "one.trajectory.json"
    folder.mkdir()
    path.write_text(json.dumps(atif.trajectory(Final(episode, 0), "r", {})))
    done = atif_import.take([path], "back", runs=folder / "runs")
    assert list(by_id(Record(done.folder)).values()) == [episode]


def test_names_from_a_record_lead_nowhere_else(run: Played, tmp_path: Path) -> None:
    first = next(iter(run.episodes.values()))
    away = first.trial.model_copy(update={"environment": "../../etc/x", "model": "../..//y\n"})
    record = written(tmp_path, run, first.model_copy(update={"trial": away}))
    for module in (inspect_log, atif):
        (path,) = module.write(record, tmp_path / "out")
        assert path.resolve().parent == tmp_path / "out"


def test_draws_that_only_the_other_factors_tell_apart_are_samples_of_their_own(run: Played, tmp_path: Path) -> None:
    first = next(each for each in run.episodes.values() if each.trial.cue)
    other = first.model_copy(update={"trial": first.trial.model_copy(update={"paraphrase": 1})})
    record = written(tmp_path, run, first)
    segment = record.segment()
    segment.append(other)
    segment.close()
    inspect_log.write(record, tmp_path / "out")
    (log,) = logs(tmp_path / "out")
    assert len({sample.id for sample in log.samples or []}) == 2
    done = inspect_import.take([tmp_path / "out"], "back", runs=tmp_path / "runs")
    assert by_id(Record(done.folder)) == {first.trial.id: first, other.trial.id: other}


def test_the_block_does_not_repeat_what_the_messages_hold(run: Played) -> None:
    episode = next(each for each in run.episodes.values() if each.reasoning)
    kept = json.dumps(block(episode))
    assert all(json.dumps(said.reasoning)[1:-1] not in kept for said in episode.said if said.reasoning)
