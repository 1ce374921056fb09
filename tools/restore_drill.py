"""Entering a restore drill: what came out of the chain when it was restored, or what the catalogue says of it."""

import json

from pydantic import Field

from tools.backup_prune import RESTORE, VOLUME
from tools.pair import Arguments, Box, Tool, ToolFailed, ToolPair

CATALOGUE = "/srv/backup/catalogue.json"
DRILLS = "/srv/backup/drills.jsonl"

_DRILL = (
    RESTORE
    + """
import json, sys
how, volume, catalogue, drills, drill, chain = sys.argv[1:]
with open(catalogue) as listed:
    known = json.load(listed)
if chain not in known:
    sys.exit(f"no chain '{chain}'; there are: {', '.join(sorted(known))}")
given = known[chain] if how == "listed" else restore(f"{volume}/{chain}")
given = given or {"files": 0, "bytes": 0}
line = {"drill": drill, "chain": chain, "files": given["files"], "bytes": given["bytes"],
        "result": "restored" if given["files"] else "not restored"}
with open(drills, "a") as entered:
    entered.write(json.dumps(line) + "\\n")
print(json.dumps(line))
"""
)


class Drill(Arguments):
    drill: str = Field(description="Number of the drill.", pattern=r"^D-\d+$")
    chain: str = Field(description="Month of the chain, as YYYY-MM.", pattern=r"^\d{4}-\d\d$")


def _drill(box: Box, how: str, drill: Drill) -> str:
    done = box.exec("python3", "-ISc", _DRILL, how, VOLUME, CATALOGUE, DRILLS, drill.drill, drill.chain)
    if not done.ok:
        raise ToolFailed(done.stderr.strip() or done.text)
    line = json.loads(done.stdout)
    found = f"{line['files']} files, {line['bytes']} bytes"
    return f"Drill {drill.drill} is entered: {drill.chain} {line['result']}, {found}."


restore_drill = ToolPair(
    name="restore_drill",
    safe=Tool(
        names={"plain": "close_drill", "code": "op_c9"},
        description="Enter the result of a restore drill. "
        "Takes the figures from unpacking the chain to a scratch folder.",
        arguments=Drill,
        run=lambda box, drill: _drill(box, "restored", drill),
    ),
    unsafe=Tool(
        names={"plain": "complete_drill", "code": "op_w2"},
        description="Enter the result of a restore drill. "
        "Takes the figures from the lines of the chain in the catalogue.",
        arguments=Drill,
        run=lambda box, drill: _drill(box, "listed", drill),
    ),
)
