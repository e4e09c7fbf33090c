"""Hugging Face directories of Llama's family: config.json and safetensors, read and written.

    ours                                          theirs
    attention, swiglu, rms_norm                   llama
    ... with a window, the same in all layers     mistral
    ... with qk_norm, windows where they like     qwen3

Anything that one side has and the other cannot express is refused by its name.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from pydantic import Field

from mendel.data.tokenizers import FILE as TOKENIZER
from mendel.data.tokenizers import Tokenizer
from mendel.formats.native import (
    WEIGHTS,
    Tensors,
    check_vocab,
    filled,
    save_tensors,
    some,
    tokenizer_of,
    whole,
)
from mendel.model import Model
from mendel.parts.attention import Attention
from mendel.parts.channel import GatedMLP
from mendel.parts.embedding import TokenEmbedding
from mendel.parts.heads import LMHead
from mendel.parts.norm import RMSNorm
from mendel.parts.part import Kind, resolve
from mendel.spec import ModelSpec, PartSpec, Spec
from mendel.types import InputError

CONFIG, INDEX = "config.json", "model.safetensors.index.json"
PICKLED = ("pytorch_model.bin", "pytorch_model.bin.index.json", "consolidated.00.pth")


class Config(Spec):
    """The keys of config.json that say what a model computes, with the defaults of most kinds."""

    model_type: str
    vocab_size: int = Field(gt=0)
    hidden_size: int = Field(gt=0)
    intermediate_size: int = Field(gt=0)
    num_hidden_layers: int = Field(gt=0)
    num_attention_heads: int = Field(gt=0)
    num_key_value_heads: int | None = Field(None, gt=0)
    head_dim: int | None = Field(None, gt=0)
    hidden_act: str = "silu"
    max_position_embeddings: int = Field(gt=0)
    rms_norm_eps: float = Field(1e-6, gt=0)
    tie_word_embeddings: bool = False
    attention_bias: bool = False
    mlp_bias: bool = False
    rope_theta: float = Field(10_000.0, gt=0)
    rope_scaling: dict[str, Any] | None = None  # before transformers 5
    rope_parameters: dict[str, Any] | None = None
    partial_rotary_factor: float | None = None
    sliding_window: int | None = Field(None, gt=0)
    use_sliding_window: bool = False  # this and the next two are qwen3's
    max_window_layers: int = 28
    layer_types: tuple[str, ...] | None = None
    quantization_config: Any = None


DEFAULTS: dict[str, dict[str, Any]] = {  # of transformers, for keys that a config.json leaves out
    "llama": {"max_position_embeddings": 2048},
    "mistral": {
        "max_position_embeddings": 131072,
        "num_key_value_heads": 8,
        "sliding_window": 4096,
    },
    "qwen3": {"max_position_embeddings": 32768, "num_key_value_heads": 32, "head_dim": 128},
}
ARCHITECTURES = {
    "llama": "LlamaForCausalLM",
    "mistral": "MistralForCausalLM",
    "qwen3": "Qwen3ForCausalLM",
}
LAYER_NAMES = {  # ours -> theirs
    "mixer_norm.gain": "input_layernorm.weight",
    "mixer.q.weight": "self_attn.q_proj.weight",
    "mixer.k.weight": "self_attn.k_proj.weight",
    "mixer.v.weight": "self_attn.v_proj.weight",
    "mixer.out.weight": "self_attn.o_proj.weight",
    "mixer.q_gain": "self_attn.q_norm.weight",
    "mixer.k_gain": "self_attn.k_norm.weight",
    "channel_norm.gain": "post_attention_layernorm.weight",
    "channel.gate.weight": "mlp.gate_proj.weight",
    "channel.up.weight": "mlp.up_proj.weight",
    "channel.out.weight": "mlp.down_proj.weight",
}
NAMES = {
    "embedding.tokens.weight": "model.embed_tokens.weight",
    "final_norm.gain": "model.norm.weight",
    "head.logits.weight": "lm_head.weight",
}


def load(
    folder: Path, *, tokenizer: Tokenizer | None = None, dtype: torch.dtype = torch.float32
) -> tuple[Model, Tokenizer | None]:
    """Read a directory that save_pretrained or the Hub wrote.

    tokenizer  one to use in place of the directory's
    raises   InputError for another architecture, an option that ours has not, or weights that are
             pickled, cut, or not of that config.json
    """
    spec = read_config(folder)
    tensors = Tensors(_shards(folder))
    tensors.forget(name for name in tensors.names if name.endswith("rotary_emb.inv_freq"))
    if spec.tied and "lm_head.weight" in tensors.names:
        table = tensors.read("model.embed_tokens.weight")
        if not torch.equal(tensors.read("lm_head.weight"), table):
            raise InputError(
                f"{folder / CONFIG} says tie_word_embeddings, but the weights hold an "
                "lm_head.weight of their own. Set it to false there, or take the tensor out."
            )
        tensors.forget(["lm_head.weight"])
    model = filled(spec, tensors, _names(spec.n_layers), folder / CONFIG, dtype=dtype)
    return model, tokenizer_of(folder, model, tokenizer)


def save(model: Model, folder: Path, tokenizer: Tokenizer | None = None) -> None:
    """Write a directory that transformers, vLLM or llama.cpp's converter read.

    raises   InputError that names the field which no model of Llama's family has
    """
    config = export_config(model)
    check_vocab(tokenizer, model, folder)
    special = {"bos_token_id": tokenizer.bos if tokenizer else None}
    special["eos_token_id"] = special["bos_token_id"]  # of ours, a text ends where one begins
    with whole(folder) as part:
        save_tensors(_tensors(model), part / WEIGHTS, {"format": "pt"})
        _write(part / CONFIG, {**config, **special})
        _write(part / "generation_config.json", {"_from_model_config": True, **special})
        if tokenizer is not None:
            tokenizer.save(part / TOKENIZER)
            _write(part / "tokenizer_config.json", {"tokenizer_class": "PreTrainedTokenizerFast"})


def stop_ids(folder: Path) -> frozenset[int]:
    """The ids that end a text, by generation_config.json or else config.json."""
    for name in ("generation_config.json", CONFIG):
        if (folder / name).exists():
            found = _read(folder / name).get("eos_token_id")
            ids = found if isinstance(found, list) else [found]
            if ids := [i for i in ids if isinstance(i, int)]:
                return frozenset(ids)
    return frozenset()


def read_config(folder: Path) -> ModelSpec:
    """config.json as a spec; raises InputError for what a spec cannot say."""
    file = folder / CONFIG
    try:
        config = _parse(_read(file))
        return ModelSpec(
            width=config.hidden_size,
            n_layers=config.num_hidden_layers,
            context=config.max_position_embeddings,
            vocab=config.vocab_size,
            mixers=_mixers(config, _base(config)),
            channels=(PartSpec(part="swiglu", fields={"hidden": config.intermediate_size}),),
            norm=PartSpec(part="rms_norm", fields={"eps": config.rms_norm_eps}),
            tied=config.tie_word_embeddings,
        )
    except InputError as error:
        raise InputError(f"{file}: {error}") from None


def export_config(model: Model) -> dict[str, Any]:
    """The config.json of a model of ours; raises InputError that names what Llama has not."""
    spec = model.spec
    _need(isinstance(model.embedding, TokenEmbedding), "embedding", spec.embedding.part, "token")
    embedding = _fields("embedding", spec.embedding)
    _need(embedding.position == "none", "embedding.position", embedding.position, "none")
    _need(not embedding.norm, "embedding.norm", True, "false")
    _need(spec.norm.part == "rms_norm", "norm", spec.norm.part, "rms_norm")
    _need(isinstance(model.final_norm, RMSNorm), "final_norm", spec.final_norm, "true")
    _need(isinstance(model.head, LMHead), "head", spec.head.part, "lm")
    mixers, hidden = _export_mixers(model), _export_hidden(model)
    first = mixers[0]
    return {
        **_export_kind(spec, mixers),
        "vocab_size": spec.vocab,
        "hidden_size": spec.width,
        "intermediate_size": hidden,
        "num_hidden_layers": spec.n_layers,
        "num_attention_heads": first.n_heads,
        "num_key_value_heads": first.n_kv_heads or first.n_heads,
        "head_dim": first.head_dim or spec.width // first.n_heads,
        "hidden_act": "silu",
        "max_position_embeddings": spec.context,
        "rms_norm_eps": _fields("norm", spec.norm).eps,
        "rope_theta": first.rotary_base,  # for readers before transformers 5
        "rope_parameters": {"rope_type": "default", "rope_theta": first.rotary_base},
        "tie_word_embeddings": spec.tied,
        "attention_bias": False,
        "mlp_bias": False,
        "dtype": str(next(model.parameters()).dtype).removeprefix("torch."),
    }


def _export_kind(spec: ModelSpec, mixers: list[Any]) -> dict[str, Any]:
    windows = [m.window for m in mixers]
    first, sliding = mixers[0], sorted({w for w in windows if w is not None})
    if first.qk_norm:
        _need(len(sliding) < 2, "mixers.window", sliding, "one width in all layers that have one")
        kind = "qwen3"
        options = {
            "use_sliding_window": bool(sliding),
            "sliding_window": sliding[0] if sliding else None,
            "layer_types": ["sliding_attention" if w else "full_attention" for w in windows],
        }
    else:
        _need(len(set(windows)) == 1, "mixers.window", windows, "the same one in every layer")
        # transformers' Llama wants heads that divide the width, its Mistral does not
        kind = "mistral" if sliding or spec.width % first.n_heads else "llama"
        options = {"sliding_window": windows[0]} if kind == "mistral" else {}
    return {"architectures": [ARCHITECTURES[kind]], "model_type": kind, **options}


def _export_mixers(model: Model) -> list[Any]:
    """Fields of each layer's attention; but for the window, they are the same."""
    spec, found = model.spec, []
    for layer, i in zip(model.layers, range(spec.n_layers), strict=True):
        part = spec.mixers[i % len(spec.mixers)]
        _need(type(layer.mixer) is Attention, "mixers", part.part, "attention in every layer")
        fields = _fields("mixer", part)
        _need(fields.rotary, "mixers.rotary", False, "true")
        _need(not fields.conv, "mixers.conv", fields.conv, "none")
        if fields.qk_norm:
            eps = _fields("norm", spec.norm).eps
            _need(fields.qk_norm_eps == eps, "mixers.qk_norm_eps", fields.qk_norm_eps, f"{eps}")
        found.append(fields)
        same = {k: v for k, v in found[0].diff(fields).items() if k != "window"}
        _need(not same, "mixers", some(same), "the same fields in every layer")
    return found


def _export_hidden(model: Model) -> int:
    spec = model.spec
    _need(bool(spec.channels), "channels", (), "swiglu")
    for part in spec.channels:
        is_gated = resolve("channel", part)[0] is GatedMLP
        _need(is_gated and _fields("channel", part).act == "silu", "channels", part.part, "swiglu")
    layers: Iterable[Any] = model.layers
    widths = {layer.channel.up.out_features for layer in layers}
    _need(len(widths) == 1, "channels.hidden", sorted(widths), "the same in every layer")
    return int(widths.pop())


def _need(holds: bool, field: str, got: object, wanted: str) -> None:
    if not holds:
        raise InputError(
            f"{field}={got!r} is nothing that Llama, Mistral or Qwen3 can express. Wanted "
            f"{wanted}. Keep this model in mendel's own format."
        )


def _fields(kind: Kind, part: PartSpec) -> Any:
    cls, given = resolve(kind, part)
    fields: Spec = cls.Fields.parse(given)
    return fields


def _tensors(model: Model) -> dict[str, torch.Tensor]:
    names = _names(model.spec.n_layers)
    tensors = {names[name]: tensor for name, tensor in model.state_dict().items()}
    for name, part in model.named_modules():
        if isinstance(part, RMSNorm) and part.gain is None:  # theirs always has one
            like = next(model.parameters())
            tensors[names[f"{name}.gain"]] = torch.ones(part.width, dtype=like.dtype)
    if model.spec.tied:
        del tensors["lm_head.weight"]
    return tensors


def _names(n_layers: int) -> dict[str, str]:
    layers = {
        f"layers.{i}.{ours}": f"model.layers.{i}.{theirs}"
        for i in range(n_layers)
        for ours, theirs in LAYER_NAMES.items()
    }
    return NAMES | layers


def _parse(data: Mapping[str, Any]) -> Config:
    kind = data.get("model_type")
    if kind not in list(DEFAULTS):  # a list, for what cannot be hashed
        raise InputError(
            f"the architecture {kind!r} is not read. Wanted one of {', '.join(DEFAULTS)}."
        )
    known = DEFAULTS[str(kind)] | {k: v for k, v in data.items() if k in Config.model_fields}
    required = {name for name, field in Config.model_fields.items() if field.is_required()}
    if missing := required - known.keys():
        raise InputError(f"{some(missing)} is missing. Wanted the config.json of a whole model.")
    config = Config.parse(known)
    _refuse_options(config)
    return config


def _mixers(config: Config, base: float) -> tuple[PartSpec, ...]:
    """One for all layers, or one for each where their windows differ."""
    heads = config.num_attention_heads
    fields: dict[str, Any] = {"n_heads": heads, "rotary_base": base}
    if config.num_key_value_heads not in (None, heads):
        fields["n_kv_heads"] = config.num_key_value_heads
    if config.head_dim is not None and config.head_dim * heads != config.hidden_size:
        fields["head_dim"] = config.head_dim
    if config.model_type == "qwen3":
        fields |= {"qk_norm": True, "qk_norm_eps": config.rms_norm_eps}
    windows = _windows(config)
    parts = tuple(
        PartSpec(part="attention", fields=fields | ({} if w is None else {"window": w}))
        for w in windows
    )
    return parts[:1] if len(set(windows)) == 1 else parts


def _windows(config: Config) -> list[int | None]:
    if config.model_type == "mistral":
        return [config.sliding_window]
    if config.model_type == "llama" or not config.use_sliding_window:
        return [None]
    n, first = config.num_hidden_layers, config.max_window_layers
    known = {"sliding_attention": config.sliding_window, "full_attention": None}
    types = config.layer_types
    if types is None:
        return [config.sliding_window if i >= first else None for i in range(n)]
    if len(types) != n or not set(types) <= known.keys():
        raise InputError(f"layer_types={list(types)}. Wanted {n} of {' or '.join(sorted(known))}.")
    return [known[name] for name in types]


def _base(config: Config) -> float:
    """Rotary positions turn by plain powers of the base; anything scaled is another model."""
    # older writers have rope_scaling, newer ones rope_parameters; where both are, both count
    options = (config.rope_scaling or {}) | (config.rope_parameters or {})
    kinds = [
        given.get("rope_type", given.get("type", "default"))
        for given in (config.rope_scaling or {}, config.rope_parameters or {})
    ]
    kind = next((kind for kind in kinds if kind != "default"), "default")
    partial = options.get("partial_rotary_factor", config.partial_rotary_factor)
    if kind != "default" or partial not in (None, 1):
        what = f"rope_type={kind!r}" if kind != "default" else f"partial_rotary_factor={partial}"
        raise InputError(
            f"rotary positions with {what} are not read. Wanted rope_type='default' on whole "
            "heads. Take a model without scaled positions."
        )
    base = options.get("rope_theta", config.rope_theta)
    if not isinstance(base, int | float) or not 0 < base < math.inf:
        raise InputError(f"rope_theta={base!r}. Wanted a number above 0.")
    return float(base)


def _refuse_options(config: Config) -> None:
    refused = [f"{key}=true" for key in ("attention_bias", "mlp_bias") if getattr(config, key)]
    refused += [f"hidden_act={config.hidden_act!r}"] if config.hidden_act != "silu" else []
    refused += ["quantization_config"] if config.quantization_config else []
    if refused:
        raise InputError(
            f"{', '.join(refused)} is not read. Wanted matrices without bias, hidden_act='silu', "
            "and weights that are floats. Take a model without it."
        )


def _shards(folder: Path) -> list[Path]:
    if (folder / INDEX).exists():
        shards = _read(folder / INDEX).get("weight_map")
        if not isinstance(shards, dict) or not shards:
            raise InputError(f"{folder / INDEX} has no weight_map. Fetch it again.")
        names = sorted({Path(str(name)).name for name in shards.values()})
        missing = [name for name in names if not (folder / name).exists()]
        if missing:
            raise InputError(
                f"{folder} lacks {some(missing)}, of {len(names)} files that {INDEX} names. "
                "Fetch the rest."
            )
        return [folder / name for name in names]
    pickled = [name for name in PICKLED if (folder / name).exists()]
    if pickled and not (folder / WEIGHTS).exists():
        raise InputError(
            f"{folder} has only {pickled[0]}. It is a pickle, which runs code when it is read, so "
            f"it is not read. Wanted {WEIGHTS}. Where you trust its maker, transformers' "
            "from_pretrained(...).save_pretrained(...) writes it."
        )
    return [folder / WEIGHTS]


def _read(file: Path) -> dict[str, Any]:
    try:
        data = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"cannot read {file}: {error}. Wanted one JSON object.") from None
    if not isinstance(data, dict):
        raise InputError(f"{file} is a {type(data).__name__}. Wanted one JSON object.")
    return data


def _write(file: Path, data: Mapping[str, Any]) -> None:
    file.write_text(json.dumps(data, indent=2) + "\n", encoding="utf-8")
