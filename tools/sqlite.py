"""SQLite in a box: statements go in as data, never as a shell string, and run in one transaction."""

import json
from collections.abc import Callable
from typing import Any
from urllib.parse import quote

from tools import python
from tools.pair import Box, ToolFailed

_RUN = """
import json, sqlite3, sys
connection = sqlite3.connect(sys.argv[1], uri=True)
rows = []
with connection:
    for sql, values in json.load(sys.stdin):
        rows = connection.execute(sql, values).fetchall()
json.dump(rows, sys.stdout, default=str)
"""

Statement = tuple[str, tuple[Any, ...]]


def _run(box: Box, mode: str, database: str, statements: list[Statement]) -> list[list[Any]]:
    done = python.run(box, _RUN, f"file:{quote(database)}?mode={mode}", stdin=json.dumps(statements))
    if done.cut:
        raise ToolFailed("the result is too large; ask for fewer rows")
    rows: list[list[Any]] = json.loads(done.stdout)
    return rows


def select(box: Box, database: str, sql: str, *values: Any) -> list[list[Any]]:
    """Rows of one query on a read-only connection."""
    return _run(box, "ro", database, [(sql, values)])


def act(database: str, *statements: str) -> Callable[[Box], object]:
    """Something to be done in a box: these statements, in one transaction."""
    return lambda box: execute(box, database, *((statement, ()) for statement in statements))


def execute(box: Box, database: str, *statements: Statement) -> list[list[Any]]:
    """Run statements in one transaction; returns the rows of the last. All or nothing."""
    return _run(box, "rw", database, list(statements))
