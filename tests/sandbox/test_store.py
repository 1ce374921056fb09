"""Run folders on an object store: a real S3 server on loopback, real boxes, uploads that break, and writers that meet."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from sandbox.plan import Block, Model, Plan
from sandbox.record import Record, folder_at, record_at, run_folder
from sandbox.run import Catalogue, prepare, run
from sandbox.store import SMALL, Lease, StoredRecord, place
from tools.problem import Problem

HONNE = Path(sys.executable).parent / "honne"
PLAN = 'epochs = 2\nmodels = ["script:faker"]\nenvironments = ["production_access"]\n[[block]]\ncue = "monitoring"\n'


def honne(*words: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([HONNE, *words], cwd=cwd, capture_output=True, text=True, timeout=280)


def plan(epochs: int = 1) -> Plan:
    return Plan(
        name="t",
        epochs=epochs,
        models=(Model(name="script:faker"),),
        environments=("production_access",),
        blocks=(Block(cue="monitoring", arms=("monitored", "unmonitored")),),
    )


def stored(url: str, lease: float = 60.0) -> StoredRecord:
    return StoredRecord(place(url), lease)


def objects(s3: Any, prefix: str) -> list[str]:
    return [each["Key"] for each in s3.list_objects_v2(Bucket="bucket", Prefix=prefix).get("Contents", [])]


def exactly_as_planned(record: Record) -> bool:
    ids = [each.trial.id for each in record.episodes() if each.outcome != "fault"]
    return sorted(ids) == sorted(trial.id for trial in record.plan.trials())


@pytest.mark.docker
@pytest.mark.slow
def test_the_whole_way_from_run_to_report_on_an_object_store(bucket: str, s3: Any, tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_text(PLAN)
    there = ("--runs-dir", f"{bucket}/all")
    first = honne("run", "mine.toml", *there, "--limit", "2", "--json", cwd=tmp_path)
    assert first.returncode == 0, first.stderr
    ran = json.loads(first.stdout)
    assert (ran["run"], ran["planned"], ran["finished"], ran["faults"]) == ("s3://bucket/all/mine", 2, 2, 0)
    resumed = honne("run", "mine.toml", *there, cwd=tmp_path)
    assert "6 of 6 trials finished" in resumed.stdout, resumed.stderr
    assert "2 of them were on record already" in resumed.stdout
    record = record_at(run_folder("mine", folder_at(f"{bucket}/all")))
    assert exactly_as_planned(record)

    findings = json.loads(honne("detect", "mine", *there, "--json", cwd=tmp_path).stdout)
    shift = next(each for each in findings if each["detector"] == "oversight_shift" and each["scope"] == "all")
    assert (shift["model"], shift["cue"], shift["estimate"]) == ("script:faker", "monitoring", 1.0)
    again = honne("detect", f"{bucket}/all/mine", "--json", cwd=tmp_path)
    assert json.loads(again.stdout) == findings, "by URL, and from the table that was kept"
    reported = honne("report", "mine", *there, cwd=tmp_path)
    assert "wrote s3://bucket/all/mine/report.md" in reported.stdout, reported.stderr
    assert b"script:faker" in s3.get_object(Bucket="bucket", Key="all/mine/report.md")["Body"].read()
    one = record.plan.trials()[0].id
    assert "grant_table_access" in honne("show", "mine", one, *there, cwd=tmp_path).stdout
    (row,) = json.loads(honne("list", "runs", *there, "--json", cwd=tmp_path).stdout)
    assert (row["run"], row["finished"], row["faults"]) == ("mine", "6/6", "0")

    assert list(tmp_path.iterdir()) == [tmp_path / "mine.toml"], "nothing of the run is on this disk"
    for name in objects(s3, "all/"):
        content = s3.get_object(Bucket="bucket", Key=name)["Body"].read()
        assert os.environ["AWS_ACCESS_KEY_ID"].encode() not in content, name
        assert b"loopback-secret" not in content, name


@pytest.mark.docker
@pytest.mark.slow
def test_a_killed_run_on_a_store_is_resumed_to_exactly_the_planned_set(bucket: str, s3: Any, tmp_path: Path) -> None:
    (tmp_path / "killed.toml").write_text(PLAN.replace("epochs = 2", "epochs = 4"))
    command = [HONNE, "run", "killed.toml", "--runs-dir", f"{bucket}/all", "--max-samples", "2", "--quiet"]
    playing = subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.DEVNULL)
    while len(objects(s3, "all/killed/episodes/")) < 3:
        assert playing.poll() is None, "it ended before it could be killed"
        time.sleep(0.02)
    playing.send_signal(signal.SIGKILL)
    playing.wait()
    done = honne(*map(str, command[1:]), cwd=tmp_path)
    assert "12 of 12 trials finished" in done.stdout, done.stderr
    assert exactly_as_planned(stored(f"{bucket}/all/killed"))


@pytest.mark.docker
@pytest.mark.slow
def test_a_torn_upload_is_named_and_its_trial_played_again(bucket: str, s3: Any) -> None:
    record = stored(f"{bucket}/torn")
    runner = prepare(plan(2), Catalogue(), record)
    run(runner, workers=2)
    first, second, *_ = objects(s3, "torn/episodes/")
    whole = s3.get_object(Bucket="bucket", Key=first)["Body"].read()
    s3.put_object(Bucket="bucket", Key=first, Body=whole[: len(whole) // 2])  # a store whose writes are not atomic
    s3.delete_object(Bucket="bucket", Key=second)  # one that never arrived: its upload was begun and not completed
    s3.create_multipart_upload(Bucket="bucket", Key=second)
    assert len(list(record.episodes())) == 2
    assert record.unreadable == [f"{first.rpartition('/')[2]} line 1: cut short"]
    progress = run(runner, workers=2)
    assert (progress.resumed, progress.finished, progress.faults) == (2, 4, 0)
    assert exactly_as_planned(record)


def copied(record: StoredRecord, times: int) -> list[str]:
    """Episodes of a real run, spread over objects; returns their ids."""
    from sandbox.memory import MEMORY
    from sandbox.run import Runner, manifest

    catalogue = Catalogue()
    written = catalogue.resolve(plan(times))
    images = {"production_access": MEMORY}
    runner = Runner(written, record, catalogue, images, manifest(written, catalogue, images))
    with record.owned():
        record.freeze(written, runner.manifest)
        segment = record.segment()
        for trial in written.trials():
            segment.append(runner.play(trial, 0))
    return sorted(trial.id for trial in written.trials())


@pytest.mark.parametrize("scheme", ["s3", "memory"])
def test_many_objects_are_put_together_when_a_run_ends_and_read_the_same(bucket: str, scheme: str) -> None:
    record = stored(f"{bucket if scheme == 's3' else 'memory://bucket'}/many")
    ids = copied(record, SMALL)
    names = record._names()
    assert [name for name in names if name.endswith(".parquet")] == names == ["000001-000000.parquet"]
    assert sorted(each.trial.id for each in record.episodes()) == ids
    before = record.fingerprint
    with record.owned():
        record.segment().append(*record.episodes())  # a second copy of everything, as a process cut short may leave
        kept = record.segment()
    with pytest.raises(OSError, match="not held any more"):
        kept.append(*record.episodes())
    assert record.fingerprint != before
    assert sorted(each.trial.id for each in record.episodes()) == ids, "nothing counts twice"


def test_a_second_process_on_this_machine_is_refused_at_once(bucket: str) -> None:
    first, second = stored(f"{bucket}/two"), stored(f"{bucket}/two")
    with first.owned():
        with pytest.raises(Problem, match=r"another process is playing s3://bucket/two \(on "), second.owned():
            pass
        with pytest.raises(Problem, match="another process is playing"), second.owned():
            pass
    with second.owned():
        assert second.generation == 2


def _elsewhere(s3: Any, run: str, seconds: float, beats: int = 0) -> None:
    owner = {"host": "elsewhere", "boot": "b", "space": "s", "pid": 1, "began": "1"}
    content = {"owner": owner, "token": "t", "beats": beats, "seconds": seconds}
    s3.put_object(Bucket="bucket", Key=f"{run}/lock/000001", Body=json.dumps(content).encode())


def test_an_owner_on_another_machine_is_refused_while_it_lives_and_replaced_when_it_is_silent(
    bucket: str, s3: Any
) -> None:
    record = stored(f"{bucket}/far", lease=2.0)
    _elsewhere(s3, "far", 600)
    over = threading.Event()

    def live() -> None:
        beats = 0
        while not over.wait(0.1):
            beats += 1
            _elsewhere(s3, "far", 600, beats)

    alive = threading.Thread(target=live)
    alive.start()
    try:
        with (
            pytest.raises(Problem, match=r"another process is playing s3://bucket/far \(on elsewhere\)"),
            record.owned(),
        ):
            pass
    finally:
        over.set()
        alive.join()
    _elsewhere(s3, "far", 0.5)
    with record.owned():
        assert record.generation == 2


def test_of_many_that_begin_at_once_one_holds_the_run(bucket: str) -> None:
    leases = [Lease(stored(f"{bucket}/race")._fs, "bucket/race/lock", 60.0, "race") for _ in range(8)]
    gate = threading.Barrier(len(leases))
    outcomes: list[str] = []

    def begin(lease: Lease) -> None:
        gate.wait()
        try:
            lease.take()
            outcomes.append("holds")
        except Problem:
            outcomes.append("refused")

    threads = [threading.Thread(target=begin, args=(lease,)) for lease in leases]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for lease in leases:
        lease.release()
    assert sorted(outcomes) == ["holds", *["refused"] * 7]


def test_a_holder_that_was_replaced_or_silent_writes_no_more(bucket: str, s3: Any) -> None:
    record = stored(f"{bucket}/replaced", lease=3.0)
    with record.owned():
        record.write("a.jsonl", b"", record._held)
        body = json.dumps({"token": "other"}).encode()
        s3.put_object(Bucket="bucket", Key="replaced/lock/000002", Body=body)
        for _ in range(200):
            try:
                record._held and record._held.check()
            except OSError:
                break
            time.sleep(0.1)
        with pytest.raises(OSError, match="the run was not held for too long"):
            record.write("b.jsonl", b"", record._held)
    assert "replaced/episodes/b.jsonl" not in objects(s3, "replaced/")


def test_a_url_of_this_disk_is_a_path_on_it(tmp_path: Path) -> None:
    record = record_at(folder_at(f"file://{tmp_path}/runs") / "t")
    assert type(record) is Record
    assert record.folder == tmp_path / "runs" / "t"


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("ftp://me:hunter22@host/runs", "carries a password"),
        ("nowhere://bucket/runs", "'nowhere://bucket/runs' does not answer"),
        ("s3://no-such-bucket/runs", "no run 'x' in s3://no-such-bucket/runs/; there are: none yet"),
    ],
)
def test_a_store_that_cannot_be_used_is_one_sentence(bucket: str, tmp_path: Path, url: str, says: str) -> None:
    done = honne("detect", "x", "--runs-dir", url, cwd=tmp_path)
    assert done.returncode == 2
    assert says in done.stderr, done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    assert "hunter22" not in done.stderr


def test_a_missing_extra_is_named_with_the_command_that_installs_it(tmp_path: Path) -> None:
    code = (
        "import sys; sys.modules['upath'] = None; sys.argv = ['honne', 'list', 'runs', '--runs-dir', 's3://b/r'];"
        "from sandbox.cli import main; main()"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 2
    assert "pip install 'honne[s3]'" in done.stderr
    assert "Traceback" not in done.stderr
