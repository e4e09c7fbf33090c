"""Twenty more faults held out of the auditor's making, by an author who has not read it.

    cd benchmarks; python -m planted.verify_held_out_2      # is each real?

One slip in each; all else is meant to be right. Sizes in `why` are of the outputs' sd.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from . import Case
from .held_out import HEADS, NEVER, STEPS, Layer, State, attend, merge, padded, places, split


def wide(x: Tensor) -> Tensor:
    return x.to(torch.promote_types(x.dtype, torch.float32))


def past(x: Tensor, n: int, value: float = 0.0) -> Tensor:
    return F.pad(x, (0, 0, n, 0), value=value)[:, : x.shape[1]]


def tiled(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Online softmax over tiles of 32 queries and 64 keys; only tiles that need it are masked."""
    (t, s), T, ys = places(q), q.shape[2], []
    for i in range(0, T, 32):
        a = q[:, :, i : i + 32]
        total, mass, top = torch.zeros_like(a), a[..., :1] * 0, torch.full_like(a[..., :1], NEVER)
        for j in range(0, min(i + 32, T), 64):
            scores = a @ k[:, :, j : j + 64].mT
            if j + 64 > i + 32:
                scores = scores.masked_fill(s[j : j + 64] > t[i : i + 32], NEVER)
            peak = torch.maximum(top, scores.detach().amax(-1, keepdim=True))
            new, kept = (scores - peak).exp(), (top - peak).exp()
            total, mass = kept * total + new @ v[:, :, j : j + 64], kept * mass + new.sum(-1, True)
            top = peak
        ys.append(total / mass)
    return torch.cat(ys, 2)


class Patches(nn.Module):  # a patch ends with a token below 6, a space; queries see past patches
    def __init__(self, width: int) -> None:
        super().__init__()
        self.embed, self.enter = nn.Embedding(50, width), nn.Linear(width, 3 * width)
        self.out, self.logits = nn.Linear(width, width), nn.Linear(width, 50)

    def forward(self, tokens: Tensor) -> Tensor:
        x = self.embed(tokens)
        place = past((tokens < 6).long()[..., None], 1).cumsum(1)
        q, k, v = self.enter(x).chunk(3, -1)
        ones = torch.zeros_like(x[..., :1]).scatter_add(1, place, torch.ones_like(x[..., :1]))
        index = place.expand_as(x)
        k, v = (torch.zeros_like(z).scatter_add(1, index, z) / ones.clamp(min=1) for z in (k, v))
        seen = places(x)[1] < place.clamp(min=1)
        y = merge(attend(split(q) @ split(k).mT / 4, seen[:, None], split(v)))
        logits: Tensor = self.logits(F.gelu(x + self.out(y)))
        return logits


class Summaries(Layer):  # chunks of 32; the whole ones are pooled, and their summaries mixed
    def add(self, width: int) -> None:
        self.pool = nn.Parameter(torch.randn(HEADS, width // HEADS, 1))

    def mix(self, x: Tensor, *maps: Tensor) -> Tensor:
        q, k, v = (split(z) for z in maps)
        n, (t, s) = x.shape[1] // 32, places(q)
        chunks, contents = (z[:, :, : 32 * n].unflatten(2, (n, 32)) for z in (k, v))
        shares = torch.softmax(chunks @ self.pool[:, None], 3)
        keys, values = ((shares * z).sum(3) * 2 for z in (chunks, contents))
        values = values + torch.softmax(keys @ keys.mT, -1) @ values
        seen = torch.cat(((s <= t) & (s // 32 == t // 32), s[:n] < t // 32), 1)
        scores = torch.cat((q @ k.mT, q @ keys.mT), -1) / 4
        return merge(attend(scores, seen, torch.cat((v, values), 2)))


def heavy_hitters(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """The last 16 keys, and of all others the 48 that were attended to most."""
    (t, s), scores = places(q), q @ k.mT
    seen = s <= t
    if q.shape[2] > 48:
        got = torch.softmax(scores.detach().masked_fill(~seen, NEVER), -1).sum(2)
        kept = torch.zeros_like(got, dtype=torch.bool).scatter(-1, got.topk(48, -1).indices, True)
        seen = seen & (kept[:, :, None] | (t - s < 16))
    return attend(scores, seen, v)


class Depths(Layer):  # a router sends about half of the tokens through attention
    def add(self, width: int) -> None:
        self.router = nn.Linear(width, 1)

    def mix(self, x: Tensor, *maps: Tensor) -> Tensor:
        score = self.router(x)
        order = score.masked_fill(score <= 0, NEVER).argsort(1, descending=True)
        index = order.expand_as(x)
        q, k, v = (split(z.gather(1, index)) for z in maps)
        t, s = places(q)
        back = torch.zeros_like(x).scatter(1, index, merge(attend(q @ k.mT / 4, s <= t, v)))
        return torch.mul(back, (score > 0) * score.sigmoid())


class AdaptiveSpan(Layer):  # each token chooses how far it sees; a ramp of 16 keys ends the span
    def add(self, width: int) -> None:
        self.span = nn.Linear(width, HEADS)

    def mix(self, x: Tensor, *maps: Tensor) -> Tensor:
        q, k, v = (split(z) for z in maps)
        (t, s), span = places(q), 24 * self.span(x).sigmoid().mT[..., None]
        longest = int(span.max().nan_to_num().ceil())
        ramp = (16 + span - (t - s)) / 16
        seen = (s <= t) & (t - s <= longest) & (ramp > 0)
        return merge(attend(q @ k.mT / 4 + ramp.clamp(1e-4, 1).log(), seen, v))


def inverse(A: Tensor) -> Tensor:
    """Of a unit lower triangular matrix, by halves: (a 0; c d) -> (a' 0; -d'ca' d')."""
    if A.shape[-1] <= 16:
        done: Tensor = torch.linalg.solve_triangular(A, torch.eye(A.shape[-1]).to(A), upper=False)
        return done
    half = A.shape[-1] // 2
    a, d = inverse(A[..., :half, :half]), inverse(A[..., half:, half:])
    off = -d @ A[..., half:, :half] @ a
    return torch.cat((torch.cat((a, off), -1), F.pad(d, (half, 0))), -2)


class Delta(Layer):  # DeltaNet in chunks of 32, by the UT transform
    def add(self, width: int) -> None:
        self.rate = nn.Linear(width, HEADS)

    def mix(self, x: Tensor, *maps: Tensor) -> Tensor:
        rates = padded(wide(self.rate(x).sigmoid()).mT[..., None], 32).split(32, 2)
        q, k, v = (wide(split(z)) for z in maps)
        q, k = F.normalize(q, dim=-1), F.normalize(k, dim=-1)
        q, k, v = (padded(z, 32).split(32, 2) for z in (q, k, v))
        S, ys = torch.zeros_like(k[0].mT @ v[0]), []
        for a, b, c, rate in zip(q, k, v, rates, strict=True):
            solved = inverse(torch.eye(32).to(b) + (rate * b @ b.mT).tril(-1))
            new = solved @ (rate * (c - b @ S))
            ys.append(a @ S + (a @ b.mT).tril() @ new)
            S = S + b.mT @ new
        return merge(torch.cat(ys, 2)[:, :, : x.shape[1]]).to(x)


def sparse(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Sparsemax: the threshold at which the excess is 1, by 12 bisections."""
    (t, s), scores = places(q), q @ k.mT * 2
    seen = scores.masked_fill(s > t, NEVER)
    top = seen.detach().amax(-1, keepdim=True)
    seen, low = seen - top, torch.full_like(top, -1.0)
    high = scores.detach().amax(-1, keepdim=True) - top
    for _ in range(12):
        middle = (low + high) / 2
        more = F.relu(seen.detach() - middle).sum(-1, keepdim=True) >= 1
        low, high = torch.where(more, middle, low), torch.where(more, high, middle)
    weights = F.relu(seen - low)
    return weights / weights.sum(-1, keepdim=True) @ v


class Spectral(Layer):  # S4: the kernel by its generating function at the roots of unity
    parts = 2

    def add(self, width: int) -> None:
        self.decay = nn.Parameter(torch.linspace(-3, -0.7, 4).repeat(width, 1))
        self.turn, self.gain = (nn.Parameter(torch.randn(width, 4) / 2) for _ in range(2))

    def mix(self, x: Tensor, *maps: Tensor) -> Tensor:
        u, T = wide(maps[0]).mT, x.shape[1]
        decay, turn, gain = (wide(z).to(u) for z in (self.decay, self.turn, self.gain))
        pole = torch.polar((-decay.exp()).exp(), turn)[..., None]
        angles = torch.arange(T, device=x.device).to(u) * (2 * torch.pi / T)
        roots = torch.polar(torch.ones_like(angles), -angles)
        kernel = torch.fft.ifft((gain[..., None] / (1 - pole * roots)).sum(1)).real
        y = torch.fft.irfft(torch.fft.rfft(u, 2 * T) * torch.fft.rfft(kernel, 2 * T), 2 * T)
        return torch.mul(y[..., :T].mT.to(x), F.silu(maps[1]))


def random_blocks(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Blocks of 16: its own, the last, the first, and one drawn of all before."""
    (t, s), n = places(q), -(-q.shape[2] // 16)
    i, j = torch.arange(n)[:, None], torch.arange(n)
    drawn = torch.rand(n, n, generator=torch.Generator().manual_seed(0)).masked_fill(j >= i, -1.0)
    blocks = (j == i) | (j == i - 1) | (j == 0) | (j == drawn.argmax(-1, keepdim=True))
    return attend(q @ k.mT, blocks.to(q.device)[t // 16, s // 16] & (s <= t), v)


def features(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Linear attention by 32 random features, always the same."""
    B, H, _, D = q.shape
    drawn = torch.randn(B, H, D, 32, generator=torch.Generator().manual_seed(0)).to(q)
    weights = ((F.relu(q @ drawn) + 0.01) @ (F.relu(k @ drawn) + 0.01).mT).tril()
    return weights / weights.sum(-1, keepdim=True) @ v


class ByText(Layer):  # one of 4 experts for the whole text, by its first token; rows are sorted
    parts = 4

    def add(self, width: int) -> None:
        self.router = nn.Linear(width, self.parts)

    def mix(self, x: Tensor, *maps: Tensor) -> Tensor:
        share, expert = self.router(x[:, 0]).softmax(-1).max(-1)
        order = expert.argsort(stable=True)
        grouped = F.gelu(torch.stack(maps, 1)[order, expert[order]])
        return torch.mul(grouped[order], share[:, None, None])


class ActNorm(Layer):  # scale and shift are set by the first data seen, then learned
    ready: Tensor
    parts = 1

    def add(self, width: int) -> None:
        self.shift, self.scale = (nn.Parameter(torch.zeros(width)) for _ in range(2))
        self.register_buffer("ready", torch.tensor(False))
        self.conv = nn.Conv1d(width, width, 4, groups=width)

    def mix(self, x: Tensor, *maps: Tensor) -> Tensor:
        if not self.ready:
            with torch.no_grad():
                variance, mean = torch.var_mean(maps[0], (0, 1), correction=0)
                self.shift.copy_(-mean)
                self.scale.copy_(-(variance + 0.05).log() / 2)
                self.ready.fill_(True)
        h = (maps[0] + self.shift) * self.scale.exp()
        return F.gelu(self.conv(F.pad(h.mT, (3, 0))).mT)


class Relative(Layer):  # log distances from a table that is made longer where a text needs it
    table: Tensor = torch.zeros(0)

    def mix(self, x: Tensor, *maps: Tensor) -> Tensor:
        q, k, v = (split(z) for z in maps)
        (t, s), T = places(q), x.shape[1]
        if len(self.table) < T:
            self.table = -torch.arange(T, device=x.device, dtype=torch.float64).flip(0).log1p()
        bias = self.table.to(x)[(T - 1 - t + s).clamp(max=T - 1)]
        slopes = torch.arange(1, HEADS + 1, device=x.device).to(x)[:, None, None] / 2
        return merge(attend(q @ k.mT / 4 + slopes * bias, s <= t, v))


class Selective(Layer):  # h' = u - h for a step that x chooses: a scan; without training a loop
    parts = 2

    def add(self, width: int) -> None:
        self.pace = nn.Linear(width, width)
        nn.init.constant_(self.pace.bias, -2.0)

    def mix(self, x: Tensor, *maps: Tensor) -> Tensor:
        step = F.softplus(self.pace(x))
        decay = (-step).exp()
        if self.training:
            h, n = step * maps[0], 1
            while n < x.shape[1]:
                h, decay, n = h + decay * past(h, n), decay * past(decay, n, 1.0), 2 * n
        else:
            hs = [torch.zeros_like(x[:, 0])]
            for a, u in zip(decay.unbind(1), maps[0].unbind(1), strict=True):
                hs.append(a * hs[-1] + (1 - a) * u)
            h = torch.stack(hs[1:], 1)
        return h * F.silu(maps[1])


class MatrixMemory(nn.Module):  # mLSTM: all at once by decayed scores, a single token by its state
    def __init__(self, width: int) -> None:
        super().__init__()
        self.enter, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.gates = nn.Linear(width, 2 * HEADS)

    def forward(self, x: Tensor, state: State | None = None) -> tuple[Tensor, State]:
        q, k, v = (split(z) for z in self.enter(x).chunk(3, -1))
        q = q / 4
        i, f = self.gates(x).mT[..., None].chunk(2, 1)  # (B, H, T, 1)
        sums = F.logsigmoid(f + 2).cumsum(2)
        if state is None:
            S, n = torch.zeros_like(k.mT @ v), torch.zeros_like(k[:, :, :1])
            top = torch.full_like(i[:, :, :1], NEVER)
        else:
            S, n, top = state["S"], state["n"], state["top"]
        last = sums[:, :, -1:]
        peak = torch.maximum(last + top, (last - sums + i).amax(2, keepdim=True))
        keys = k * (last - sums + i - peak).exp()
        kept = (last + top - peak).exp()
        after = {"S": kept * S + keys.mT @ v, "n": kept * n + keys.sum(2, keepdim=True)}
        after["top"] = peak
        if state is not None and x.shape[1] == 1:
            y, mass, floor = q @ after["S"], q @ after["n"].mT, torch.ones_like(peak)
        else:
            t, s = places(q)
            within = (sums - sums.mT + i.mT).masked_fill(s > t, NEVER)
            peak = torch.maximum(within.amax(-1, keepdim=True), sums + top)
            scores, kept = q @ k.mT * (within - peak).exp(), (sums + top - peak).exp()
            y, mass = scores @ v + kept * (q @ S), scores.sum(-1, True) + kept * (q @ n.mT)
            floor = (-peak).clamp(max=20).exp()
        return x + self.out(merge(y / torch.maximum(mass.abs(), floor))), after


class MinGRU(nn.Module):  # h = (1 - z) h + z g(u), where g keeps it above zero
    def __init__(self, width: int) -> None:
        super().__init__()
        self.enter, self.out = nn.Linear(width, 2 * width), nn.Linear(width, width)

    def forward(self, x: Tensor, state: Tensor | None = None) -> tuple[Tensor, Tensor]:
        z, u = self.enter(x).chunk(2, -1)
        h, ys = self.positive(torch.zeros_like(x[:, 0]) if state is None else state), []
        for a, b in zip(z.sigmoid().unbind(1), self.positive(u).unbind(1), strict=True):
            h = h + a * (b - h)
            ys.append(h)
        return x + self.out(torch.stack(ys, 1)), h

    @staticmethod
    def positive(u: Tensor) -> Tensor:
        return torch.where(u >= 0, F.relu(u) + 0.5, u.sigmoid())


class RealGated(Layer):  # RG-LRU: h = a h + sqrt(1 - a^2) (i u), where log a = -8 softplus(L) r
    parts = 3

    def add(self, width: int) -> None:
        self.decay = nn.Parameter(torch.linspace(-9.0, -4.4, width))

    def mix(self, x: Tensor, *maps: Tensor) -> Tensor:
        u, i, r = maps
        a = (-8 * F.softplus(self.decay) * r.sigmoid()).exp()
        u, h, ys = torch.sqrt(1 - a * a) * i.sigmoid() * u, torch.zeros_like(x[:, 0]), []
        for a_t, u_t in zip(a.unbind(1), u.unbind(1), strict=True):
            h = a_t * h + u_t
            ys.append(h)
        return torch.stack(ys, 1)


class Forgetting(Layer):  # scores fade by the product of the forget gates between
    def add(self, width: int) -> None:
        self.gate = nn.Linear(width, HEADS)
        nn.init.constant_(self.gate.bias, 2.0)

    def mix(self, x: Tensor, *maps: Tensor) -> Tensor:
        q, k, v = (split(z) for z in maps)
        (t, s), sums = places(q), wide(self.gate(x).sigmoid().log()).cumsum(1).mT[..., None]
        return merge(attend(q @ k.mT / 4 + (sums - sums.mT).to(x), s <= t, v))


class Neighbours(Layer):  # each token attends to the 8 nearest keys of its past, by L1
    def mix(self, x: Tensor, *maps: Tensor) -> Tensor:
        q, k, v = (split(z) for z in maps)
        (t, s), ys = places(q), []
        for i in range(0, x.shape[1], 32):
            near = -torch.cdist(wide(q[:, :, i : i + 32]), wide(k[:, :, : i + 32]), p=1.0) / 4
            near = near.masked_fill(s[: i + 32] > t[i : i + 32], NEVER)
            best, index = near.topk(min(8, near.shape[-1]), -1)
            at = index.flatten(2)[..., None].expand(-1, -1, -1, v.shape[-1])
            chosen = v.gather(2, at).unflatten(2, index.shape[2:])
            ys.append((torch.softmax(best, -1).to(v)[..., None] * chosen).sum(3))
        return merge(torch.cat(ys, 2))


LEAK, AND_LENGTH = ("causality",), ("causality", "length")
HELD_OUT_2: tuple[Case, ...] = (
    Case("tiles-unmasked", "tile taken for past", LEAK, lambda w: Layer(w, tiled),
         why="every second tile of queries is taken for all past: 1e-1 from T = 34 on"),
    Case("first-patch", "own patch for want of another", AND_LENGTH, Patches, input="tokens:B,T,50",
         why="the first patch sees its own mean, to its end: 7e-1 in its some 8 tokens, no others"),
    Case("summaries-mixed", "mask between summaries", AND_LENGTH, Summaries,
         why="summaries see later ones: 3e-1 from T = 64 on, for tokens from 32 on"),
    Case("heavy-hitters", "chosen by later queries", AND_LENGTH, lambda w: Layer(w, heavy_hitters),
         why="later queries vote too: 3e-2 at T = 128, rare at 72, none up to 48, no gradient"),
    Case("depths-by-score", "order of the chosen", LEAK, Depths,
         why="the chosen lie by score, not by time, before a causal mask: 5e-1"),
    Case("span-trimmed", "trimmed by the longest", ("causality", "batch", "length"), AdaptiveSpan,
         why="cut at the longest span of all rows, ramp and all: 5e-2, from T of 28, no gradient"),
    Case("inverse-corner", "corner of a block inverse", LEAK, Delta,
         why="the lower corner is put above: 3e-2 at T = 17, 3e-1 at 32, none up to 16"),
    Case("bisection-bracket", "bracket of a search", AND_LENGTH, lambda w: Layer(w, sparse),
         why="its upper end is the maximum before the mask: 2e-4 at T = 8, 4e-4 at 64"),
    Case("kernel-aliased", "aliased kernel", ("length",), Spectral,
         why="K(t) + K(t + T) + ...: 2e-1 at T = 16, 2e-2 at 64, 2e-3 at 128, 0 at 700"),
    Case("random-blocks", "drawn by blocks", ("length",), lambda w: Layer(w, random_blocks),
         why="numbers are drawn as (n, n): 1e-1 where ceil(T / 16) differs, T > 80"),
    Case("features-by-row", "drawn by row", ("batch",), lambda w: Layer(w, features),
         why="each row has features of its own: 2e-1; row 0, and B = 1, are right"),
    Case("rows-unsorted", "order for its inverse", ("batch",), ByText,
         why="order for its inverse: B = 1 and 2 are right, 6e-1 in a third of rows at B = 3 to 5"),
    Case("set-by-first-data", "initialised by data", ("state",), ActNorm,
         why="in eval too: 1e-1 by which text came first, then fixed; it repeats itself"),
    Case("table-of-longest", "table of another length", ("state", "length"), Relative,
         why="read from its end as made for this T: 2e-1 to 4e-1 once a longer text was seen"),
    Case("two-discretisations", "two formulas", ("mode",), Selective,
         why="a step of Euler in training, of zero-order hold in eval: 3e-2"),
    Case("mlstm-floor", "floor without its scale", ("step",), MatrixMemory, output=0,
         options=STEPS, why="a single step's floor is 1 for exp(-its scale): 8e-1; 0 by twos"),
    Case("mingru-positive-twice", "map applied to the state", ("step",), MinGRU, output=0,
         options={**STEPS, "linear": True}, why="g of the carried h: + 0.5 a call, 1; right for 0"),
    Case("rglru-root", "root of a rounded zero", ("gradients", "numerics"), RealGated,
         why="a rounds to 1: gradient NaN in bfloat16, in float32 for inputs x 100, not x 1"),
    Case("forget-log-sigmoid", "log of an underflow", ("numerics", "gradients"), Forgetting,
         why="log(sigmoid) is -inf below -104 in float32: NaN for inputs x 100, not x 10"),
    Case("nearest-by-l1", "search of the whole past", ("cost",), Neighbours,
         options={"linear": True}, why="T^1.5 elements at 330, T^1.9 at 4,096, as cdist: no FLOPs"),
)  # fmt: skip
