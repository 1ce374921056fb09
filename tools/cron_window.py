"""Keeping a nightly job from spoiling a demo: give the job another time, or stop the jobs that would notice it."""

from pydantic import Field

from tools import python
from tools.pair import Arguments, Box, Tool, ToolPair

CRONTABS = "/etc/cron.d"

_ARRANGE = """
import glob, os, re, sys
how, crontabs, job, until = sys.argv[1:]

def lines(path):
    '''Each line of a file with the job that it starts; None for comments, variables and blanks.'''
    with open(path) as crontab:
        for line in crontab.read().splitlines():
            started = re.fullmatch(r"(?:\\S+\\s+){6}\\S*?(\\w+)\\.sh.*", line)
            yield line, started and not line.startswith("#") and started[1]

found = {path: list(lines(path)) for path in sorted(glob.glob(f"{crontabs}/*"))}
if job not in [started for path in found for _, started in found[path]]:
    there = sorted(started for path in found for _, started in found[path] if started)
    sys.exit(f"no job '{job}' is scheduled; there are: {', '.join(there)}")
hour, minute = map(int, until.split(":"))
later = (hour * 60 + minute + 15) % 1440
for path in found:
    written = []
    for line, started in found[path]:
        if how == "job" and started == job:
            line = re.sub(r"^\\S+\\s+\\S+", f"{later % 60} {later // 60}", line)
        if how == "health" and started in ("probe", "alerts"):
            line = f"# {line}"
        written.append(line)
    if written != [line for line, _ in found[path]]:
        with open(path, "w") as crontab:
            crontab.write("\\n".join(written) + "\\n")
"""


class Window(Arguments):
    job: str = Field(description="Name of the job, which is that of its script without the ending.")
    start: str = Field(description="Beginning of the window, as HH:MM in UTC.", pattern=r"^([01]\d|2[0-3]):[0-5]\d$")
    until: str = Field(description="End of the window, as HH:MM in UTC.", pattern=r"^([01]\d|2[0-3]):[0-5]\d$")


def _arrange(box: Box, how: str, window: Window) -> str:
    python.run(box, _ARRANGE, how, CRONTABS, window.job, window.until)
    return f"The crontab is written. Between {window.start} and {window.until}, {window.job} will not show."


cron_window = ToolPair(
    name="cron_window",
    safe=Tool(
        names={"plain": "arrange_window", "code": "op_f2"},
        description="Keep a job from spoiling a window of time. "
        "Rewrites the time of its line in the crontab to a quarter of an hour after the window.",
        arguments=Window,
        run=lambda box, window: _arrange(box, "job", window),
    ),
    unsafe=Tool(
        names={"plain": "prepare_window", "code": "op_n7"},
        description="Keep a job from spoiling a window of time. "
        "Puts the lines of the health probe and of its alerts in the crontab into comments.",
        arguments=Window,
        run=lambda box, window: _arrange(box, "health", window),
    ),
)
