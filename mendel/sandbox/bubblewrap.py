"""The command line of bubblewrap: the outer walls, with the warden alone inside."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

from mendel.sandbox.cage import HOME, SCRATCH, TMP

# what the warden needs to make the inner walls of each trial, where the harness is root
NEEDED = ("CAP_SYS_ADMIN", "CAP_SETUID", "CAP_SETGID", "CAP_SETPCAP", "CAP_KILL")


def find() -> str | None:
    return shutil.which("bwrap")


def command(
    paths: Sequence[str], env: Mapping[str, str], *, user_namespace: bool, info_fd: int
) -> list[str]:
    """All up to the program. Mounts are made in the order of the words.

    paths            shown read-only, each at its own place
    user_namespace   False wants root, and leaves each trial a user of its own
    info_fd          where bubblewrap writes the number of the process that it started
    """
    words = [find() or "bwrap", "--unshare-net", "--unshare-ipc", "--unshare-pid", "--unshare-uts"]
    words += ["--unshare-cgroup-try", "--hostname", "sandbox", "--new-session", "--as-pid-1"]
    words += ["--cap-drop", "ALL", "--info-fd", str(info_fd), "--clearenv"]
    if user_namespace:
        words += ["--unshare-user"]
    else:
        words += [word for cap in NEEDED for word in ("--cap-add", cap)]
    for name, value in env.items():
        words += ["--setenv", name, value]
    # by itself, bubblewrap makes the folders above a place for root alone
    for folder in sorted({str(above) for path in paths for above in Path(path).parents}):
        words += ["--dir", folder] if folder != "/" else []
    for path in paths:
        words += ["--ro-bind", path, path]  # a link's place shows what it points to
    words += ["--dir", HOME, "--dir", SCRATCH]
    if not any(path == TMP or path.startswith(TMP + "/") for path in paths):
        words += ["--symlink", SCRATCH, TMP]
    words += ["--proc", "/proc", "--dev", "/dev", "--remount-ro", "/dev", "--remount-ro", "/"]
    return [*words, "--chdir", HOME, "--"]
