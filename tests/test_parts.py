"""Every mixer, channel mixer and norm of the menu keeps the contract, and so do these variants."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

import mendel.parts.menu  # noqa: F401
from mendel.parts.contract import PartContract
from mendel.parts.part import NAMED, PARTS, Kind, Part, State
from mendel.spec import PartSpec

pytestmark = pytest.mark.usefixtures("one_thread")

KINDS: tuple[Kind, ...] = ("mixer", "channel", "norm")
MENU = [(kind, PartSpec(part=name)) for kind in KINDS for name in [*PARTS[kind], *NAMED[kind]]]
VARIANTS: list[tuple[Kind, PartSpec]] = [
    ("mixer", PartSpec(part=name, fields=fields))
    for name, fields in [
        ("attention", {"n_heads": 2, "window": 5}),
        ("attention", {"n_heads": 4, "n_kv_heads": 2, "qk_norm": True}),
        ("attention", {"rotary": False, "head_dim": 3}),
        ("attention", {"n_kv_heads": 2, "window": 5, "conv": 3}),
        ("short_conv", {"kernel": 1, "act": "silu"}),
        ("short_conv", {"kernel": 9}),
        ("multi_scale_fir", {"kernels": [1, 4, 31], "mix": "token"}),
        ("multi_scale_fir", {"kernels": [3], "n_heads": 1}),
        ("hyena", {"length": 24, "kernel": 1}),
        ("hyena", {"length": 1}),
        ("delta_product", {"rotary": True, "decay": "fixed", "n_steps": 3, "bonus": True}),
        ("rwkv7", {"rotary": True, "direct": True, "out_gate": "sigmoid"}),
    ]
]
VARIANTS += [
    ("norm", PartSpec(part="rms_norm", fields={"gain": False})),
    ("norm", PartSpec(part="layer_norm", fields={"bias": True})),
]


def _name(of: tuple[Kind, PartSpec]) -> str:
    kind, spec = of
    fields = "".join(f"-{field}={value}" for field, value in spec.fields.items())
    return f"{kind}-{spec.part}{fields}".replace(" ", "")


class TestEveryPart(PartContract):
    @pytest.fixture(autouse=True, params=MENU + VARIANTS, ids=_name)
    def one_of_them(self, request: pytest.FixtureRequest) -> None:
        self.kind, self.spec = request.param


class Sum(Part):
    """A running sum that keeps the contract, but for the one fault it is built with."""

    def __init__(self, fault: str) -> None:
        super().__init__()
        self.fault = fault

    def forward(
        self, x: Tensor, state: State | None = None, *, naive: bool = False
    ) -> tuple[Tensor, State]:
        before = state["sum"] if state and self.fault != "forgets" else torch.zeros_like(x[:, 0])
        y = x.cumsum(1) + before[:, None]
        after = {"sum": y[:, -1]}
        if self.fault == "looks ahead":
            y = y + x.mean(1, keepdim=True)
        if self.fault == "sees other rows":
            y = y + x.mean(0)
        if self.fault == "naive differs" and naive:
            y = y * (1 + 1e-6)
        if self.fault == "overwrites its state" and state:
            state["sum"].add_(1)
        if self.fault == "detaches":
            after["sum"] = after["sum"].detach()
        if self.fault == "grows":
            y = torch.exp(y)
        return y, after


CAUGHT: list[tuple[str, str, Any]] = [
    ("looks ahead", "later_tokens_change_nothing_before", (16,)),
    ("looks ahead", "no_gradient_reaches_a_later_token", ()),
    ("sees other rows", "a_row_of_the_batch_does_not_see_the_others", ()),
    ("naive differs", "fast_equals_naive_in_outputs_state_and_every_gradient", (2, 7)),
    ("forgets", "one_token_at_a_time_equals_the_whole", (torch.float64,)),
    ("forgets", "a_text_in_pieces_equals_the_whole", ([7, 63],)),
    ("forgets", "fast_and_naive_go_on_from_each_others_state", (False,)),
    ("detaches", "gradients_flow_through_the_state", ()),
    ("overwrites its state", "a_state_is_not_changed_in_place", (9, False)),
    ("grows", "outputs_and_gradients_are_finite", (1e3,)),
]


@pytest.mark.parametrize(("fault", "test", "arguments"), CAUGHT)
def test_the_contract_catches(fault: str, test: str, arguments: tuple[Any, ...]) -> None:
    class Contract(PartContract):
        fault = "none"

        def build(self, dtype: torch.dtype = torch.float64, seed: int = 0) -> Part:
            return Sum(self.fault)

    contract = Contract()
    getattr(contract, f"test_{test}")(*arguments)
    contract.fault = fault
    with pytest.raises(AssertionError):
        getattr(contract, f"test_{test}")(*arguments)
