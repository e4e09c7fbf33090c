"""Typed changes: each builds, fits, and is another recipe; what is one design has one name."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import pytest
import torch

from mendel.model import build
from mendel.parts.channel import hidden_width
from mendel.parts.flops import count_flops
from mendel.parts.part import NAMED, parse_fields, resolve
from mendel.parts.price import menu
from mendel.propose.changes import Change, called, changes, crosses, difference
from mendel.propose.changes.fields import VALUES
from mendel.propose.costs import measured, part_price
from mendel.propose.matching import MOST, Caps, caps_of, matched, over, price, refusal
from mendel.propose.menu import Named, designs
from mendel.propose.novelty import canonical, distance, features, fingerprint, key
from mendel.propose.spelling import whole
from mendel.spec import PartSpec, Recipe, SpecError
from mendel.train.proxy import state_bytes

VOCAB, T = 16, 40

pytestmark = pytest.mark.usefixtures("one_thread")


def recipe(*mixers: Any, train: dict[str, Any] | None = None, **model: Any) -> Recipe:
    small = {"width": 16, "n_layers": 2, "mixers": list(mixers)}
    return Recipe.parse({"model": {**small, **model}, "train": train or {}})


START = recipe("gated_delta_net")
CAPS = caps_of(START, VOCAB, T)


@lru_cache
def the_menu() -> tuple[Named, ...]:
    return designs(CAPS, START)


@lru_cache
def some_changes() -> dict[str, list[Change]]:
    """Of every seventh design of the menu: recurrences, attention, hybrids."""
    return {design.name: changes(design.recipe, CAPS) for design in the_menu()[::7]}


def design(name: str) -> Recipe:
    return next(each.recipe for each in the_menu() if each.name == name)


def loose() -> Caps:
    """Room for all, so that nothing is left out for its cost."""
    return Caps(n_params=40_000, flops=400_000.0, state_bytes=100_000, vocab=VOCAB, n_tokens=T)


def runs(made: Recipe) -> bool:
    model = build(made.model.model_copy(update={"vocab": VOCAB})).eval()
    with torch.no_grad():
        output = model(torch.arange(T)[None] % VOCAB)[0]
    return bool(output.isfinite().all())


# changes


def test_every_change_builds_and_stays_under_the_caps() -> None:
    seen = set()
    for found in some_changes().values():
        for change in found:
            assert over(change.recipe, CAPS) is None, change
            if change.recipe.model.hash not in seen:
                seen.add(change.recipe.model.hash)
                assert runs(change.recipe), change
    assert len(seen) > 200


@pytest.mark.parametrize("part", [*VALUES])
def test_every_part_that_has_changes_is_changed(part: str) -> None:
    """Each field that the tables name is one of the part's, and leads to recipes that run."""
    is_channel = part in ("mlp", "gated")
    before = recipe("delta_net", channels=[part]) if is_channel else recipe(part)
    where = "channels.0." if is_channel else "mixers.0."
    found = [c for c in changes(before, loose()) if c.about[0].startswith(where)]
    fields = {path.rpartition(".")[2] for change in found for path in change.about}
    assert fields >= set(VALUES[part])
    assert all(runs(change.recipe) for change in found)


@pytest.mark.slow
def test_every_change_of_every_design_with_room_for_all_runs() -> None:
    caps = loose()
    for each in designs(caps, START):
        for change in changes(each.recipe, caps):
            assert over(change.recipe, caps) is None, change
            assert runs(change.recipe), (each.name, change)


def test_no_two_changes_are_the_same_recipe_and_none_is_the_recipe_itself() -> None:
    for name, found in some_changes().items():
        keys = [key(change.recipe) for change in found] + [key(design(name))]
        assert len(keys) == len(set(keys)), name
        assert len({change.name for change in found}) == len(found), name


def test_a_change_is_canonical_and_says_what_it_set() -> None:
    for found in some_changes().values():
        for change in found:
            assert canonical(change.recipe) == change.recipe, change
            assert Recipe.parse(change.recipe.to_dict()) == change.recipe
            assert len(change.about) == len(change.values) > 0, change
            assert change.why and change.verb in ("mutate", "insert", "ablate", "simplify")


def test_changes_come_in_a_fixed_order() -> None:
    for name, found in list(some_changes().items())[:2]:
        assert changes(design(name), CAPS) == found


def test_what_a_change_is_about_is_what_differs() -> None:
    before = design("mamba2")
    change = next(c for c in changes(before, loose()) if c.name == "erase=delta")
    assert dict(zip(change.about, change.values, strict=True)) == {
        "mixers.0.erase": "delta", "mixers.0.key_norm": True, "mixers.0.write": "beta",
    }  # fmt: skip
    said = [line for line in difference(before, change.recipe) if line.startswith("mixers")]
    assert set(said) == {
        "mixers.0.erase: none -> delta",
        "mixers.0.key_norm: False -> True",
        "mixers.0.write: dt -> beta",
    }


@pytest.mark.parametrize("name", ["mamba2", "gla", "retnet", "linear_attention", "recurrence"])
def test_erasing_with_negative_eigenvalues_is_two_changes_away(name: str) -> None:
    """With every design that erases taken from the menu, a search can still come to it."""
    before = design(name)
    first = next(c for c in changes(before, CAPS) if c.name == "erase=delta")
    second = next(c for c in changes(first.recipe, CAPS) if c.name == "beta_max=2.0")
    fields = second.recipe.model.mixers[0].fields
    assert (fields["erase"], fields["write"], fields["beta_max"]) == ("delta", "beta", 2.0)
    assert fields["key_norm"] is True


def test_a_delta_rule_never_loses_the_unit_keys_that_keep_it_stable() -> None:
    for change in changes(design("delta_net"), loose()):
        for part in change.recipe.model.mixers:
            if part.part == "recurrence" and part.fields.get("erase") == "delta":
                assert part.fields["key_norm"], change


def test_every_named_recurrence_is_reached_from_the_plainest_by_its_fields_alone() -> None:
    """No mechanism of the menu is out of reach of the changes: each field's value is tried."""
    for name in NAMED["mixer"]:
        cls, fields = resolve("mixer", PartSpec(part=name))
        if cls.name != "recurrence":
            continue
        whole = parse_fields(cls, name, fields).to_dict()
        for field, values in VALUES["recurrence"].items():
            assert whole[field] in values, (name, field)


def test_hybrids_routers_shapes_and_trainings_are_all_among_the_changes() -> None:
    found = {change.name: change for change in changes(design("delta_net"), loose())}
    wanted = {
        "attention last": "insert", "short_conv first": "insert",
        "routed by softmax, 63 taps": "insert",
        "n_layers=3": "mutate", "n_layers=1": "simplify", "no channels": "ablate",
        "conv=0": "ablate", "optimizer=muon": "mutate", "z_loss=0.0001": "insert",
        "residual_init=zero": "mutate", "lr=x2": "mutate", "wide keys": "mutate",
    }  # fmt: skip
    assert {name: found[name].verb for name in wanted} == wanted
    hybrid = changes(found["attention last"].recipe, loose())
    names = {change.name for change in hybrid}
    assert "layers 0 and 1 swapped" in names
    assert any(change.verb == "simplify" and change.about == ("mixers",) for change in hybrid)
    several = matched(recipe("delta_net", "short_conv", "attention", n_layers=3), loose())
    assert several is not None
    assert "no short_conv" in {change.name for change in changes(several, loose())}


def test_a_router_goes_back_to_the_state_that_it_had() -> None:
    routed = next(
        c for c in changes(design("delta_net"), loose()) if c.name == "routed by floor, 15 taps"
    )
    back = next(c for c in changes(routed.recipe, loose()) if c.name == "no router")
    assert back.recipe == matched(design("delta_net"), loose())


# crosses


def test_a_cross_has_something_of_both_and_is_neither() -> None:
    a = design("mamba2")
    b = matched(recipe("delta_net_signed", train={"optimizer": "muon"}), CAPS)
    assert b is not None
    found = crosses(a, b, CAPS)
    keys = [key(each.recipe) for each in found]
    assert len(keys) == len(set(keys)) >= 5 and not {key(a), key(b)} & set(keys)
    for each in found:
        assert each.verb == "cross" and over(each.recipe, CAPS) is None
        assert canonical(each.recipe) == each.recipe and runs(each.recipe)
        assert difference(a, each.recipe) and difference(b, each.recipe)
    erasing = [x for x in found if x.name.startswith("erasing of delta_net_signed")]
    assert erasing[0].recipe.model.mixers[0].fields["decay"] == "head"  # a's own


# matched cost


def test_what_is_matched_is_under_the_caps_and_nothing_wider_is() -> None:
    for each in the_menu():
        made = each.recipe
        assert over(made, CAPS) is None
        assert matched(made, CAPS) == made, "to match again changes nothing"
        ratio = made.model.channels[0].fields.get("ratio")
        fields = {} if ratio is None else {"ratio": ratio}
        channel = PartSpec(part=made.model.channels[0].part, fields=fields)
        steps = [step for step in (4, 8) if (made.model.width + step) % 8 == 0 or step == 8]
        wider = [
            made.model.model_copy(update={"width": made.model.width + step, "channels": (channel,)})
            for step in steps
        ]
        for model in wider:
            assert too_dear(made.model_copy(update={"model": model})), each.name


def too_dear(made: Recipe) -> bool:
    try:
        return over(made, CAPS) is not None
    except SpecError:
        return True  # heads that do not divide it


def test_channels_are_given_all_that_the_width_leaves() -> None:
    for each in the_menu():
        model = each.recipe.model
        fields = model.channels[0].fields
        hidden = fields.get("hidden") or hidden_width(model.width, fields.get("ratio", 8 / 3))
        more = PartSpec(part="gated", fields={**fields, "hidden": hidden + 4})
        wider = model.model_copy(update={"channels": (more,)})
        most = MOST * hidden_width(model.width, fields.get("ratio", 8 / 3))
        made = each.recipe.model_copy(update={"model": wider})
        assert over(made, CAPS) is not None or hidden + 4 > most, each.name


def test_the_width_that_comes_in_does_not_matter() -> None:
    for name in ("mamba2", "short_conv", "retnet"):
        assert len({key(made) for w in (8, 16, 48) if (made := at_width(name, w))}) == 1


def at_width(name: str, width: int) -> Recipe | None:
    return matched(recipe(name, width=width), CAPS)


def test_what_cannot_fit_is_refused_with_the_cap_it_exceeds() -> None:
    caps = CAPS.model_copy(update={"state_bytes": 100})
    assert matched(recipe("attention"), caps) is None
    assert "bytes of state" in refusal(recipe("attention"), caps)
    wide = recipe("attention", width=256)
    assert "parameters are more than" in (over(wide, CAPS) or "")
    narrow = caps_of(START, VOCAB, T, slack=(9.0, -0.9, 9.0))
    assert "FLOPs a token are more than" in (over(START, narrow) or "")


def test_what_fits_at_the_largest_vocabulary_fits_at_the_smallest() -> None:
    """At 2,000 tokens the tables are nearly all of a small model: layers may not hide in them."""
    caps = caps_of(START, 2048, T)
    small = caps_of(START, 2, T)
    for each in designs(caps, START):
        assert over(each.recipe, small) is None, each.name
    deeper = START.model_copy(update={"model": START.model.model_copy(update={"n_layers": 3})})
    roomy = caps.model_copy(update={"n_params": 10**6, "flops": 1e9, "state_bytes": 10**6})
    assert "parameters of layers are more than" in (over(deeper, roomy) or "")


# prices


@pytest.mark.parametrize("n_tokens", [24, 130])
def test_a_price_is_what_the_built_model_counts(n_tokens: int) -> None:
    odd = [
        recipe("attention", "rwkv7", tied=True, n_layers=3, norm="layer_norm"),
        recipe("hyena", "content_sharp_router", channels=["relu2", "swiglu"], n_layers=3),
        recipe("multi_scale_fir", channels=[], final_norm=False, embedding={
            "part": "token", "position": "learned"}, context=160),
    ]  # fmt: skip
    for made in [*(each.recipe for each in the_menu()[::5]), *odd]:
        found = price(made, VOCAB, n_tokens)
        model = build(made.model.model_copy(update={"vocab": VOCAB})).eval()
        text = torch.zeros(1, n_tokens, dtype=torch.int64)
        with torch.no_grad():
            flops = count_flops(lambda m=model, t=text: m(t))  # type: ignore[misc]
        assert found.n_params == model.n_params
        assert found.state_bytes == state_bytes(model, n_tokens)
        assert found.flops == pytest.approx(flops / n_tokens, rel=1e-12)


@pytest.mark.parametrize("n_tokens", [20, 200])
def test_the_algebra_of_a_part_is_what_running_it_counts(n_tokens: int) -> None:
    parts = [("mixer", PartSpec(part=name)) for name in menu("mixer")]
    parts += [("channel", PartSpec(part=name)) for name in menu("channel")]
    for part in ("recurrence", "attention", "routed", "short_conv"):
        for field, values in VALUES[part].items():
            parts += [("mixer", PartSpec(part=part, fields={field: v})) for v in values]
    more: list[dict[str, Any]] = [
        {"erase": "delta", "n_steps": 3, "decay": "channel", "key_dim": 6, "value_dim": 10},
        {"erase": "key", "decay": "bounded", "conv": 3, "write": "beta"},
        {"decay": "head", "write": "dt", "n_heads": 2, "token_shift": True, "rotary": True},
        {"conv": 9},
    ]
    parts += [("mixer", PartSpec(part="recurrence", fields=fields)) for fields in more]
    for kind, spec in parts:
        try:
            counted = measured(kind, spec, 24, n_tokens)  # type: ignore[arg-type]
        except SpecError:
            with pytest.raises(SpecError):
                part_price(kind, spec, 24, n_tokens)  # type: ignore[arg-type]
            continue
        found = part_price(kind, spec, 24, n_tokens)  # type: ignore[arg-type]
        assert found == pytest.approx(counted, rel=1e-12), spec


# the menu


def test_the_menu_has_every_mixer_that_fits_and_hybrids_and_b_up_to_2() -> None:
    names = {each.name for each in designs(loose(), START)}
    assert names >= set(menu("mixer")) - {"routed"}  # which is called content_sharp_router
    assert {"gated_delta_net_signed", "delta_net_signed+attention", "window+mamba2"} <= names
    keys = [key(each.recipe) for each in the_menu()]
    assert len(keys) == len(set(keys))
    for each in the_menu():
        assert over(each.recipe, CAPS) is None, each.name


def test_every_mixer_of_the_menu_that_can_has_the_short_convolution() -> None:
    for each in the_menu():
        for part in each.recipe.model.mixers:
            if part.part in ("recurrence", "attention"):
                assert part.fields["conv"] == 4, each.name


# spelling


def test_to_spell_a_recipe_again_changes_nothing() -> None:
    given = [recipe("rwkv7", "attention", n_layers=5, width=32), recipe("multi_query")]
    for made in [*given, *(each.recipe for each in the_menu())]:
        assert canonical(canonical(made)) == canonical(made)
        assert key(canonical(made)) == key(made)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (recipe("delta_net"), recipe({"part": "recurrence", "conv": 4, "key_norm": True,
                                      "erase": "delta", "write": "beta"})),
        (recipe("gla"), recipe("gla", "gla", "gla")),
        (recipe("gla", "rwkv7", n_layers=3), recipe("gla", "rwkv7", "gla", n_layers=3)),
        (recipe("gla"), recipe({"part": "gla", "beta_max": 2, "key_dim": 4, "value_dim": 4})),
        (recipe("attention"), recipe({"part": "attention", "n_kv_heads": 4, "head_dim": 4,
                                      "qk_norm_eps": 1e-3})),
        (recipe("attention", channels=["relu2"]),
         recipe("attention", channels=[{"part": "mlp", "hidden": 64}])),
        (recipe("gla", channels=[{"part": "gated", "ratio": 3.0, "hidden": 40}]),
         recipe("gla", channels=[{"part": "gated", "hidden": 40}])),
        (recipe("gla"), recipe("gla", train={"budget": "9steps", "seed": 5, "batch": 4,
                                             "matrix_lr": 0.3})),
        (recipe("gla", train={"shape": "constant"}),
         recipe("gla", train={"shape": "constant", "final": 0.5})),
    ],
)  # fmt: skip
def test_two_spellings_of_one_design_have_one_key(one: Recipe, other: Recipe) -> None:
    assert key(one) == key(other)
    assert fingerprint(one) == fingerprint(other)
    assert distance(one, other) == 0.0


def test_fields_that_a_caller_changes_are_the_callers_alone() -> None:
    part = PartSpec(part="delta_net")
    whole("mixer", part)["erase"] = "none"
    assert whole("mixer", part)["erase"] == "delta"


def test_designs_that_compute_different_functions_have_different_fingerprints() -> None:
    found: dict[str, str] = {}
    changed = changes(design("gated_delta_net_signed"), CAPS)
    every = {key(each.recipe): each for each in [*the_menu(), *changed]}
    assert len(every) > 100
    for name, made in ((each.name, each.recipe) for each in every.values()):
        its = fingerprint(made)
        assert its not in found, (name, found.get(its))
        found[its] = name


def test_what_does_nothing_has_the_fingerprint_of_what_is_not_there() -> None:
    """A filter of one length has nothing to mix: the spelling differs, the function does not."""
    one = recipe({"part": "multi_scale_fir", "kernels": [1], "mix": "learned"})
    same = recipe({"part": "multi_scale_fir", "kernels": [1, 1], "mix": "learned"})
    assert key(one) != key(same)
    windows = [recipe({"part": "attention", "window": w}) for w in (600, 700)]  # beyond its look
    assert key(windows[0]) != key(windows[1])
    assert fingerprint(windows[0]) == fingerprint(windows[1])
    near = [recipe({"part": "attention", "window": w}) for w in (100, 101)]
    assert fingerprint(near[0]) != fingerprint(near[1])


def test_a_fingerprint_sees_what_is_shut_at_the_start() -> None:
    """The bonus starts at 0, and residual_init='zero' hides every layer: both are seen through."""
    for before, after in (({}, {"bonus": True}), ({}, {"direct": True}), ({}, {"conv": 0})):
        pair = [
            recipe({"part": "delta_net", **fields}, residual_init="zero")
            for fields in (before, after)
        ]
        assert fingerprint(pair[0]) != fingerprint(pair[1]), after


def test_features_are_flat_and_a_change_of_one_field_is_near() -> None:
    row = features(design("gated_delta_net"))
    assert all(isinstance(value, float | str) for value in row.values())
    assert row["mixers.erase=delta"] == 1.0
    hybrid = features(recipe("delta_net", "short_conv"))
    assert hybrid["mixers.erase=delta"] == 0.5
    far = distance(design("rwkv7"), design("short_conv"))
    a, b = design("gated_delta_net"), design("gated_delta_net_signed")
    assert 0 < distance(a, b) == distance(b, a) < 0.1 < far <= 1


# words


def test_a_part_is_called_by_its_nearest_name() -> None:
    signed = PartSpec(part="recurrence", fields={**NAMED["mixer"]["delta_net"].fields, "conv": 0})
    assert called("mixer", signed) == "delta_net(conv=0)"
    assert called("mixer", PartSpec(part="attention")) == "attention"


def test_a_difference_names_fields_patterns_and_the_training() -> None:
    before, after = recipe("gla"), recipe("gla", "attention", train={"lr": 0.01})
    assert difference(before, after) == [
        "mixers: [gla] -> [gla, attention]", "train.lr: 0.003 -> 0.01",
    ]  # fmt: skip
    assert difference(before, recipe("gla", "gla")) == []
