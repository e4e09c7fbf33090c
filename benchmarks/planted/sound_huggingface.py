"""Hugging Face's models with random weights, built from configs, nothing downloaded."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from . import Case

VOCAB, LONGEST = 50, 512


Fields = Callable[[int], dict[str, Any]]


def model(family: str, fields: Fields) -> Callable[[int], nn.Module]:
    """width -> a small causal language model."""

    def build(width: int) -> nn.Module:
        from transformers import AutoConfig, AutoModelForCausalLM

        config = AutoConfig.for_model(
            family, vocab_size=VOCAB, use_cache=False, bos_token_id=0, eos_token_id=1,
            **fields(width),
        )  # fmt: skip
        auto: Any = AutoModelForCausalLM
        made: nn.Module = auto.from_config(config)
        return made.eval()

    return build


class LlamaBlock(nn.Module):
    """One layer of Llama with its rotary positions; the attention sees no mask and is causal."""

    def __init__(self, width: int) -> None:
        super().__init__()
        from transformers import LlamaConfig
        from transformers.models.llama import modeling_llama as llama

        config = LlamaConfig(
            hidden_size=width, intermediate_size=2 * width, num_attention_heads=4,
            num_key_value_heads=2,
        )  # fmt: skip
        config._attn_implementation = "sdpa"  # eager attention would need the mask
        self.rotary = llama.LlamaRotaryEmbedding(config)
        self.layer = llama.LlamaDecoderLayer(config, 0)

    def forward(self, x: Tensor) -> Tensor:
        places = torch.arange(x.shape[1])[None]
        y = self.layer(x, position_embeddings=self.rotary(x, places), position_ids=places)
        return y if isinstance(y, Tensor) else y[0]


class MambaBlock(nn.Module):
    """One layer of Mamba."""

    def __init__(self, width: int) -> None:
        super().__init__()
        from transformers import MambaConfig, MambaModel

        config = MambaConfig(vocab_size=1, **mamba(width), use_cache=False)
        self.layer = MambaModel(config).layers[0]

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.layer(x)
        return y


def grouped(w: int, **fields: Any) -> dict[str, Any]:
    return {**many(w), "num_key_value_heads": 2, **fields}


def many(w: int) -> dict[str, Any]:
    return {
        "hidden_size": w, "intermediate_size": 2 * w, "num_hidden_layers": 2,
        "num_attention_heads": 4, "max_position_embeddings": LONGEST,
    }  # fmt: skip


def gpt2(w: int) -> dict[str, Any]:
    return {"n_embd": w, "n_layer": 2, "n_head": 4, "n_positions": LONGEST}


def mamba(w: int) -> dict[str, Any]:
    return {"hidden_size": w, "state_size": 8, "num_hidden_layers": 1}


def language(name: str, family: str, fields: Fields, why: str = "") -> Case:
    return Case(
        name, "huggingface", (), model(family, fields), input="tokens:B,T,50", output="logits",
        options={"max_length": LONGEST}, why=why,
    )  # fmt: skip


HUGGINGFACE = (
    language("hf-llama", "llama", grouped),
    language("hf-mistral-window", "mistral", lambda w: grouped(w, sliding_window=16)),
    language("hf-qwen2", "qwen2", grouped),
    language("hf-gpt-neox", "gpt_neox", many),
    language("hf-gpt2", "gpt2", gpt2, "a dropout of 0.1 in training"),
    language("hf-mamba", "mamba", mamba),
    Case("hf-llama-block", "huggingface", (), LlamaBlock),
    Case("hf-mamba-block", "huggingface", (), MambaBlock, options={"linear": True}),
)  # fmt: skip
