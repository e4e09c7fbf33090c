"""What a warden is told about its walls, and which files are seen through them."""

from __future__ import annotations

import json
import os
import site
import sys
import sysconfig
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

from mendel.sandbox.limits import SandboxError

BUBBLEWRAP, LANDLOCK, UNSAFE = "bubblewrap", "landlock", "unsafe"
SYSTEM = (
    "/usr",
    "/bin",
    "/sbin",
    "/lib",
    "/lib32",
    "/lib64",
    "/libx32",
    "/nix/store",
    "/gnu/store",
)
SETTINGS = ("/etc/ld.so.cache", "/etc/alternatives", "/sys/devices/system/cpu")
MACHINE = ("/proc/cpuinfo", "/proc/meminfo", "/dev/zero", "/dev/urandom", "/dev/random")
SCRATCH, HOME = "/scratch", "/home/trial"  # inside bubblewrap
TMP, SHM = "/tmp", "/dev/shm"  # noqa: S108 (the trial's own)


@dataclass(frozen=True)
class Cage:
    """The walls around every trial of a warden.

    kind             bubblewrap, landlock or unsafe
    user_namespace   bubblewrap made one; then a trial gets one of its own, below
    new_uid          a trial changes to a user of its own that nothing belongs to
    home             an empty folder
    seen             paths that a trial may read (Landlock; bubblewrap mounts them)
    abi              Landlock's version
    python_path      where the warden looks for modules beside its own places
    """

    kind: str
    user_namespace: bool = False
    new_uid: bool = False
    home: str = HOME
    seen: tuple[str, ...] = ()
    abi: int = 0
    python_path: tuple[str, ...] = ()

    def dump(self) -> str:
        return json.dumps(asdict(self))

    @staticmethod
    def parse(text: str) -> Cage:
        values = json.loads(text)
        for name in ("seen", "python_path"):
            values[name] = tuple(values[name])
        return Cage(**values)


def package() -> str:
    """The folder of mendel: in an editable install not the whole repository."""
    return str(Path(__file__).resolve().parents[1])


def python_path() -> tuple[str, ...]:
    """Folders of installed packages, and the one that mendel lies in."""
    return (*_site_packages(), str(Path(package()).parent))


def _site_packages() -> list[str]:
    known = {*site.getsitepackages(), *sysconfig.get_paths().values()}
    named = ("site-packages", "dist-packages")
    return [p for p in sys.path if os.path.isdir(p) and (p in known or Path(p).name in named)]


def seen(readable: Iterable[str | os.PathLike[str]]) -> list[str]:
    """All that is mounted or allowed: the system's programs, Python, packages, what is asked for.

    raises   SandboxError for a path that is not there, or is the whole file system
    """
    paths = [*SYSTEM, *SETTINGS, *map(os.path.abspath, _python()), *_site_packages(), package()]
    found = [p for p in paths if os.path.exists(p)]
    for folder in found:
        if os.path.samefile(folder, "/"):
            raise SandboxError(
                f"this Python lies in {folder!r}, which is everything. Wanted a folder that trials "
                f"may read. Use a Python that is installed below /usr, or a virtual environment."
            )
    for path in readable:
        whole = "/" + os.path.abspath(os.fspath(path)).lstrip("/")  # POSIX lets // be another root
        there = os.path.exists(whole)
        if not there or os.path.samefile(whole, "/"):
            raise SandboxError(
                f"readable={str(path)!r} is {'everything' if there else 'not there'}. "
                f"Wanted a file or a folder that the code may read. Name it by its full path."
            )
        found.append(whole)
    return _outermost([*found, *map(os.path.realpath, found)])


def _python() -> list[str]:
    """The interpreter's files. A virtual environment may be a project's folder: not all of it."""
    if sys.prefix == sys.base_prefix:
        return [sys.prefix]
    parts = ("bin", "lib", "lib64", "include", "share", "pyvenv.cfg")
    return [sys.base_prefix, *(os.path.join(sys.prefix, part) for part in parts)]


def _outermost(paths: Iterable[str]) -> list[str]:
    """Without doubles and without what lies in another of them."""
    kept: list[str] = []
    for path in sorted(set(paths), key=lambda p: (p.count("/"), p)):
        if not any(path.startswith(other + "/") for other in kept):
            kept.append(path)
    return kept


def others_can_read(paths: Iterable[str]) -> str | None:
    """The first path that a user without any rights cannot reach; None where all can be."""
    for path in paths:
        whole = Path(os.path.realpath(path))
        for folder in (whole, *whole.parents):
            wanted = 0o5 if folder.is_dir() and folder == whole else 0o1 if folder.is_dir() else 0o4
            if folder.stat().st_mode & wanted != wanted:
                return str(folder)
    return None
