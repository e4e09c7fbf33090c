"""Faults along time: transforms, statistics, convolutions, chunks, leaks that are small."""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from . import Case
from .blocks import Attend, Between, ahead, counts, running_mean, shift, wide

# whole-sequence transforms


def fnet(x: Tensor) -> Tensor:
    y: Tensor = torch.fft.fft2(x, norm="ortho").real
    return y


def low_pass(x: Tensor) -> Tensor:
    spectrum = torch.fft.rfft(x, dim=1)
    spectrum[:, spectrum.shape[1] // 2 + 1 :] = 0
    y: Tensor = torch.fft.irfft(spectrum, n=x.shape[1], dim=1)
    return y


def circular(x: Tensor) -> Tensor:
    kernel = torch.exp(-torch.arange(x.shape[1], dtype=x.dtype) / 8)[:, None]
    product = torch.fft.rfft(x, dim=1) * torch.fft.rfft(kernel, dim=0)
    y: Tensor = torch.fft.irfft(product, n=x.shape[1], dim=1)
    return y


def padded_to_a_power(x: Tensor) -> Tensor:
    T = x.shape[1]
    n = 2 ** math.ceil(math.log2(max(2, T)))
    kernel = torch.cos(torch.arange(T, dtype=x.dtype))[:, None] / T**0.5
    product = torch.fft.rfft(x, n=n, dim=1) * torch.fft.rfft(kernel, n=n, dim=0)
    y: Tensor = torch.fft.irfft(product, n=n, dim=1)[:, :T]
    return y


def reversed_sum(x: Tensor) -> Tensor:
    return x.flip(1).cumsum(1).flip(1) / counts(x)


def share_of_total(x: Tensor) -> Tensor:
    weights = x.exp()
    return weights.cumsum(1) / weights.sum(1, keepdim=True)


def sorted_in_time(x: Tensor) -> Tensor:
    return x.sort(1).values


def half_rate(x: Tensor) -> Tensor:
    """Means of pairs, each given to both of its tokens."""
    pooled = F.avg_pool1d(x.mT, 2, ceil_mode=True)
    return F.interpolate(pooled, scale_factor=2.0).mT[:, : x.shape[1]]


# statistics


def less_mean(x: Tensor) -> Tensor:
    return x - x.mean(1, keepdim=True)


def by_max(x: Tensor) -> Tensor:
    return x / (1 + x.abs().amax(1, keepdim=True))


def by_deviation(x: Tensor) -> Tensor:
    return x / (x.var(1, correction=0, keepdim=True) + 1e-5).sqrt()


def less_median(x: Tensor) -> Tensor:
    return x - x.quantile(0.5, dim=1, keepdim=True)


def clipped_at_quantile(x: Tensor) -> Tensor:
    return torch.minimum(x, x.quantile(0.9, dim=1, keepdim=True))


def instance_norm(x: Tensor) -> Tensor:
    return F.layer_norm(x.mT, (x.shape[1],)).mT


def quantised(x: Tensor) -> Tensor:
    scale = x.abs().amax() / 127 + 1e-12
    steps = (x / scale).round() * scale
    return x + (steps - x).detach()


def decayed_by_global_max(x: Tensor) -> Tensor:
    """A running mean under exp(x - max), with a floor that the maximum moves."""
    weights = torch.exp(4 * x - (4 * x).amax(1, keepdim=True))
    return (weights * x).cumsum(1) / (weights.cumsum(1) + 1e-6)


def batch_centred(x: Tensor) -> Tensor:
    return x - x.mean(0, keepdim=True)


class OverTime(nn.Module):
    """A norm of torch's that takes (B, C, T), with the axes turned for it."""

    def __init__(self, norm: nn.Module) -> None:
        super().__init__()
        self.norm = norm

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.norm(x.mT).mT
        return y


# convolutions and neighbours


class Conv(nn.Module):
    """A depthwise convolution with `left` and `right` zeros."""

    def __init__(self, width: int, left: int, right: int) -> None:
        super().__init__()
        self.conv = nn.Conv1d(width, width, left + right + 1, groups=width)
        self.pad = (left, right)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.conv(F.pad(x.mT, self.pad)).mT
        return y


def max_pool(x: Tensor) -> Tensor:
    return F.max_pool1d(x.mT, 3, stride=1, padding=1).mT


def rolled(x: Tensor) -> Tensor:
    return x.roll(1, 1)


def shifted_wrongly(x: Tensor) -> Tensor:
    return shift(x) + 1e-3 * ahead(x)


def wrapped_index(x: Tensor) -> Tensor:
    return x[:, (torch.arange(x.shape[1]) - 2) % x.shape[1]]


def ema(x: Tensor) -> Tensor:
    state, outputs = torch.zeros_like(x[:, 0]), []
    for x_t in x.unbind(1):
        state = 0.8 * state + 0.2 * x_t
        outputs.append(state)
    return torch.stack(outputs, 1)


def filtfilt(x: Tensor) -> Tensor:
    return ema(ema(x).flip(1)).flip(1)


class Backwards(nn.Module):
    """A GRU that is given the text from its end."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.gru = nn.GRU(width, width, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.gru(x.flip(1))[0].flip(1)
        return y


# chunks


def chunk_means(x: Tensor, chunk: int, slip: int) -> Tensor:
    """A running mean in chunks; past the first, `slip` of a chunk's sum is added to what it had."""
    before, outputs = torch.zeros_like(x[:, :1]), []
    for i, piece in enumerate(x.split(chunk, 1)):
        total = piece.sum(1, keepdim=True)
        outputs.append(before + (slip * total if i else 0) + piece.cumsum(1))
        before = before + total
    return torch.cat(outputs, 1) / counts(x)


def beyond_64(x: Tensor) -> Tensor:
    return chunk_means(x, 64, 1)


def beyond_128(x: Tensor) -> Tensor:
    return chunk_means(x, 128, 1)


def slip_at_boundary(x: Tensor) -> Tensor:
    """Inclusive for exclusive: the last token of each chunk of 16 gets its successor's share."""
    y = running_mean(x)
    last = torch.arange(15, max(15, x.shape[1] - 1), 16)
    bend = torch.zeros_like(y)
    bend[:, last] = 0.1 * x[:, last + 1]
    return y + bend


def remainder_open(x: Tensor) -> Tensor:
    """Whole chunks of 64 are right; what is left over takes its mean at once."""
    whole = x.shape[1] // 64 * 64
    y = running_mean(x)
    rest = x[:, whole:].mean(1, keepdim=True).expand(-1, x.shape[1] - whole, -1)
    return torch.cat((y[:, :whole], rest), 1)


def multiple_open(x: Tensor) -> Tensor:
    """The padded path is right; the quick one for whole chunks of 64 is not."""
    return running_mean(x) if x.shape[1] % 64 else beyond_64(less_mean(x))


# leaks that are small, hard, or hidden from one way of looking


def a_millionth(x: Tensor) -> Tensor:
    return running_mean(x) + 1e-6 * ahead(x)


def detached(x: Tensor) -> Tensor:
    return running_mean(x) + 0.1 * ahead(x).detach()


def gradient_only(x: Tensor) -> Tensor:
    return running_mean(x) + 0.1 * (ahead(x) - ahead(x).detach())


def on_large_mean(x: Tensor) -> Tensor:
    """Doubled where the next token's loudest channel passes 1.6, 2.8 standard deviations."""
    gate = ahead(x).amax(-1, keepdim=True) > 1.6
    return running_mean(x) * (1 + gate)


def on_rare_maximum(x: Tensor) -> Tensor:
    """Doubled where the rest of the text passes 2.6, 4.5 standard deviations."""
    gate = ahead(x).amax(-1, keepdim=True).flip(1).cummax(1).values.flip(1) > 2.6
    return running_mean(x) * (1 + gate)


def on_huge_future(x: Tensor) -> Tensor:
    """As it is, unless some input of the text passes 1,000."""
    return running_mean(x) * (1 + (x.abs().amax((1, 2), keepdim=True) > 1000))


def on_sign(x: Tensor) -> Tensor:
    """The sign of the last token's first channel turns one of 64 channels of all."""
    turn = torch.ones_like(x)
    turn[..., 0] = x[:, -1:, 0].sign()
    return running_mean(x) * turn


class OneOf512(nn.Module):
    """512 channels out, of which one sees a token ahead."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.enter, self.out = nn.Linear(width, 512), nn.Linear(512, 512)

    def forward(self, x: Tensor) -> Tensor:
        h = self.enter(x)
        y = self.out(running_mean(h))
        leak = torch.cat((torch.zeros_like(h[..., 1:]), ahead(h)[..., :1]), -1)
        result: Tensor = y + leak.roll(137, -1)
        return result


CAUSALITY = ("causality",)
BOTH = ("causality", "batch")


def over(name: str, kind: str, mix: Any, why: str, expected: tuple[str, ...] = CAUSALITY) -> Case:
    return Case(name, kind, expected, lambda w: Between(w, mix), why=why)


TIME = (
    over("fft-over-time", "FFT over time", wide(fnet), "FNet: each token sees all"),
    over("fft-low-pass", "FFT over time", wide(low_pass), "half of the spectrum is cut"),
    over("fft-circular", "circular convolution", wide(circular), "the end wraps around"),
    over("fft-padded-to-power", "circular convolution", wide(padded_to_a_power),
         "padded to a power of 2, not to 2 T: wraps fully at T = 64, by one token at T = 65"),
    over("sum-reversed", "reversed cumulative sum", reversed_sum, "flip, cumsum, flip"),
    over("share-of-total", "normalised by the total", share_of_total, "cumsum / sum"),
    over("sorted-over-time", "sort over time", sorted_in_time, "each channel sorted in time"),
    over("half-rate", "pooling", half_rate, "pooled by pairs: the first of each sees the second"),
    over("mean-of-all", "statistics of the whole text", less_mean, "the text's mean is taken off"),
    over("max-of-all", "statistics of the whole text", by_max, "divided by the text's maximum"),
    over("deviation-of-all", "statistics of the whole text", by_deviation, "by the text's sd"),
    over("median-of-all", "quantile of the whole text", wide(less_median), "less the median"),
    over("quantile-of-all", "quantile of the whole text", wide(clipped_at_quantile),
         "clipped at the text's 90 % quantile: only loud values move"),
    over("layer-norm-over-time", "norm over time", instance_norm, "normed along the wrong axis"),
    Case("group-norm-over-time", "norm over time", CAUSALITY,
         lambda w: Between(w, OverTime(nn.GroupNorm(4, w))), why="GroupNorm on (B, C, T)"),
    Case("instance-norm", "norm over time", CAUSALITY,
         lambda w: Between(w, OverTime(nn.InstanceNorm1d(w, affine=True))),
         why="InstanceNorm1d on (B, C, T)"),
    Case("batch-norm", "batch norm", ("batch", "causality", "mode"),
         lambda w: Between(w, OverTime(nn.BatchNorm1d(w))),
         why="in training statistics of all rows and times; in eval of what was seen before"),
    over("batch-mean", "statistics over the batch", batch_centred, "the rows' mean", ("batch",)),
    over("quantised-by-one-scale", "quantisation scale", quantised,
         "int8 by one scale for the whole tensor: its loudest value moves all grids", BOTH),
    over("global-max-and-floor", "floor under a global maximum", decayed_by_global_max,
         "exp(x - global max) cancels but for + 1e-6: small on normals, all of it after a peak"),
    Case("conv-ahead-by-1", "convolution pad", CAUSALITY, lambda w: Between(w, Conv(w, 2, 1)),
         why="one zero of padding on the wrong side"),
    Case("conv-centred", "convolution pad", CAUSALITY, lambda w: Between(w, Conv(w, 2, 2)),
         why="padding='same'"),
    over("max-pool-symmetric", "pooling", max_pool, "a 'causal' maximum with padding=1"),
    over("roll", "wrap-around", rolled, "roll for shift: the first token gets the last"),
    over("negative-index", "wrap-around", wrapped_index, "x[(t - 2) % T]: 0 and 1 read the end"),
    over("shift-both-ways", "token shift", shifted_wrongly, "1e-3 of the next token is mixed in"),
    over("ema-forth-and-back", "filter forth and back", filtfilt, "filtfilt has no delay"),
    Case("gru-backwards", "run backwards", CAUSALITY, Backwards, why="flip, GRU, flip"),
    Case("gru-both-ways", "bidirectional", CAUSALITY,
         lambda w: nn.GRU(w, w // 2, batch_first=True, bidirectional=True), output=0,
         why="bidirectional=True where it is not claimed"),
    over("beyond-chunk-64", "beyond the first chunk", beyond_64,
         "past the first chunk of 64 each token has all of its own chunk"),
    over("beyond-chunk-128", "beyond the first chunk", beyond_128, "the same with 128"),
    over("chunk-slip", "slip at the chunk's boundary", slip_at_boundary,
         "the last token of each chunk of 16 has a tenth of the next"),
    over("remainder-open", "only for T no multiple", remainder_open,
         "what is left over after chunks of 64 sees all of itself"),
    over("multiple-open", "only for T a multiple", multiple_open, "T = 64, 128, ... only"),
    over("leak-1e-6", "leak of 1e-6", a_millionth, "a millionth of the next token"),
    over("leak-detached", "detached leak", detached, "the Jacobian is blind to it, values are not"),
    over("leak-of-gradient", "leak of the gradient only", gradient_only,
         "values are right; the backward pass carries a tenth of the next token", ("causality",)),
    over("branch-ordinary", "data-dependent branch", on_large_mean,
         "doubled where the next token's maximum passes 1.6, about one in six; no gradient"),
    over("branch-rare", "data-dependent branch", on_rare_maximum,
         "doubled before any value above 4.5 sd, one text in 70; one token x 3 shows it"),
    over("branch-huge", "data-dependent branch", on_huge_future,
         "doubled when a value passes 1,000 behind the first matrix: one token x 1,000"),
    over("branch-sign", "data-dependent branch", on_sign,
         "the last token's sign turns one channel; no gradient, no small change finds it"),
    Case("one-channel-of-512", "1 channel of 512", CAUSALITY, OneOf512,
         why="512 channels out, one of them sees the next token"),
    Case("second-layer-conv", "second layer", CAUSALITY,
         lambda w: nn.Sequential(Attend(w), Between(w, Conv(w, 2, 1)), Attend(w)),
         why="between two right layers one that looks ahead"),
)  # fmt: skip
