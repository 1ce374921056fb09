"""Times every kind of page of `honne view` over a run of 100,000 episodes, over HTTP. `make bench-view` prints it.

python -m benchmarks.view [DRAWS]    # 42 draws a cell are 100,800 episodes
"""

import os
import statistics
import subprocess
import sys
import time
import urllib.parse
import urllib.request
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks.report import PLAN, play
from benchmarks.synthetic import record
from sandbox import label
from sandbox.label import Label

AGAIN = 7
"""Times each page is asked for once everything is read."""
LABELS = 2_000
PHRASE = '"noon ledger before"'
READING = 1_800.0
"""Seconds that reading and analysing may take."""


def main(draws: int) -> None:
    plan = PLAN.model_copy(update={"epochs": draws})
    with TemporaryDirectory(prefix="honne-bench-") as folder:
        started = time.monotonic()
        made = record(Path(folder) / "runs" / "synthetic", plan, play)
        trials = plan.trials()
        for trial in trials[:: max(len(trials) // LABELS, 1)]:
            label.add(made.folder, Label(trial=trial.id, reviewer="ann", verdict="agree"))
        print(f"{len(trials):,} episodes written in {time.monotonic() - started:.0f} s", flush=True)
        command = [Path(sys.executable).parent / "honne", "view", "--runs-dir", f"{folder}/runs", "--port", "0"]
        environment = {**os.environ, "XDG_CACHE_HOME": f"{folder}/cache"}
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as viewer:
            try:
                assert viewer.stdout
                address = viewer.stdout.readline().split()[0]
                measure(address, viewer.pid, trials[len(trials) // 2].id, trials[len(trials) // 2].match)
            finally:
                viewer.terminate()


def measure(address: str, pid: int, trial: str, match: str) -> None:
    run = f"{address}run/synthetic/"
    print(f"the list of runs, nothing read yet    {1000 * timed(address):7.0f} ms")
    print(f"a run that was never opened           {1000 * timed(run):7.0f} ms")
    started = time.monotonic()
    during = []
    while "data-going" in (page := fetched(run)):
        during.append(timed(f"{run}?arm=rated"))
        assert time.monotonic() - started < READING, "it is not read"
        time.sleep(1.0)
    print(
        f"the same while it is read and analysed{1000 * statistics.median(during):7.0f} ms, {1000 * max(during):.0f} at most"
    )
    print(f"read and analysed in {time.monotonic() - started:.0f} s; load {os.getloadavg()[0]:.1f}", flush=True)
    flag = next(part.split('"')[0] for part in page.split("?flag=")[1:])
    pages = {
        "the list of runs": address,
        "a run": run,
        "its last page": f"{run}?page=2016",
        "one arm of one model": f"{run}?arm=rated&model=model-1",
        "three fields, a rare value": f"{run}?environment=scenario-042&arm=rated&outcome=unsafe",
        "a word that is everywhere": f"{run}?words=ledger",
        "a phrase": f"{run}?{urllib.parse.urlencode({'words': PHRASE})}",
        "the beginning of a word": f"{run}?words=ledg*",
        "a word that is nowhere": f"{run}?words=absent",
        "words and a field": f"{run}?words=noon+before&model=model-2",
        "evidence of a finding": f"{run}?flag={flag}",
        "labelled": f"{run}?label=any",
        "not labelled": f"{run}?label=unlabelled",
        "an episode": f"{run}episode/{trial}",
        "an episode in a search": f"{run}episode/{trial}?words=ledger&arm=rated",
        "an episode, not labelled": f"{run}episode/{trial}?label=unlabelled",
        "reasoning alone": f"{run}episode/{trial}?blind=1",
        "arms side by side": f"{run}match/{match}",
        "arms side by side in a search": f"{run}match/{match}?words=ledger",
    }
    for name, url in pages.items():
        before = processor(pid)
        times = sorted(timed(url) for _ in range(AGAIN))
        took = (processor(pid) - before) / AGAIN
        print(
            f"{name:38}{1000 * statistics.median(times):7.0f} ms, {1000 * times[-1]:.0f} at most, "
            f"{1000 * took:.0f} of processor time",
            flush=True,
        )
    print(f"load {os.getloadavg()[0]:.1f}")


def processor(pid: int) -> float:
    """Seconds that a process has computed: what other load does not change."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def fetched(url: str) -> str:
    with urllib.request.urlopen(url, timeout=300) as answer:  # noqa: S310 – an address of our own
        return str(answer.read().decode())


def timed(url: str) -> float:
    started = time.monotonic()
    fetched(url)
    return time.monotonic() - started


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else PLAN.epochs)
