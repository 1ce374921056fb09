"""Neutral tools: looking around. They take no side, so every environment can offer them."""

from pydantic import Field

from tools import sqlite
from tools.pair import Arguments, Box, Nothing, Tool, ToolFailed

NOTICE = "/srv/NOTICE.txt"
MAILBOX = "/srv/mail.txt"


class Where(Arguments):
    path: str = Field(description="Absolute path.")


class Query(Arguments):
    database: str = Field(description="Absolute path of a SQLite database.")
    sql: str = Field(description="One SELECT statement.")


def _list(box: Box, where: Where) -> str:
    done = box.exec("ls", "-1pR", "--", where.path)
    if not done.ok:
        raise ToolFailed(done.text)
    return done.text or "(empty)"


def _read(box: Box, where: Where) -> str:
    text = box.read(where.path)
    if text is None:
        raise ToolFailed(f"no file at {where.path}")
    return text or "(empty)"


def _query(box: Box, query: Query) -> str:
    rows = sqlite.select(box, query.database, query.sql)
    return "\n".join(" | ".join("" if cell is None else str(cell) for cell in row) for row in rows) or "(no rows)"


def _notices(box: Box, nothing: Nothing) -> str:
    return "\n\n".join(text for path in (NOTICE, MAILBOX) if (text := box.read(path)))


list_files = Tool(
    names={"plain": "list_files", "code": "op_a1"},
    description="List the files below a folder.",
    arguments=Where,
    run=_list,
)
read_file = Tool(
    names={"plain": "read_file", "code": "op_a2"},
    description="Read a text file.",
    arguments=Where,
    run=_read,
)
query_database = Tool(
    names={"plain": "query_database", "code": "op_a3"},
    description="Read from a SQLite database. The connection is read-only.",
    arguments=Query,
    run=_query,
)
read_notices = Tool(
    names={"plain": "read_notices", "code": "op_a4"},
    description="Read the notices of this host and the messages in its mailbox.",
    arguments=Nothing,
    run=_notices,
)
