"""`mendel serve` as a process: start, ask, explain, SIGTERM, a second Ctrl-C; what it refuses."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest

from mendel.cli import main
from mendel.data.tokenizers import Bytes, Chars
from mendel.formats import native
from mendel.formats.sums import SUMS, check_sums
from mendel.generate import generate
from mendel.model import build
from mendel.spec import ModelSpec
from mendel.types import InputError

from . import serve_toy as toy

MENDEL = [sys.executable, "-m", "mendel"]
PINNED = ["--plan", "plain", "--port", "0"]  # nothing to prove but plain, and nothing to measure


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models") / "tiny"
    native.save(toy.tiny(), folder, Bytes())
    return folder


@pytest.fixture(scope="module")
def settled(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """An environment whose proofs are kept between the tests."""
    home = str(tmp_path_factory.mktemp("home"))
    return {**os.environ, "MENDEL_HOME": home, "OMP_NUM_THREADS": "1"}


@contextmanager
def served(
    folder: Path, env: dict[str, str], *flags: str, pinned: Sequence[str] = PINNED
) -> Iterator[tuple[Any, str]]:
    """The process, and its address."""
    process = subprocess.Popen(
        [*MENDEL, "serve", str(folder), *pinned, *flags],
        env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        assert process.stdout is not None and process.stderr is not None
        line = process.stdout.readline()
        found = re.search(r"http://\S+:\d+", line)
        assert found, line + process.stderr.read()
        yield process, found[0]
    finally:
        process.kill()
        process.communicate()


def mendel(*args: str, env: dict[str, str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*MENDEL, *args], env=env, capture_output=True, text=True, timeout=120, check=False
    )


def test_a_served_folder_answers_and_shows_itself_and_drains(
    folder: Path, settled: dict[str, str]
) -> None:
    with served(folder, settled) as (process, url):
        client = openai.OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0)
        answer = client.completions.create(
            model="tiny", prompt="once", max_tokens=12, temperature=0
        )
        wanted = generate(toy.tiny(), list(b"once"), n_tokens=12)
        assert answer.choices[0].text == Bytes().decode(wanted)
        status = mendel("serve", "status", "--url", url, "--json", env=settled)
        assert json.loads(status.stdout)["engine"]["n_done"] == 1, status.stderr
        shown = mendel("serve", "status", "--url", url, env=settled)
        assert shown.returncode == 0 and "plain" in shown.stdout
        told = mendel("serve", "explain", answer.id, "--url", url, env=settled)
        assert told.returncode == 0 and json.loads(told.stdout)
        unknown = mendel("serve", "explain", "cmpl-0", "--url", url, env=settled)
        assert unknown.returncode == 2 and "cmpl-0" in unknown.stderr
        with client.completions.create(
            model="tiny", prompt="ab", max_tokens=200, temperature=0, stream=True
        ) as stream:
            chunks = iter(stream)
            parts = [next(chunks)]
            process.send_signal(signal.SIGTERM)
            parts += list(chunks)
        text = "".join(chunk.choices[0].text for chunk in parts)
        assert text == Bytes().decode(generate(toy.tiny(), list(b"ab"), n_tokens=200))
        assert process.wait(60) == 0


def test_a_draft_model_beside_it_changes_no_text(
    folder: Path, settled: dict[str, str], tmp_path: Path
) -> None:
    native.save(build(toy.tiny().spec, seed=3), tmp_path / "small", Bytes())
    flags = ("--draft", str(tmp_path / "small"), "--plan", "model-4")
    with served(folder, settled, *flags) as (_, url):
        asked = {"prompt": "once", "max_tokens": 30, "temperature": 0}
        answer = httpx.post(f"{url}/v1/completions", json=asked, timeout=60).json()
        wanted = generate(toy.tiny(), list(b"once"), n_tokens=30)
        assert answer["choices"][0]["text"] == Bytes().decode(wanted)
        assert answer["mendel"]["plans"] == ["model-4"]
        why = httpx.get(f"{url}/v1/explain/{answer['id']}", timeout=60)
        assert why.status_code == 200, "plain is there to be set beside a pinned plan"
        seen = httpx.get(f"{url}/v1/observe", timeout=60).json()
        assert seen["engine"]["n_drafted"] > 0 and seen["engine"]["draft_bytes"] > 0


def test_a_second_ctrl_c_does_not_wait(settled: dict[str, str], tmp_path: Path) -> None:
    spec = toy.tiny().spec.model_dump(mode="json") | {"embedding": "token", "mixers": "attention"}
    native.save(build(ModelSpec.parse(spec)), tmp_path / "endless", Bytes())
    with served(tmp_path / "endless", settled, "--drain", "1h") as (process, url):
        asked = {"prompt": "a", "max_tokens": 1_000_000, "stream": True}  # minutes, at the least
        with httpx.stream("POST", f"{url}/v1/completions", json=asked, timeout=60) as answer:
            chunks = answer.iter_lines()
            next(chunks)
            # who reads nothing is cut off after a while, and a text that is cut is not waited for
            reader = threading.Thread(target=_read_to_the_end, args=(chunks,))
            reader.start()
            process.send_signal(signal.SIGINT)
            lines = [process.stderr.readline()]
            while "1 texts may end within" not in lines[-1]:
                assert lines[-1], f"the server ended ({process.wait(60)}): {''.join(lines)}"
                lines.append(process.stderr.readline())
            with pytest.raises(httpx.TransportError):
                while True:  # until it listens no more: then it drains
                    httpx.get(f"{url}/healthz")
            assert process.poll() is None
            process.send_signal(signal.SIGINT)
            assert process.wait(60) == 130
            reader.join()


def _read_to_the_end(chunks: Iterator[str]) -> None:
    with contextlib.suppress(httpx.TransportError):
        for _ in chunks:
            pass


@pytest.mark.slow
def test_a_deterministic_server_is_the_same_after_a_restart(
    folder: Path, settled: dict[str, str]
) -> None:
    """All plans are proven, an exact server learns, and frozen ones take its choice."""
    asked = {"prompt": "once once once", "max_tokens": 40, "seed": 7, "temperature": 1.0}

    def told(*flags: str) -> tuple[str, Any]:
        with served(folder, settled, "--port", "0", *flags, pinned=()) as (_, url):
            answers = [
                httpx.post(f"{url}/v1/completions", json=asked, timeout=60).json()
                for _ in range(20)
            ]
        assert len({answer["choices"][0]["text"] for answer in answers}) == 1
        return answers[-1]["choices"][0]["text"], answers[-1]["mendel"]

    text, _ = told()
    frozen = [told("--mode", "deterministic") for _ in range(2)]
    assert frozen[0] == frozen[1] and frozen[0][0] == text
    assert frozen[0][1]["mode"] == "deterministic" and frozen[0][1]["digests"]


def test_keys_of_a_file_are_wanted_and_tell_tenants_apart(
    folder: Path, settled: dict[str, str], tmp_path: Path
) -> None:
    keys = tmp_path / "keys"
    keys.write_text("ann " + "k" * 20 + "\n")
    with served(folder, settled, "--api-key-file", str(keys)) as (_, url):
        assert httpx.get(f"{url}/v1/models").status_code == 401
        assert httpx.get(f"{url}/healthz").status_code == 200
        headers = {"Authorization": "Bearer " + "k" * 20}
        assert httpx.get(f"{url}/v1/models", headers=headers).status_code == 200
        shown = mendel("serve", "status", "--url", url, "--api-key-file", str(keys), env=settled)
        assert shown.returncode == 0
        denied = mendel("serve", "status", "--url", url, env=settled)
        assert denied.returncode == 2 and "key" in denied.stderr


def test_what_cannot_be_served_is_refused_by_its_flag(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    small, chars = tmp_path / "small", tmp_path / "chars"
    native.save(toy.tiny(vocab=300), small)
    native.save(toy.tiny(), chars, Chars("".join(map(chr, range(256)))))

    def refusal(*args: str) -> str:
        monkeypatch.setattr(sys, "argv", ["mendel", "serve", *args])
        with pytest.raises(SystemExit) as caught:
            main()
        assert caught.value.code == 2
        return capsys.readouterr().err

    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        for flags, said in [
            (["--host", "0.0.0.0"], "--api-key-file"),
            (["--mode", "fast"], "--mode fast"),
            (["--dtype", "int8"], "--dtype int8"),
            (["--port", port], "another --port"),
            (["--max-memory", "1MB", "--port", "0"], "--max-memory"),
            (["--plan", "nope", "--port", "0"], "nope"),
            (["--plan", "model-4", "--port", "0"], "--draft"),
            (["--draft", str(small), "--port", "0"], "its vocab is 300"),
            (["--draft", str(chars), "--port", "0"], "its tokenizer is"),
            (["--draft", str(folder), "--max-memory", "25MB", "--port", "0"], "32 MB"),
        ]:
            assert said in refusal(str(folder), *flags)
    assert "no server" in refusal("status", "--url", "http://127.0.0.1:9")
    assert "absent" in refusal(str(folder.parent / "absent"), "--port", "0")


def test_weights_that_were_damaged_are_refused_by_their_sum(
    folder: Path, settled: dict[str, str], tmp_path: Path
) -> None:
    assert check_sums(folder) == 3
    broken = tmp_path / "broken"
    native.save(toy.tiny(), broken, Bytes())
    raw = bytearray((broken / "model.safetensors").read_bytes())
    raw[-5] ^= 0x10  # one bit of a weight: nothing else would notice
    (broken / "model.safetensors").write_bytes(raw)
    native.load(broken)
    done = mendel("serve", str(broken), *PINNED, env=settled)
    assert done.returncode == 2 and "model.safetensors" in done.stderr and "sha256" in done.stderr
    (broken / SUMS).write_text("nonsense\n")
    with pytest.raises(InputError, match="no sum"):
        check_sums(broken)
    (broken / SUMS).unlink()
    assert check_sums(broken) == 0


def test_sums_are_those_of_the_common_command(folder: Path) -> None:
    done = subprocess.run(
        ["sha256sum", "-c", SUMS], cwd=folder, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0 and "model.safetensors: OK" in done.stdout
