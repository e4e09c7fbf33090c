"""Label texts: a command and a library. Needs numpy and onnxruntime, nothing else.

    python predict.py "where is my parcel"     one JSON object for each text
    python predict.py < messages.txt           one for each line, in order, as the lines come

    from predict import Model
    Model().predict(["where is my parcel"])[0].label

Every text has an answer, also an empty one or one in no known language: what the model knows
about it then is in the probability. Only the first 20,000 characters of a text are read.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import onnxruntime
from numpy.typing import NDArray
from textmodel.features import Featurizer

HERE = Path(__file__).resolve().parent
FORMAT = 1  # of agent.json, as this file reads it
BATCH = 64  # texts that are run at once at most
LONG = 2_000  # characters; a longer text is run by itself, so that memory stays small


class ModelError(Exception):
    """The model's files are missing, damaged or of another version."""


@dataclass(frozen=True)
class Prediction:
    """The answer for one text.

    label         the best label; None when its probability is below the threshold
    probability   of the best label, calibrated
    top           the best labels with their probabilities, best first
    """

    label: str | None
    probability: float
    top: list[tuple[str, float]]

    def to_dict(self) -> dict[str, Any]:
        top = [{"label": label, "probability": round(p, 6)} for label, p in self.top]
        return {"label": self.label, "probability": round(self.probability, 6), "top": top}


class Model:
    """The model in a folder. One object may be used from many threads.

    raises   ModelError where a file is not the one that was shipped
    """

    def __init__(self, folder: Path = HERE, threads: int = 1) -> None:
        self.folder = Path(folder)
        self.agent = _read_agent(self.folder)
        self.labels: list[str] = self.agent["labels"]
        self.threshold: float = self.agent["threshold"]
        self._temperature: float = self.agent["temperature"]
        graph = _checked(self.folder, "model.onnx", self.agent)
        _checked(self.folder, "vocabulary.npz", self.agent)
        self.features = Featurizer.load(self.folder / "vocabulary.npz")
        self._session = _session(graph, threads)
        self._inputs = [node.name for node in self._session.get_inputs()]
        n_logits = self.logits([""]).shape[1]  # the first run is slow: take it here
        if n_logits != len(self.labels):
            raise ModelError(
                f"refused: model.onnx has {n_logits} labels, agent.json {len(self.labels)}"
            )

    def predict(
        self, texts: Sequence[str], *, top: int = 3, abstain: bool = True
    ) -> list[Prediction]:
        """One answer for each text, in order. With abstain=False, the label is never None."""
        if isinstance(texts, str):
            raise TypeError("texts is one string. Wanted a list: predict([text]).")
        threshold = self.threshold if abstain else 0.0
        answers = []
        for batch in _batches(texts):
            shares = self.probabilities(batch)
            order = np.argsort(-shares, axis=1, kind="stable")[:, :top].tolist()
            for best, row in zip(order, shares.tolist(), strict=True):
                found = [(self.labels[i], row[i]) for i in best]
                label, share = found[0]
                answers.append(Prediction(None if share < threshold else label, share, found))
        return answers

    def stream(
        self, lines: Iterable[str], *, batch: int = 1, top: int = 3, abstain: bool = True
    ) -> Iterator[Prediction]:
        """Answers as the lines come; a batch above 1 is faster and waits until it is full."""
        rest = iter(lines)
        while texts := list(islice(rest, batch)):
            yield from self.predict(texts, top=top, abstain=abstain)

    def probabilities(self, texts: Sequence[str]) -> NDArray[np.float64]:
        """(B, K), each row sums to 1."""
        scaled = self.logits(texts).astype(np.float64) / self._temperature
        shares = np.exp(scaled - scaled.max(1, keepdims=True))
        return np.asarray(shares / shares.sum(1, keepdims=True))

    def logits(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """(B, K), as model.onnx gives them."""
        arrays = self.features.arrays(texts)
        feed = {name: arrays[name] for name in self._inputs}
        return np.asarray(self._session.run(["logits"], feed)[0])


def _read_agent(folder: Path) -> dict[str, Any]:
    try:
        agent: dict[str, Any] = json.loads((folder / "agent.json").read_bytes())
        version = agent["format"]
        _ = [agent[name] for name in ("labels", "threshold", "temperature")]
        _ = [agent["sha256"][name] for name in ("model.onnx", "vocabulary.npz")]
    except OSError as error:
        raise ModelError(f"refused: cannot read agent.json: {error.strerror}") from None
    except (ValueError, KeyError, TypeError):
        raise ModelError("refused: agent.json is damaged") from None
    if version != FORMAT:
        raise ModelError(f"refused: agent.json has format {version}, predict.py reads {FORMAT}")
    return agent


def _checked(folder: Path, name: str, agent: dict[str, Any]) -> bytes:
    """The file's content, if it is the one that agent.json names."""
    try:
        content = (folder / name).read_bytes()
    except OSError as error:
        raise ModelError(f"refused: cannot read {name}: {error.strerror}") from None
    if hashlib.sha256(content).hexdigest() != agent["sha256"][name]:
        raise ModelError(f"refused: {name} is not the file that was shipped")
    return content


def _session(graph: bytes, threads: int) -> Any:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
    options.log_severity_level = 3
    try:
        return onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime's own classes differ between versions
        reason = " ".join(str(error).split())
        version = onnxruntime.__version__
        raise ModelError(f"refused: onnxruntime {version} cannot run it: {reason}") from error


def _batches(texts: Sequence[str]) -> Iterator[Sequence[str]]:
    """Runs of up to BATCH texts in order; a long text is alone."""
    begin = 0
    for i, text in enumerate(texts):
        if not isinstance(text, str):
            raise TypeError(f"texts[{i}] is {type(text).__name__}. Wanted str.")
        if len(text) > LONG:
            if begin < i:
                yield texts[begin:i]
            yield texts[i : i + 1]
            begin = i + 1
        elif i + 1 - begin == BATCH:
            yield texts[begin : i + 1]
            begin = i + 1
    if begin < len(texts):
        yield texts[begin:]


def _decoded(source: BinaryIO) -> Iterator[str]:
    """Lines of UTF-8; bytes that are none become the replacement character."""
    for i, line in enumerate(source):
        text = line.decode("utf-8", "replace").rstrip("\r\n")
        yield text.removeprefix("\ufeff") if i == 0 else text


def _positive(value: str) -> int:
    number = int(value)
    if number < 1:
        raise ValueError
    return number


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description="Label texts, one JSON object a line.")
    parser.add_argument("texts", nargs="*", help="without any, lines are read from stdin")
    parser.add_argument("--top", type=_positive, default=3, help="labels listed (3)")
    parser.add_argument("--no-abstain", action="store_true", help="always name the best label")
    parser.add_argument(
        "--batch", type=_positive, default=1, help="lines at once: faster, but waits for them (1)"
    )
    return parser


def main() -> int:
    args = _parser().parse_args()
    try:
        model = Model()
    except ModelError as error:
        print(error, file=sys.stderr)
        return 2
    given = [os.fsencode(text).decode("utf-8", "replace") for text in args.texts]
    lines: Iterable[str] = given or _decoded(sys.stdin.buffer)
    abstain = not args.no_abstain
    try:
        for answer in model.stream(lines, batch=args.batch, top=args.top, abstain=abstain):
            print(json.dumps(answer.to_dict()), flush=True)
    except BrokenPipeError:  # who read us has seen enough, as `head` has
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
