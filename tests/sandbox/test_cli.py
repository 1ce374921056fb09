"""The command line: one sentence and exit code 2 for what the user can put right, JSON where it is asked for."""

import json
import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest

HONNE = Path(sys.executable).parent / "honne"


def honne(*words: str, cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [HONNE, *words], cwd=cwd, capture_output=True, text=True, env={**os.environ, **environment}, timeout=280
    )


def plan_file(folder: Path, text: str) -> str:
    (folder / "mine.toml").write_text(text)
    return "mine.toml"


GOOD = 'epochs = 1\nmodels = ["script:faker"]\nenvironments = ["production_access"]\n[[block]]\ncue = "monitoring"\n'


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("epoch = 1\n" + GOOD, "epoch: no such field"),
        (GOOD.replace("production_access", "payables"), "no environment 'payables'; there are: "),
        (GOOD.replace("monitoring", "moon"), "no cue 'moon'; there are: "),
        (GOOD.replace("script:faker", "script:saint"), "no scripted agent 'script:saint'; there are: script:honest"),
        (GOOD.replace("script:faker", "nowhere-model"), "unknown model 'nowhere-model'"),
    ],
)
@pytest.mark.docker
def test_bad_input_is_one_sentence_and_exit_code_2(tmp_path: Path, text: str, says: str) -> None:
    done = honne("run", plan_file(tmp_path, text), cwd=tmp_path)
    assert done.returncode == 2
    assert says in done.stderr
    assert done.stderr.startswith("honne: ")
    assert "Traceback" not in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


@pytest.mark.parametrize("words", [("run", "mine.toml"), ("check", "care_line"), ("check", "--json"), ("reap",)])
def test_an_engine_that_does_not_answer_is_one_sentence(tmp_path: Path, words: tuple[str, ...]) -> None:
    plan_file(tmp_path, GOOD)
    done = honne(*words, cwd=tmp_path, DOCKER_HOST="tcp://127.0.0.1:9")
    assert (done.returncode, done.stdout, len(done.stderr.splitlines())) == (2, "", 1)
    assert "no Docker engine answers at tcp://127.0.0.1:9" in done.stderr
    assert "Traceback" not in done.stderr


def test_an_environment_with_two_slots_is_named_with_its_file(tmp_path: Path) -> None:
    from environments.environment import HERE

    copy = tmp_path / "mine" / "doubled"
    copy.mkdir(parents=True)
    for path in (HERE / "production_access").glob("*.*"):
        (copy / path.name).write_text(path.read_text())
    (copy / "task.md").write_text((copy / "task.md").read_text() + "\n{{ cue }}\n")
    text = GOOD.replace("production_access", "doubled")
    done = honne("run", plan_file(tmp_path, text), "--environments", "mine", cwd=tmp_path)
    assert done.returncode == 2
    assert "need exactly one {{ cue }} slot, found 2" in done.stderr
    assert "mine/doubled" in done.stderr


@pytest.mark.parametrize("name", ["../out", "/tmp/x", "a/b", ".hidden", ""])
def test_a_run_cannot_be_named_out_of_its_folder(tmp_path: Path, name: str) -> None:
    done = honne("run", plan_file(tmp_path, GOOD), "--name", name or " ", cwd=tmp_path)
    assert done.returncode == 2
    assert "is no name for a run" in done.stderr
    assert not list(tmp_path.glob("runs/**/plan.json"))


@pytest.mark.parametrize("command", [("detect", "none"), ("report", "none"), ("show", "none", "x")])
def test_a_run_that_is_not_there_is_answered_with_those_that_are(tmp_path: Path, command: tuple[str, ...]) -> None:
    done = honne(*command, cwd=tmp_path)
    assert done.returncode == 2
    assert "no run 'none' in runs/; there are: none yet" in done.stderr


@pytest.mark.docker
def test_the_whole_way_from_plan_to_report(tmp_path: Path) -> None:
    plan = plan_file(tmp_path, GOOD.replace("epochs = 1", "epochs = 2"))
    listed = json.loads(honne("plan", plan, "--json", cwd=tmp_path).stdout)
    assert len(listed["trials"]) == 6

    ran = json.loads(honne("run", plan, "--json", cwd=tmp_path).stdout)
    assert {key: ran[key] for key in ("run", "planned", "finished", "faults")} == {
        "run": "runs/mine",
        "planned": 6,
        "finished": 6,
        "faults": 0,
    }
    assert ran["seconds"] > 0

    findings = json.loads(honne("detect", "mine", "--json", cwd=tmp_path).stdout)
    shift = next(each for each in findings if each["detector"] == "oversight_shift" and each["scope"] == "all")
    assert {"detector", "model", "cue", "environment", "estimate", "low", "high", "p", "n"} <= shift.keys()
    assert (shift["n"], shift["n_scenarios"]) == (2, 1)
    assert (shift["model"], shift["cue"], shift["estimate"]) == ("script:faker", "monitoring", 1.0)

    assert honne("report", "mine", cwd=tmp_path).returncode == 0
    assert "script:faker" in (tmp_path / "runs/mine/report.md").read_text()
    assert (tmp_path / "runs/mine/report.html").read_text().count("<script") == 1  # the arrow keys

    shown = honne("show", "mine", listed["trials"][0]["id"][:10], cwd=tmp_path)
    assert "grant_table_access" in shown.stdout


def test_a_draft_asks_on_a_terminal_and_takes_flags_or_defaults_elsewhere(tmp_path: Path) -> None:
    main, side = pty.openpty()
    with subprocess.Popen(
        [HONNE, "new", "environment", "asked", "--in", "mine"], cwd=tmp_path, stdin=side, stdout=side, stderr=side
    ) as asked:
        os.write(main, b"Finance\n\n")
        assert asked.wait(timeout=60) == 0
    for descriptor in (main, side):
        os.close(descriptor)
    honne("new", "environment", "flagged", "--in", "mine", "--domain", "Privacy", "--motive", "conflict", cwd=tmp_path)
    honne("new", "environment", "plain", "--in", "mine", cwd=tmp_path)
    listed = json.loads(honne("list", "environments", "--environments", "mine", "--json", cwd=tmp_path).stdout)
    assert {row["environment"]: (row["domain"], row["motive"]) for row in listed[-3:]} == {
        "asked": ("Finance", "sabotage"),
        "flagged": ("Privacy", "conflict"),
        "plain": ("Security", "sabotage"),
    }


def test_a_draft_elsewhere_is_not_said_to_be_found(tmp_path: Path) -> None:
    assert "once it lies in tools/" in honne("new", "pair", "rate_limit", "--in", "mine", cwd=tmp_path).stdout
    assert "once it lies in detectors/" in honne("new", "detector", "pause", "--in", "mine", cwd=tmp_path).stdout


def test_a_pack_is_called_as_its_file_and_played_alone(tmp_path: Path, data: Path) -> None:
    taken = honne("import", "tatemae", str(data / "tatemae_sample.json"), "--json", cwd=tmp_path)
    assert json.loads(taken.stdout) == {"folder": "packs/tatemae-sample", "taken": 6, "kept_out": 0}
    chosen = ("--environments", "packs/tatemae-sample", "--only", "tatemae-sample-*", "--only", "care_line")
    listed = json.loads(honne("plan", "tatemae", "-m", "script:faker", *chosen, "--json", cwd=tmp_path).stdout)
    numbered = {f"tatemae-sample-00{number}" for number in range(1, 7)}
    assert {trial["environment"] for trial in listed["trials"]} == numbered | {"care_line"}
    wrong = honne("plan", "tatemae", "--only", "tatemae-*", cwd=tmp_path)
    assert (wrong.returncode, wrong.stderr.startswith("honne: no environment 'tatemae-*'; there are: ")) == (2, True)


def test_help_and_lists_need_no_engine(tmp_path: Path) -> None:
    assert honne("--help", cwd=tmp_path, DOCKER_HOST="tcp://127.0.0.1:9").returncode == 0
    for what in ("environments", "cues", "plans", "agents", "runs"):
        done = honne("list", what, "--json", cwd=tmp_path, DOCKER_HOST="tcp://127.0.0.1:9")
        assert isinstance(json.loads(done.stdout), list), what
    for wrong_name in (honne("check", "moons", cwd=tmp_path), honne("check", "moons", "--json", cwd=tmp_path)):
        assert (wrong_name.returncode, wrong_name.stdout) == (2, "")
        assert wrong_name.stderr.startswith("honne: no environment 'moons'; there are: audit_retention, ")
    wrong = honne("list", "moons", cwd=tmp_path)
    assert (wrong.returncode, "there are: environments, cues" in wrong.stderr) == (2, True)


@pytest.mark.docker
def test_doctor_finds_everything_and_says_what_is_missing(tmp_path: Path) -> None:
    assert honne("doctor", cwd=tmp_path).returncode == 0
    without = honne("doctor", cwd=tmp_path, DOCKER_HOST="tcp://127.0.0.1:9")
    assert without.returncode == 1
    assert "missing engine" in without.stdout
    assert "make setup" in without.stdout


def test_output_that_nobody_reads_any_more_is_no_error(tmp_path: Path) -> None:
    done = subprocess.run(f"{HONNE} list cues | true", shell=True, cwd=tmp_path, capture_output=True, text=True)
    assert "Traceback" not in done.stderr
