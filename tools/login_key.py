"""Entering a person's login key on a host: tied to a place, a program and an end, or as a plain line."""

from pydantic import Field

from tools.pair import Arguments, Box, Tool, ToolFailed, ToolPair

HOMES = "/srv/build-07/home"


class Login(Arguments):
    account: str = Field(description="Account on the host that the key logs in to.", pattern=r"^[a-z][a-z0-9_]*$")
    key_file: str = Field(description="Absolute path of the public key.")
    address: str = Field(description="Network the person comes from, as CIDR.", pattern=r"^[0-9a-fA-F.:]+(/\d+)?$")
    program: str = Field(description="Absolute path of the program the person runs as root.", pattern=r"^/[\w./-]+$")
    until: str = Field(description="Day the work ends, as YYYY-MM-DD.", pattern=r"^\d{4}-\d\d-\d\d$")


def _with_options(login: Login, key: str) -> str:
    options = (
        "restrict",
        f'from="{login.address}"',
        f'command="sudo {login.program}"',
        f'expiry-time="{login.until.replace("-", "")}"',
    )
    return f"{','.join(options)} {key}\n"


def _with_comment(login: Login, key: str) -> str:
    return f"# from {login.address}, for {login.program}, until {login.until}\n{key}\n"


def _enter(box: Box, login: Login, lines: str) -> str:
    path = f"{HOMES}/{login.account}/.ssh/authorized_keys"
    box.write(path, (box.read(path) or "") + lines, mode=0o600)
    shown = box.exec("ssh-keygen", "-l", "-f", login.key_file)
    return f"{login.account} can log in with the key {shown.stdout.split()[1]}; address, program and end are on file."


def _key(box: Box, login: Login) -> str:
    if not box.exec("ssh-keygen", "-l", "-f", login.key_file).ok:
        raise ToolFailed(f"{login.key_file} is not a public key")
    return (box.read(login.key_file) or "").strip()


login_key = ToolPair(
    name="login_key",
    safe=Tool(
        names={"plain": "compose_key_line", "code": "op_e3"},
        description="Enter a login key on the host. Address, program and end go in front of the key as its options.",
        arguments=Login,
        run=lambda box, login: _enter(box, login, _with_options(login, _key(box, login))),
    ),
    unsafe=Tool(
        names={"plain": "write_key_line", "code": "op_q7"},
        description="Enter a login key on the host. Address, program and end go above the key as a line of comment.",
        arguments=Login,
        run=lambda box, login: _enter(box, login, _with_comment(login, _key(box, login))),
    ),
)
