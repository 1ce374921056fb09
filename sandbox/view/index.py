"""An index of one run: where each episode lies in the segments, what it can be filtered by, and the words in it.

It is a SQLite file in the user's cache folder, never in the run: a run may come from somebody else, and a database that
comes with it is not to be trusted. It may be removed at any time. Episodes themselves are read from the segments.
"""

import json
import os
import sqlite3
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

from sandbox.episode import FORMAT, Called, Closed, Episode, Said, parsed
from sandbox.plan import digest
from sandbox.record import Record

VERSION = 1
"""Of the tables below. An index of another version is made anew."""

SEARCHED = 200_000
"""Characters of an episode that are searched; what comes after them is not."""

FIELDS = ("model", "cue", "arm", "environment", "prompt", "channel", "outcome", "choice")
"""What episodes can be filtered by, beside their words, findings and labels."""

SCHEMA = f"""
CREATE TABLE about (name TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE segments (name TEXT PRIMARY KEY, upto INTEGER NOT NULL, lines INTEGER NOT NULL);
CREATE TABLE unreadable (what TEXT NOT NULL);
CREATE TABLE episodes (
    n INTEGER PRIMARY KEY, segment TEXT NOT NULL, offset INTEGER NOT NULL, length INTEGER NOT NULL,
    id TEXT NOT NULL, match TEXT NOT NULL, first INTEGER NOT NULL, attempt INTEGER NOT NULL, epoch INTEGER NOT NULL,
    {", ".join(f"{name} TEXT NOT NULL" for name in FIELDS)}
);
CREATE INDEX by_id ON episodes (id, outcome);
CREATE INDEX by_match ON episodes (match);
CREATE INDEX by_first ON episodes (first);
CREATE INDEX by_fields ON episodes ({", ".join(FIELDS)});
CREATE VIRTUAL TABLE words USING fts5 (text, content='', tokenize="unicode61 remove_diacritics 2");
CREATE TABLE evidence (flag TEXT NOT NULL, id TEXT NOT NULL, PRIMARY KEY (flag, id)) WITHOUT ROWID;
CREATE INDEX evidence_of ON evidence (id);
"""


def cache_folder() -> Path:
    """Where indexes are kept, readable by this user alone."""
    folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "honne"
    folder.mkdir(parents=True, exist_ok=True)
    folder.chmod(0o700)
    return folder


@dataclass(frozen=True)
class Filter:
    """Which episodes are asked for. Empty is all of them."""

    fields: Mapping[str, str] = field(default_factory=dict)
    """Of FIELDS → value."""
    words: str = ""
    """All of these have to occur; in quotation marks as a phrase; with `*` as a beginning."""
    flag: str = ""
    """A finding, or a detector that reads single episodes."""
    ids: frozenset[str] | None = None
    """Only these trials."""
    without: frozenset[str] = frozenset()
    """Not these trials."""

    @cached_property
    def where(self) -> tuple[str, list[str]]:
        """As SQL: column names come from the table above, all values are parameters."""
        parts, values = ["1"], []
        for name in FIELDS:
            if name in self.fields:
                parts.append(f"{name} = ?")
                values.append(self.fields[name])
        if wanted := match_query(self.words):
            parts.append("n IN (SELECT rowid FROM words WHERE words MATCH ?)")
            values.append(wanted)
        if self.flag:
            parts.append("id IN (SELECT id FROM evidence WHERE flag = ?)")
            values.append(self.flag)
        if self.ids is not None:
            parts.append("id IN (SELECT value FROM json_each(?))")
            values.append(json.dumps(sorted(self.ids)))
        if self.without:
            parts.append("id NOT IN (SELECT value FROM json_each(?))")
            values.append(json.dumps(sorted(self.without)))
        return " AND ".join(parts), values


def terms(words: str) -> list[str]:
    """What is looked for: words, and phrases in quotation marks."""
    phrases = words.split('"')
    found = [term for place, part in enumerate(phrases) for term in ([part] if place % 2 else part.split())]
    return [term for term in found if any(letter.isalnum() for letter in term)]


def match_query(words: str) -> str:
    """Words as a query of FTS5, in which nothing is an operator but a closing `*`."""
    return " ".join(f'"{term.rstrip("*")}"{"*" if term.endswith("*") else ""}' for term in terms(words))


class Row(NamedTuple):
    """A line of the record as lists show it."""

    n: int
    id: str
    match: str
    attempt: int
    epoch: int
    model: str
    cue: str
    arm: str
    environment: str
    prompt: str
    channel: str
    outcome: str
    choice: str


ROW = "n, id, match, attempt, epoch, " + ", ".join(FIELDS)


class Index:
    """One run, to be listed, filtered and searched. Safe to use from several threads and processes."""

    def __init__(self, record: Record, cache: Path) -> None:
        self.record = record
        where = str(record.folder.resolve())
        self.path = cache / f"{digest(where)}.sqlite"
        self._lock = threading.Lock()
        self._begin(where)

    def _begin(self, where: str) -> None:
        """Open what was kept, or begin anew when it is of another version or another run has taken this one's place."""
        manifest = self.record.folder / "manifest.json"
        made_of = digest(json.dumps([VERSION, FORMAT, where, manifest.read_text() if manifest.exists() else ""]))
        try:
            with self.open() as db:
                kept = dict(db.execute("SELECT name, value FROM about"))
                sizes = dict(db.execute("SELECT name, upto FROM segments"))
            if kept.get("made_of") == made_of and all(self._size(name) >= upto for name, upto in sizes.items()):
                return
        except sqlite3.DatabaseError:  # none there yet, or none of ours
            pass
        for path in self.path.parent.glob(f"{self.path.stem}.sqlite*"):
            path.unlink(missing_ok=True)
        with self.open() as db:
            db.execute("PRAGMA journal_mode = WAL")
            db.executescript(SCHEMA)
            db.executemany("INSERT INTO about VALUES (?, ?)", [("made_of", made_of), ("run", where)])

    def _size(self, segment: str) -> int:
        path = self.record.folder / "episodes" / segment
        return path.stat().st_size if path.exists() else -1

    @contextmanager
    def open(self) -> Iterator[sqlite3.Connection]:
        """A connection that commits when all went well."""
        db = sqlite3.connect(self.path, timeout=30)
        try:
            # What is lost with the machine's power is made again from the record.
            db.execute("PRAGMA synchronous = OFF")
            db.execute("PRAGMA trusted_schema = OFF")
            with db:
                yield db
        finally:
            db.close()

    def catch_up(self, budget: int) -> bool:
        """Take in what was added to the segments, up to about `budget` bytes. False when there is more to take in."""
        if not self._lock.acquire(blocking=False):
            return False
        try:
            fetched = self.record.fetch(budget)
            with self.open() as db:
                db.execute("BEGIN IMMEDIATE")
                return self._take_in(db, budget) and fetched
        finally:
            self._lock.release()

    def _take_in(self, db: sqlite3.Connection, budget: int) -> bool:
        done = {name: (upto, lines) for name, upto, lines in db.execute("SELECT * FROM segments")}
        for path in sorted((self.record.folder / "episodes").glob("*.jsonl")):
            upto, lines = done.get(path.name, (0, 0))
            if path.stat().st_size <= upto:
                continue
            with path.open("rb") as file:
                file.seek(upto)
                while budget > 0 and (line := file.readline()).endswith(b"\n"):
                    lines += 1
                    self._take(db, line, path.name, upto, lines)
                    upto += len(line)
                    budget -= len(line)
            db.execute("INSERT OR REPLACE INTO segments VALUES (?, ?, ?)", (path.name, upto, lines))
            if budget <= 0:
                return False
        return True

    def _take(self, db: sqlite3.Connection, line: bytes, segment: str, offset: int, number: int) -> None:
        episode = parsed(line)
        if not isinstance(episode, Episode):
            db.execute("INSERT INTO unreadable VALUES (?)", (f"{segment} line {number}: {episode}",))
            return
        trial, match = episode.trial, episode.trial.match
        fields = {
            **{name: str(getattr(trial, name, "")) for name in FIELDS},
            "cue": trial.condition or "none",
            "outcome": episode.outcome,
            "choice": episode.choice or "none",
        }
        (n,) = db.execute("SELECT coalesce(max(n), 0) + 1 FROM episodes").fetchone()
        (first,) = db.execute("SELECT min(first) FROM episodes WHERE match = ?", (match,)).fetchone()
        values = [n, segment, offset, len(line), trial.id, match, first or n, episode.attempt, trial.epoch]
        values += [_text(value) for value in fields.values()]
        db.execute(f"INSERT INTO episodes VALUES ({', '.join('?' * len(values))})", values)  # noqa: S608 – question marks
        db.execute("INSERT INTO words (rowid, text) VALUES (?, ?)", (n, _text(_words(episode))))

    @property
    def read(self) -> tuple[int, int]:
        """Bytes taken in so far, and bytes there are."""
        with self.open() as db:
            upto = db.execute("SELECT coalesce(sum(upto), 0) FROM segments").fetchone()[0]
        return upto, sum(path.stat().st_size for path in (self.record.folder / "episodes").glob("*.jsonl"))

    @property
    def length(self) -> int:
        """Attempts on record, faults and superseded ones included."""
        with self.open() as db:
            return int(db.execute("SELECT coalesce(max(n), 0) FROM episodes").fetchone()[0])

    @property
    def unreadable(self) -> list[str]:
        with self.open() as db:
            return [what for (what,) in db.execute("SELECT what FROM unreadable LIMIT 100")]

    def outcomes(self) -> dict[str, int]:
        """Outcome → attempts."""
        with self.open() as db:
            return dict(db.execute("SELECT outcome, count(*) FROM episodes GROUP BY outcome ORDER BY outcome"))

    def finished(self) -> int:
        """Trials with an attempt that was not a fault."""
        with self.open() as db:
            found = db.execute("SELECT count(DISTINCT id) FROM episodes WHERE outcome <> 'fault'").fetchone()
        return int(found[0])

    def facets(self) -> dict[str, dict[str, int]]:
        """Field → value → attempts."""
        found: dict[str, dict[str, int]] = {name: {} for name in FIELDS}
        names = ", ".join(FIELDS)
        with self.open() as db:
            for *values, count in db.execute(f"SELECT {names}, count(*) FROM episodes GROUP BY {names}"):  # noqa: S608 – column names of ours
                for name, value in zip(FIELDS, values, strict=True):
                    found[name][value] = found[name].get(value, 0) + count
        return {name: dict(sorted(values.items())) for name, values in found.items()}

    def count(self, wanted: Filter) -> int:
        where, values = wanted.where
        with self.open() as db:
            return int(db.execute(f"SELECT count(*) FROM episodes WHERE {where}", values).fetchone()[0])  # noqa: S608 – see Filter.where

    def rows(self, wanted: Filter, skip: int, most: int) -> list[Row]:
        """Newest first."""
        where, values = wanted.where
        query = f"SELECT {ROW} FROM episodes WHERE {where} ORDER BY n DESC LIMIT ? OFFSET ?"  # noqa: S608 – see Filter.where
        with self.open() as db:
            return [Row(*row) for row in db.execute(query, [*values, most, skip])]

    def page(self, wanted: Filter, skip: int, most: int) -> tuple[list[Row], int]:
        """As `rows`, and how many there are of them all. What a search finds is sought once for both."""
        if not match_query(wanted.words):
            return self.rows(wanted, skip, most), self.count(wanted)
        where, values = wanted.where
        with self.open() as db:
            db.execute("PRAGMA temp_store = MEMORY")
            db.execute(f"CREATE TEMP TABLE found AS SELECT n FROM episodes WHERE {where}", values)  # noqa: S608 – see Filter.where
            (count,) = db.execute("SELECT count(*) FROM found").fetchone()
            query = f"SELECT {ROW} FROM episodes WHERE n IN (SELECT n FROM found ORDER BY n DESC LIMIT ? OFFSET ?) ORDER BY n DESC"  # noqa: S608 – column names of ours
            return [Row(*row) for row in db.execute(query, [most, skip])], int(count)

    def beside(self, wanted: Filter, n: int, column: str = "n") -> tuple[Row | None, Row | None]:
        """The rows before and after the one with this number (or, by `first`, of the matches before and after), in the
        order of `rows`."""
        assert column in ("n", "first")
        where, values = wanted.where
        found = []
        with self.open() as db:
            for sign, order in ((">", "ASC"), ("<", "DESC")):
                query = (
                    f"SELECT {ROW} FROM episodes WHERE {where} AND {column} {sign} ? ORDER BY {column} {order} LIMIT 1"  # noqa: S608 – see Filter.where
                )
                row = db.execute(query, [*values, n]).fetchone()
                found.append(Row(*row) if row else None)
        return found[0], found[1]

    def trial(self, id: str) -> list[Row]:
        """All attempts at a trial, the oldest first."""
        with self.open() as db:
            return [Row(*row) for row in db.execute(f"SELECT {ROW} FROM episodes WHERE id = ? ORDER BY n", (id,))]  # noqa: S608 – column names of ours

    def match(self, match: str) -> tuple[list[Row], int]:
        """The last attempt of each trial of a match that was no fault (else the last), by arm; and where it began."""
        with self.open() as db:
            query = f"SELECT first, {ROW} FROM episodes WHERE match = ? ORDER BY outcome <> 'fault', n"  # noqa: S608 – column names of ours
            found = db.execute(query, (match,)).fetchall()
        last = {row.id: row for row in (Row(*row[1:]) for row in found)}
        return sorted(last.values(), key=lambda row: row.arm), found[0][0] if found else 0

    def episodes(self, numbers: Sequence[int]) -> list[Episode]:
        """The episodes with these numbers, read from where they lie."""
        with self.open() as db:
            places = {
                row[0]: row[1:]
                for row in db.execute(
                    "SELECT n, segment, offset, length FROM episodes WHERE n IN (SELECT value FROM json_each(?))",
                    (json.dumps(list(numbers)),),
                )
            }
        return [Episode.model_validate_json(self._line(*places[n])) for n in numbers]

    def _line(self, segment: str, offset: int, length: int) -> bytes:
        with (self.record.folder / "episodes" / segment).open("rb") as file:
            file.seek(offset)
            return file.read(length)

    def flags(self) -> dict[str, int]:
        """Finding or detector → episodes in evidence."""
        with self.open() as db:
            return dict(db.execute("SELECT flag, count(*) FROM evidence GROUP BY flag"))

    def flags_of(self, ids: Sequence[str]) -> dict[str, list[str]]:
        """Trial → what points at it."""
        found: dict[str, list[str]] = {}
        with self.open() as db:
            query = "SELECT id, flag FROM evidence WHERE id IN (SELECT value FROM json_each(?)) ORDER BY flag"
            for id, flag in db.execute(query, (json.dumps(list(ids)),)):
                found.setdefault(id, []).append(flag)
        return found

    def remember(self, **values: str) -> None:
        with self.open() as db:
            db.executemany("INSERT OR REPLACE INTO about VALUES (?, ?)", list(values.items()))

    def remembered(self, name: str) -> str:
        """What was remembered by that name; empty for nothing."""
        with self.open() as db:
            found = db.execute("SELECT value FROM about WHERE name = ?", (name,)).fetchone()
        return str(found[0]) if found else ""

    def replace_evidence(self, evidence: Mapping[str, Sequence[str]]) -> None:
        with self.open() as db:
            db.execute("DELETE FROM evidence")
            db.executemany(
                "INSERT OR IGNORE INTO evidence VALUES (?, ?)",
                [(flag, id) for flag, ids in evidence.items() for id in ids],
            )


def sweep(cache: Path) -> None:
    """Remove indexes of runs that are no longer there."""
    for path in cache.glob("*.sqlite"):
        db = sqlite3.connect(path)
        try:
            run = db.execute("SELECT value FROM about WHERE name = 'run'").fetchone()
        except sqlite3.DatabaseError:
            continue
        finally:
            db.close()
        if run and not Path(run[0]).exists():
            for file in cache.glob(f"{path.stem}.sqlite*"):
                file.unlink(missing_ok=True)


def _words(episode: Episode) -> str:
    """What the model wrote and what it was answered. What it was told at the start is the same in thousands of episodes,
    and is left out."""
    parts: list[str] = []
    for event in episode.events:
        match event:
            case Said():
                parts += [event.reasoning or "", event.text, *(call.name for call in event.asked)]
            case Called():
                parts += [json.dumps(event.arguments, ensure_ascii=False, default=str), event.result]
            case Closed():
                parts.append(event.fault or "")
    return "\n".join(filter(None, parts))[:SEARCHED]


def _text(value: str) -> str:
    """Half a surrogate pair cannot be stored."""
    return value.encode("utf-8", "replace").decode()
