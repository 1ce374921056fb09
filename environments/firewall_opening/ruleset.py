"""Reads a packet filter's files as nft does and says who gets in. nft itself wants a capability that no box has.

As much of the language as an input chain needs. What it cannot read is an error, never a guess; a match on
something that a packet here does not have (a flag, an interface other than loopback) is taken to hold.
"""

import fnmatch
import ipaddress
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple, Union

from tools.pair import ToolFailed

Statement = list[Union[str, "Block"]]
Block = list[Statement]

PIECE = re.compile(r'"[^"]*"|!=|==|[{};,=\n]|[^\s{};,="]+')
SERVICES = {"ssh": 22, "smtp": 25, "http": 80, "https": 443, "mqtt": 1883, "postgresql": 5432, "secure-mqtt": 8883}
VERDICTS = {"accept", "drop", "reject", "return", "queue", "jump", "goto"}
ONE_WORD = {"iif", "iifname"}
TWO_WORDS = {"ip", "ip6", "tcp", "udp", "th", "ct", "meta", "icmp", "icmpv6"}
ASIDES = {"counter", "log", "limit", "comment"}


class Packet(NamedTuple):
    """The first packet of a TCP connection from outside."""

    source: str
    port: int


@dataclass
class Chain:
    """Rules in order. A chain with a hook meets packets by itself."""

    hook: str | None = None
    policy: str = "accept"
    rules: list[Statement] = field(default_factory=list)


class RuleSet:
    """The tables that a set of files makes, beginning with one of them."""

    def __init__(self, files: Mapping[str, str], first: str) -> None:
        self._values: dict[str, list[str]] = {}
        self._sets: dict[tuple[str, str], list[str]] = {}
        self._chains: dict[tuple[str, str, str], Chain] = {}
        for statement in _statements(_text(files, first)):
            self._take(statement)

    def let_in(self, packet: Packet) -> bool:
        """Accepted by every chain that looks at incoming packets."""
        family = "ip6" if ":" in packet.source else "ip"
        return all(
            (self._through(table, chain, packet) or chain.policy) == "accept"
            for (of, table, _), chain in self._chains.items()
            if chain.hook == "input" and of in ("inet", family)
        )

    def _take(self, statement: Statement) -> None:
        words = [part for part in statement if isinstance(part, str)]
        blocks = [part for part in statement if isinstance(part, list)]
        kind, *rest = words[1:] if words[0] in ("add", "create", "insert") else words
        if (kind, rest) == ("flush", ["ruleset"]):
            self._sets.clear()
            self._chains.clear()
        elif kind == "define":
            self._define(statement)
        elif kind == "table":
            for inner in blocks[0] if blocks else []:
                self._declare(rest[0] if len(rest) > 1 else "ip", rest[-1], inner)
        elif kind == "rule" and len(rest) > 3:
            rules = self._chains[rest[0], rest[1], rest[2]].rules
            rules.insert(0 if words[0] == "insert" else len(rules), statement[5:])
        elif kind == "element" and len(rest) == 3 and blocks:
            self._sets[rest[1], rest[2]] += self._members(blocks[0])
        elif kind in ("chain", "set") and len(rest) == 3:
            self._declare(rest[0], rest[1], [kind, rest[2], *blocks])
        else:
            raise ToolFailed(f"cannot read '{' '.join(words)}'")

    def _declare(self, family: str, table: str, statement: Statement) -> None:
        kind, name = str(statement[0]), str(statement[1])
        body = statement[-1] if isinstance(statement[-1], list) else []
        if kind == "define":
            self._define(statement)
        elif kind == "set":
            held = self._sets.setdefault((table, name), [])
            for line in body:
                held += self._members(line[2]) if line[0] == "elements" else []
        elif kind == "chain":
            chain = self._chains.setdefault((family, table, name), Chain())
            for line in body:
                if line[0] == "type":
                    chain.hook = str(line[line.index("hook") + 1])
                elif line[0] == "policy":
                    chain.policy = str(line[1])
                elif line[0] != "comment":
                    chain.rules.append(line)

    def _define(self, statement: Statement) -> None:
        self._values[f"${statement[1]}"] = self._members(statement[3])

    def _members(self, value: str | Block) -> list[str]:
        """What a literal set holds, without comments and timeouts; a single word is a set of one."""
        block = [[value]] if isinstance(value, str) else value
        text = re.sub(r"\s*-\s*", "-", " ".join(str(part) for statement in block for part in statement))
        words = [element.split() for element in text.split(",") if element.strip()]
        if any("." in element or ":" in element for element in words):
            raise ToolFailed(f"cannot read '{text}'")
        return [each for element in words for each in self._values.get(element[0], [element[0]])]

    def _through(self, table: str, chain: Chain, packet: Packet, depth: int = 0) -> str | None:
        """The verdict of a chain, or None where a packet comes out at its end."""
        for rule in chain.rules:
            verdict = self._verdict(table, rule, packet)
            if verdict and " " in verdict:
                called = verdict.split()[1]
                inner = next((each for key, each in self._chains.items() if key[1:] == (table, called)), None)
                if inner is None or depth > 16:
                    raise ToolFailed(f"no chain '{called}' to go to")
                verdict = self._through(table, inner, packet, depth + 1)
            if verdict:
                return None if verdict == "return" else verdict
        return None

    def _verdict(self, table: str, rule: Statement, packet: Packet) -> str | None:
        """What a rule makes of a packet; None where it does not match, `jump …` where another chain decides."""
        parts = list(rule)
        while parts:
            word = str(parts.pop(0))
            if word in ("jump", "goto") and parts:
                return f"jump {parts[0]}"
            if word in VERDICTS:
                return "drop" if word in ("reject", "queue") else word
            if word in ASIDES:
                if word == "limit" and "over" in parts[:3]:
                    return None
                while parts and parts[0] not in VERDICTS | ONE_WORD | TWO_WORDS | ASIDES:
                    parts.pop(0)
                continue
            if word not in ONE_WORD | TWO_WORDS or len(parts) < 2 - (word in ONE_WORD):
                raise ToolFailed(f"cannot read '{word}' in a rule")
            key = word if word in ONE_WORD else f"{word} {parts.pop(0)}"
            wanted = parts[0] != "!="
            if parts[0] in ("!=", "=="):
                parts.pop(0)
            values = self._looked_up(table, parts.pop(0))
            while parts[:1] == [","]:
                values += self._looked_up(table, parts[1])
                del parts[:2]
            if _holds(key, values, packet) != wanted:
                return None
        return None

    def _looked_up(self, table: str, value: str | Block) -> list[str]:
        if value in (".", "vmap", "map", "set"):
            raise ToolFailed(f"cannot read '{value}' in a rule")
        if isinstance(value, str) and value.startswith("@"):
            return list(self._sets[table, value[1:]])
        return self._members(value)


def _text(files: Mapping[str, str], path: str) -> str:
    """A file without its comments, with the files it includes in their place."""

    def included(found: re.Match[str]) -> str:
        return "\n".join(_text(files, each) for each in sorted(fnmatch.filter(files, found[1])))

    plain = re.sub(r'("[^"\n]*")|#[^\n]*', lambda found: found[1] or "", files.get(path, "").replace("\\\n", " "))
    return re.sub(r'\binclude\s+"([^"]*)"', included, plain)


def _statements(text: str) -> Block:
    pieces = PIECE.findall(text)
    block = _block(pieces)
    if pieces:
        raise ToolFailed("there is a closing brace too many")
    return block


def _block(pieces: list[str]) -> Block:
    """Statements up to the closing brace, taken off the front of the pieces."""
    block: Block = [[]]
    while pieces and pieces[0] != "}":
        piece = pieces.pop(0)
        if piece == "{":
            block[-1].append(_block(pieces))
            if not pieces:
                raise ToolFailed("a brace is not closed")
            pieces.pop(0)
        elif piece in ("\n", ";"):
            block.append([])
        else:
            block[-1].append(piece.strip('"'))
    return [statement for statement in block if statement]


def _holds(key: str, values: list[str], packet: Packet) -> bool:
    if key in ("tcp dport", "th dport"):
        return any(low <= packet.port <= high for low, high in map(_ports, values))
    if key in ("ip saddr", "ip6 saddr"):
        return (":" in packet.source) == (key == "ip6 saddr") and any(_within(packet.source, value) for value in values)
    if key in ("meta l4proto", "ip protocol", "ip6 nexthdr"):
        return bool({"tcp", "6"} & {*values})
    if key == "meta nfproto":
        return ("ipv6" if ":" in packet.source else "ipv4") in values
    if key == "ct state":
        return "new" in values
    if key in ("iif", "iifname", "meta iif", "meta iifname"):
        return values != ["lo"]
    return not key.startswith(("udp", "icmp"))


def _ports(value: str) -> tuple[int, int]:
    low, _, high = (value, "", "") if value in SERVICES else value.partition("-")
    try:
        return (SERVICES.get(low) or int(low), SERVICES.get(high or low) or int(high or low))
    except ValueError as error:
        raise ToolFailed(f"cannot read the port '{value}'") from error


def _within(source: str, value: str) -> bool:
    address = ipaddress.ip_address(source)
    low, _, high = value.partition("-")
    try:
        if not high:
            return address in ipaddress.ip_network(value, strict=False)
        return int(ipaddress.ip_address(low)) <= int(address) <= int(ipaddress.ip_address(high))
    except ValueError as error:
        raise ToolFailed(f"cannot read the address '{value}'") from error
