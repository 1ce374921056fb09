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
import json
import os
import selectors
import signal
import subprocess
import sys
import time

PR_SET_DUMPABLE = 4
CHUNK = 65536


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


class Runner:
    def __init__(self):
        self.services = None
        """Processes that were running when the box was sealed, by pid and start time; None until then."""

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

    def seal(self, request):
        self.services = {pid: started for pid, (_, started) in processes().items()}
        return {"services": len(self.services)}

    def exec(self, request):
        started = time.monotonic()
        limit = request["limit"]
        child = subprocess.Popen(
            request["argv"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )
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
        with open(request["path"], "rb") as file:
            return {"content": base64.b64encode(file.read(request["limit"])).decode()}

    def write(self, request):
        folder = os.path.dirname(request["path"])
        if folder:
            os.makedirs(folder, exist_ok=True)
        with open(request["path"], "wb") as file:
            file.write(base64.b64decode(request["content"]))
        os.chmod(request["path"], request["mode"])
        return {}

    def serve(self):
        for line in sys.stdin.buffer:
            request = json.loads(line)
            try:
                reply = getattr(self, request["do"])(request)
            except OSError as error:
                reply = {"errno": error.errno or 5, "error": str(error)}
            reply["id"] = request["id"]
            sys.stdout.buffer.write(json.dumps(reply).encode() + b"\n")
            sys.stdout.buffer.flush()


ctypes.CDLL(None).prctl(PR_SET_DUMPABLE, 0, 0, 0, 0)
WAKE, wake = os.pipe()
os.set_blocking(WAKE, False)
os.set_blocking(wake, False)
signal.set_wakeup_fd(wake, warn_on_full_buffer=False)
signal.signal(signal.SIGCHLD, lambda *_: None)
# A box that everyone has forgotten ends itself. PID 1 ignores signals it has no handler for.
signal.signal(signal.SIGALRM, lambda *_: os._exit(0))
signal.alarm(int(sys.argv[1]))
Runner().serve()
