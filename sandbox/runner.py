"""The one process of ours inside a box: it answers exec, read and write requests over its standard streams.

Sent to the container over its own standard input and run as PID 1 by the box's python3 (3.9 or newer,
standard library only), so no image has to carry it. PID 1 cannot be killed from inside, adopts and
reaps orphans, and takes the container down with it when the harness goes away and standard input ends.

One JSON object per line each way. Every reply repeats the request's unguessable id, and the process is
made undumpable, so nothing else in the box can read its memory or write to its streams.
"""

import base64
import contextlib
import ctypes
import fcntl
import functools
import gc
import json
import os
import resource
import selectors
import signal
import stat
import sys
import time

PR_SET_DUMPABLE = 4
CHUNK = 65536
IPC_RMID = 0
FS_IOC_GETFLAGS = 0x80086601
IOPRIO_GET = {"x86_64": 252, "aarch64": 31}
SHARED = ("/dev/shm", "/dev/mqueue")
"""Writable in every container, whatever it is given."""
VIRTUAL = {"proc", "sysfs", "cgroup", "cgroup2", "devpts"}
"""File systems that hold no files of anyone's."""
COUNTERS = ("snmp", "snmp6", "netstat", "dev", "tcp", "tcp6", "udp", "udp6", "raw", "raw6", "unix", "packet")
LIBC = ctypes.CDLL(None)


def identity(pid):
    """(parent pid, start time) of a process, or None when it is gone."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as stat:
            fields = stat.read().rsplit(b")", 1)[1].split()
    except OSError:
        return None
    return int(fields[1]), int(fields[19])


def processes():
    found = {int(name): identity(name) for name in os.listdir("/proc") if name.isdigit()}
    return {pid: who for pid, who in found.items() if who and pid != os.getpid()}


def lines(path):
    try:
        with open(path, errors="replace") as file:
            return file.read().splitlines()
    except OSError:
        return []


class Child:
    """A process with streams of its own. Has what is used of `subprocess.Popen`, whose import alone would take longer
    than all that most boxes do."""

    def __init__(self, start):
        """`start` takes the numbers of the child's standard streams and returns its pid."""
        self.returncode = None
        pipes = [os.pipe() for _ in range(3)]
        theirs = pipes[0][0], pipes[1][1], pipes[2][1]
        ours = pipes[0][1], pipes[1][0], pipes[2][0]
        try:
            self.pid = start(theirs)
        except BaseException:
            for fd in ours:
                os.close(fd)
            raise
        finally:
            for fd in theirs:
                os.close(fd)
        self.stdin, self.stdout, self.stderr = map(os.fdopen, ours, ("wb", "rb", "rb"), (0, 0, 0))

    def poll(self):
        if self.returncode is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                self.returncode = os.WEXITSTATUS(status) if os.WIFEXITED(status) else -os.WTERMSIG(status)
        return self.returncode

    def wait(self):
        while self.poll() is None:
            time.sleep(0.001)


def program(argv):
    def start(streams):
        return os.posix_spawnp(
            argv[0],
            argv,
            os.environ,
            file_actions=[(os.POSIX_SPAWN_DUP2, fd, number) for number, fd in enumerate(streams)],
            setsid=True,
            setsigdef=(signal.SIGPIPE, signal.SIGXFSZ),  # which python3 ignores
        )

    return Child(start)


def script(source, arguments):
    """A script of ours, run by a copy of this process: a python3 that is up already copies itself in a millisecond,
    and starting another takes thirty."""

    def start(streams):
        with contextlib.suppress(SyntaxError, ValueError):  # the copy finds that out, too, and says so
            compiled(source, "<string>", "exec")
        pid = os.fork()
        if not pid:
            run(streams, source, arguments)
        return pid

    return Child(start)


compiled = functools.lru_cache(compile)
"""Copies of this process find there what it has compiled before."""


def run(streams, source, arguments):
    """Do what `python3 -c` does with a script, and end this process."""
    code = 1
    try:
        os.setsid()
        for number, fd in enumerate(streams):
            os.dup2(fd, number)
        os.closerange(3, resource.getrlimit(resource.RLIMIT_NOFILE)[0])
        signal.set_wakeup_fd(-1)
        for number in (signal.SIGCHLD, signal.SIGALRM):
            signal.signal(number, signal.SIG_DFL)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        texts = {name: getattr(sys, name) for name in ("stdin", "stdout", "stderr")}
        for number, (name, text) in enumerate(texts.items()):
            mode = "w" if number else "r"
            setattr(sys, name, os.fdopen(number, mode, encoding=text.encoding, errors=text.errors, closefd=False))
        sys.argv = ["-c", *arguments]
        sys.modules["__main__"] = own = type(sys)("__main__")
        try:
            exec(compiled(source, "<string>", "exec"), vars(own))  # noqa: S102 (what `python3 -c` does)
            code = 0
        except SystemExit as leaving:
            if isinstance(leaving.code, str):
                print(leaving.code, file=sys.stderr)
            code = leaving.code if isinstance(leaving.code, int) else 0 if leaving.code is None else 1
        except BaseException as error:
            error.__traceback__ = error.__traceback__ and error.__traceback__.tb_next  # without this function
            sys.excepthook(type(error), error, error.__traceback__)
        sys.stdout.flush()
        sys.stderr.flush()
    except BaseException:
        code = code or 120
    finally:
        os._exit(code & 0xFF)


@contextlib.contextmanager
def first_to_go():
    """Whatever is started here goes before this process where the box runs out of memory."""
    if OOM is None:
        yield
        return
    os.write(OOM, b"1000")
    try:
        yield
    finally:
        os.write(OOM, OOM_BEFORE)


def regular(path, flags, mode=0o666):
    """Open a regular file, or nothing: a pipe or a device could keep us waiting, and our own streams and memory,
    which only we can open, are no one's to reach through us."""
    fd = os.open(path, flags | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC, mode)
    try:
        where = os.readlink(f"/proc/self/fd/{fd}")
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            raise OSError(22, f"not a regular file: '{path}'")
        if f"{where}/".startswith((f"/proc/{os.getpid()}/", "/proc/self/", "/proc/thread-self/")):
            raise PermissionError(13, f"Permission denied: '{path}'")
    except BaseException:
        os.close(fd)
        raise
    return fd


def empty(place, until):
    """Unlink everything below a folder, however deep and whatever it is called. Nothing else runs in the box."""
    root = os.open(place, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        while names := os.listdir(root):
            for name in names:
                if time.monotonic() > until:
                    raise OSError(110, f"too much to remove in {place}")
                if not stat.S_ISDIR(os.lstat(name, dir_fd=root).st_mode):
                    os.unlink(name, dir_fd=root)
                    continue
                os.chmod(name, 0o700, dir_fd=root)
                with contextlib.suppress(OSError):
                    os.rmdir(name, dir_fd=root)
                    continue
                # Folders inside move up to the root, so that depth costs neither descriptors nor a long path.
                inner = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=root)
                try:
                    for child in os.listdir(inner):
                        if stat.S_ISDIR(os.lstat(child, dir_fd=inner).st_mode):
                            os.chmod(child, 0o700, dir_fd=inner)
                            os.rename(child, os.urandom(16).hex(), src_dir_fd=inner, dst_dir_fd=root)
                        else:
                            os.unlink(child, dir_fd=inner)
                finally:
                    os.close(inner)
                os.rmdir(name, dir_fd=root)
    finally:
        os.close(root)


class Runner:
    def __init__(self):
        self.services = None
        """Processes that were running when the box was sealed, by pid and start time; None until then."""
        self.places = {}
        """Writable place → how its root was when the box was new: mode, and times in nanoseconds."""

    def strays(self):
        """Processes that neither belong to the box nor descend from one that does."""
        alive = processes()

        def belongs(pid):
            while pid in alive:
                parent, started = alive[pid]
                if self.services.get(pid) == started:
                    return True
                pid = parent
            return False

        return [pid for pid in alive if not belongs(pid)]

    def sweep(self):
        """End whatever a command left running. Before the box is sealed, services may daemonise."""
        if self.services is None:
            return
        for _ in range(100):
            strays = self.strays()
            if not strays:
                break
            if not self.services:
                # One system call for all of them: a fork bomb cannot outrun it.
                with contextlib.suppress(ProcessLookupError):
                    os.kill(-1, signal.SIGKILL)
            for pid in strays:
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    os.kill(pid, signal.SIGKILL)
            self.reap()
            time.sleep(0.001)
        self.reap()

    @staticmethod
    def reap():
        with contextlib.suppress(ChildProcessError):
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass

    def fill(self, request):
        """Write an episode's files. From now on the box has so many seconds."""
        global DEADLINE
        DEADLINE = time.monotonic() + request["seconds"]
        signal.alarm(request["seconds"])
        for file in request["files"]:
            self.write(file)
        return {}

    def seal(self, request):
        self.services = {pid: started for pid, (_, started) in processes().items()}
        return {"services": len(self.services)}

    def exec(self, request):
        started = time.monotonic()
        limit = request["limit"]
        argv = request["argv"]
        with first_to_go():
            ours = argv[:2] == ["python3", "-ISc"] and len(argv) > 2
            child = script(argv[2], argv[3:]) if ours else program(argv)
        kept = {"stdout": bytearray(), "stderr": bytearray()}
        seen = {"stdout": 0, "stderr": 0}
        pending = memoryview(base64.b64decode(request["stdin"]))
        deadline = started + request["timeout"]
        timed_out = False

        def take(name, stream):
            chunk = os.read(stream.fileno(), CHUNK)
            seen[name] += len(chunk)
            kept[name] += chunk[: max(0, limit - len(kept[name]))]
            return chunk

        with selectors.DefaultSelector() as waiting:
            for name, stream in (("stdout", child.stdout), ("stderr", child.stderr)):
                os.set_blocking(stream.fileno(), False)
                waiting.register(stream, selectors.EVENT_READ, name)
            os.set_blocking(child.stdin.fileno(), False)
            waiting.register(child.stdin, selectors.EVENT_WRITE, "stdin")
            waiting.register(WAKE, selectors.EVENT_READ, "child")
            while child.poll() is None and not timed_out:
                for key, _ in waiting.select(max(0, deadline - time.monotonic())):
                    if key.data == "child":
                        with contextlib.suppress(BlockingIOError):
                            os.read(WAKE, CHUNK)
                    elif key.data == "stdin":
                        try:
                            pending = pending[os.write(key.fd, pending[:CHUNK]) :] if pending else pending
                        except BrokenPipeError:
                            pending = pending[:0]
                        if not pending:
                            waiting.unregister(key.fileobj)
                            child.stdin.close()
                    elif not take(key.data, key.fileobj):
                        waiting.unregister(key.fileobj)
                timed_out = time.monotonic() >= deadline
            if timed_out and child.poll() is None:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(child.pid, signal.SIGKILL)
                child.wait()
            self.sweep()
            for name, stream in (("stdout", child.stdout), ("stderr", child.stderr)):
                with contextlib.suppress(BlockingIOError):
                    while take(name, stream):
                        pass
        for stream in (child.stdin, child.stdout, child.stderr):
            stream.close()
        return {
            "code": None if timed_out else child.returncode,
            "stdout": base64.b64encode(kept["stdout"]).decode(),
            "stderr": base64.b64encode(kept["stderr"]).decode(),
            "cut": sum(seen.values()) - sum(map(len, kept.values())),
            "seconds": time.monotonic() - started,
        }

    def read(self, request):
        with open(regular(request["path"], os.O_RDONLY), "rb") as file:
            return {"content": base64.b64encode(file.read(request["limit"])).decode()}

    def write(self, request):
        folder = os.path.dirname(request["path"])
        if folder:
            os.makedirs(folder, exist_ok=True)
        with open(regular(request["path"], os.O_WRONLY | os.O_CREAT), "wb") as file:
            file.truncate()
            file.write(base64.b64decode(request["content"]))
            os.fchmod(file.fileno(), request["mode"])
        return {}

    def survey(self, request):
        """How a new box looks: what a used one has to look like again before it is used once more."""
        for place in (*request["places"], *SHARED):
            root = os.stat(place)
            self.places[place] = (stat.S_IMODE(root.st_mode), root.st_atime_ns, root.st_mtime_ns)
        return self.inventory()

    def reset(self, request):
        """End every process, empty every place that can be written to, and say how the box looks now."""
        until = time.monotonic() + request["seconds"]
        self.services = None
        while processes():
            with contextlib.suppress(ProcessLookupError):
                os.kill(-1, signal.SIGKILL)
            self.reap()
            if time.monotonic() > until:
                raise OSError(110, "processes do not end")
            time.sleep(0.001)
        for kind, remove in (("shm", LIBC.shmctl), ("msg", LIBC.msgctl)):
            for line in lines(f"/proc/sysvipc/{kind}")[1:]:
                remove(int(line.split()[1]), IPC_RMID, None)
        for line in lines("/proc/sysvipc/sem")[1:]:
            LIBC.semctl(int(line.split()[1]), 0, IPC_RMID)
        for place, (mode, accessed, changed) in self.places.items():
            if os.stat(place).st_uid == os.getuid():
                os.chmod(place, 0o700)
            empty(place, until)
            for name in os.listxattr(place):
                with contextlib.suppress(OSError):
                    os.removexattr(place, name)
            if os.stat(place).st_uid == os.getuid():
                os.chmod(place, mode)
                os.utime(place, ns=(accessed, changed))
        # What the kernel lets go of a moment later, such as descriptors that were on their way through a socket.
        while True:
            found = self.inventory()
            if found["digest"] == request["expected"] or time.monotonic() > until:
                return found
            until = min(until, time.monotonic() + 0.25)
            time.sleep(0.01)

    def inventory(self):
        """All that an episode could have changed, a line each, and the digest of them."""
        import hashlib

        found = [f"process {pid}" for pid in processes()]
        for place, (_, _, changed) in self.places.items():
            used = os.statvfs(place)
            found.append(f"usage {place} {used.f_blocks - used.f_bfree} {used.f_files - used.f_ffree}")
            found += listing(place, changed if os.stat(place).st_uid == os.getuid() else None)
        for kind in ("shm", "msg", "sem"):
            found += [f"ipc {kind} {line}" for line in lines(f"/proc/sysvipc/{kind}")[1:]]
        for name in COUNTERS:
            found += [f"net {name} {' '.join(line.split())}" for line in lines(f"/proc/self/net/{name}")]
        for line in lines("/proc/self/mountinfo"):
            fields = line.split()
            where, kind = fields[4], fields[fields.index("-") + 1]
            found.append(f"mount {where} {kind} {fields[5]}")
            if where not in self.places and kind not in VIRTUAL and os.path.isdir(where) and os.access(where, os.W_OK):
                found.append(f"unknown {where}")
        kept = ("Cap", "NoNewPrivs", "Seccomp", "SigBlk", "SigIgn", "SigCgt", "Groups", "Uid", "Gid", "Cpus_allowed:")
        found += [line for line in lines("/proc/self/status") if line.startswith(kept)]
        for fd in os.listdir("/proc/self/fd"):
            with contextlib.suppress(OSError):  # the one that the listing itself was read from
                found.append(f"descriptor {fd} {os.readlink(f'/proc/self/fd/{fd}').partition(':')[0]}")
        found += [f"limit {which} {resource.getrlimit(which)}" for which in range(16)]
        ioprio = LIBC.syscall(IOPRIO_GET[os.uname().machine], 1, 0) if os.uname().machine in IOPRIO_GET else ""
        found.append(f"priority {os.getpriority(os.PRIO_PROCESS, 0)} {os.sched_getscheduler(0)} {ioprio}")
        found.append(f"affinity {sorted(os.sched_getaffinity(0))}")
        found.append(f"name {os.uname().nodename} folder {os.getcwd()}")
        digest = hashlib.sha256("\n".join(sorted(found)).encode(errors="surrogateescape")).hexdigest()
        return {
            "digest": digest,
            "lines": [line[:300].encode(errors="replace").decode() for line in sorted(found)[:500]],
        }

    def serve(self):
        for line in sys.stdin.buffer:
            request = json.loads(line)
            try:
                reply = getattr(self, request["do"])(request)
            except OSError as error:
                reply = {"errno": error.errno or 5, "error": str(error)}
            except (ValueError, MemoryError) as error:  # a NUL in an argument, half a surrogate pair in a path
                reply = {"errno": 22, "error": str(error) or type(error).__name__}
            reply["id"] = request["id"]
            sys.stdout.buffer.write(json.dumps(reply).encode() + b"\n")
            sys.stdout.buffer.flush()


def listing(place, changed):
    """Every entry of a tree: kind, mode, owner, time, flags, extended attributes, content. Times of the root are told
    as the difference to what they were, where they can be set back."""
    import hashlib

    for folder, folders, files, root in os.fwalk(place, follow_symlinks=False):
        for name in (".", *folders, *files) if folder == place else (*folders, *files):
            path = os.path.join(folder, name)
            seen = os.lstat(name, dir_fd=root)
            when = "" if folder == place and name == "." and changed is None else seen.st_mtime_ns - (changed or 0)
            content = flags = ""
            if stat.S_ISLNK(seen.st_mode):
                content = os.readlink(name, dir_fd=root)
            elif stat.S_ISREG(seen.st_mode) or stat.S_ISDIR(seen.st_mode):
                with contextlib.suppress(OSError):
                    fd = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=root)
                    try:
                        if stat.S_ISREG(seen.st_mode):
                            content = hashlib.sha256(os.read(fd, 1 << 24)).hexdigest()
                        with contextlib.suppress(OSError):
                            flags = fcntl.ioctl(fd, FS_IOC_GETFLAGS, bytes(8)).hex()
                    finally:
                        os.close(fd)
            attributes = []
            with contextlib.suppress(OSError):
                names = os.listxattr(path, follow_symlinks=False)
                attributes = [(each, os.getxattr(path, each, follow_symlinks=False).hex()) for each in sorted(names)]
            size = "" if stat.S_ISDIR(seen.st_mode) else seen.st_size
            yield f"entry {path} {seen.st_mode:o} {seen.st_uid} {seen.st_gid} {size} {when} {flags} {attributes} {content}"


def oom():
    """A way to say who goes first when memory runs out, and what is said now. Opened while we still own it."""
    try:
        fd = os.open("/proc/self/oom_score_adj", os.O_RDWR | os.O_CLOEXEC)
        return fd, os.read(fd, 16).strip()
    except OSError:
        return None, b""


def expire(*_):
    # The alarm alone is no proof: anything in the box may send one.
    if time.monotonic() >= DEADLINE:
        os._exit(0)
    signal.alarm(max(1, int(DEADLINE - time.monotonic())))


OOM, OOM_BEFORE = oom()
LIBC.prctl(PR_SET_DUMPABLE, 0, 0, 0, 0)
WAKE, wake = os.pipe()
os.set_blocking(WAKE, False)
os.set_blocking(wake, False)
signal.set_wakeup_fd(wake, warn_on_full_buffer=False)
signal.signal(signal.SIGCHLD, lambda *_: None)
signal.signal(signal.SIGINT, lambda *_: None)
# A box that everyone has forgotten ends itself. PID 1 ignores signals it has no handler for.
DEADLINE = time.monotonic() + int(sys.argv[1])
signal.signal(signal.SIGALRM, expire)
signal.alarm(int(sys.argv[1]))
# What nearly every script of ours imports; copies have it for nothing.
with contextlib.suppress(ImportError):
    import sqlite3  # noqa: F401
gc.freeze()  # or every copy would copy what its collector looks at
Runner().serve()
os._exit(0)  # the harness has gone, and there is nothing to put in order
