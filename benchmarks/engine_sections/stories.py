"""stories260K, one stream, greedy, 200 tokens: mendel beside transformers on the same weights."""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from mendel import formats
from mendel.formats import huggingface
from mendel.generate import generate

FILE = Path(__file__).parents[3] / "shared" / "data" / "stories260K" / "stories260K.bin"
N_TOKENS, N_RUNS, BOS = 200, 9, 1


def measure() -> dict[str, Any]:
    """Tokens a second, medians of runs that take turns; and whether the texts are equal."""
    loaded = formats.load(FILE)
    writers: dict[str, Callable[[], list[int]]] = {
        "mendel": lambda: list(generate(loaded.model, [BOS], n_tokens=N_TOKENS))
    }
    with tempfile.TemporaryDirectory() as name:
        huggingface.save(loaded.model, Path(name), loaded.tokenizer)
        writers["transformers"] = _transformers(Path(name))
        texts: dict[str, list[int]] = {}
        rates: dict[str, list[float]] = {writer: [] for writer in writers}
        for _ in range(N_RUNS + 1):
            for writer, write in writers.items():
                began = time.perf_counter()
                texts[writer] = write()
                rates[writer].append(len(texts[writer]) / (time.perf_counter() - began))
    rows: dict[str, Any] = {w: statistics.median(found[1:]) for w, found in rates.items()}
    assert texts["mendel"] == texts["transformers"], "a peer writes the same text"
    print(rows, flush=True)
    return rows


def _transformers(folder: Path) -> Callable[[], list[int]]:
    from transformers import LlamaForCausalLM

    model = LlamaForCausalLM.from_pretrained(folder, torch_dtype=torch.float32).eval()
    prompt = torch.tensor([[BOS]])

    def write() -> list[int]:
        with torch.inference_mode():
            ids = model.generate(
                prompt, attention_mask=torch.ones_like(prompt), max_new_tokens=N_TOKENS,
                do_sample=False, use_cache=True, eos_token_id=None, pad_token_id=0,
            )  # fmt: skip
        found: list[int] = ids[0, 1:].tolist()
        return found

    return write
