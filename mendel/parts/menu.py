"""The menu: importing this registers every part, and names those of the literature."""

from __future__ import annotations

import mendel.parts.attention
import mendel.parts.channel
import mendel.parts.embedding
import mendel.parts.heads
import mendel.parts.norm  # noqa: F401
from mendel.parts.part import NAMED
from mendel.spec import PartSpec

NAMED["mixer"] |= {
    "multi_query": PartSpec(part="attention", fields={"n_kv_heads": 1}),
    "sliding_window": PartSpec(part="attention", fields={"window": 64}),
}
NAMED["channel"] |= {
    "relu2": PartSpec(part="mlp", fields={"act": "relu2"}),
    "gelu": PartSpec(part="mlp", fields={"act": "gelu"}),
    "swiglu": PartSpec(part="gated", fields={"act": "silu"}),
    "geglu": PartSpec(part="gated", fields={"act": "gelu"}),
}
