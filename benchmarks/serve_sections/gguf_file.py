"""A Hugging Face directory of ours as llama.cpp's GGUF: ids in, ids out, no vocabulary."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.torch import load_file

LAYER = {  # theirs in safetensors -> in GGUF
    "input_layernorm": "attn_norm", "post_attention_layernorm": "ffn_norm",
    "self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k", "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output", "self_attn.q_norm": "attn_q_norm",
    "self_attn.k_norm": "attn_k_norm", "mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}  # fmt: skip
WHOLE = {"model.embed_tokens": "token_embd", "model.norm": "output_norm", "lm_head": "output"}


def write_gguf(folder: Path, file: Path, dtype: str) -> None:
    """raises ModuleNotFoundError without the package gguf"""
    import gguf

    config = json.loads((folder / "config.json").read_text())
    writer = gguf.GGUFWriter(str(file), config["model_type"])
    _facts(writer, config)
    bf16 = gguf.GGMLQuantizationType.BF16
    for name, tensor in load_file(folder / "model.safetensors").items():
        values = tensor.float().numpy()
        if config["model_type"] == "llama" and ("q_proj" in name or "k_proj" in name):
            values = _pairs_beside(values, config)
        if dtype == "bf16" and values.ndim == 2:
            raw = gguf.quants.quantize(values, bf16)
            writer.add_tensor(_name(name), raw, raw_dtype=bf16)
        else:
            writer.add_tensor(_name(name), values.astype(np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _facts(writer: Any, config: dict[str, Any]) -> None:
    heads = config["num_attention_heads"]
    D = config.get("head_dim") or config["hidden_size"] // heads
    rope = config.get("rope_parameters") or {}
    writer.add_context_length(max(2048, config["max_position_embeddings"]))
    writer.add_embedding_length(config["hidden_size"])
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_head_count(heads)
    writer.add_head_count_kv(config.get("num_key_value_heads") or heads)
    writer.add_key_length(D)
    writer.add_value_length(D)
    writer.add_rope_dimension_count(D)
    writer.add_rope_freq_base(float(rope.get("rope_theta") or config.get("rope_theta") or 1e4))
    writer.add_layer_norm_rms_eps(config["rms_norm_eps"])
    writer.add_vocab_size(config["vocab_size"])
    writer.add_tokenizer_model("no_vocab")


def _name(name: str) -> str:
    stem, _, last = name.rpartition(".")
    if stem in WHOLE:
        return f"{WHOLE[stem]}.{last}"
    _, _, index, rest = stem.split(".", 3)
    return f"blk.{index}.{LAYER[rest]}.{last}"


def _pairs_beside(values: np.ndarray[Any, Any], config: dict[str, Any]) -> np.ndarray[Any, Any]:
    """llama.cpp turns numbers that lie side by side, where Hugging Face's lie half a head apart."""
    D = config.get("head_dim") or config["hidden_size"] // config["num_attention_heads"]
    heads = values.reshape(-1, 2, D // 2, values.shape[1])
    return np.ascontiguousarray(heads.swapaxes(1, 2).reshape(values.shape))
