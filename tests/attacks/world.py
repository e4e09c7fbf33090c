"""A host worth attacking: a secret, services that listen, a process to kill, files to spoil."""

from __future__ import annotations

import os
import resource
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

import mendel

VARIABLE = "MENDEL_ATTACK_SECRET"
WATCHED = ("/etc/passwd", "/etc/shadow", torch.__path__[0], sys.executable)
SEGMENT = str(64 << 20)  # bytes of the shared memory that an attack leaves


class World:
    """Made once; `reset` before each attack, `harm` after it."""

    def __init__(self) -> None:
        self.token = uuid.uuid4().hex
        # readable for everybody: what keeps an attack out must be the walls
        self.folder = Path(tempfile.mkdtemp(prefix="mendel-world-"))
        self.folder.chmod(0o755)
        self.secret = self.folder / "secret.txt"
        self.secret.write_text(self.token)
        self.open = self.folder / "open"
        self.shown = self.folder / "shown"  # what the pool may read
        self.shown.mkdir()
        self.spoilable = (self.open / "target.txt", self.shown / "data.txt")
        os.environ[VARIABLE] = self.token
        self.victim: subprocess.Popen[bytes] | None = None
        self.listeners = dict(self._listen())
        self.reset()

    def _listen(self) -> Iterator[tuple[str, socket.socket]]:
        places: dict[str, tuple[int, int, Any]] = {
            "tcp4": (socket.AF_INET, socket.SOCK_STREAM, ("127.0.0.1", 0)),
            "tcp6": (socket.AF_INET6, socket.SOCK_STREAM, ("::1", 0)),
            "udp": (socket.AF_INET, socket.SOCK_DGRAM, ("127.0.0.1", 0)),
            "unix": (socket.AF_UNIX, socket.SOCK_STREAM, str(self.folder / "socket")),
            "unix_datagrams": (socket.AF_UNIX, socket.SOCK_DGRAM, str(self.folder / "datagrams")),
        }
        if sys.platform == "linux":
            places["abstract"] = (socket.AF_UNIX, socket.SOCK_STREAM, f"\0{self.token}")
            places["abstract_datagrams"] = (socket.AF_UNIX, socket.SOCK_DGRAM, f"\0{self.token}d")
        for name, (family, kind, place) in places.items():
            try:
                listener = socket.socket(family, kind)
                listener.bind(place)
            except OSError:  # a host without IPv6
                continue
            if kind == socket.SOCK_STREAM:
                listener.listen()
            if isinstance(place, str) and not place.startswith("\0"):
                os.chmod(place, 0o777)
            listener.setblocking(False)
            yield name, listener

    def inputs(self) -> dict[str, Any]:
        """What an attacker may know of its host."""
        ports = {
            name: self.listeners[name].getsockname()[1]
            for name in ("tcp4", "tcp6", "udp")
            if name in self.listeners
        }
        assert self.victim
        return {
            **ports,
            "secret": str(self.secret),
            "folder": str(self.folder),
            "open": str(self.open),
            "shown": str(self.shown),
            "unix": str(self.folder / "socket"),
            "unix_datagrams": str(self.folder / "datagrams"),
            "abstract": self.token,
            "victim": self.victim.pid,
            "host": os.getpid(),
            "variable": VARIABLE,
            "mendel": mendel.__path__[0],
            "torch": torch.__path__[0],
        }

    def reset(self) -> None:
        shutil.rmtree(self.open, ignore_errors=True)
        self.open.mkdir()
        self.open.chmod(0o777)
        for path in self.shown.iterdir():
            path.unlink()
        self.shown.chmod(0o777)
        (self.shown / "link").symlink_to(self.secret)
        for path in self.spoilable:
            path.write_text("whole")
            path.chmod(0o666)
        if self.victim is None or self.victim.poll() is not None:
            self.victim = subprocess.Popen(["sleep", "1000"])
        self._calls()
        self.before = self._state()
        self.at = time.time() - time.monotonic()

    def _calls(self) -> list[str]:
        """Who was called; forgets it."""
        heard = []
        for name, listener in self.listeners.items():
            try:
                if listener.type == socket.SOCK_STREAM:
                    listener.accept()[0].close()
                else:
                    listener.recv(100)
                heard.append(name)
            except BlockingIOError:
                continue
        return heard

    def _state(self) -> dict[str, Any]:
        """All that an attack might change."""
        assert self.victim
        pid = self.victim.pid
        state: dict[str, Any] = {
            "hostname": socket.gethostname(),
            "secret": self.secret.read_text(),
            "open folder": sorted(os.listdir(self.open)),
            "folder": sorted(os.listdir(self.folder)),
            "shown folder": sorted(os.listdir(self.shown)),
            "mendel's package": os.path.exists(f"{mendel.__path__[0]}/owned.py"),
            "own limits": [resource.getrlimit(n) for n in range(9)],
            "own environment": os.environ[VARIABLE],
        }
        for path in self.spoilable:
            state[path.name] = self._file(path)
        for watched in WATCHED:
            state[watched] = os.stat(watched).st_mtime_ns
        if sys.platform == "linux":
            state["victim"] = self._victim(pid)
            state["shared memory"] = any(n.startswith("owned") for n in os.listdir("/dev/shm"))
            state["SysV"] = Path("/proc/sysvipc/shm").read_text().split().count(SEGMENT)
        return state

    def _file(self, path: Path) -> object:
        if not path.exists():
            return None
        found = path.stat()
        listed = os.listxattr(path) if hasattr(os, "listxattr") else []
        return (
            path.read_text(),
            found.st_mode,
            found.st_uid,
            found.st_mtime_ns,
            found.st_nlink,
            listed,
        )

    def _victim(self, pid: int) -> object:
        try:
            nice, cores = os.getpriority(os.PRIO_PROCESS, pid), os.sched_getaffinity(pid)
            return nice, cores, resource.prlimit(pid, resource.RLIMIT_NOFILE), _state(pid)
        except OSError:
            return "gone"

    def harm(self) -> list[str]:
        """What is not as it was."""
        if self.victim:
            self.victim.poll()
        after = self._state()
        found = [f"{k}: {v} became {after[k]}" for k, v in self.before.items() if v != after[k]]
        found += [f"{name} was called" for name in self._calls()]
        if abs(time.time() - time.monotonic() - self.at) > 60:
            found.append("the clock was set")
        return found

    def close(self) -> None:
        for listener in self.listeners.values():
            listener.close()
        if self.victim:
            self.victim.kill()
            self.victim.wait()
        os.environ.pop(VARIABLE, None)
        shutil.rmtree(self.folder, ignore_errors=True)


def _state(pid: int) -> str:
    """Sleeping and running are one; stopped, traced or dead are not."""
    letter = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    return "alive" if letter in "SRDI" else letter


def below(pid: int) -> list[int]:
    """All processes that come from one, zombies left out."""
    parents: dict[int, list[int]] = {}
    for name in filter(str.isdigit, os.listdir("/proc")):
        try:
            fields = Path(f"/proc/{name}/stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if fields[0] != "Z":
            parents.setdefault(int(fields[1]), []).append(int(name))
    found, queue = [], [pid]
    while queue:
        children = parents.get(queue.pop(), [])
        found += children
        queue += children
    return found


def named(mark: str) -> list[int]:
    """Processes with a word in their command line or their name."""
    found = []
    for name in filter(str.isdigit, os.listdir("/proc")):
        try:
            text = (
                Path(f"/proc/{name}/cmdline").read_bytes() + Path(f"/proc/{name}/comm").read_bytes()
            )
        except OSError:
            continue
        if mark.encode() in text and int(name) != os.getpid():
            found.append(int(name))
    return found


def kill(pids: list[int]) -> None:
    for pid in pids:
        try:
            os.kill(pid, signal.SIGKILL)
        except OSError:
            continue
