"""The model as one call, its specs, and the menu of parts."""

from __future__ import annotations

import json
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from mendel.cli import app
from mendel.model import ModelState, build
from mendel.parts.flops import count_flops
from mendel.parts.part import KINDS, NAMED, PARTS, register
from mendel.parts.price import menu, price
from mendel.spec import ModelSpec, PartSpec, SpecError
from mendel.types import InputError

pytestmark = pytest.mark.usefixtures("one_thread")

HYBRID = ["gated_delta_net", {"part": "attention", "window": 5}, "short_conv", "path_gated_fusion"]


def spec(**changes: Any) -> ModelSpec:
    return ModelSpec.parse({"width": 16, "n_layers": 4, "context": 32, "vocab": 11, **changes})


def test_a_text_in_pieces_gives_what_the_whole_gives() -> None:
    model = build(spec(mixers=HYBRID)).double()
    tokens = torch.randint(0, 11, (3, 29))
    whole, end = model(tokens)
    state: ModelState | None = None
    outputs = []
    for piece in tokens.split([1, 7, 1, 1, 19], 1):
        output, state = model(piece, state)
        outputs.append(output)
    assert torch.allclose(torch.cat(outputs, 1), whole, atol=1e-10)
    assert state is not None and state.n_bytes == end.n_bytes


def test_the_state_of_a_recurrence_does_not_grow_and_that_of_attention_does() -> None:
    for mixer, grows in (
        ("gated_delta_net", False),
        ("sliding_window", False),
        ("attention", True),
    ):
        model = build(spec(mixers=[mixer] if mixer != "sliding_window" else [HYBRID[1]]))
        sizes = [model(torch.zeros(1, T, dtype=torch.int64))[1].n_bytes for T in (32, 64)]
        assert (sizes[1] > sizes[0]) is grows, mixer


def test_a_seed_names_the_weights() -> None:
    a, b, c = (build(spec(mixers=HYBRID), seed=seed).state_dict() for seed in (1, 1, 2))
    assert all(torch.equal(a[name], b[name]) for name in a)
    assert not torch.equal(a["head.logits.weight"], c["head.logits.weight"])


def test_building_leaves_the_random_numbers_of_the_caller_alone() -> None:
    torch.manual_seed(3)
    wanted = torch.rand(2)
    torch.manual_seed(3)
    build(spec())
    assert torch.equal(torch.rand(2), wanted)


@pytest.mark.parametrize("mixer", ["attention", "gated_delta_net", "rwkv7", "path_gated_fusion"])
def test_with_zero_residuals_a_layer_adds_nothing_at_the_start(mixer: str) -> None:
    model = build(spec(mixers=[mixer], residual_init="zero"))
    tokens = torch.randint(0, 11, (2, 9))
    x = model.embedding(tokens)[0]
    assert model.final_norm is not None
    wanted = model.head(model.final_norm(x)[0])[0]
    assert torch.allclose(model(tokens)[0], wanted, atol=1e-6)


def test_a_tied_head_is_the_embedding() -> None:
    model = build(spec(tied=True))
    assert model.n_params == build(spec()).n_params - 11 * 16
    assert model.head.logits.weight is model.embedding.tokens.weight


def test_patterns_repeat_over_the_layers() -> None:
    model = build(spec(mixers=["attention", "gla"], channels=["relu2", "swiglu"]))
    kinds = [(type(layer.mixer).__name__, type(layer.channel).__name__) for layer in model.layers]
    assert kinds == [("Attention", "MLP"), ("Recurrence", "GatedMLP")] * 2


def test_a_classifier_reads_past_padding_and_in_pieces() -> None:
    model = build(spec(head="classifier"), n_out=3).double()
    tokens = torch.randint(0, 11, (2, 12))
    lengths = torch.tensor([12, 7])
    both = model(tokens, lengths=lengths)[0]
    alone = model(tokens[1:, :7])[0]
    assert both.shape == (2, 3) and torch.allclose(both[1], alone[0], atol=1e-10)
    _, state = model(tokens[:, :5])
    assert torch.allclose(model(tokens[:, 5:], state)[0], model(tokens)[0], atol=1e-10)


def test_learned_positions_run_out_with_a_message() -> None:
    model = build(spec(embedding={"part": "token", "position": "learned"}))
    with pytest.raises(InputError, match="position 33 is past the last learned one, 32"):
        model(torch.zeros(1, 33, dtype=torch.int64))


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"mixers": ["atention"]}, r"Did you mean 'attention'"),
        ({"mixers": [{"part": "retnet", "n_head": 2}]}, r"Did you mean 'n_heads'"),
        ({"mixers": [{"part": "attention", "n_heads": 5}]}, r"n_heads=5 does not divide width=16"),
        ({"mixers": [{"part": "mamba2", "decay": "none"}]}, r"needs decay='head'"),
        ({"mixers": []}, r"ModelSpec.mixers"),
        ({"widht": 3}, r"Did you mean 'width'"),
        ({"vocab": 0}, r"vocab=0"),
        ({"tied": True, "head": "tagger"}, r"tied=true needs head='lm'"),
    ],
)
def test_a_wrong_spec_says_what_is_wrong(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(SpecError, match=message):
        build(spec(**changes))


PART_NAMES = st.sampled_from([name for name in menu("mixer")])
FIELDS = st.dictionaries(
    st.sampled_from(["n_heads", "window", "beta_max"]), st.integers(1, 8) | st.booleans()
)


@given(st.lists(PART_NAMES | st.tuples(PART_NAMES, FIELDS), min_size=1, max_size=4))
@settings(max_examples=50, deadline=None)
def test_a_spec_survives_toml_and_json(chosen: list[Any]) -> None:
    mixers = [c if isinstance(c, str) else {"part": c[0], **c[1]} for c in chosen]
    asked = spec(mixers=mixers)
    assert ModelSpec.from_toml(asked.to_toml()) == asked == ModelSpec.from_json(asked.to_json())
    assert ModelSpec.from_toml(asked.to_toml()).hash == asked.hash


def test_every_part_of_the_menu_has_a_price() -> None:
    for kind in KINDS[:3]:
        for name in menu(kind):
            found = price(kind, PartSpec(part=name), width=32, T=24)
            assert found.n_params > 0 and found.flops_per_token >= 0, name
            assert (found.flops_per_token > 0) is (kind != "norm"), name
    cheap, dear = (price("mixer", PartSpec(part="attention"), width=32, T=T) for T in (16, 64))
    assert dear.flops_per_token > cheap.flops_per_token
    assert dear.grows and dear.state_bytes > 3.9 * cheap.state_bytes


def test_flops_of_attention_and_matrices_are_counted() -> None:
    a, b = torch.randn(3, 4), torch.randn(4, 5)
    assert count_flops(lambda: a @ b) == 2 * 3 * 4 * 5
    q = torch.randn(1, 2, 8, 4)
    attended = count_flops(lambda: torch.nn.functional.scaled_dot_product_attention(q, q, q))
    assert attended == 4 * 2 * 8 * 8 * 4


def test_a_name_is_registered_once() -> None:
    with pytest.raises(ValueError, match="registered already"):
        register("mixer", "attention")(PARTS["mixer"]["routed"])
    assert "retnet" in NAMED["mixer"]


def test_mendel_parts_lists_the_menu_and_explains_a_part() -> None:
    run = CliRunner()
    listed = run.invoke(app, ["parts", "--json", "--width", "16", "--tokens", "8"])
    names = {row["name"] for row in json.loads(listed.stdout)}
    assert set(menu("mixer")) | set(menu("channel")) <= names
    one = run.invoke(app, ["parts", "delta_product"])
    assert "recurrence(" in one.stdout and "n_steps = 2" in one.stdout
    assert isinstance(run.invoke(app, ["parts", "delta_prodct"]).exception, SpecError)


@pytest.mark.slow
def test_a_state_that_may_turn_its_sign_learns_parity_and_others_do_not() -> None:
    import sys
    from pathlib import Path

    sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))
    from engine_sections.parity import MIXERS, run

    assert run(MIXERS["delta rule, b up to 2"], 1)["accuracy_min"] >= 0.98
    assert run(MIXERS["delta rule, b up to 1"], 1)["accuracy_max"] <= 0.55
