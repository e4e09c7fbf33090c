"""The project's own tests. They need pytest, numpy and onnxruntime: python -m pytest."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from predict import Model, ModelError

FOLDER = Path(__file__).resolve().parents[1]
GOLDEN: dict[str, Any] = json.loads((FOLDER / "golden.json").read_bytes())
TEXTS: list[str] = GOLDEN["texts"]
WEIRD = {
    "empty": "",
    "white space": " \t\r\n\u2028",
    "nul": "a\0b",
    "emoji": "👩‍👩‍👧‍👦🇫🇷 !?",
    "other scripts": "مرحبا שלום 你好 привет",
    "stacked accents": "e" + "\u0301\u0323" * 5_000,
    "unfolding": "\ufdfa" * 5_000,
    "half a surrogate pair": "a\ud83db",
    "unassigned": "\U000e01ef\uffff\ufeff",
    "one megabyte": "word " * 200_000,
    "one long word": "x" * 1_000_000,
}


@pytest.fixture(scope="module")
def model() -> Model:
    return Model()


def command(*args: str, given: bytes = b"") -> list[dict[str, Any]]:
    done = subprocess.run(
        [sys.executable, str(FOLDER / "predict.py"), *args], input=given, capture_output=True
    )
    assert done.returncode == 0, done.stderr.decode()
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_the_graph_gives_the_outputs_of_the_code_that_trained_it(model: Model) -> None:
    for text, wanted in zip(TEXTS, GOLDEN["outputs"], strict=True):
        found = model.outputs([text])[0]
        assert np.abs(found - np.array(wanted).reshape(found.shape)).max() <= GOLDEN["tolerance"]


def test_a_text_alone_has_the_outputs_that_it_has_in_a_batch(model: Model) -> None:
    texts = [*TEXTS, *(text for text in WEIRD.values() if len(text) < 2_000)]
    for text, together in zip(texts, model.outputs(texts), strict=True):
        alone = model.outputs([text])[0]  # of a tagger, as many rows as it has words
        assert np.abs(alone - together[: len(alone)]).max() <= 1e-3


@pytest.mark.parametrize("name", WEIRD)
def test_a_weird_text_is_answered(model: Model, name: str) -> None:
    [answer] = model.predict([WEIRD[name]])
    assert json.loads(json.dumps(answer.to_dict()))


def test_no_texts_are_no_answers(model: Model) -> None:
    assert model.predict([]) == []
    with pytest.raises(TypeError, match="one string"):
        model.predict("a text")
    with pytest.raises(TypeError, match="texts\\[1\\]"):
        model.predict(["a text", None])  # type: ignore[list-item]


def test_the_command_answers_arguments_as_the_library_does(model: Model) -> None:
    texts = [text for text in TEXTS if "\0" not in text and not text.startswith("-")][:3]
    for text, answer in zip(texts, command(*texts), strict=True):
        assert answer == json.loads(json.dumps(model.predict([text])[0].to_dict()))


def test_the_command_answers_each_line_in_order(model: Model) -> None:
    lines = [
        *(text.replace("\n", " ").replace("\r", " ") for text in TEXTS[:8]),
        "",
        "x" * 1_000_000,
    ]
    content = "\n".join(lines).encode("utf-8", "replace") + b"\n\xff\xfe\0\x80\n"
    answers = command("--batch", "4", given=content)
    assert len(answers) == len(lines) + 1
    assert [answer.keys() for answer in answers] == [answers[0].keys()] * len(answers)
    assert command(given="\n".join(lines).encode("utf-8", "replace"))[:8] == [
        json.loads(json.dumps(model.predict([line])[0].to_dict())) for line in lines[:8]
    ]


def test_a_stream_is_answered_line_by_line() -> None:
    process = subprocess.Popen(
        [sys.executable, str(FOLDER / "predict.py")], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert process.stdin and process.stdout
    for text in (b"first", b"second"):
        process.stdin.write(text + b"\n")
        process.stdin.flush()
        assert isinstance(json.loads(process.stdout.readline()), dict)  # before the input ends
    process.stdout.close()
    process.stdin.write(b"nobody reads this\n")
    process.stdin.close()
    assert process.wait(60) == 0


@pytest.mark.parametrize("name", ["model.onnx", "vocabulary.npz", "agent.json"])
def test_a_damaged_or_missing_file_is_refused(tmp_path: Path, name: str) -> None:
    for needed in (
        "predict.py",
        "answers.py",
        "conformal.py",
        "explain.py",
        "shipping.py",
        "model.onnx",
        "vocabulary.npz",
        "agent.json",
    ):
        shutil.copyfile(FOLDER / needed, tmp_path / needed)
    for package in FOLDER.glob("*model/"):
        shutil.copytree(package, tmp_path / package.name)
    content = bytearray((tmp_path / name).read_bytes())
    content[len(content) // 2] ^= 0x80
    (tmp_path / name).write_bytes(content)
    done = subprocess.run(
        [sys.executable, str(tmp_path / "predict.py"), "text"], capture_output=True, text=True
    )
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.startswith("refused: ") and done.stderr.count("\n") == 1
    assert name in done.stderr
    (tmp_path / name).unlink()
    with pytest.raises(ModelError, match=name):
        Model(tmp_path)


def test_answering_needs_numpy_and_onnxruntime_only() -> None:
    code = (
        "import sys, predict; predict.Model().predict(['text']); "
        "print(*{name.split('.')[0] for name in sys.modules})"
    )
    environment = {**os.environ, "PYTHONPATH": str(FOLDER)}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment
    )
    loaded = set(done.stdout.split())
    assert not loaded & {"mendel", "torch", "onnx", "safetensors", "sklearn", "scipy", "jinja2"}
