"""The menu: importing this registers every part, and names those of the literature."""

from __future__ import annotations

from typing import Any

import mendel.parts.attention
import mendel.parts.channel
import mendel.parts.convolution
import mendel.parts.embedding
import mendel.parts.heads
import mendel.parts.long_convolution
import mendel.parts.norm
import mendel.parts.recurrent
import mendel.parts.routed  # noqa: F401
from mendel.parts.part import NAMED, Kind
from mendel.spec import PartSpec

DELTA: dict[str, Any] = {"conv": 4, "key_norm": True, "erase": "delta", "write": "beta"}


def name(kind: Kind, name: str, part: str, **fields: Any) -> None:
    """Give a part with these fields a name of its own on the menu."""
    NAMED[kind][name] = PartSpec(part=part, fields=fields)


name("mixer", "multi_query", "attention", n_kv_heads=1)
name("mixer", "sliding_window", "attention", window=64)
name("mixer", "linear_attention", "recurrence", feature="elu")
name("mixer", "retnet", "recurrence", rotary=True, decay="fixed", out_gate="silu")
name("mixer", "gla", "recurrence", decay="channel", out_gate="silu")
name(
    "mixer", "mamba2", "recurrence",
    conv=4, decay="head", write="dt", direct=True, out_gate="silu",
)  # fmt: skip
name("mixer", "delta_net", "recurrence", **DELTA)
name("mixer", "delta_net_signed", "recurrence", **DELTA, beta_max=2)  # tracks parity
name("mixer", "gated_delta_net", "recurrence", **DELTA, decay="head", out_gate="silu")
name("mixer", "delta_product", "recurrence", **DELTA, beta_max=2, n_steps=2)
name("mixer", "kimi_delta", "recurrence", **DELTA, decay="channel", out_gate="sigmoid")
name(
    "mixer", "rwkv7", "recurrence",
    token_shift=True, decay="bounded", erase="key", bonus=True, out_gate="sigmoid",
)  # fmt: skip
name("mixer", "content_sharp_router", "routed", gate="softmax")
name("mixer", "fusion_gated_fir", "routed", gate="sigmoid", retention=True)
name("mixer", "path_gated_fusion", "routed", gate="floor", rescale=True)
name("mixer", "hierarchical_gate", "routed", gate="staged")
name("channel", "relu2", "mlp", act="relu2")
name("channel", "gelu", "mlp", act="gelu")
name("channel", "swiglu", "gated", act="silu")
name("channel", "geglu", "gated", act="gelu")
