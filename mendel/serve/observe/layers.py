"""What each layer did to one text: run again by torch, with hooks, off the critical path.

x_0 --layer 1--> x_1 --layer 2--> ... x_L --norm, head--> logits

influence   1 - cos(x_(l-1), x_l), mean over tokens: what leaving the layer out would change
entropy     of each head's weights, in nats; use: its share of the length of what heads add
sparsity    share of hidden units below SMALL of their token's largest
exit        the layer from which on the likeliest token is the one that the model said
intensity   how far the layers move a token, in lengths of where it began
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mendel.model import Model
from mendel.parts.attention import Attention
from mendel.parts.rotary import rotate

Floats = NDArray[np.float64]
LONGEST = 256  # tokens of a text that are looked at: its last
SMALL = 0.01


@dataclass(frozen=True)
class Look:
    """Of one text of T tokens under a model of L layers."""

    influence: Floats  # (L,)
    sparsity: Floats  # (L,), NaN where a layer has no channel mixer
    entropy: list[Floats | None]  # (H,) of each layer with softmax attention
    use: list[Floats | None]
    exit: Floats  # (L,) share of tokens decided at each depth
    intensity: Floats  # (T,)


@dataclass
class _Seen:
    x: list[Tensor] = field(default_factory=list)  # into layer 1, then out of each
    sparsity: dict[int, float] = field(default_factory=dict)
    heads: dict[int, tuple[Floats, Floats]] = field(default_factory=dict)


def look(model: Model, ids: Sequence[int]) -> Look:
    """Run a text of at least two tokens; its last LONGEST are looked at, alone.

    cost     one forward of the text, and the head once for each layer
    """
    tokens = torch.tensor([list(ids)[-LONGEST:]], device=next(model.parameters()).device)
    with torch.inference_mode(), _watching(model) as seen:
        output, _ = model(tokens)
        said = output[0].argmax(-1)
        decided = torch.stack([_said(model, x) == said for x in seen.x[1:]])  # (L, T)
    after = decided.flip(0).cumprod(0).flip(0)  # right here, and at each depth behind
    depth = len(decided) - after.sum(0).clamp(min=1)  # (T,), of 0 to L - 1
    shares = torch.bincount(depth, minlength=len(decided)) / tokens.shape[1]
    pairs = list(zip(seen.x, seen.x[1:], strict=False))
    moved = torch.stack([(b - a)[0].float().norm(dim=-1) for a, b in pairs]).sum(0)
    heads = [seen.heads.get(i) for i in range(len(pairs))]
    return Look(
        influence=np.array([_influence(a, b) for a, b in pairs]),
        sparsity=np.array([seen.sparsity.get(i, np.nan) for i in range(len(pairs))]),
        entropy=[None if h is None else h[0] for h in heads],
        use=[None if h is None else h[1] for h in heads],
        exit=shares.double().cpu().numpy(),
        intensity=(moved / seen.x[0][0].float().norm(dim=-1).clamp(min=1e-6))
        .double()
        .cpu()
        .numpy(),
    )


def _said(model: Model, x: Tensor) -> Tensor:
    """What the head would say of a layer's output, (T,)"""
    y = x if model.final_norm is None else model.final_norm(x)[0]
    best: Tensor = model.head(y)[0][0].argmax(-1)
    return best


def _influence(a: Tensor, b: Tensor) -> float:
    return float(1 - torch.cosine_similarity(a[0].float(), b[0].float(), dim=-1).mean())


@contextmanager
def _watching(model: Model) -> Iterator[_Seen]:
    """Hooks on each layer, taken off whatever happens."""
    seen = _Seen()
    layers: Any = model.layers
    with ExitStack() as stack:

        def hook(module: torch.nn.Module, called: Callable[..., None]) -> None:
            stack.callback(module.register_forward_hook(called).remove)

        for i, layer in enumerate(layers):
            hook(layer, _keep(seen, first=i == 0))
            out = getattr(layer.channel, "out", None) if layer.has_channel else None
            if isinstance(out, torch.nn.Linear):
                hook(out, _count(seen, i))
            if isinstance(layer.mixer, Attention):
                hook(layer.mixer, _attend(seen, i))
        yield seen


def _keep(seen: _Seen, *, first: bool) -> Callable[..., None]:
    def called(module: Any, args: Any, out: Any) -> None:
        if first:
            seen.x.append(args[0])
        seen.x.append(out[0])

    return called


def _count(seen: _Seen, i: int) -> Callable[..., None]:
    def called(module: Any, args: Any, out: Any) -> None:
        size = args[0].abs()
        seen.sparsity[i] = float((size < SMALL * size.amax(-1, keepdim=True)).float().mean())

    return called


def _attend(seen: _Seen, i: int) -> Callable[..., None]:
    def called(module: Attention, args: Any, out: Any) -> None:
        weights, values = _weights(module, args[0])
        entropy = -(weights * weights.clamp(min=1e-12).log()).sum(-1).mean((0, 2))
        y = weights @ values  # (1, H, T, D)
        through = module.out.weight.view(-1, module.n_heads, module.D).float()
        added = torch.einsum("bhtd,chd->bhtc", y, through).norm(dim=-1).mean((0, 2))
        share = added / added.sum().clamp(min=1e-12)
        seen.heads[i] = entropy.double().cpu().numpy(), share.double().cpu().numpy()

    return called


def _weights(module: Attention, x: Tensor) -> tuple[Tensor, Tensor]:
    """The softmax of each head, (1, H, T, T), and the values that it weighs, (1, H, T, D)."""
    B, T, _ = x.shape
    q, k, v, _ = module._project(x, None, False)
    q = q.view(B, T, module.n_heads, module.D)
    k, v = (z.view(B, T, module.n_kv, module.D) for z in (k, v))
    if module.fields.qk_norm:
        eps = module.fields.qk_norm_eps
        q = torch.nn.functional.rms_norm(q, (module.D,), module.q_gain.to(q.dtype), eps)
        k = torch.nn.functional.rms_norm(k, (module.D,), module.k_gain.to(k.dtype), eps)
    q, k, v = (z.transpose(1, 2).float() for z in (q, k, v))
    if module.fields.rotary:
        q, k = (rotate(z, 0, module.fields.rotary_base) for z in (q, k))
    k, v = (z.repeat_interleave(module.n_heads // module.n_kv, 1) for z in (k, v))
    ages = torch.arange(T, device=x.device)[:, None] - torch.arange(T, device=x.device)
    hidden = (ages < 0) | (ages >= (module.fields.window or T))
    scores = (q @ k.mT * module.D**-0.5).masked_fill(hidden, float("-inf"))
    return torch.softmax(scores, -1), v
