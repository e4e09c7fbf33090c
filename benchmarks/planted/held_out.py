"""Twenty faults held out of the auditor's making, by an author who has not read it.

    cd benchmarks; python -m planted.verify_held_out      # is each real?

One slip in each; all else is meant to be right. Sizes in `why` are of the outputs' sd.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from . import Case

State = dict[str, Tensor]
HEADS, NEVER = 4, float("-inf")


def split(x: Tensor) -> Tensor:
    return torch.transpose(x.unflatten(-1, (HEADS, -1)), 1, 2)  # (B, H, T, D)


def merge(x: Tensor) -> Tensor:
    return x.transpose(1, 2).flatten(2)


def padded(x: Tensor, size: int) -> Tensor:
    return F.pad(x, (0, 0, 0, -x.shape[-2] % size))


def attend(scores: Tensor, seen: Tensor, v: Tensor) -> Tensor:
    return torch.softmax(scores.masked_fill(~seen, NEVER), -1) @ v


def places(x: Tensor) -> tuple[Tensor, Tensor]:
    t = torch.arange(x.shape[-2], device=x.device)
    return t[:, None], t


class Layer(nn.Module):  # as many maps of x as `parts`; `rule` takes q, k and v in heads
    parts = 3

    def __init__(self, width: int, rule: Callable[[Tensor, Tensor, Tensor], Tensor] | None = None):
        super().__init__()
        self.enter, self.out = nn.Linear(width, self.parts * width), nn.Linear(width, width)
        self.rule = rule
        self.add(width)

    def add(self, width: int) -> None:
        pass

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = x + self.out(self.mix(x, *self.enter(x).chunk(self.parts, -1)))
        return y

    def mix(self, x: Tensor, *maps: Tensor) -> Tensor:
        assert self.rule is not None
        q, k, v = (split(z) for z in maps)
        return merge(self.rule(q * q.shape[-1] ** -0.5, k, v))


def compressed_keys(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    (t, s), T = places(q), q.shape[2]
    seen = (s <= t) & (t - s < 16)
    if T >= 16:
        k, v = (torch.cat((z, z.unfold(2, 16, 8).mean(-1)), 2) for z in (k, v))
        done = (torch.arange(k.shape[2] - T, device=q.device) + 1) * 8
        seen = torch.cat((seen, done <= t), 1)
    return attend(q @ k.mT, seen, v)


class TestTimeTraining(Layer):  # a linear inner model learns v from k, one step each 16 tokens
    def add(self, width: int) -> None:
        self.first = nn.Parameter(torch.randn(HEADS, width // HEADS, width // HEADS) * 0.1)
        self.rate = nn.Parameter(torch.full((HEADS, 1, 1), -1.5))

    def mix(self, x: Tensor, *maps: Tensor) -> Tensor:
        q, k, v = (padded(split(z), 16) for z in maps)
        W, ys = self.first.expand(len(q), -1, -1, -1), []
        q, k = F.normalize(q, dim=-1), F.normalize(k, dim=-1)
        for a, b, c in zip(q.split(16, 2), k.split(16, 2), v.split(16, 2), strict=True):
            miss = b @ W - c
            norm = miss.flatten(2).norm(dim=-1)[..., None, None]
            step = self.rate.sigmoid() * miss * (16 / norm.clamp(min=16))
            ys.append(a @ W - (a @ b.mT).tril() @ step)
            W = W - b.mT @ step
        return merge(torch.cat(ys, 2)[:, :, : x.shape[1]])


class Hashed(Layer):  # LSH: 4 buckets, sorted by bucket, chunks of 8 see themselves and the last
    turns: Tensor
    parts = 2

    def add(self, width: int) -> None:
        self.register_buffer("turns", torch.randn(width // HEADS, 2))

    def mix(self, x: Tensor, *maps: Tensor) -> Tensor:
        k, v = (split(z) for z in maps)
        T, k = k.shape[2], F.normalize(k, dim=-1)
        drawn = k.detach() @ self.turns
        bucket = F.pad(torch.cat((drawn, -drawn), -1).argmax(-1), (0, -T % 8), value=4)
        order = bucket.argsort(dim=-1, stable=True)
        k, v = (padded(z, 8).gather(2, order[..., None].expand_as(padded(z, 8))) for z in (k, v))
        at = torch.stack((bucket.gather(2, order), order), -1).unflatten(2, (-1, 8))
        k, v = k.unflatten(2, (-1, 8)), v.unflatten(2, (-1, 8))
        keys, values, there = (
            torch.cat((F.pad(z, (0, 0, 0, 0, 1, 0), value=-1)[:, :, :-1], z), 3) for z in (k, v, at)
        )
        same, past = (there[..., None, :, :] <= at[..., None, :]).unbind(-1)
        same = same & (there[..., None, :, 0] >= at[..., None, 0])
        y = attend(k @ keys.mT * 4, same & past, values).flatten(2, 3)
        return merge(y.gather(2, order.argsort(-1)[..., None].expand_as(y))[:, :, :T])


class StateSpace(Layer):  # Mamba-2's chunks of 32: within by decayed scores, across by a state
    def add(self, width: int) -> None:
        self.pace = nn.Linear(width, HEADS)
        nn.init.constant_(self.pace.bias, -2.0)

    def mix(self, x: Tensor, *maps: Tensor) -> Tensor:
        paces = padded(-F.softplus(self.pace(x)).mT[..., None], 32).split(32, 2)
        q, k, v = (padded(split(z), 32).split(32, 2) for z in maps)
        S, ys = (k[0].mT @ v[0]) * 0, []
        future = torch.ones(32, 32, dtype=torch.bool, device=x.device).triu(1)
        for a, b, c, pace in zip(q, k, v, paces, strict=True):
            sums = pace.cumsum(2)
            total = sums[:, :, -1:]
            within = (sums - sums.mT).masked_fill(future, NEVER).exp()
            ys.append((a @ b.mT * within) @ c + total.exp() * (a @ S))
            S = total.exp() * S + (b * (total - sums).exp()).mT @ c
        return merge(torch.cat(ys, 2)[:, :, : x.shape[1]]) / 4


class Hourglass(nn.Module):  # a U-Net over time: convolutions of stride 2, then repeated
    def __init__(self, width: int, depth: int = 2) -> None:
        super().__init__()
        self.down, self.up = nn.Conv1d(width, width, 3, stride=2), nn.Linear(width, width)
        self.inner = Hourglass(width, depth - 1) if depth > 1 else nn.GELU()

    def forward(self, x: Tensor) -> Tensor:
        coarse = self.inner(self.down(F.pad(x.mT, (2, 0))).mT)
        y: Tensor = x + self.up(coarse.repeat_interleave(2, 1)[:, -x.shape[1] :])
        return y


class Balanced(Layer):  # one of 4 experts; in training Sinkhorn balances who goes where
    parts = 4

    def add(self, width: int) -> None:
        self.router = nn.Linear(width, self.parts)

    def mix(self, x: Tensor, *maps: Tensor) -> Tensor:
        logits = self.router(x)
        choice = logits.detach()
        if self.training:
            choice = choice.softmax(-1)
            for _ in range(3):
                choice = choice / choice.sum(1, keepdim=True)
                choice = choice / choice.sum(2, keepdim=True)
        chosen = F.one_hot(choice.argmax(-1), self.parts) * logits.sigmoid()
        return torch.mul(F.gelu(torch.stack(maps, -1)), chosen[:, :, None]).sum(-1)


class BiasBalanced(Layer):  # two of 8 experts; a bias on the choice evens their load
    bias: Tensor
    parts = 8

    def add(self, width: int) -> None:
        self.router = nn.Linear(width, self.parts)
        self.register_buffer("bias", torch.zeros(self.parts))

    def mix(self, x: Tensor, *maps: Tensor) -> Tensor:
        shares = self.router(x).sigmoid()
        best = (shares + self.bias).topk(2, -1).indices
        chosen = torch.zeros_like(shares).scatter(-1, best, 1.0)
        if torch.is_grad_enabled():
            load = chosen.mean((0, 1))
            self.bias = self.bias + 1e-3 * torch.sign(load.mean() - load)
        weights = shares * chosen / (shares * chosen).sum(-1, keepdim=True)
        return torch.mul(F.gelu(torch.stack(maps, -1)), weights[:, :, None]).sum(-1)


def block_choice(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    t, s = places(q)
    liked, means = (padded(z, 16).unflatten(2, (-1, 16)).mean(3) for z in (q, k))
    i, j = places(liked)
    votes = (liked @ means.mT).masked_fill(j >= i, NEVER)
    best = votes.topk(min(2, votes.shape[-1]), -1).indices
    blocks = torch.zeros_like(votes, dtype=torch.bool).scatter(-1, best, True) & (j < i)
    return attend(q @ k.mT, (blocks | (i == j))[..., t // 16, s // 16] & (s <= t), v)


class ContextualPositions(Layer):  # CoPE: distance is how many gates are open between
    def add(self, width: int) -> None:
        self.places = nn.Parameter(torch.randn(width // HEADS, 24))

    def mix(self, x: Tensor, *maps: Tensor) -> Tensor:
        q, k, v = (split(z) for z in maps)
        (t, s), scores, place = places(q), q @ k.mT / 4, q @ self.places
        far = scores.sigmoid().flip(-1).cumsum(-1).flip(-1).clamp(max=23)
        low = far.detach().nan_to_num().long()
        near, next_ = place.gather(-1, low), place.gather(-1, (low + 1).clamp(max=23))
        return merge(attend(scores + torch.lerp(near, next_, far - low), s <= t, v))


def rotary(q: Tensor, k: Tensor, v: Tensor, base: float, t: Tensor) -> Tensor:
    half, (row, column) = q.shape[-1] // 2, places(q)
    q, k = F.normalize(q, dim=-1) * 10, F.normalize(k, dim=-1)
    angles = t[:, None] * (base ** -(torch.arange(half, device=q.device) / half)).to(t.dtype)
    cos, sin = torch.cat((angles, angles), -1).cos(), torch.cat((-angles, angles), -1).sin()
    q, k = (z * cos.to(z) + z.roll(half, -1) * sin.to(z) for z in (q, k))
    return attend(q @ k.mT, column <= row, v)


def dynamic_rotary(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    (T, D), t = q.shape[2:], torch.arange(q.shape[2], device=q.device, dtype=torch.float64)
    return rotary(q, k, v, 1e4 * max(1.0, 2 * T / 256 - 1) ** (D / (D - 2)), t)


def half_rotary(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return rotary(q, k, v, 1e4, torch.arange(q.shape[2], device=q.device, dtype=q.dtype))


def full_last_chunk(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    more = -q.shape[2] % 16
    q, k, v = (F.pad(z, (0, 0, more, 0)) for z in (q, k, v))
    t, s = places(q)
    seen = (s <= t) & (t // 16 - s // 16 < 2) & ((s >= more) | (t < more))
    return attend(q @ k.mT, seen, v)[:, :, more:]


def sloped(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    (t, s), B = places(q), len(q)
    slopes = 4.0 ** -torch.arange(1, HEADS + 1, device=q.device).to(q)
    scores = q.flatten(0, 1) @ k.flatten(0, 1).mT
    scores = scores - slopes.repeat_interleave(B)[:, None, None] * (t - s)
    return attend(scores, s <= t, v.flatten(0, 1)).reshape(v.shape)


def compressed_memory(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    n = q.shape[2] // 4
    slots, means = (z[:, :, : 4 * n].unflatten(2, (n, 4)).mean(3) for z in (k, v))
    t, s = places(q)
    scores = (q @ slots.mT).masked_fill(4 * s[:n] + 4 > t, NEVER)
    weights = torch.softmax(torch.cat(((q * k).sum(-1, keepdim=True), scores), -1), -1)
    return torch.addcmul(weights[..., 1:] @ means, weights[..., :1], v)


class Equilibrium(Layer):  # a fixed point of z = tanh(A (z_t + z_t-1) / 2 + x)
    parts = 1

    def add(self, width: int) -> None:
        self.again = nn.Linear(width, width, bias=False)
        nn.init.orthogonal_(self.again.weight, 0.9)

    def mix(self, x: Tensor, *maps: Tensor) -> Tensor:
        z, moved = torch.zeros_like(maps[0]), 1.0
        for _ in range(40):
            if moved >= 1e-3:
                before, both = z, z + F.pad(z, (0, 0, 1, 0))[:, :-1]
                z = torch.tanh(maps[0] + self.again(both / 2))
                moved = (z - before).abs().max().item()
        return z


class ShortConvolution(Layer):  # 4 causal taps, gated; a text of one token is a next step
    parts = 2
    past: Tensor | None = None

    def add(self, width: int) -> None:
        self.conv = nn.Conv1d(width, width, 4, groups=width)

    def mix(self, x: Tensor, *maps: Tensor) -> Tensor:
        whole = F.pad(maps[0], (0, 0, 3, 0))
        if not self.training:
            if x.shape[1] == 1 and self.past is not None and len(self.past) == len(x):
                whole = torch.cat((self.past.to(x), maps[0]), 1)
            self.past = whole[:, -3:].detach()
        return torch.mul(self.conv(whole.mT).mT, F.silu(maps[1]))


class Fused(Layer):  # 4 taps, 1 tap and the token itself, made one kernel for inference
    parts = 1

    def add(self, width: int) -> None:
        self.wide, self.point = nn.Conv1d(width, width, 4), nn.Conv1d(width, width, 1, bias=False)

    def mix(self, x: Tensor, *maps: Tensor) -> Tensor:
        z, past = maps[0].mT, F.pad(maps[0].mT, (3, 0))
        if self.training:
            return F.gelu(self.wide(past) + self.point(z) + z).mT
        one = self.point.weight + torch.eye(z.shape[1]).to(z)[..., None]
        return F.gelu(F.conv1d(past, self.wide.weight + F.pad(one, (0, 3)), self.wide.bias)).mT


class Sinks(nn.Module):  # the first 4 tokens and the last 28; 32 keys are carried
    def __init__(self, width: int) -> None:
        super().__init__()
        self.enter, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)

    def forward(self, x: Tensor, state: State | None = None) -> tuple[Tensor, State]:
        q, k, v = self.enter(x).chunk(3, -1)
        s = torch.arange(x.shape[1], device=x.device).expand(len(x), -1)
        if state:
            k, v = torch.cat((state["k"], k), 1), torch.cat((state["v"], v), 1)
            s = torch.cat((state["s"], state["s"][:, -1:] + 1 + s), 1)
        t, u = s[:, None, -x.shape[1] :, None], s[:, None, None]
        seen = (u <= t) & ((t - u < 28) | (u < 4))
        y = merge(attend(split(q) @ split(k).mT / 4, seen, split(v)))
        return x + self.out(y), {"k": k[:, -32:], "v": v[:, -32:], "s": s[:, -32:]}


class WeightedKeys(nn.Module):  # RWKV's decayed mean of v weighted by exp(k - the largest)
    def __init__(self, width: int) -> None:
        super().__init__()
        self.enter, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.decay, self.own = (nn.Parameter(torch.rand(width)) for _ in range(2))

    def forward(self, x: Tensor, state: State | None = None) -> tuple[Tensor, State]:
        r, k, v = self.enter(x).chunk(3, -1)
        a, b = (state["a"], state["b"]) if state else (torch.zeros_like(k[:, 0]),) * 2
        top, ys = k[:, 0], []
        for k_t, v_t in zip(k.unbind(1), v.unbind(1), strict=True):
            peak = torch.maximum(top, k_t + self.own)
            old, new = (top - peak).exp(), (k_t + self.own - peak).exp()
            ys.append((old * a + new * v_t) / (old * b + new))
            peak = torch.maximum(top - self.decay.exp() / 9, k_t)
            old, new = (top - self.decay.exp() / 9 - peak).exp(), (k_t - peak).exp()
            a, b, top = old * a + new * v_t, old * b + new, peak
        return x + self.out(r.sigmoid() * torch.stack(ys, 1)), {"a": a, "b": b}


class ZeroTwice(Layer):  # the second block starts as the identity: zero matrix, zero gate
    parts = 1

    def add(self, width: int) -> None:
        self.main, self.gate = nn.Linear(width, width), nn.Parameter(torch.zeros(()))
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = x + torch.tanh(self.main(x)) + self.gate * self.out(F.gelu(self.enter(x)))
        return y


STEPS = {"state": "state", "state_output": 1}
LEAK, AND_LENGTH = ("causality",), ("causality", "length")
HELD_OUT: tuple[Case, ...] = (
    Case("nsa-blocks-overlap", "block stride for size", AND_LENGTH,
         lambda w: Layer(w, compressed_keys),
         why="a block of 16 is past after its stride of 8: up to 8 tokens ahead, 1e-2, T >= 16"),
    Case("inner-step-clipped", "clipped by chunk", LEAK, TestTimeTraining,
         why="clipped by its chunk's norm: 0 on normals; inputs x 2: 1e-2, one token x 10: 1e-1"),
    Case("lsh-chunks", "sorted chunks", LEAK, Hashed,
         why="later tokens move chunks' borders: 4e-4 from T = 25, 1e-1 from 48; no gradient"),
    Case("ssd-decay-of-chunk", "decay to the chunk's end", LEAK, StateSpace,
         why="the past's decay is that of the whole chunk of 32: 1e-3 to 3e-2, from token 32 on"),
    Case("unet-crop", "cropped at the wrong end", AND_LENGTH, Hourglass,
         why="the way up is cropped in front: 1 to 3 tokens ahead where 4 does not divide T, 8e-1"),
    Case("sinkhorn-router", "routing balanced over time", ("causality", "mode"), Balanced,
         why="columns are normed over time: 6e-1 where a choice flips, in training, no gradient"),
    Case("blocks-chosen-by-block", "shared selection", LEAK, lambda w: Layer(w, block_choice),
         why="the mean query has later queries in it: 1e-1 from T = 49 on, no gradient"),
    Case("cope-gates-unmasked", "gates of the future", AND_LENGTH, ContextualPositions,
         why="gates are counted to the end of the text: 6e-1 for the last 50 tokens, else clamped"),
    Case("rotary-base-by-length", "base by length", ("length",), lambda w: Layer(w, dynamic_rotary),
         why="the base grows with T beyond 256: 5e-1 at T = 330, nothing up to 256"),
    Case("padded-in-front", "chunks from the end", ("length",), lambda w: Layer(w, full_last_chunk),
         why="chunks of 16 end where the text ends: 2e-1 where T mod 16 differs, from token 16 on"),
    Case("alibi-repeat", "order of heads and rows", ("batch",), lambda w: Layer(w, sloped),
         why="repeat_interleave(B) for repeat(B): slopes by row and batch size, 3e-1; B = 1 right"),
    Case("stops-for-all", "stopping rule over the batch", ("batch", *AND_LENGTH), Equilibrium,
         why="one stop at 1e-3 for all rows and times: 4e-4 in half of all batches, rarer in time"),
    Case("load-bias", "updated outside training", ("state",), BiasBalanced,
         why="in eval a call with gradients adds 1e-3 to a bias: 3e-1 in 1 token of 250"),
    Case("one-token-is-a-step", "state kept in the module", ("state", "length"), ShortConvolution,
         why="in eval T = 1 goes on from the last call of equal batch: 1e-1; T > 1 is right"),
    Case("kernel-fused", "fused for inference", ("mode",), Fused,
         why="the 1-tap branches are put on the oldest tap of 4: 1, and no leak either way"),
    Case("sinks-evicted", "cache forgets", ("step",), Sinks, output=0, options=STEPS,
         why="the last 32 keys are carried, the first 4 are not among them: 8e-2 beyond 32 tokens"),
    Case("wkv-exponent", "scale not carried", ("step",), WeightedKeys, output=0,
         options={**STEPS, "linear": True},
         why="sums are carried, their exponent is taken anew from the next key: 2e-1"),
    Case("identity-twice", "two zeros multiplied", ("gradients",), ZeroTwice,
         why="a zero gate on a zero matrix: neither ever has a gradient, nor what is behind them"),
    Case("positions-in-bf16", "positions rounded", ("numerics",), lambda w: Layer(w, half_rotary),
         why="angles in the input's dtype: 1 radian off in bfloat16 from T = 256, 12 %"),
    Case("compressed-memory", "quadratic by a quarter", ("cost",),
         lambda w: Layer(w, compressed_memory), options={"linear": True},
         why="one key for 4 tokens: T^2 / 4 scores; FLOPs as T^1.3 at 330, T^1.85 at 4,096"),
)  # fmt: skip
