"""Answer texts: a command and a library. Needs numpy and onnxruntime, nothing else.

    python predict.py "where is my parcel"     one JSON object for each text
    python predict.py < messages.txt           one for each line, in order, as the lines come
    python predict.py --why "where is it"      besides, the words that decided

    from predict import Model
    Model().predict(["where is my parcel"])[0]

What an answer is, answers.py says. Every text has one, also an empty text or one in no known
language. Only the first 20,000 characters of a text are read.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import onnxruntime
from answers import Answer, Decoder, Featurizer, add_flags, options_of
from explain import can_explain, why
from numpy.typing import NDArray
from shipping import FORMAT

HERE = Path(__file__).resolve().parent
BATCH = 64  # texts that are run at once at most
LONG = 2_000  # characters; a longer text is run by itself, so that memory stays small


class ModelError(Exception):
    """The model's files are missing, damaged or of another version."""


class Model:
    """The model in a folder. One object may be used from many threads.

    raises   ModelError where a file is not the one that was shipped
    """

    def __init__(self, folder: Path = HERE, threads: int = 1) -> None:
        self.folder = Path(folder)
        self.agent = _read_agent(self.folder)
        self.labels: list[str] = self.agent["labels"]
        graph = _checked(self.folder, "model.onnx", self.agent)
        _checked(self.folder, "vocabulary.npz", self.agent)
        self.features = Featurizer.load(self.folder / "vocabulary.npz")
        try:
            self.decoder = Decoder(self.agent, self.features)
        except (KeyError, ValueError, TypeError):
            raise ModelError("refused: agent.json is damaged") from None
        self._session = _session(graph, threads)
        self._steps = hasattr(self.decoder, "attach")  # one that runs the model step by step
        if self._steps:
            self.decoder.attach(self._session)
        self._inputs = [node.name for node in self._session.get_inputs()]
        n_outputs = self.outputs([""]).shape[-1]  # the first run is slow: take it here
        if n_outputs != self.decoder.n_outputs:
            wanted = self.decoder.n_outputs
            raise ModelError(f"refused: model.onnx has {n_outputs} outputs, agent.json {wanted}")

    def predict(self, texts: Sequence[str], **options: Any) -> list[Answer]:
        """One answer for each text, in order; the options are those of `answers.Decoder`."""
        if isinstance(texts, str):
            raise TypeError("texts is one string. Wanted a list: predict([text]).")
        answers: list[Answer] = []
        for batch in _batches(texts):
            outputs = None if self._steps else self.outputs(batch)
            answers += self.decoder(batch, outputs, **options)
        return answers

    def stream(self, lines: Iterable[str], *, batch: int = 1, **options: Any) -> Iterator[Answer]:
        """Answers as the lines come; a batch above 1 is faster and waits until it is full."""
        rest = iter(lines)
        while texts := list(islice(rest, batch)):
            yield from self.predict(texts, **options)

    def explain(self, text: str) -> list[dict[str, Any]]:
        """The words that decided the answer, weightiest first (explain.py).

        raises   ValueError for a kind of model that cannot say why
        """
        return why(self, text)

    def outputs(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """What model.onnx gives for the texts, before it is made an answer."""
        arrays = self.features.arrays(texts)
        feed = {name: arrays[name] for name in self._inputs}
        return np.asarray(self._session.run(None, feed)[0])


def _read_agent(folder: Path) -> dict[str, Any]:
    try:
        agent: dict[str, Any] = json.loads((folder / "agent.json").read_bytes())
        version = agent["format"]
        _ = [agent[name] for name in ("labels", "settings")]
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
    parser = argparse.ArgumentParser(description="Answer texts, one JSON object a line.")
    parser.add_argument("texts", nargs="*", help="without any, lines are read from stdin")
    add_flags(parser)
    parser.add_argument(
        "--batch", type=_positive, default=1, help="lines at once: faster, but waits for them (1)"
    )
    parser.add_argument(
        "--why", action="store_true", help="add the words that decided: a text more for each word"
    )
    return parser


def _answers(
    model: Model, lines: Iterable[str], args: argparse.Namespace
) -> Iterator[dict[str, Any]]:
    if not args.why:
        for answer in model.stream(lines, batch=args.batch, **options_of(args)):
            yield answer.to_dict()
        return
    for text in lines:
        [answer] = model.predict([text], **options_of(args))
        yield {**answer.to_dict(), "why": model.explain(text)}


def main() -> int:
    args = _parser().parse_args()
    try:
        model = Model()
    except ModelError as error:
        print(error, file=sys.stderr)
        return 2
    if args.why and not can_explain(model):
        print("this kind of model cannot say why: leave out --why", file=sys.stderr)
        return 2
    given = [os.fsencode(text).decode("utf-8", "replace") for text in args.texts]
    lines: Iterable[str] = given or _decoded(sys.stdin.buffer)
    fit = True  # unless an answer says that what it was asked to compare does not
    try:
        for answer in _answers(model, lines, args):
            print(json.dumps(answer), flush=True)
            fit = fit and answer.get("fits", True)
    except BrokenPipeError:  # who read us has seen enough, as `head` has
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except KeyboardInterrupt:
        return 130
    return 0 if fit else 1


if __name__ == "__main__":
    sys.exit(main())
