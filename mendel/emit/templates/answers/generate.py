"""What this model answers: a prompt written on, or what a text costs in bits."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from writermodel.features import Featurizer, symbols
from writermodel.runner import Runner
from writermodel.sampling import Sampler

__all__ = ["SIGNATURE", "TIMED", "Answer", "Decoder", "Featurizer", "add_flags", "options_of",
           "requested"]  # fmt: skip

SIGNATURE = {
    "input": "list of prompts, which may be empty; the first 20,000 characters of each are read",
    "output": "for each prompt: text, the prompt and what comes after it, until the text ends",
}
LENGTH = 200  # bytes that are written at most
MOST = 10_000  # that may be asked for
TIMED = {"length": 1}  # benchmark.py times a prompt and the first byte after it
RUNS = 500  # of it at most
OPTIONS: dict[str, type] = {
    **{"temperature": float, "top_p": float, "seed": int, "length": int, "n": int, "score": bool}
}


@dataclass(frozen=True)
class Answer:
    """One prompt's answer.

    texts   the prompt and what comes after it, several times where asked for
    bits    where the text was to be scored: what it costs, its end included; n_bytes likewise
    """

    texts: tuple[str, ...] = ()
    bits: float | None = None
    n_bytes: int = 0

    def to_dict(self) -> dict[str, Any]:
        if self.bits is not None:
            each = self.bits / self.n_bytes
            return {"bits": self.bits, "bytes": self.n_bytes, "bits_per_byte": each}
        more = {"texts": list(self.texts)} if len(self.texts) > 1 else {}
        return {"text": self.texts[0], **more}


class Decoder:
    """Runs the model itself, step by step, by the session that predict.py attaches."""

    def __init__(self, agent: Mapping[str, Any], features: Featurizer) -> None:
        self.n_outputs = 1  # of an empty text: what its end costs
        self._features = features

    def attach(self, session: Any) -> None:
        self._runner = Runner(session, self._features)

    def __call__(
        self,
        texts: Sequence[str],
        outputs: None,
        *,
        score: bool = False,
        temperature: float = 0.8,
        top_p: float = 1.0,
        seed: int = 0,
        length: int = LENGTH,
        n: int = 1,
    ) -> list[Answer]:
        """temperature 0: always the likeliest byte; n texts have the seeds seed, seed + 1, ...

        raises   ValueError for a number out of range
        """
        if score:
            costs = self._runner.bits(texts)
            return [
                Answer((), b, len(symbols(t)) + 1)
                for t, b in zip(texts, costs.tolist(), strict=True)
            ]
        if not (0 <= length <= MOST and 1 <= n <= MOST):
            raise ValueError(f"length={length}, n={n}. Wanted 0 and 1 to {MOST:,}.")
        samplers = [Sampler(temperature, top_p, seed + i) for i in range(n)]
        write = self._runner.texts  # one by one: a draw does not depend on what is drawn beside it
        return [Answer(tuple(write(t, [s], length)[0] for s in samplers)) for t in texts]


def add_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--temperature", type=_at_least(0.0), default=0.8, help="0: likeliest (.8)")
    parser.add_argument("--top-p", type=_share, default=1.0, help="share to draw from (1)")
    parser.add_argument("--seed", type=_whole(0), default=0, help="of the draws (0)")
    parser.add_argument("--length", type=_whole(0), default=LENGTH, help=f"bytes ({LENGTH})")
    parser.add_argument("--n", type=_whole(1), default=1, help="texts a prompt (1)")
    parser.add_argument("--score", action="store_true", help="say what each text costs, in bits")


def options_of(args: argparse.Namespace) -> dict[str, Any]:
    return {name: getattr(args, name) for name in OPTIONS}


def requested(given: Mapping[str, Any]) -> dict[str, Any]:
    """The options in a request's body; raises ValueError for one out of range."""
    found = {name: given[name] for name in OPTIONS if name in given}
    for name, value in found.items():
        fits = isinstance(value, OPTIONS[name]) or (OPTIONS[name] is float and type(value) is int)
        if not fits or (isinstance(value, bool) and OPTIONS[name] is not bool):
            raise ValueError(f"{name}={value!r}. Wanted {OPTIONS[name].__name__}.")
    n, length, texts = found.get("n", 1), found.get("length", LENGTH), given.get("texts", ())
    n_steps = n * (length + 1) * max(len(texts) if isinstance(texts, list) else 1, 1)
    if n < 1 or length < 0 or n_steps > MOST:
        raise ValueError(f"texts times n times length. Wanted 1 to {MOST:,}.")
    if found.get("seed", 0) + n > 2**64:
        raise ValueError(f"seed={found['seed']}. Wanted less than 2**64 - n.")
    Sampler(**{name: found[name] for name in ("temperature", "top_p", "seed") if name in found})
    return found


def _whole(least: int) -> Any:
    def number(value: str) -> int:
        found = int(value)
        if not least <= found <= MOST:
            raise argparse.ArgumentTypeError(f"{value}: wanted {least} to {MOST:,}")
        return found

    return number


def _at_least(least: float) -> Any:
    def number(value: str) -> float:
        found = float(value)
        if not least <= found < float("inf"):
            raise argparse.ArgumentTypeError(f"{value}: wanted {least:g} or more")
        return found

    return number


def _share(value: str) -> float:
    found = float(value)
    if not 0 < found <= 1:
        raise argparse.ArgumentTypeError(f"{value}: wanted more than 0, at most 1")
    return found
