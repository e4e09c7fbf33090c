"""The sandbox: what comes back, how trials end, what is refused, and that nothing is left."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mendel import sandbox
from mendel.sandbox import CallError, Limits, Outcome, Pool, SandboxError, backends, cage, frames
from mendel.sandbox.frames import Frame, FrameError, FrameReader
from mendel.types import InputError

from .attacks.world import below

KINDS = ("bubblewrap", "landlock", "unsafe")
BRIEF = Limits(wall_s=0.5, memory_bytes=256 << 20)
ECHO = "def main(i):\n    return i"


def pool_of(kind: str, **more: object) -> Pool:
    """Skips where the kind does not work here."""
    try:
        return Pool(unsafe=True, **more) if kind == "unsafe" else Pool(backend=kind, **more)  # type: ignore[arg-type]
    except SandboxError as error:
        pytest.skip(f"{kind}: {error}")


@pytest.fixture(scope="module", params=KINDS)
def pool(request: pytest.FixtureRequest) -> Iterator[Pool]:
    with pool_of(request.param, preload=("torch",)) as pool:
        yield pool


def running(pid: int, n: int = 1, within_s: float = 20.0) -> list[int]:
    """What runs below a warden, once there are n; a busy machine takes its time."""
    until = time.monotonic() + within_s
    while len(found := below(pid)) < n and time.monotonic() < until:
        time.sleep(0.01)
    assert len(found) >= n
    return found


def test_what_goes_in_comes_out(pool: Pool) -> None:
    inputs = {
        "text": "ä\n€", "number": 2.5, "nothing": None, "list": [1, {"a": True}],
        "nan": float("nan"),
        "array": np.arange(6, dtype=np.int16).reshape(2, 3).T, "scalar": np.float64(3),
        "empty": np.zeros((0, 4)), "point": np.array(7), "tensor": torch.ones(2, 3).t(),
        "half": torch.ones(2, dtype=torch.bfloat16), "yes": torch.tensor([True]),
    }  # fmt: skip
    outcome = pool.run(ECHO, inputs)
    assert outcome.ok and outcome.result is not None, outcome
    assert outcome.result.pop("nan") != 0  # type: ignore[attr-defined]
    assert outcome.result == {k: inputs[k] for k in ("text", "number", "nothing", "list", "scalar")}
    for name, array in outcome.tensors.items():
        wanted = inputs[name]
        known = wanted.float().numpy() if isinstance(wanted, torch.Tensor) else wanted
        np.testing.assert_array_equal(array, known)
        assert array.shape == known.shape  # type: ignore[union-attr]
    assert set(outcome.tensors) == {"array", "empty", "point", "tensor", "half", "yes"}


def test_torch_goes_in_as_torch_and_numpy_as_numpy(pool: Pool) -> None:
    code = "def main(i):\n    return {k: f'{type(v).__module__} {v.dtype}' for k, v in i.items()}"
    outcome = pool.run(code, {"a": np.ones(1), "b": torch.ones(1, dtype=torch.bfloat16)})
    assert outcome.result == {"a": "numpy float64", "b": "torch torch.bfloat16"}


def test_a_command_has_its_exit_code_and_output(pool: Pool) -> None:
    outcome = pool.run(["sh", "-c", "echo out; echo err >&2; exit 3"])
    assert (outcome.ended, outcome.exit_code) == ("done", 3) and not outcome.ok
    assert (outcome.stdout, outcome.stderr) == ("out\n", "err\n")
    assert pool.run(["true"]).ok
    missing = pool.run(["no-such-program"])
    assert missing.exit_code == 127 and "no-such-program" in missing.stderr


ENDS = {
    "exception": ("raise KeyError('gone')", Limits()),
    "wall time": ("import time; time.sleep(9)", BRIEF),
    "CPU time": ("while True: pass", Limits(cpu_s=0.3, wall_s=9)),
    "memory": ("x = [bytearray(1 << 20) for _ in range(9999)]", Limits(memory_bytes=256 << 20)),
    "output": ("while True: print('x' * 999)", Limits(output_bytes=5000)),
    "crashed": ("import os; os.kill(os.getpid(), 11)", Limits()),
    "no result": ("import os; os._exit(0)", Limits()),
    "malformed result": ("return {'x': 'y' * 99_999}", Limits(result_bytes=1000)),
}


@pytest.mark.parametrize("ended", ENDS)
def test_a_failed_trial_is_an_outcome_that_says_how_it_ended(pool: Pool, ended: str) -> None:
    body, limits = ENDS[ended]
    begun = time.monotonic()
    outcome = pool.run(f"def main(i):\n    {body}\n    return {{}}", limits=limits)
    assert outcome.ended == ended and not outcome.ok and outcome.result is None, outcome
    assert time.monotonic() - begun < limits.wall_s + 2
    assert len(outcome.stdout) <= limits.output_bytes


def test_an_exception_leaves_its_traceback_without_our_lines(pool: Pool) -> None:
    outcome = pool.run("def main(i):\n    return {'x': 1 / 0}")
    assert "ZeroDivisionError" in outcome.stderr and "1 / 0" in outcome.stderr
    assert "mendel" not in outcome.stderr


def test_code_without_a_main_or_with_a_wrong_answer_is_told(pool: Pool) -> None:
    assert "defines no main" in pool.run("x = 1").stderr
    assert "Wanted a dict" in pool.run("def main(i): return 1").stderr
    assert "SyntaxError" in pool.run("def main(").stderr
    assert "neither JSON" in pool.run("def main(i): return {'x': object()}").stderr


def test_the_environment_is_a_few_names_and_those_given(
    pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SECRET", "x")
    code = "import os\ndef main(i):\n    return {'names': sorted(os.environ), 'home': os.listdir()}"
    outcome = pool.run(code, env={"MINE": "1"})
    assert outcome.result == {
        "names": [
            "HOME", "LANG", "MENDEL_TRIAL", "MINE", "MKL_NUM_THREADS", "OMP_NUM_THREADS",
            "OPENBLAS_NUM_THREADS", "PATH", "PYTHONDONTWRITEBYTECODE", "USER",
        ],
        "home": [],
    }  # fmt: skip


def test_usage_is_measured_from_outside(pool: Pool) -> None:
    code = """
import time
def main(i):
    held = bytearray(b"x") * (100 << 20)
    until = time.process_time() + 0.3
    while time.process_time() < until: pass
    return {"n": len(held)}
"""
    used = pool.run(code).usage
    assert used.cpu_s >= 0.3 and used.wall_s >= 0.3
    assert 90 << 20 < used.peak_bytes < 200 << 20


def test_threads_are_as_many_as_the_limits_say(pool: Pool) -> None:
    code = "import torch\ndef main(i):\n    return {'n': torch.get_num_threads()}"
    assert pool.run(code).result == {"n": 1}
    two = "import torch\ndef main(i):\n    x = torch.randn(512, 512)\n    x @ x\n"
    two += "    return {'n': torch.get_num_threads()}"
    assert pool.run(two, limits=Limits(threads=2)).result == {"n": 2}


def test_trials_at_the_same_time_do_not_mix(pool: Pool) -> None:
    found: dict[int, Outcome] = {}

    def one(n: int) -> None:
        found[n] = pool.run(ECHO, {"n": n, "x": np.full(1000, n)})

    threads = [threading.Thread(target=one, args=(n,)) for n in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for n, outcome in found.items():
        assert outcome.result == {"n": n} and (outcome.tensors["x"] == n).all()
    assert len(found) == 6


SERVE = """
import torch
count = 0
def serve(request):
    global count
    count += 1
    if request.get("fail"): raise ValueError("as asked")
    if request.get("leave"): raise SystemExit
    return {"count": count, "y": request["x"] * 2}
"""


def test_a_session_keeps_its_state_and_survives_an_exception(pool: Pool) -> None:
    with pool.session(SERVE) as session:
        answer, arrays = session.call({}, {"x": torch.ones(3)})
        assert answer == {"count": 1} and arrays["y"].tolist() == [2, 2, 2]
        with pytest.raises(CallError, match="as asked") as caught:
            session.call({"fail": True})
        assert caught.value.alive and caught.value.ended == "exception" and session.alive
        assert session.call({}, {"x": torch.ones(1)})[0] == {"count": 3}
    outcome = session.close()
    assert outcome.ok and "as asked" in outcome.stderr


def test_a_session_that_ends_says_so_at_each_call(pool: Pool) -> None:
    session = pool.session(SERVE)
    for _ in range(2):
        with pytest.raises(CallError, match="has ended") as caught:
            session.call({"leave": True})
        assert not caught.value.alive
    assert session.close().exit_code == 0


def test_a_session_that_is_late_is_ended(pool: Pool) -> None:
    session = pool.session("import time\ndef serve(r):\n    time.sleep(9)", BRIEF)
    begun = time.monotonic()
    with pytest.raises(CallError) as caught:
        session.call({}, deadline_s=0.1)
    assert caught.value.ended == "wall time" and time.monotonic() - begun < 1.5


def test_code_that_cannot_be_loaded_is_told_at_the_first_call(pool: Pool) -> None:
    with pool.session("import no_such_module\n") as session:
        for _ in range(2):
            with pytest.raises(CallError, match="no_such_module"):
                session.call()


def test_a_session_may_think_longer_than_wall_s_between_calls(pool: Pool) -> None:
    with pool.session(SERVE, Limits(wall_s=1)) as session:
        session.call({}, {"x": torch.ones(1)})
        time.sleep(1.2)
        assert session.call({}, {"x": torch.ones(1)})[0]["count"] == 2


def test_a_round_trip_is_quick(pool: Pool) -> None:
    x = torch.ones(8192, dtype=torch.float64)
    with pool.session("def serve(r):\n    return {'y': r['x']}") as session:
        times = []
        for _ in range(200):
            begun = time.perf_counter()
            session.call({}, {"x": x})
            times.append(time.perf_counter() - begun)
    assert sorted(times)[20] < 0.002  # 0.0004 on a quiet machine; see benchmarks


def test_nothing_of_a_trial_is_left(pool: Pool) -> None:
    pool.run(ECHO)
    pool.run("import time\ndef main(i): time.sleep(9)", limits=BRIEF)
    session = pool.session(SERVE)
    assert below(pool.pid)
    session.close()
    for _ in range(100):
        if not below(pool.pid):
            break
        time.sleep(0.01)
    assert not below(pool.pid)


def test_a_dead_warden_is_an_outcome_and_the_next_trial_has_a_new_one() -> None:
    with pool_of("unsafe") as pool:
        session = pool.session("def serve(r): return {}")
        pool._warden.kill()
        session.close()
        assert pool.run(ECHO, {"x": 1}).result == {"x": 1}


def test_a_supervisor_that_dies_is_a_crash(pool: Pool) -> None:
    found: list[Outcome] = []
    code = "import time\ndef main(i): time.sleep(20)"
    thread = threading.Thread(target=lambda: found.append(pool.run(code)))
    thread.start()
    os.kill(running(pool.pid)[0], signal.SIGKILL)
    thread.join(15)
    assert found and found[0].ended == "crashed"


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("end", [signal.SIGKILL, signal.SIGINT])
def test_wardens_and_trials_end_with_the_harness(kind: str, end: int) -> None:
    pool_of(kind).close()
    code = f"""
import sys, threading
from mendel import sandbox
pool = sandbox.Pool({"unsafe=True" if kind == "unsafe" else f"backend={kind!r}"})
print(pool.pid, flush=True)
pool.run("import time\\ndef main(i): time.sleep(60)")
"""
    harness = subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    )
    assert harness.stdout
    warden = int(harness.stdout.readline())
    alive = [warden, *running(warden, 2)]
    harness.send_signal(end)
    harness.wait()
    for _ in range(200):
        alive = [pid for pid in alive if _runs(pid)]
        if not alive:
            break
        time.sleep(0.01)
    assert not alive
    harness.stdout.close()


def _runs(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def gone(pids: list[int], within_s: float = 2.0) -> bool:
    until = time.monotonic() + within_s
    while time.monotonic() < until:
        if not any(map(_runs, pids)):
            return True
        time.sleep(0.01)
    return False


FORKING = """
import os, time
def serve(request):
    if os.fork() == 0:
        os.setsid()
        time.sleep(60)
    return {}
"""


def session_with_child(pool: Pool) -> sandbox.Session:
    """With a process that has left its group, where the walls allow a second one."""
    try:
        session = pool.session(FORKING, Limits(processes=4))
    except SandboxError:
        return pool.session("def serve(request): return {}")
    session.call()
    return session


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("how", ["close", "kill", "SIGKILL"])
def test_a_pool_that_ends_takes_its_trials_along(kind: str, how: str) -> None:
    with pool_of(kind) as pool:
        session = session_with_child(pool)
        alive = below(pool.pid)
        assert len(alive) >= 2
        if how == "SIGKILL":
            os.kill(pool.pid, signal.SIGKILL)
        else:
            getattr(pool if how == "close" else pool._warden, how)()
        assert gone(alive)
        with pytest.raises(CallError):
            session.call()
        assert session.close().ended in ("closed", "crashed")


@pytest.mark.parametrize("kind", KINDS)
def test_what_a_dead_supervisor_leaves_is_ended(kind: str) -> None:
    with pool_of(kind) as pool:
        session = session_with_child(pool)
        alive = below(pool.pid)
        os.kill(alive[0], signal.SIGKILL)
        assert gone(alive)
        assert session.close().ended == "crashed" and pool.run(ECHO, {"x": 1}).ok


def interrupt(after_s: float) -> None:
    def raises(*_: object) -> None:
        raise KeyboardInterrupt

    signal.signal(signal.SIGALRM, raises)
    signal.setitimer(signal.ITIMER_REAL, after_s)


def test_a_call_that_is_broken_off_ends_the_session(pool: Pool) -> None:
    code = "import time\ndef serve(r):\n    time.sleep(r['s'])\n    return {'n': r['n']}"
    session = pool.session(code)
    interrupt(0.2)
    with pytest.raises(KeyboardInterrupt):
        session.call({"n": 1, "s": 1})
    with pytest.raises(CallError, match="has ended: closed"):  # and not the answer to the first
        session.call({"n": 2, "s": 0})
    assert session.close().ended == "closed"


def test_an_interrupted_run_ends_though_a_fork_holds_its_descriptors(pool: Pool) -> None:
    forked: list[int] = []

    def fork() -> None:
        time.sleep(0.2)
        if (pid := os.fork()) == 0:
            time.sleep(3)
            os._exit(0)
        forked.append(pid)

    thread = threading.Thread(target=fork)
    thread.start()
    interrupt(0.5)
    with pytest.raises(KeyboardInterrupt):
        pool.run("import time\ndef main(i): time.sleep(30)")
    thread.join()
    assert gone(below(pool.pid), 1)
    os.kill(forked[0], signal.SIGKILL)
    os.waitpid(forked[0], 0)


def test_a_forked_harness_does_not_end_what_is_not_its_own(pool: Pool) -> None:
    with pool.session("def serve(r): return r") as session:
        if (pid := os.fork()) == 0:
            try:
                with pytest.raises(CallError):
                    session.call({"x": 0})
                session.close()
                pool.close()
            finally:
                os._exit(0)
        os.waitpid(pid, 0)
        assert session.call({"x": 1})[0] == {"x": 1}
    assert pool.run(ECHO, {"x": 1}).ok


def test_a_session_is_for_one_thread_at_a_time(pool: Pool) -> None:
    with pool.session("import time\ndef serve(r):\n    time.sleep(1)\n    return r") as session:
        found: list[object] = []
        thread = threading.Thread(target=lambda: found.append(session.call({"n": 1})[0]))
        thread.start()
        time.sleep(0.2)
        with pytest.raises(InputError, match="one thread at a time"):
            session.call({"n": 2})
        thread.join()
        assert found == [{"n": 1}] and session.call({"n": 3})[0] == {"n": 3}
        for wrong in (float("nan"), float("inf"), 1e9, -1, 0):
            with pytest.raises(InputError, match="deadline_s"):
                session.call({"n": 4}, deadline_s=wrong)
        assert session.call({"n": 5})[0] == {"n": 5}


def test_a_failure_that_may_pass_is_not_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    pool_of("landlock").close()
    monkeypatch.setattr(backends, "_proven", {})
    real = backends.Warden

    def full(*_: object) -> None:
        raise OSError(24, os.strerror(24))

    monkeypatch.setattr(backends, "Warden", full)
    with pytest.raises(SandboxError, match="Too many open files"):
        Pool(backend="landlock")
    monkeypatch.setattr(backends, "Warden", real)
    Pool(backend="landlock").close()


def test_of_a_virtual_environment_only_its_own_folders_are_seen(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "bin").mkdir()
    (tmp_path / ".env").write_text("secret")
    monkeypatch.setattr(sys, "prefix", str(tmp_path))
    shown = cage.seen(())
    assert str(tmp_path / "bin") in shown and str(tmp_path) not in shown
    for whole in ("/", "//", "/."):
        with pytest.raises(SandboxError, match="is everything"):
            cage.seen((whole,))
    monkeypatch.setattr(sys, "base_prefix", "/")
    with pytest.raises(SandboxError, match="this Python lies in"):
        cage.seen(())


def test_a_pool_outlives_the_thread_that_made_it() -> None:
    pool_of("bubblewrap").close()  # skips here: in the thread nobody would see it
    made: list[Pool] = []
    thread = threading.Thread(target=lambda: made.append(pool_of("bubblewrap")))
    thread.start()
    thread.join()
    time.sleep(0.2)
    pid = made[0].pid
    assert made[0].run(ECHO, {"x": 1}).result == {"x": 1} and made[0].pid == pid
    made[0].close()


def test_run_alone_starts_and_ends_its_own_warden(tmp_path: Path) -> None:
    if sandbox.backend().name is None:
        pytest.skip(str(sandbox.backend()))
    file = tmp_path / "data.txt"
    file.write_text("seen")
    (tmp_path / "other.txt").write_text("not seen")
    code = """
import os
def main(i):
    return {"text": open(i["file"]).read(), "other": os.path.exists(i["file"][:-8] + "other.txt")}
"""
    outcome = sandbox.run(code, {"file": str(file)}, readable=(file,))
    assert outcome.result is not None, outcome
    assert outcome.result["text"] == "seen"
    assert outcome.backend == "landlock" or not outcome.result["other"]


def test_scratch_is_writable_up_to_its_size_and_gone_after() -> None:
    code = """
import os
def main(i):
    before = os.listdir()
    open("a", "w").write("x" * 1000)
    return {"before": before, "after": os.listdir(), "tmp": os.environ["TMPDIR"]}
"""
    with pool_of("bubblewrap") as pool:
        for _ in range(2):
            outcome = pool.run(code, limits=Limits(scratch_bytes=1 << 20))
            assert outcome.result == {"before": [], "after": ["a"], "tmp": "/scratch"}, outcome
        assert pool.run(code).ended == "exception"


def test_several_processes_run_where_they_are_allowed() -> None:
    with pool_of("bubblewrap") as pool:
        words = ["sh", "-c", "(echo a; sleep 0.05) | cat; echo b"]
        assert pool.run(words, limits=Limits(processes=4)).stdout == "a\nb\n"
        assert pool.run(words).exit_code != 0


def test_landlock_refuses_what_it_cannot_contain() -> None:
    with pool_of("landlock") as pool, pytest.raises(SandboxError, match="has no disk quota"):
        pool.run(ECHO, limits=Limits(scratch_bytes=1))
    cage = pool._warden.cage
    for processes, abi, why in ((2, 5, "signals"), (2, 6, "root's processes")):
        weak = backends.Cage("landlock", abi=abi, new_uid=why == "signals")
        if why == "signals" or os.geteuid() == 0:
            with pytest.raises(SandboxError, match=why):
                backends.refuse_what_leaks(weak, Limits(processes=processes))
    assert cage.kind == "landlock"


def test_an_older_landlock_keeps_signals_inside_by_the_filter(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pool_of("landlock").close()
    monkeypatch.setattr(backends.landlock, "abi", lambda: 4)
    victim = subprocess.Popen(["sleep", "100"])
    code = """
import os, signal
def main(i):
    os.kill(os.getpid(), 0)
    os.kill(i["victim"], signal.SIGKILL)
    return {}
"""
    with Pool(backend="landlock") as pool:
        outcome = pool.run(code, {"victim": victim.pid})
    assert "PermissionError" in outcome.stderr and "line 5" in outcome.stderr
    assert victim.poll() is None
    victim.kill()
    victim.wait()


def test_where_nothing_works_it_says_how_to_get_a_sandbox(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backends.bubblewrap, "find", lambda: None)
    monkeypatch.setattr(backends.landlock, "abi", lambda: 0)
    with pytest.raises(SandboxError, match=r"(?s)bwrap is not on the PATH.*Install bubblewrap"):
        sandbox.run(ECHO)
    assert sandbox.backend().name is None and "landlock" in sandbox.backend().reasons
    outcome = sandbox.run(ECHO, {"x": 1}, unsafe=True)
    assert outcome.ok and outcome.backend == "unsafe"
    monkeypatch.setattr(sys, "platform", "darwin")
    with pytest.raises(SandboxError, match="wants Linux, got darwin"):
        sandbox.run(ECHO)


def test_a_bubblewrap_that_cannot_make_namespaces_falls_back_with_its_reason(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    fake = tmp_path / "bwrap"
    fake.write_text("#!/bin/sh\necho 'bwrap: No permissions to create new namespace' >&2\nexit 1\n")
    fake.chmod(0o755)
    monkeypatch.setattr(backends.bubblewrap, "find", lambda: str(fake))
    monkeypatch.setattr(backends, "_proven", {})
    found = sandbox.backend()
    assert found.name != "bubblewrap" and "No permissions" in found.reasons["bubblewrap"]


def test_a_mistake_of_the_caller_is_told(tmp_path: Path) -> None:
    with pool_of("unsafe") as pool:
        with pytest.raises(InputError, match="cannot be sent"):
            pool.run(ECHO, {"x": object()})
        with pytest.raises(InputError, match="belong to the pool"):
            sandbox.run(ECHO, pool=pool, unsafe=True)
        with pytest.raises(InputError, match="cannot be sent"), pool.session(SERVE) as session:
            session.call({"x": {1, 2}})
        nested: list[object] = []
        for _ in range(100_000):
            nested = [nested]
        n_open = len(os.listdir("/proc/self/fd")) if sys.platform == "linux" else 0
        for wrong in (
            nested, np.ones(2, complex), np.array([object()]), np.array(["a"]),
            torch.ones(2, device="meta"), torch.ones(2, 2).to_sparse(),
        ):  # fmt: skip
            with pytest.raises(InputError, match="cannot be sent"):
                pool.run(ECHO, {"x": wrong})
        assert not n_open or len(os.listdir("/proc/self/fd")) == n_open
        assert pool.run(ECHO, {"x": np.arange(3, dtype=">i4")}).tensors["x"].tolist() == [0, 1, 2]
        for env in ({"A": 1}, {"A=B": "1"}, {"A": "\0"}, {"": ""}):
            with pytest.raises(InputError, match="both text"):
                pool.run(ECHO, env=env)  # type: ignore[arg-type]
    for limits in ({"wall_s": 0}, {"wall_s": 1e9}, {"cpu_s": float("nan")}, {"processes": 0.5},
                   {"memory_bytes": 1e9}, {"threads": True}):  # fmt: skip
        with pytest.raises(InputError, match=f"{next(iter(limits))}="):
            Limits(**limits)  # type: ignore[arg-type]
    with pytest.raises(SandboxError, match="not there"):
        sandbox.run(ECHO, readable=(tmp_path / "missing",))
    with pytest.raises(SandboxError, match="import no_such"):
        Pool(preload=("no_such_module",))


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=300), st.binary(max_size=300))
def test_no_bytes_make_the_wire_raise_anything_else(text: bytes, blob: bytes) -> None:
    for header in (text, b'{"kind": "result", "value": {}, "torch": {}}'):
        try:
            found = frames.decode(header, blob)
        except FrameError:
            continue
        assert isinstance(found, Frame)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False)
    | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: st.lists(inner, max_size=3)
    | st.dictionaries(st.text(st.characters(exclude_categories=["Cs"])), inner, max_size=3),
    max_leaves=10,
)  # fmt: skip


@settings(max_examples=100, deadline=None)
@given(st.dictionaries(st.text(st.characters(exclude_categories=["Cs"])), JSON, max_size=5))
def test_a_frame_round_trips(value: dict[str, object]) -> None:
    raw = frames.encode(frames.split("result", value))
    sizes = frames.HEAD.unpack(raw[: frames.HEAD.size])
    assert frames.join(frames.decode(raw[frames.HEAD.size :][: sizes[0]], b"")) == value


def test_a_bool_is_0_or_1() -> None:
    blob = frames.encode(frames.split("result", {"x": np.array([True, False])}))
    text = frames.HEAD.unpack(blob[:16])[0]
    header, tensors = blob[16 : 16 + text], blob[16 + text :]
    assert frames.decode(header, tensors).arrays["x"].tolist() == [True, False]
    with pytest.raises(FrameError, match="neither 0 nor 1"):
        frames.decode(header, tensors[:-1] + b"\x02")


def test_a_frame_above_the_limit_is_refused_before_anything_is_allocated() -> None:
    import socket

    left, right = socket.socketpair()
    left.sendall(frames.HEAD.pack(100, 2**40))
    with pytest.raises(FrameError, match="at most 1000"):
        FrameReader(1000).read(right)
    left.close()
    right.close()


@pytest.mark.slow
@pytest.mark.skipif(not Path("/usr/bin/python3").exists(), reason="no python that others may read")
@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be somebody else")
@pytest.mark.parametrize("kind", ["bubblewrap", "landlock"])
@pytest.mark.parametrize("uid", [0, 12345])
def test_the_walls_hold_for_other_users_and_interpreters(kind: str, uid: int) -> None:
    """Here the interpreter may lie where root alone can read; the system's can be read by all."""
    root = Path(__file__).parents[1]
    packages = next(p for p in sys.path if p.endswith("site-packages"))
    env = {"PYTHONPATH": f"{root}:{packages}", "PATH": os.environ["PATH"], "OMP_NUM_THREADS": "1"}
    command = ["/usr/bin/python3", "-m", "tests.attacks.run", kind]
    known = subprocess.run([*command[:1], "-c", "import torch, pytest, pydantic"], env=env,
                           capture_output=True, user=uid, group=uid)  # fmt: skip
    if known.returncode:
        pytest.skip(f"{command[0]} cannot use these packages: {known.stderr.decode()[-100:]}")
    done = subprocess.run(command, env=env, cwd=root, capture_output=True, text=True, user=uid,
                          group=uid, extra_groups=[])  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr[-2000:]


def test_the_example_of_the_docs_runs(tmp_path: Path) -> None:
    if sandbox.backend().name is None:
        pytest.skip(str(sandbox.backend()))
    text = (Path(__file__).parents[1] / "docs" / "sandbox.md").read_text(encoding="utf-8")
    code = text.split("```python\n")[1].split("```")[0]
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
