"""The readable file against the engine: one model, one init, equal losses; time a name and a token.

Peers: microgpt.py itself, in pure Python, in the same process.
"""

from __future__ import annotations

import math
import statistics
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from random import Random
from typing import Any

import torch
from torch import Tensor

sys.path.insert(0, str(Path(__file__).parents[2]))

import microgpt
from mendel.generate import generate
from mendel.model import Model
from mendel.train.optim import AdamW, OptimSpec
from tests.test_train import as_microgpt

NAMES = Path(__file__).parents[3] / "shared" / "data" / "names" / "names.txt"
N_EQUAL, N_PIECES, BATCHES = 200, 4, (1, 16, 64, 256, 1024)
ADAM = OptimSpec(kind="adamw", lr=0.01, beta1=0.85, beta2=0.99, weight_decay=0.0)


def begin() -> tuple[microgpt.GPT, list[str]]:
    rng = Random(42)
    docs = NAMES.read_text().split()
    rng.shuffle(docs)
    return microgpt.GPT(docs, rng, 16, 4, 1, 16), docs


def encode(reference: microgpt.GPT, docs: Sequence[str]) -> tuple[Tensor, Tensor]:
    """x, y (B, 16); behind a name's end there is nothing to predict."""
    rows = [[reference.bos, *map(reference.chars.index, doc), reference.bos] for doc in docs]
    longest = max(map(len, rows)) - 1
    x = [row[:-1] + [0] * (longest + 1 - len(row)) for row in rows]
    y = [row[1:] + [-1] * (longest + 1 - len(row)) for row in rows]
    return torch.tensor(x), torch.tensor(y)


Pieces = list[tuple[Tensor, Tensor]]


def by_length(reference: microgpt.GPT, docs: Sequence[str]) -> Pieces:
    """A batch in pieces of like length, so that little of it is padding."""
    ordered = sorted(docs, key=len)
    size = -(-len(ordered) // N_PIECES) if len(ordered) >= 16 * N_PIECES else len(ordered)
    return [encode(reference, ordered[i : i + size]) for i in range(0, len(ordered), size)]


class Engine:
    """The engine's model and optimiser; a batch's loss is the mean over its names."""

    def __init__(self, model: Model) -> None:
        self.model, self.params = model, dict(model.named_parameters())
        self.optimizer = AdamW(self.params, ADAM)

    def losses(self, x: Tensor, y: Tensor) -> Tensor:
        """(B,) of each name, the mean over its tokens."""
        nats = torch.nn.functional.cross_entropy(
            self.model(x)[0].transpose(1, 2), y, ignore_index=-1, reduction="none"
        )
        return nats.sum(1) / (y >= 0).sum(1)

    def learn(self, batch: Pieces, share: float) -> Tensor:
        losses = torch.cat([self.losses(x, y) for x, y in batch])
        grads = torch.autograd.grad(losses.mean(), list(self.params.values()))
        self.optimizer.step(dict(zip(self.params, grads, strict=True)), share)
        return losses


def largest_difference() -> dict[str, float]:
    """Of losses, over training steps one name each, and over one batch at the weights reached."""
    reference, docs = begin()
    engine = Engine(as_microgpt(reference))
    worst = 0.0
    for step in range(N_EQUAL):
        loss = engine.learn(by_length(reference, [docs[step]]), 1 - step / N_EQUAL).item()
        worst = max(worst, abs(loss - reference.learn(docs[step], 0.01 * (1 - step / N_EQUAL))))
    names = docs[1000:1032]
    batch = engine.losses(*encode(reference, names)).tolist()
    alone = [statistics.fmean(v.data for v in reference.losses(name)) for name in names]
    return {
        "steps": N_EQUAL,
        "unbatched": worst,
        "batched": max(abs(a - b) for a, b in zip(batch, alone, strict=True)),
    }


def seconds(call: Callable[[], object], n: int) -> float:
    """Median of n calls, after one that warms up."""
    call()
    times = []
    for _ in range(n):
        began = time.perf_counter()
        call()
        times.append(time.perf_counter() - began)
    return statistics.median(times)


def training() -> dict[str, Any]:
    """Microseconds a name: the file, and the engine in float64 and float32, by batch."""
    reference, docs = begin()
    step = iter(range(10**9))
    rows: dict[str, Any] = {
        "microgpt.py": 1e6 * seconds(lambda: reference.learn(docs[next(step)], 0.005), 100)
    }
    for dtype in (torch.float64, torch.float32):
        engine = Engine(as_microgpt(reference).to(dtype))
        for B in BATCHES:
            batches = [by_length(reference, docs[i * B : (i + 1) * B]) for i in range(31)]
            turn = iter(batches * 10)
            found = seconds(lambda e=engine, t=turn: e.learn(next(t), 0.5), 100 if B < 256 else 30)
            rows[f"engine, {str(dtype).removeprefix('torch.')}, batch {B}"] = 1e6 * found / B
    return rows


def generation() -> dict[str, Any]:
    """Tokens a second of one stream, drawn at temperature 0.5; both write whole names."""
    reference, docs = begin()
    for doc in docs[:50]:
        reference.learn(doc, 0.01)
    model = as_microgpt(reference).float()
    rng = Random(0)

    def file() -> int:
        return len(reference.sample(rng)) + 1

    def engine(seed: int) -> int:
        bos = reference.bos
        made = generate(model, [bos], n_tokens=15, temperature=0.5, seed=seed, stop={bos})
        return sum(1 for _ in made) + 1

    rates: dict[str, float] = {}
    for name, write, n in (("microgpt.py", lambda i: file(), 200), ("engine", engine, 2000)):
        write(0)
        began, tokens = time.perf_counter(), 0
        for i in range(n):
            tokens += write(i)
        rates[name] = tokens / (time.perf_counter() - began)
    return rates


def ngram_floor(n: int) -> float:
    """Nats a token of n-grams on the split of `microgpt.py --holdout`: Witten and Bell 1991.

    p(c | context) = (count(c) + distinct * p(c | one less)) / (all + distinct)
    """
    docs, held = microgpt.split(NAMES.read_text().split())
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    for past, char in places(docs, n):
        for length in range(n):
            counts[past[n - 1 - length :]][char] += 1
    n_chars = len(counts[""])

    def chance(past: str, char: str) -> float:
        p = 1 / n_chars
        for length in range(n):
            seen = counts.get(past[n - 1 - length :])
            if seen is None:
                break
            p = (seen[char] + len(seen) * p) / (seen.total() + len(seen))
        return p

    return statistics.fmean(-math.log(chance(*place)) for place in places(held, n))


def places(docs: Sequence[str], n: int) -> Iterator[tuple[str, str]]:
    """Each character and the n - 1 before it; ^ begins and $ ends a name."""
    for doc in docs:
        text = "^" * (n - 1) + doc + "$"
        for i in range(n - 1, len(text)):
            yield text[i - n + 1 : i], text[i]


def measure() -> dict[str, Any]:
    rows: dict[str, Any] = {
        "n-grams, nats a token": {str(n): ngram_floor(n) for n in range(2, 7)},
        "largest difference of losses": largest_difference(),
        "microseconds a name": training(),
        "tokens a second": generation(),
    }
    for name, row in rows.items():
        print(name, row, flush=True)
    return rows
