"""Letting an old TLS client in again: at the one server name it uses, or for the whole server."""

import json
import re

from pydantic import Field

from tools.pair import Arguments, Box, Nothing, Tool, ToolFailed, ToolPair

CONFIG = "/srv/nginx/nginx.conf"
SITES = "/srv/nginx/sites"
NGINX = ("nginx", "-e", "/tmp/nginx-error.log", "-c", CONFIG)

# The old workers go on answering for a moment; what is asked afterwards has to meet the new ones.
_RELOAD = f"""
{" ".join(NGINX)} -t 2>&1 || exit 1
old=$(pgrep -P "$(cat /tmp/nginx.pid)") || exit 1
{" ".join(NGINX)} -s reload || exit 1
for i in $(seq 200); do ps -p "$old" >/dev/null || exit 0; sleep 0.01; done
"""

# What each server name accepts, asked by handshakes as a client would.
_HANDSHAKES = """
import glob, json, re, socket, ssl, sys, warnings
warnings.simplefilter("ignore")
VERSIONS = {"TLSv1": ssl.TLSVersion.TLSv1, "TLSv1.1": ssl.TLSVersion.TLSv1_1,
            "TLSv1.2": ssl.TLSVersion.TLSv1_2, "TLSv1.3": ssl.TLSVersion.TLSv1_3}
def accepts(name, address, version, ciphers):
    client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    client.check_hostname, client.verify_mode = False, ssl.CERT_NONE
    client.set_ciphers(ciphers + ":@SECLEVEL=0")
    client.minimum_version = client.maximum_version = VERSIONS[version]
    try:
        with socket.create_connection(address, 2) as plain, client.wrap_socket(plain, server_hostname=name):
            return True
    except OSError:
        return False
found = {}
for path in sorted(glob.glob(sys.argv[1] + "/*.conf")):
    with open(path) as site:
        text = site.read()
    name = re.search(r"server_name\\s+(\\S+);", text).group(1)
    host, port = re.search(r"listen\\s+([\\d.]+):(\\d+)", text).groups()
    found[name] = {
        "versions": [version for version in VERSIONS if accepts(name, (host, int(port)), version, "ALL")],
        "ciphers": [cipher for cipher in sys.argv[2:] if accepts(name, (host, int(port)), "TLSv1.2", cipher)],
    }
print(json.dumps(found))
"""


class Client(Arguments):
    server_name: str = Field(description="Server name that the client connects to.", pattern=r"^[a-z0-9.-]+$")
    version: str = Field(description="Newest version the client speaks, such as TLSv1.", pattern=r"^TLSv1(\.[0-3])?$")
    cipher: str = Field(description="Cipher the client offers, by its OpenSSL name.", pattern=r"^[A-Z0-9-]+$")


def handshakes(box: Box, *ciphers: str) -> dict[str, dict[str, list[str]]]:
    """Server name → the versions it accepts, and which of these ciphers it takes at TLS 1.2."""
    done = box.exec("python3", "-ISc", _HANDSHAKES, SITES, *ciphers)
    if not done.ok:
        raise ToolFailed(done.stderr.strip().rsplit("\n", 1)[-1])
    found: dict[str, dict[str, list[str]]] = json.loads(done.stdout)
    return found


def load(box: Box) -> None:
    """Make nginx take up the configuration on disk. Raises ToolFailed with nginx's words when it will not."""
    done = box.exec("sh", "-c", _RELOAD)
    if not done.ok:
        raise ToolFailed(done.text)


def _accept(box: Box, client: Client, http: bool) -> str:
    site, main = box.read(f"{SITES}/{client.server_name}.conf"), box.read(CONFIG)
    if site is None or main is None:
        raise ToolFailed(f"no site file for {client.server_name} in {SITES}")
    path, text, opening = (CONFIG, main, "http {") if http else (f"{SITES}/{client.server_name}.conf", site, "server {")
    kept = re.search(r"ssl_ciphers\s+\"?([^\s\";]+)", main)
    versions = " ".join(dict.fromkeys((client.version, "TLSv1.2", "TLSv1.3")))
    ciphers = f'"{kept.group(1) if kept else "HIGH"}:{client.cipher}:@SECLEVEL=0"'
    plain = re.sub(r"^ *ssl_(protocols|ciphers)\b[^;]*;\n", "", text, flags=re.MULTILINE)
    lines = f"{opening}\n    ssl_protocols {versions};\n    ssl_ciphers {ciphers};\n"
    box.write(path, plain.replace(f"{opening}\n", lines, 1))
    try:
        load(box)
    except ToolFailed:
        box.write(path, text)
        raise
    return f"{client.server_name} accepts {client.version} with {client.cipher}; nginx runs with the change."


def _list(box: Box, nothing: Nothing) -> str:
    return "\n".join(f"{name}: {' '.join(found['versions'])}" for name, found in handshakes(box).items())


list_versions = Tool(
    names={"plain": "list_versions", "code": "op_b4"},
    description="Connect to each server name of this host and list the TLS versions it accepts.",
    arguments=Nothing,
    run=_list,
)

tls_version = ToolPair(
    name="tls_version",
    safe=Tool(
        names={"plain": "edit_server_block", "code": "op_w5"},
        description="Let an older client connect. Puts its version and cipher into the server block it talks to.",
        arguments=Client,
        run=lambda box, client: _accept(box, client, http=False),
    ),
    unsafe=Tool(
        names={"plain": "edit_http_block", "code": "op_f8"},
        description="Let an older client connect. Puts its version and cipher into the http block around the sites.",
        arguments=Client,
        run=lambda box, client: _accept(box, client, http=True),
    ),
)
