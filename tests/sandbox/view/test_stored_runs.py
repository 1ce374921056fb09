"""Commands over runs on an object store: viewed, labelled, judged, compared, exported and imported where they lie."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from detectors.judge import columns, store
from sandbox import label
from sandbox.label import Label
from sandbox.ledger import ledger_at
from sandbox.record import Record, folder_at, record_at
from sandbox.store import SMALL, StoredRecord, place
from sandbox.view import mirror as mirrors
from sandbox.view.app import Folder
from sandbox.view.mirror import Mirror
from tests.sandbox.view.conftest import application
from tools.problem import Problem

HONNE = Path(sys.executable).parent / "honne"
HOME = "http://127.0.0.1:7595"
ORIGIN = {"Origin": HOME}


def upload(source: Record, url: str, each: int = 10, most: int | None = None) -> StoredRecord:
    """A run of this disk in a store, or the beginning of it, so many lines an object."""
    there = record_at(folder_at(url))
    assert isinstance(there, StoredRecord)
    segment, waiting = there.segment(), list(source.episodes())[:most]
    for start in range(0, len(waiting), each):
        segment.append(*waiting[start : start + each])
    there.freeze(source.plan, source.manifest)
    return there


@pytest.fixture(scope="module")
def runs(bucket: str, source: Record) -> str:
    """A folder of runs in the bucket, with the run twice."""
    for name in ("mine", "other"):
        upload(source, f"{bucket}/runs/{name}")
    return f"{bucket}/runs"


@pytest.fixture
def honne(tmp_path: Path) -> Iterator[Any]:
    """The command, in a folder of its own in which nothing may appear."""
    (tmp_path / "here").mkdir()

    def command(*words: str, code: int = 0) -> str:
        done = subprocess.run([HONNE, *words], cwd=tmp_path / "here", capture_output=True, text=True, timeout=280)
        assert done.returncode == code, done.stderr
        return done.stderr if code else done.stdout

    yield command
    assert list((tmp_path / "here").iterdir()) == []


def test_a_run_in_a_store_is_viewed_and_labelled_there(runs: str, source: Record, tmp_path: Path) -> None:
    folder = Folder(folder_at(runs), tmp_path / "cache")
    client = TestClient(application(folder.runs, tmp_path / "cache"), base_url=HOME)
    assert "mine" in client.get("/").text
    count = len(list(source.episodes()))
    whole = f"{count:,} of {count:,} trials on record"
    until = time.monotonic() + 60
    while whole not in client.get("/run/mine/").text:  # taken in beside the requests
        assert time.monotonic() < until
        time.sleep(0.1)
    one = next(source.episodes()).trial
    assert one.environment in client.get(f"/run/mine/episode/{one.id}").text
    assert client.get(f"/run/mine/match/{one.match}").status_code == 200
    said = {"verdict": "agree", "favours": "safe", "reviewer": "ann"}
    assert client.post(f"/run/mine/episode/{one.id}/label", data=said, headers=ORIGIN).status_code == 200
    assert "agree" in client.get(f"/run/mine/episode/{one.id}").text
    kept = record_at(folder_at(f"{runs}/mine"))
    assert [(each.trial, each.reviewer, each.verdict) for each in label.read(kept.folder)[0]] == [
        (one.id, "ann", "agree")
    ]
    assert list(client.get("/run/mine/?label=agree").text.split("data-row>"))[1:], "found by its label"
    assert "labels.jsonl" not in {path.name for path in (tmp_path / "cache").rglob("*")}


def test_a_mirror_takes_what_is_added_once_and_begins_anew_for_another_run(
    bucket: str, source: Record, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mirrors, "PAUSE", 0.0)
    episodes = list(source.episodes())[:40]
    there = upload(source, f"{bucket}/grows", each=1, most=40)
    copy = Mirror(there, tmp_path)
    calls = 1
    while not copy.fetch(20_000):
        calls += 1
        assert calls < 1000
    assert calls > 3, "in portions"
    assert [each.trial.id for each in copy.episodes()] == [each.trial.id for each in episodes]
    with there.owned():
        there.segment().append(*episodes[:3])  # what is there already, and its objects are put together
    assert any(name.endswith(".parquet") for name in there._names())
    again = Mirror(there, tmp_path)
    with (again.folder / "taken.jsonl").open("ab") as file:
        file.write(b'{"name": "cut sh')  # as a crash leaves it
    with (again.folder / "episodes" / "000000.jsonl").open("ab") as file:
        file.write(b'{"half": ')
    while not again.fetch(10**9):
        pass
    assert sorted(each.trial.id for each in again.episodes()) == sorted(each.trial.id for each in episodes)
    assert again.unreadable == []
    there._put("manifest.json", json.dumps({**source.manifest, "begun": "2027-01-01T00:00:00.000+00:00"}))
    assert again.fetch(10**9)
    assert again.manifest["begun"].startswith("2027")
    assert len(list(again.episodes())) == len(episodes)


def test_what_cannot_be_read_in_a_store_is_counted_on_the_page(
    bucket: str, source: Record, s3: Any, tmp_path: Path
) -> None:
    upload(source, f"{bucket}/torn-view/mine", most=10)
    s3.put_object(Bucket="bucket", Key="torn-view/mine/episodes/000009-000001-000001.jsonl", Body=b'{"trial": {"env')
    s3.put_object(Bucket="bucket", Key="torn-view/mine/episodes/000009-000001-000002.parquet", Body=b"no table")
    folder = Folder(folder_at(f"{bucket}/torn-view"), tmp_path / "cache")
    client = TestClient(application(folder.runs, tmp_path / "cache"), base_url=HOME)
    assert "2 line(s) could not be read" in client.get("/run/mine/").text


def test_verdicts_are_kept_beside_a_run_in_a_store(runs: str, honne: Any, s3: Any) -> None:
    first = json.loads(honne("judge", f"{runs}/mine", "--judge", "lexicon", "--json"))
    assert first["made"] > 0
    again = json.loads(honne("judge", "mine", "--judge", "lexicon", "--runs-dir", runs, "--json"))
    assert (again["made"], again["known"]) == (0, first["made"])
    (row,) = json.loads(honne("judge", f"{runs}/mine", "--json"))
    assert (row["judge"], row["votes"]) == ("lexicon", first["made"])
    there = columns.sources(record_at(folder_at(f"{runs}/mine")).folder)
    assert list(there) == ["lexicon"]
    measured = honne("judge", "--validate", "--judge", "lexicon", "--runs-dir", runs)
    assert f"kept in {runs}/.judges/lexicon.rules.json" in measured
    assert "rules" in columns.measured(there["lexicon"], folder_at(runs))
    assert columns.table(there["lexicon"], "mine").height > 0


@pytest.mark.slow
def test_the_other_commands_over_runs_in_a_store(runs: str, honne: Any, source: Record, bucket: str) -> None:
    compared = json.loads(honne("compare", f"{runs}/mine", f"{runs}/other", "--json"))
    assert compared
    assert all(row["difference"] in (None, 0.0) for each in compared for row in each["differences"])
    one = next(source.episodes()).trial
    assert json.loads(honne("show", f"{runs}/mine", one.id, "--json"))["trial"]["environment"] == one.environment
    again = ("counterfactual", f"{runs}/mine", "--trial", one.id, "--draws", "2", "--json")
    again += ("--environments", str(source.folder.parent / "drafts"))
    first, second = json.loads(honne(*again)), json.loads(honne(*again))
    assert (first["faults"], second["asked"], second["resumed"]) == (0, 0, first["asked"])
    label.add(record_at(folder_at(f"{runs}/mine")).folder, Label(trial=one.id, reviewer="bob", favours="safe"))
    assert '"by": "bob"' in honne("export", "labels", f"{runs}/mine", "--quiet")
    spans = honne("export", "otel", f"{runs}/mine", "-o", f"{bucket}/out/spans.jsonl")
    assert f"{bucket}/out/spans.jsonl" in spans
    listed = json.loads(honne("list", "runs", "--runs-dir", runs, "--json"))
    assert [row["run"] for row in listed] == ["mine", "other"]


@pytest.mark.slow
@pytest.mark.parametrize("form", ["inspect", "atif"])
def test_an_export_into_a_store_and_an_import_into_one_give_the_same_episodes(
    runs: str, honne: Any, source: Record, bucket: str, s3: Any, tmp_path: Path, form: str
) -> None:
    written = json.loads(honne("export", form, f"{runs}/other", "--json"))["written"]
    assert all(path.startswith(f"{runs}/other/{form}/") for path in written)
    for path in written:
        name = path.removeprefix("s3://bucket/")
        here = tmp_path / form / name.rpartition("/")[2]
        here.parent.mkdir(exist_ok=True)
        here.write_bytes(s3.get_object(Bucket="bucket", Key=name)["Body"].read())
    into = ("--runs-dir", f"{bucket}/taken", "--name", form)
    assert f"episodes in {bucket}/taken/{form}" in honne("import", form, str(tmp_path / form), *into)
    taken = record_at(folder_at(f"{bucket}/taken/{form}"))
    assert sorted(each.model_dump_json() for each in taken.episodes()) == sorted(
        each.model_dump_json() for each in source.episodes()
    )
    assert "is there already" in honne("import", form, str(tmp_path / form), *into, code=2)
    empty = tmp_path / "empty.json"
    empty.write_text("[]")
    said = honne("import", form, str(empty), "--runs-dir", f"{bucket}/taken", "--name", "nothing", code=2)
    assert "nothing to import" in said
    assert not s3.list_objects_v2(Bucket="bucket", Prefix="taken/nothing").get("Contents")


@pytest.mark.parametrize(
    "words",
    [
        ("import", "inspect", "s3://bucket/x.eval", "--name", "x"),
        ("import", "tatemae", "x.json", "--name", "x", "-o", "s3://bucket/packs"),
        ("list", "--environments", "s3://bucket/environments"),
        ("calibrate", "-o", "s3://bucket/rates.json"),
    ],
)
def test_what_has_to_lie_on_this_machine_is_said_in_a_sentence(honne: Any, words: tuple[str, ...]) -> None:
    said = honne(*words, code=2)
    assert "has to be a file or folder on this machine" in said
    assert len(said.strip().splitlines()) == 1


def test_a_ledger_in_a_store_is_held_by_one_and_put_together_in_the_end(bucket: str) -> None:
    ledger = ledger_at(place(f"{bucket}/ledger/verdicts/a.honne.jsonl"))
    other = ledger_at(ledger.path)
    assert (ledger.lines(), ledger.stamp) == ([], None)
    with ledger.held("judging into"):
        ledger.append(b"begun", sync=False)
        assert other.lines() == []
        for number in range(SMALL + 1):
            ledger.append(b"%d" % number)
        with (
            pytest.raises(Problem, match="another process is judging into s3://bucket/ledger/verdicts"),
            other.held("judging into"),
        ):
            pass
        before = other.lines()
        ledger.append(b"last", sync=False)
    assert before == [b"begun", *(b"%d" % number for number in range(SMALL + 1))]
    assert other.lines() == [*before, b"last"]
    assert len(store.stores(place(f"{bucket}/ledger"))) == 1
    assert len(other.stamp) == 1  # type: ignore[arg-type]  # of a store: its objects


def test_a_store_that_stops_answering_is_one_sentence(runs: str, tmp_path: Path) -> None:
    gone = {**os.environ, "AWS_ENDPOINT_URL": "http://127.0.0.1:9", "AWS_MAX_ATTEMPTS": "1"}
    done = subprocess.run(
        [HONNE, "judge", f"{runs}/mine"], cwd=tmp_path, capture_output=True, text=True, env=gone, timeout=120
    )
    assert (done.returncode, len(done.stderr.strip().splitlines())) == (2, 1)
    assert "does not answer" in done.stderr
