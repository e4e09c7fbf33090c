"""The same weights in other engines: (prompt, n tokens) -> ids, greedily, one stream.

What cannot be imported, or fails on the first prompt, is left out with the reason in print.
"""

from __future__ import annotations

import os
import tempfile
import warnings
from argparse import Namespace
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch

from mendel import formats
from mendel.formats import huggingface
from serve_sections.gguf_file import write_gguf

Write = Callable[[Sequence[int], int], list[int]]
LOOKUPS = (4, 10)
PROBE = ([5, 6, 7, 5, 6, 7, 5, 6], 4)


def available(options: Namespace, loaded: formats.Loaded) -> dict[str, Write]:
    """By name; those of options.peers, or all that work here."""
    torch.set_num_threads(options.threads)
    found = {}
    with tempfile.TemporaryDirectory() as name, _quiet():
        folder = Path(name)
        huggingface.save(loaded.model, folder, loaded.tokenizer)
        for name, make in makers(folder, options).items():
            if options.peers and not any(name.startswith(asked) for asked in options.peers):
                continue
            try:
                write = make()
                write(*PROBE)
            except Exception as error:  # a peer that does not run here is no result of ours
                why = f"{type(error).__name__}: {str(error).strip()[:160]}"
                print(f"  without {name}: {why}", flush=True)
                continue
            found[name] = write
    return found


def makers(folder: Path, options: Namespace) -> dict[str, Callable[[], Write]]:
    dtype = torch.bfloat16 if options.dtype == "bf16" else torch.float32
    found: dict[str, Callable[[], Write]] = {
        "transformers eager": lambda: transformers(folder, dtype),
        "transformers last prefix": lambda: prefix_kept(folder, dtype),
        "transformers static": lambda: transformers(folder, dtype, cache_implementation="static"),
        "transformers compiled": lambda: compiled(folder, dtype),
    }
    for n in LOOKUPS:
        found[f"transformers lookup {n}"] = lambda n=n: transformers(
            folder, dtype, prompt_lookup_num_tokens=n
        )
    found["torchao int8 (lossy)"] = lambda: int8(folder, dtype)
    found["llama.cpp"] = lambda: llama_cpp(folder, options)
    return found


def transformers(folder: Path, dtype: torch.dtype, **how: Any) -> Write:
    return _writer(_model(folder, dtype), **how)


def _model(folder: Path, dtype: torch.dtype) -> Any:
    from transformers import AutoModelForCausalLM
    from transformers.utils import logging

    logging.disable_progress_bar()
    return AutoModelForCausalLM.from_pretrained(folder, dtype=dtype).eval()


def _writer(model: Any, **how: Any) -> Write:
    model.generation_config.eos_token_id = None
    model.generation_config.pad_token_id = 0

    def write(prompt: Sequence[int], n: int) -> list[int]:
        ids = torch.tensor([list(prompt)])
        with torch.inference_mode(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            out = model.generate(
                ids, attention_mask=torch.ones_like(ids), max_new_tokens=n, min_new_tokens=n,
                do_sample=False, use_cache=True, **how,
            )  # fmt: skip
        found: list[int] = out[0, len(prompt) :].tolist()
        return found

    return write


def prefix_kept(folder: Path, dtype: torch.dtype) -> Write:
    """What a careful user adds by hand: keys and values of what this prompt and the last share."""
    from transformers import DynamicCache

    model, kept = _model(folder, dtype), {"ids": [], "cache": DynamicCache()}
    model.generation_config.eos_token_id, model.generation_config.pad_token_id = None, 0

    def write(prompt: Sequence[int], n: int) -> list[int]:
        same = 0
        for ours, its in zip(prompt[:-1], kept["ids"], strict=False):
            if ours != its:
                break
            same += 1
        cache = kept["cache"] if same else DynamicCache()
        if (n_over := cache.get_seq_length() - same) > 0:
            cache.crop(-n_over)
        ids = torch.tensor([list(prompt)])
        with torch.inference_mode():
            out = model.generate(
                ids, attention_mask=torch.ones_like(ids), max_new_tokens=n, min_new_tokens=n,
                do_sample=False, past_key_values=cache,
            )  # fmt: skip
        kept["ids"], kept["cache"] = out[0, :-1].tolist(), cache  # the last one was never read
        found: list[int] = out[0, len(prompt) :].tolist()
        return found

    return write


def compiled(folder: Path, dtype: torch.dtype) -> Write:
    """Its static cache and torch.compile; the first prompts compile, and are not counted."""
    model = _model(folder, dtype)
    model.forward = torch.compile(model.forward, dynamic=True)
    return _writer(model, cache_implementation="static")


def int8(folder: Path, dtype: torch.dtype) -> Write:
    """Weights and activations in int8: not the same model any more."""
    from torchao.quantization import Int8DynamicActivationInt8WeightConfig, quantize_

    model = _model(folder, dtype)
    quantize_(model, Int8DynamicActivationInt8WeightConfig())
    return _writer(model)


def llama_cpp(folder: Path, options: Namespace) -> Write:
    """Its own prefix reuse between prompts is on, as it is by default."""
    from llama_cpp import Llama

    file = folder / f"model-{options.dtype}.gguf"
    write_gguf(folder, file, options.dtype)
    kind = {"type_k": 1, "type_v": 1} if options.dtype == "bf16" else {"type_k": 0, "type_v": 0}
    llm = Llama(
        str(file), n_ctx=2048, n_threads=options.threads, n_threads_batch=options.threads,
        verbose=False, **kind,
    )  # fmt: skip

    def write(prompt: Sequence[int], n: int) -> list[int]:
        stream: Iterator[int] = llm.generate(list(prompt), temp=0.0, top_k=1, repeat_penalty=1.0)
        return [next(stream) for _ in range(n)]

    return write


class _quiet:
    """What libraries print to stderr while they load is not the benchmark's."""

    def __enter__(self) -> None:
        self.kept, null = os.dup(2), os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, 2)
        os.close(null)

    def __exit__(self, *_: object) -> None:
        os.dup2(self.kept, 2)
        os.close(self.kept)
