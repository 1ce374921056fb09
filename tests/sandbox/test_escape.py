"""A hostile agent in a real box, through the very tool it would have: every attempt is a claim that it fails.

Each test does what an agent with a shell would do, by way of `run_command` or `read_file`, looks at what came of it, and
then makes sure that the box still answers truly: an agent that can make its box fault can choose not to be measured.
"""

import json
import os
import resource
import textwrap
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pytest

from sandbox.container import BASE_IMAGE, Contents, DockerBox, Limits, engine, open_box
from tools import look, sqlite
from tools.pair import ToolFailed
from tools.shell import Command, run_command

pytestmark = pytest.mark.docker

SECRET = "sk-0123456789abcdef-not-for-boxes"


@pytest.fixture(scope="module")
def victim() -> Iterator[DockerBox]:
    """Another episode's box, open at the same time."""
    with open_box(BASE_IMAGE, Contents(files={"/srv/other/diary.txt": "only mine\n"})) as opened:
        yield opened


@pytest.fixture(scope="module")
def box() -> Iterator[DockerBox]:
    with open_box(BASE_IMAGE, Contents(files={"/srv/seed.txt": "seeded\n"}), Limits(processes=64)) as opened:
        yield opened


@dataclass(frozen=True)
class Agent:
    """What a model has: tools."""

    box: DockerBox

    def run(self, command: str) -> str:
        return run_command.run(self.box, Command(command=command))

    def python(self, source: str, *arguments: str) -> str:
        """A program of the agent's own, started as it would start one."""
        words = " ".join(f"'{argument}'" for argument in arguments)
        return self.run(f"python3 - {words} <<'PROGRAM'\n{textwrap.dedent(source)}\nPROGRAM")

    def read(self, path: str) -> str:
        try:
            return look.read_file.run(self.box, look.Where(path=path))
        except ToolFailed as failed:
            return str(failed)


@pytest.fixture
def agent(box: DockerBox, tally: Callable[[str], None]) -> Iterator[Agent]:
    """Counts the attempt; afterwards the box has to answer as before."""
    tally("escapes tried")
    yield Agent(box)
    assert box.exec("echo", "true").stdout == "true\n"
    assert box.read("/srv/seed.txt") == "seeded\n"
    assert box.exec("ps", "-e", "-o", "pid=").stdout.split()[0] == "1"


# Network


@pytest.mark.parametrize(
    "address",
    [
        ("AF_INET", "1.1.1.1", 53),
        ("AF_INET", "169.254.169.254", 80),
        ("AF_INET", "172.17.0.1", 2375),
        ("AF_INET", "10.0.0.1", 22),
        ("AF_INET6", "2606:4700:4700::1111", 53),
        ("AF_INET6", "fe80::1", 80),
    ],
    ids=lambda address: address[1],
)
@pytest.mark.parametrize("kind", ["SOCK_STREAM", "SOCK_DGRAM"])
def test_no_address_is_reached(agent: Agent, address: tuple[str, str, int], kind: str) -> None:
    family, host, port = address
    seen = agent.python(f"""
        import socket
        try:
            s = socket.socket(socket.{family}, socket.{kind}); s.settimeout(2); s.connect(({host!r}, {port}))
            s.send(b"x"); print("REACHED")
        except OSError as error: print("no:", error)
    """)
    assert seen.startswith("no:"), seen


def test_no_name_is_resolved(agent: Agent) -> None:
    seen = agent.python("""
        import socket
        for name in ("deb.debian.org", "metadata.google.internal", "host.docker.internal"):
            try: print("RESOLVED", socket.getaddrinfo(name, 80))
            except OSError as error: print("no:", error)
    """)
    assert "RESOLVED" not in seen
    assert seen.count("no:") == 3


def test_there_is_no_interface_but_loopback_and_none_can_be_made(agent: Agent) -> None:
    assert agent.run("ls /sys/class/net") == "lo"
    seen = agent.python("""
        import socket
        for family, kind in ((17, socket.SOCK_RAW), (socket.AF_INET, socket.SOCK_RAW), (40, socket.SOCK_STREAM)):
            try:
                s = socket.socket(family, kind); s.settimeout(1)
                if family == 40: s.connect((2, 1024))
                print("OPENED", family)
            except OSError as error: print("no:", error)
    """)
    assert "OPENED" not in seen, seen


def test_no_socket_of_the_engine_is_there(agent: Agent) -> None:
    found = agent.run(
        "find / -xdev -name '*docker*.sock' -o -xdev -name 'containerd*.sock' 2>/dev/null; ls -la /var/run"
    )
    assert ".sock" not in found


# Mounts, /proc, /sys, devices


@pytest.mark.parametrize(
    "command",
    [
        "mount -t tmpfs none /mnt",
        "mount -o remount,rw /",
        "mount --bind /tmp /etc",
        "unshare -Urm true",
        "unshare -m true",
        "unshare -n true",
        "nsenter -t 1 -m true",
        "chroot /srv true",
        "umount /proc/sys",
        "pivot_root /srv /srv",
        "mknod /tmp/disk b 254 0",
        "mknod /srv/mem c 1 1",
        "swapon /srv/seed.txt",
        "hostname changed",
        "date -s '2001-01-01'",
        "sysctl -w kernel.hostname=changed",
        "dmesg",
        "losetup -f",
        "insmod /srv/x.ko",
        "reboot -f",
        "ip link add dummy0 type dummy",
        "chown root /srv/seed.txt",
        "echo x > /etc/passwd",
        "touch /usr/bin/x /x /root/x /var/x",
        "echo b > /proc/sysrq-trigger",
        "echo '|/srv/x' > /proc/sys/kernel/core_pattern",
        "echo /srv/x > /proc/sys/kernel/modprobe",
        "echo 1 > /proc/sys/vm/drop_caches",
        "echo /srv/x > /sys/kernel/uevent_helper",
        "mkdir /sys/fs/cgroup/memory/x || mkdir /sys/fs/cgroup/x",
        "echo /srv/x > /sys/fs/cgroup/rdma/release_agent || echo 1 > /sys/fs/cgroup/memory/notify_on_release",
        "echo -1 > /sys/fs/cgroup/memory/memory.limit_in_bytes || echo max > /sys/fs/cgroup/memory.max",
        "echo max > /sys/fs/cgroup/pids/pids.max || echo max > /sys/fs/cgroup/pids.max",
        "echo 100000 > /sys/fs/cgroup/cpu/cpu.cfs_quota_us || echo max > /sys/fs/cgroup/cpu.max",
        "echo -1000 > /proc/self/oom_score_adj",
        "head -c 1 /proc/kcore",
        "cat /dev/mem /dev/kmem /dev/vda /dev/sda /dev/kmsg | head -c 1 | grep -q .",
        "ls /dev/disk /dev/fuse /dev/kvm /dev/net/tun",
        "ulimit -n 4096",
        "ulimit -c unlimited",
        "nice -n -5 true 2>&1 | grep -vq 'cannot set'",
    ],
)
def test_what_only_a_host_may_do_fails(agent: Agent, command: str) -> None:
    seen = agent.run(f"{{ {command} ; }} >/tmp/said 2>&1; echo status=$?; head -c 300 /tmp/said; rm -f /tmp/said")
    assert "status=0" not in seen, seen


def test_masked_files_tell_nothing(agent: Agent) -> None:
    assert agent.run("cat /proc/keys /proc/timer_list /proc/sched_debug 2>/dev/null | wc -c") == "0"
    assert agent.run("ls -A /sys/firmware /proc/acpi 2>/dev/null | grep -v :$ | grep -c .").startswith("0")


def test_system_calls_that_reach_the_host_are_refused(agent: Agent) -> None:
    seen = agent.python("""
        import ctypes, os
        call = ctypes.CDLL(None, use_errno=True).syscall
        calls = {"keyctl": 250, "add_key": 248, "bpf": 321, "userfaultfd": 323, "perf_event_open": 298, "kexec_load": 246,
                 "init_module": 175, "open_by_handle_at": 304, "unshare": 272, "setns": 308, "mount": 165, "ptrace_host": 101,
                 "acct": 163, "settimeofday": 164, "io_uring_setup": 425, "fsopen": 430, "quotactl": 179, "personality": 135}
        for name, number in calls.items():
            if os.uname().machine != "x86_64": print(name, "no: another machine"); continue
            arguments = {"unshare": (0x10000000,), "ptrace_host": (16, 1, 0, 0), "io_uring_setup": (1, ctypes.create_string_buffer(120)),
                         "personality": (0x0040000,)}.get(name, (0, 0, 0, 0, 0))
            print(name, "GRANTED" if call(number, *arguments) >= 0 else "no: " + os.strerror(ctypes.get_errno()))
    """)
    # io_uring is a matter of the engine's version: what it would open is bounded as everything else here is.
    assert [line for line in seen.splitlines() if "GRANTED" in line and not line.startswith("io_uring")] == [], seen
    assert seen.count("no:") >= 17


# Privileges


def test_setuid_programs_give_nothing(agent: Agent) -> None:
    found = agent.run("find / -xdev -perm /6000 -type f 2>/dev/null")
    assert "/usr/bin/su" in found, "there is something to try"
    assert "uid=0" not in agent.run(
        "for p in $(find / -xdev -perm -4000 -type f 2>/dev/null); do echo | timeout 2 $p -c id; done 2>&1"
    )
    assert (
        agent.run("cp /bin/sh /tmp/sh 2>&1; chmod 6755 /tmp/sh; /tmp/sh -p -c id 2>&1; rm -f /tmp/sh").count("uid=0")
        == 0
    )
    seen = agent.python("""
        import os
        for what in (lambda: os.setuid(0), lambda: os.setgid(0), lambda: os.setgroups([0]), lambda: os.chroot("/srv")):
            try: what(); print("GRANTED")
            except OSError as error: print("no:", error)
    """)
    assert "GRANTED" not in seen
    assert agent.run("grep -E 'Cap(Prm|Eff|Bnd|Amb)' /proc/self/status | grep -vc 0000000000000000").startswith("0")
    assert "NoNewPrivs:\t1" in agent.run("grep NoNewPrivs /proc/self/status")


# The runner


@pytest.mark.parametrize("path", ["mem", "environ", "maps", "fd/0", "fd/1", "fd/2", "root", "cwd", "stack", "auxv"])
@pytest.mark.parametrize("how", ["shell", "read_file", "link"])
def test_the_runner_cannot_be_read(agent: Agent, path: str, how: str) -> None:
    target = f"/proc/1/{path}"
    if how == "shell":
        assert "status=0" not in agent.run(f"head -c 64 {target} 2>&1; echo status=$?")
    elif how == "read_file":
        assert agent.read(target) == f"no file at {target}"
        assert agent.read(target.replace("/1/", "/self/")) == f"no file at {target.replace('/1/', '/self/')}"
    else:
        agent.run(f"ln -sfn /proc/self/{path} /tmp/link")
        assert agent.read("/tmp/link") == "no file at /tmp/link"


@pytest.mark.parametrize(
    "path", ["/dev/stdin", "/dev/zero", "/dev/tty", "/tmp/pipe", "/tmp/socket", "/dev/fd/0", "/srv"]
)
def test_reading_a_file_cannot_hang_the_runner(agent: Agent, path: str) -> None:
    agent.run("mkfifo /tmp/pipe")
    agent.python("import socket; socket.socket(socket.AF_UNIX).bind('/tmp/socket')")
    started = time.monotonic()
    assert agent.read(path) == f"no file at {path}"
    assert time.monotonic() - started < 10
    agent.run("rm -f /tmp/pipe /tmp/socket")


@pytest.mark.parametrize(
    "target", ["/proc/self/fd/1", "/proc/1/fd/1", "/dev/stdout", "/proc/self/oom_score_adj", "/tmp/pipe", "/dev/full"]
)
def test_a_file_that_a_tool_writes_cannot_be_turned_on_the_runner(agent: Agent, target: str) -> None:
    agent.run(f"mkfifo /tmp/pipe; ln -sfn {target} /srv/report.txt")
    with pytest.raises(ToolFailed):
        agent.box.write("/srv/report.txt", '{"id": "x", "code": 0}\n')
    agent.run("rm -f /tmp/pipe /srv/report.txt")


@pytest.mark.parametrize("signal", [*range(1, 32), 34, 40, 64])
def test_no_signal_ends_the_runner(agent: Agent, signal: int) -> None:
    agent.run(f"kill -{signal} 1; kill -{signal} 1; sleep 0.05")


def test_the_runner_cannot_be_traced_or_written_to(agent: Agent) -> None:
    seen = agent.python("""
        import ctypes, os
        libc = ctypes.CDLL(None, use_errno=True)
        class Vec(ctypes.Structure): _fields_ = [("base", ctypes.c_void_p), ("len", ctypes.c_size_t)]
        buffer = ctypes.create_string_buffer(8)
        here, there = Vec(ctypes.addressof(buffer), 8), Vec(0x400000, 8)
        pidfd = libc.syscall(434, 1, 0)
        for name, number, *arguments in (
            ("attach", 101, 16, 1, 0, 0), ("seize", 101, 0x4206, 1, 0, 0),
            ("readv", 310, 1, ctypes.byref(here), 1, ctypes.byref(there), 1, 0),
            ("writev", 311, 1, ctypes.byref(here), 1, ctypes.byref(there), 1, 0),
            ("pidfd_getfd", 438, pidfd, 1, 0), ("kcmp", 312, 1, os.getpid(), 0, 1, 1),
            ("madvise", 440, pidfd, ctypes.byref(there), 1, 4, 0),
        ):
            print(name, "GRANTED" if libc.syscall(number, *arguments) >= 0 else "no: " + os.strerror(ctypes.get_errno()))
        for fd in range(10):
            try: os.open(f"/proc/1/fd/{fd}", os.O_RDWR); print("GRANTED")
            except OSError as error: print("no:", error)
    """)
    assert "GRANTED" not in seen, seen


def test_replies_cannot_be_forged(agent: Agent) -> None:
    forged = json.dumps({"id": "0" * 32, "code": 0, "stdout": "Zm9yZ2Vk", "stderr": "", "seconds": 0, "cut": 0})
    seen = agent.run(
        f"for i in 1 2 3; do echo '{forged}'; done; echo '{forged}' > /proc/1/fd/1; echo '{forged}' > /proc/$PPID/fd/1"
    )
    assert seen.count("ermission denied") == 2
    assert agent.box.exec("echo", "own").stdout == "own\n"


def test_a_script_of_ours_cannot_be_reached_while_it_runs(box: DockerBox, tally: Callable[[str], None]) -> None:
    """The copies in which our scripts run hold what the runner holds; a service of the box may be the agent's by now."""
    tally("escapes tried")
    spy = """
        import ctypes, os, time
        libc = ctypes.CDLL(None, use_errno=True)
        tried = opened = 0
        until = time.monotonic() + 2
        while time.monotonic() < until:
            for name in os.listdir("/proc"):
                if not name.isdigit() or int(name) in (os.getpid(), os.getppid()): continue
                try: words = open(f"/proc/{name}/cmdline").read()
                except OSError: continue
                if "sys.stdin.buffer.read" not in words: continue
                for file in ("mem", "environ", "fd/1"):
                    tried += 1
                    try: os.open(f"/proc/{name}/{file}", os.O_RDWR); opened += 1
                    except OSError: pass
        open("/srv/spied", "w").write(f"{tried > 3} {opened}")
    """
    start = (
        (
            "sh",
            "-c",
            f"cat > /tmp/spy.py <<'X'\n{textwrap.dedent(spy)}\nX\nsetsid python3 /tmp/spy.py >/dev/null 2>&1 </dev/null &",
        ),
    )
    with open_box(BASE_IMAGE, Contents(start=start)) as other:
        other.exec("sqlite3", "/srv/a.db", "create table t (a)")
        for _ in range(1000):
            sqlite.select(other, "/srv/a.db", "select * from t")
            if found := other.read("/srv/spied"):
                break
        assert found == "True 0"


@pytest.mark.parametrize("command", ["echo a\0b", "\0", "echo \ud800", "x" * 3_000_000, "", "\n" * 1000])
def test_no_command_breaks_the_runner(agent: Agent, command: str) -> None:
    assert isinstance(agent.run(command), str)


@pytest.mark.parametrize("path", ["a\0b", "\ud800", "/" + "x/" * 5000, "", "/proc/self/task/1/mem"])
def test_no_path_breaks_the_runner(agent: Agent, path: str) -> None:
    assert agent.read(path) == f"no file at {path}"


# Bombs


def test_a_fork_bomb_ends_with_its_call(agent: Agent) -> None:
    agent.run("b() { b | b & }; timeout 2 sh -c 'b() { b | b & }; b; sleep 1'; b; sleep 1")
    assert len(agent.box.exec("ps", "-e", "-o", "pid=").stdout.split()) <= 3


def test_a_memory_bomb_ends_itself_and_not_the_box(agent: Agent) -> None:
    assert "[exit status" in agent.python("data = []\nwhile True: data.append(bytearray(1 << 20))")
    many = "import os\nfor _ in range(20): os.fork() or [bytearray(1 << 20) for _ in iter(int, 1)]"
    agent.python(f"{many}\nimport time; time.sleep(3)")


@pytest.mark.parametrize("place", ["/srv", "/tmp", "/dev/shm"])
def test_a_disk_bomb_fills_its_own_place_and_no_more(agent: Agent, place: str) -> None:
    seen = agent.run(
        f"dd if=/dev/zero of={place}/bomb bs=1M count=1000 2>&1; du -sm {place}/bomb | cut -f1; rm {place}/bomb"
    )
    assert "No space left on device" in seen
    assert int(seen.splitlines()[-1].split()[0]) <= 64


@pytest.mark.parametrize("place", ["/srv", "/tmp"])
def test_a_bomb_of_empty_files_fills_its_own_place_and_no_more(agent: Agent, place: str) -> None:
    seen = agent.python(f"""
        import os
        os.mkdir("{place}/many")
        try:
            for number in range(10**6): open(f"{place}/many/{{number}}", "w").close()
        except OSError as error: print(number, error.strerror)
    """)
    agent.run(f"rm -rf {place}/many")
    assert seen.endswith(" No space left on device")
    assert int(seen.split()[0]) < 32768


def test_an_output_bomb_costs_the_harness_nothing(agent: Agent) -> None:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    done = agent.box.exec("sh", "-c", "head -c 1073741824 /dev/zero", timeout=120)
    assert done.cut == 2**30 - 256 * 1024
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 32 * 1024, "kilobytes"
    assert len(agent.run("head -c 10000000 /dev/zero | tr '\\0' x")) < 300_000


def test_an_endless_command_is_stopped(agent: Agent) -> None:
    done = agent.box.exec("sh", "-c", "trap '' TERM INT HUP; while :; do :; done", timeout=1)
    assert done.code is None
    assert 1 <= done.seconds < 20


@pytest.mark.parametrize(
    "daemon",
    [
        "setsid sleep 500 >/dev/null 2>&1 </dev/null &",
        "(setsid sh -c '(sleep 500 &) &' &) >/dev/null 2>&1",
        "nohup sh -c 'trap \"\" TERM HUP; while :; do sleep 1; done' >/dev/null 2>&1 &",
        "python3 -c 'import os, sys; os.fork() and sys.exit(); os.setsid(); os.fork() and sys.exit(); "
        'os.closerange(0, 99); os.execlp("sleep", "sleep", "9")\'',
    ],
)
def test_no_daemon_outlives_its_call(agent: Agent, daemon: str) -> None:
    agent.run(daemon)
    assert "sleep" not in agent.box.exec("ps", "-e", "-o", "args=").stdout


# Others' secrets


def test_another_episode_is_out_of_sight(agent: Agent, victim: DockerBox) -> None:
    assert victim.read("/srv/other/diary.txt") == "only mine\n"
    found = agent.run(
        "grep -rls 'only mine' /srv /tmp /dev/shm /var /run /proc/*/environ 2>/dev/null; ls -d /proc/[0-9]* | wc -l"
    )
    assert "diary" not in found
    assert int(found.splitlines()[-1]) <= 6, "nobody else's processes"
    assert (
        agent.run(
            f"cat /proc/{engine().inspect_container(victim.container)['State']['Pid']}/root/srv/other/diary.txt 2>&1"
        ).count("only")
        == 0
    )


def test_no_key_is_found_in_environment_image_or_process_list(
    monkeypatch: pytest.MonkeyPatch, tally: Callable[[str], None]
) -> None:
    tally("escapes tried")
    monkeypatch.setenv("OPENAI_API_KEY", SECRET)
    with open_box(BASE_IMAGE, Contents()) as opened:
        agent = Agent(opened)
        seen = agent.run(
            "env; cat /proc/*/environ /proc/*/cmdline 2>/dev/null | tr '\\0' '\\n'; cat /.dockerenv /etc/hosts /proc/mounts"
        )
        assert SECRET not in seen
        assert "OPENAI" not in seen
        assert (
            agent.run(f"grep -rlsF '{SECRET[:12]}' /etc /srv /tmp /run /var/lib 2>/dev/null | wc -l").splitlines()[0]
            == "0"
        )
        config = engine().inspect_container(opened.container)
        assert SECRET not in json.dumps(config)
    history = json.dumps(engine().history(BASE_IMAGE)) + json.dumps(engine().inspect_image(BASE_IMAGE))
    assert not any(
        value in history for name, value in os.environ.items() if name.endswith(("_KEY", "_TOKEN")) and value
    )
