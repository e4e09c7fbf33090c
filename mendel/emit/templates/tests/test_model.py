"""The project's own tests. They need pytest, numpy and onnxruntime: python -m pytest."""

from __future__ import annotations

import json
import math
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


def test_the_graph_gives_the_logits_of_the_code_that_trained_it(model: Model) -> None:
    difference = np.abs(model.logits(TEXTS) - np.array(GOLDEN["logits"]))
    assert difference.max() <= GOLDEN["tolerance"]


def test_a_text_alone_is_answered_as_in_a_batch(model: Model) -> None:
    texts = [*TEXTS, *WEIRD.values()]
    together = model.predict(texts, top=len(model.labels))
    for text, answer in zip(texts, together, strict=True):
        alone = model.predict([text], top=len(model.labels))[0]
        assert dict(alone.top) == pytest.approx(dict(answer.top), abs=1e-4)


def test_every_label_can_be_listed_and_shares_sum_to_one(model: Model) -> None:
    for answer in model.predict(TEXTS, top=len(model.labels), abstain=False):
        assert sorted(label for label, _ in answer.top) == sorted(model.labels)
        assert math.isclose(sum(p for _, p in answer.top), 1, rel_tol=1e-9)
        assert answer.label == answer.top[0][0]
        assert answer.probability == max(p for _, p in answer.top)


def test_it_abstains_below_the_threshold_and_only_there(model: Model) -> None:
    for answer in model.predict(TEXTS):
        assert (answer.label is None) == (answer.probability < model.threshold)


@pytest.mark.parametrize("name", WEIRD)
def test_a_weird_text_is_answered(model: Model, name: str) -> None:
    answer = model.predict([WEIRD[name]], abstain=False)[0]
    assert answer.label in model.labels
    assert 0 < answer.probability <= 1


def test_no_texts_are_no_answers(model: Model) -> None:
    assert model.predict([]) == []
    with pytest.raises(TypeError, match="one string"):
        model.predict("a text")
    with pytest.raises(TypeError, match="texts\\[1\\]"):
        model.predict(["a text", None])  # type: ignore[list-item]


def test_the_command_answers_arguments_as_the_library_does(model: Model) -> None:
    texts = [text for text in TEXTS if "\0" not in text and not text.startswith("-")][:3]
    expected = [json.loads(json.dumps(a.to_dict())) for a in model.predict(texts, top=2)]
    for answer, wanted in zip(command("--top", "2", *texts), expected, strict=True):
        assert answer["label"] == wanted["label"]
        assert answer["probability"] == pytest.approx(wanted["probability"], abs=1e-4)
        assert len(answer["top"]) == min(2, len(model.labels))
    assert command("--no-abstain", "x")[0]["label"] in model.labels


def test_the_command_answers_each_line_in_order(model: Model) -> None:
    lines = [
        *(text.replace("\n", " ").replace("\r", " ") for text in TEXTS[:8]),
        "",
        "x" * 1_000_000,
    ]
    content = "\n".join(lines).encode("utf-8", "replace") + b"\n\xff\xfe\0\x80\n"
    answers = command("--batch", "4", given=content)
    assert len(answers) == len(lines) + 1
    for line, answer in zip(lines, answers, strict=False):
        assert answer["probability"] == pytest.approx(
            model.predict([line])[0].probability, abs=1e-4
        )


def test_a_stream_is_answered_line_by_line() -> None:
    process = subprocess.Popen(
        [sys.executable, str(FOLDER / "predict.py")], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert process.stdin and process.stdout
    for text in (b"first", b"second"):
        process.stdin.write(text + b"\n")
        process.stdin.flush()
        assert "probability" in json.loads(process.stdout.readline())  # before the input ends
    process.stdout.close()
    process.stdin.write(b"nobody reads this\n")
    process.stdin.close()
    assert process.wait(60) == 0


@pytest.mark.parametrize("name", ["model.onnx", "vocabulary.npz", "agent.json"])
def test_a_damaged_or_missing_file_is_refused(tmp_path: Path, name: str) -> None:
    for needed in ("predict.py", "model.onnx", "vocabulary.npz", "agent.json"):
        shutil.copyfile(FOLDER / needed, tmp_path / needed)
    shutil.copytree(FOLDER / "textmodel", tmp_path / "textmodel")
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
