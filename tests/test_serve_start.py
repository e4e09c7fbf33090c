"""A start tells what it does, and can be ended: phases on stderr, Ctrl-C, a port that is taken."""

from __future__ import annotations

import io
import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

from mendel.cli import starting
from mendel.cli.starting import Starting
from mendel.data.tokenizers import Bytes
from mendel.formats import native
from mendel.serve.http.sockets import bound, listen
from mendel.types import InputError

from . import serve_toy as toy

MENDEL = [sys.executable, "-u", "-m", "mendel"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models") / "tiny"
    native.save(toy.tiny(), folder, Bytes())
    return folder


@pytest.fixture(scope="module")
def env(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    home = str(tmp_path_factory.mktemp("home"))
    return {**os.environ, "MENDEL_HOME": home, "OMP_NUM_THREADS": "1"}


def test_a_long_phase_is_counted_in_a_log_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(starting, "TICK_S", 0.01)
    monkeypatch.setattr(starting, "EVERY_S", 0.02)
    log = io.StringIO()
    with Starting(log) as tells:
        tells.phase("proving")
        assert log.getvalue() == "proving ...\n"  # at once
        tells.count(2, 8, "lookup-4")
        end = time.monotonic() + 60
        while "2 of 8, now lookup-4" not in log.getvalue():
            assert time.monotonic() < end
            time.sleep(0.01)
        tells.say("something to be read")
    assert "left" in log.getvalue() and "something to be read\n" in log.getvalue()
    assert log.getvalue().endswith("ready after 0 s\n") or "ready after" in log.getvalue()
    assert "\r" not in log.getvalue() and "\x1b" not in log.getvalue()


def test_a_terminal_has_one_line_that_is_written_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    monkeypatch.setattr(starting, "TICK_S", 0.01)
    screen = Terminal()
    with Starting(screen) as tells:
        tells.phase("measuring")
        end = time.monotonic() + 60
        while "measuring: 0 s" not in screen.getvalue():
            assert time.monotonic() < end
            time.sleep(0.01)
    assert screen.getvalue().count("\n") == 1 and "ready after" in screen.getvalue()


def test_a_log_that_is_closed_ends_no_server() -> None:
    log = io.StringIO()
    with Starting(log) as tells:
        log.close()
        tells.phase("reading")


def test_ctrl_c_ends_a_call_that_does_not_return_to_python() -> None:
    code = textwrap.dedent("""
        import ctypes, sys
        from mendel.cli.starting import interruptible
        with interruptible():
            print("in", flush=True)
            while True:
                ctypes.CDLL(None).sleep(600)
    """)
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE)
    assert process.stdout is not None and process.stdout.readline() == b"in\n"
    process.send_signal(signal.SIGINT)
    try:
        assert process.wait(30) == 130
    finally:
        process.kill()
        process.communicate()


def test_behind_the_start_ctrl_c_is_as_it_was() -> None:
    before = signal.getsignal(signal.SIGINT)
    with starting.interruptible():
        assert signal.getsignal(signal.SIGINT) is not before
    assert signal.getsignal(signal.SIGINT) is before
    assert signal.set_wakeup_fd(-1) == -1


@pytest.mark.parametrize("phase", ["loading", "reading", "making the kernels", "proving"])
def test_ctrl_c_ends_each_phase_of_a_start_without_a_traceback(
    folder: Path, env: dict[str, str], tmp_path: Path, phase: str
) -> None:
    fresh = {**env, "MENDEL_HOME": str(tmp_path)}  # so that there is something to prove
    process = subprocess.Popen(
        [*MENDEL, "serve", str(folder), "--port", "0"],
        env=fresh, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        assert process.stderr is not None
        line = "-"
        while line and not line.startswith(phase):
            line = process.stderr.readline()
        assert line, f"never came to {phase}"
        process.send_signal(signal.SIGINT)
        assert process.wait(60) == 130
        assert "Traceback" not in process.stderr.read()
    finally:
        process.kill()
        process.communicate()


def test_a_port_is_held_from_the_beginning_of_a_start() -> None:
    with bound("127.0.0.1", 0) as first:  # it starts, and does not listen yet
        port = first.getsockname()[1]
        with pytest.raises(InputError, match="another --port"):
            bound("127.0.0.1", port)
        listen(first)
        with pytest.raises(InputError, match="another --port"):
            bound("127.0.0.1", port)
    with bound("127.0.0.1", port) as after:
        listen(after)


def test_a_folder_that_is_not_there_is_told_before_anything_is_loaded(env: dict[str, str]) -> None:
    done = subprocess.run(
        [*MENDEL, "serve", "absent", "--port", "0"],
        env=env, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 2 and "absent" in done.stderr and "loading" not in done.stderr
