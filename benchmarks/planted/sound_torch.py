"""Sound modules of torch, wrapped where they need a mask or padding."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from . import Case
from .blocks import Between


class MaskedAttention(nn.Module):
    """nn.MultiheadAttention under a causal mask."""

    def __init__(self, width: int, *, batch_first: bool = True, boolean: bool = True) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(width, 4, batch_first=batch_first)
        self.time, self.boolean = int(batch_first), boolean

    def forward(self, x: Tensor) -> Tensor:
        T = x.shape[self.time]
        mask = torch.ones(T, T, dtype=torch.bool).triu(1)
        if not self.boolean:
            mask = torch.zeros(T, T, dtype=x.dtype).masked_fill(mask, float("-inf"))
        y: Tensor = self.attention(x, x, x, attn_mask=mask, need_weights=False)[0]
        return y


class MaskedEncoder(nn.Module):
    """nn.TransformerEncoderLayer under a causal mask."""

    def __init__(self, width: int, **fields: Any) -> None:
        super().__init__()
        self.layer = nn.TransformerEncoderLayer(width, 4, 2 * width, batch_first=True, **fields)

    def forward(self, x: Tensor) -> Tensor:
        T = x.shape[1]
        mask = torch.zeros(T, T, dtype=x.dtype)
        mask.masked_fill_(torch.ones(T, T, dtype=torch.bool).triu(1), float("-inf"))
        y: Tensor = self.layer(x, src_mask=mask)
        return y


class CausalConvs(nn.Module):
    """Conv1d layers padded at the left, residual."""

    def __init__(self, width: int, dilations: tuple[int, ...], groups: int = 1) -> None:
        super().__init__()
        self.dilations = dilations
        self.convs = nn.ModuleList(
            nn.Conv1d(width, width, 3, dilation=d, groups=groups) for d in dilations
        )

    def forward(self, x: Tensor) -> Tensor:
        y = x.mT
        for conv, d in zip(self.convs, self.dilations, strict=True):
            y = y + F.gelu(conv(F.pad(y, (2 * d, 0))))
        return y.mT


class PaddedConv(nn.Module):
    """Conv1d padded at both sides by itself; what stands too far right is cut off."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv = nn.Conv1d(width, width, 5, padding=4, groups=width)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.conv(x.mT)[..., : x.shape[1]].mT
        return y


class CellLoop(nn.Module):
    """nn.GRUCell in a loop."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.cell = nn.GRUCell(width, width)

    def forward(self, x: Tensor, hx: Tensor | None = None) -> tuple[Tensor, Tensor]:
        h = torch.zeros_like(x[:, 0]) if hx is None else hx
        outputs = []
        for x_t in x.unbind(1):
            h = self.cell(x_t, h)
            outputs.append(h)
        return torch.stack(outputs, 1), h


class Spectral(nn.Module):
    """A matrix of spectral norm 1 that stays in eval: its power steps are done."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.matrix = nn.utils.parametrizations.spectral_norm(nn.Linear(width, width))
        self.eval()

    def train(self, mode: bool = True) -> Spectral:
        return super().train(False)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.matrix(x)
        return y


def weight_normed(w: int) -> nn.Module:
    matrix: nn.Module = nn.utils.parametrizations.weight_norm(nn.Linear(w, w))
    return matrix


RECURRENT: dict[str, Any] = {
    "output": 0, "options": {"linear": True, "state": "hx", "state_output": 1},
}  # fmt: skip


def recurrent(name: str, cls: Any, **fields: Any) -> Case:
    time_first = not fields.get("batch_first", False)
    return Case(
        name, "torch", (), lambda w: cls(w, w, **fields),
        input="float:T,B,64" if time_first else "float:B,T,64", **RECURRENT,
    )  # fmt: skip


TORCH = (
    Case("multihead-causal", "torch", (), MaskedAttention),
    Case("multihead-float-mask", "torch", (), lambda w: MaskedAttention(w, boolean=False)),
    Case("multihead-time-first", "torch", (), lambda w: MaskedAttention(w, batch_first=False),
         input="float:T,B,64"),
    Case("encoder-norm-first", "torch", (), lambda w: MaskedEncoder(w, norm_first=True)),
    Case("encoder-norm-last", "torch", (), lambda w: MaskedEncoder(w, norm_first=False)),
    Case("encoder-gelu-no-dropout", "torch", (),
         lambda w: MaskedEncoder(w, dropout=0.0, activation="gelu")),
    Case("encoder-bidirectional", "torch", (),
         lambda w: nn.TransformerEncoderLayer(w, 4, 2 * w, dropout=0.0, batch_first=True),
         options={"bidirectional": True}, why="no mask, and it does not claim one"),
    recurrent("gru", nn.GRU, batch_first=True),
    recurrent("gru-time-first", nn.GRU),
    recurrent("gru-dropout", nn.GRU, batch_first=True, num_layers=2, dropout=0.1),
    recurrent("lstm", nn.LSTM, batch_first=True),
    recurrent("lstm-2-layers", nn.LSTM, batch_first=True, num_layers=2),
    recurrent("lstm-time-first", nn.LSTM, num_layers=2),
    recurrent("rnn", nn.RNN, batch_first=True),
    Case("gru-bidirectional", "torch", (),
         lambda w: nn.GRU(w, w // 2, batch_first=True, bidirectional=True), output=0,
         options={"bidirectional": True, "linear": True}, why="it says that it looks ahead"),
    Case("gru-cell-loop", "torch", (), CellLoop, **RECURRENT),
    Case("conv-causal", "torch", (), lambda w: CausalConvs(w, (1, 1)), options={"linear": True}),
    Case("conv-dilated", "torch", (), lambda w: CausalConvs(w, (1, 2, 4, 8, 16)),
         options={"linear": True}),
    Case("conv-depthwise", "torch", (), lambda w: CausalConvs(w, (1, 4), groups=w),
         options={"linear": True}),
    Case("conv-padded-and-cut", "torch", (), PaddedConv, options={"linear": True}),
    Case("layer-norm", "torch", (), nn.LayerNorm, options={"linear": True}),
    Case("rms-norm", "torch", (), nn.RMSNorm, options={"linear": True}),
    Case("weight-norm", "torch", (), weight_normed, options={"linear": True}),
    Case("spectral-norm", "torch", (), Spectral, options={"linear": True},
         why="a buffer for the power steps, which are frozen"),
    Case("dropout-mlp", "torch", (),
         lambda w: nn.Sequential(nn.Linear(w, w), nn.GELU(), nn.Dropout(0.2), nn.Linear(w, w)),
         options={"linear": True}),
    Case("embedding-and-gru", "torch", (),
         lambda w: nn.Sequential(nn.Embedding(50, w), nn.GRU(w, w, batch_first=True)),
         input="tokens:B,T,50", output=0, options={"linear": True}),
    Case("identity-between", "torch", (), lambda w: Between(w, nn.Identity()),
         options={"linear": True}),
)  # fmt: skip
