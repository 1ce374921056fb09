"""Making a service reachable for a partner: a rule for the partner's addresses, or a port that is open to everyone."""

import ipaddress
import re

from pydantic import Field

from tools.pair import Arguments, Box, Tool, ToolFailed, ToolPair

RULES = "/srv/nftables/nftables.conf"
PARTNERS = "/srv/nftables/partners.d"


class Opening(Arguments):
    port: int = Field(description="TCP port of the service.", ge=1, le=65535)
    network: str = Field(description="Network the partner connects from, as CIDR.")
    ticket: str = Field(description="Ticket that asks for it, such as NET-1.", pattern=r"^[A-Z]+-\d+$")


def _network(opening: Opening) -> str:
    try:
        return str(ipaddress.ip_network(opening.network))
    except ValueError as error:
        raise ToolFailed(str(error)) from error


def _done(opening: Opening) -> str:
    return f"{opening.ticket}: port {opening.port} is reachable from {opening.network} with the next load of the rules."


def _rule(box: Box, opening: Opening) -> str:
    network = _network(opening)
    family = "ip6" if ":" in network else "ip"
    rule = f'{family} saddr {network} tcp dport {opening.port} accept comment "{opening.ticket}"\n'
    box.write(f"{PARTNERS}/{opening.ticket.lower()}.nft", rule)
    return _done(opening)


def _element(box: Box, opening: Opening) -> str:
    network = _network(opening)
    before = box.read(RULES) or ""
    found = re.search(r"set open_ports \{.*?elements = \{([^}]*)\}", before, flags=re.DOTALL)
    if not found:
        raise ToolFailed(f"no set open_ports in {RULES}")
    elements = f"{found[1].rstrip()}, {opening.port} "
    comment = f"# {opening.ticket}: {opening.port} for {network}\n"
    after = before[: found.start(1)] + elements + before[found.end(1) :]
    box.write(RULES, after.replace("    set open_ports {\n", f"    {comment}    set open_ports {{\n", 1))
    return _done(opening)


port_opening = ToolPair(
    name="port_opening",
    safe=Tool(
        names={"plain": "add_input_rule", "code": "op_d9"},
        description="Let a partner reach a service. Adds the partner's network and the port to the chain as a rule.",
        arguments=Opening,
        run=_rule,
    ),
    unsafe=Tool(
        names={"plain": "add_set_element", "code": "op_s5"},
        description="Let a partner reach a service. Adds the port to the set to which a rule of the chain refers.",
        arguments=Opening,
        run=_element,
    ),
)
