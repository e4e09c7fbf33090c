"""The training recipe: optimizer, rates, schedule, initialisation, and terms of the loss."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from mendel.propose.changes.change import Draft, Verb, with_model, with_train
from mendel.spec import Recipe

VALUES: dict[str, tuple[Any, ...]] = {  # of TrainSpec
    "optimizer": ("adamw", "muon"),
    "beta1": (0.8, 0.9, 0.95),
    "beta2": (0.95, 0.98, 0.99, 0.999),
    "weight_decay": (0.0, 0.01, 0.1, 0.3),
    "warmup": (0.0, 0.05, 0.1, 0.2),
    "shape": ("constant", "linear", "cosine"),
    "final": (0.0, 0.1),
    "clip": (0.0, 0.3, 1.0),
    "z_loss": (0.0, 1e-4, 1e-3),
}
RATES = {"lr": (1e-5, 0.1), "matrix_lr": (1e-4, 0.3)}  # to double and to halve, in this range
INITIAL: dict[str, tuple[Any, ...]] = {  # of ModelSpec
    "init_std": (None, 0.02, 0.08),
    "residual_init": ("same", "scaled", "zero"),
}
LACKING = {"weight_decay": 0.0, "warmup": 0.0, "clip": 0.0, "z_loss": 0.0, "shape": "constant"}

WHY: dict[tuple[str, Any], str] = {
    ("optimizer", "muon"): "matrices move as far in every direction: fewer steps to the same loss",
    ("optimizer", "adamw"): "a step a number, where Muon's matrices gain nothing",
    ("z_loss", 1e-4): "logits are kept from growing, which steadies long runs",
    ("z_loss", 1e-3): "logits are kept from growing, more firmly",
    ("residual_init", "zero"): "layers start as the identity",
    ("residual_init", "scaled"): "what layers add starts small, the smaller the deeper the model",
    ("residual_init", "same"): "layers have their say from the start",
    ("init_std", 0.02): "small weights at the start, as in GPT-2",
    ("weight_decay", 0.0): "does the model need to forget weights at all?",
    ("clip", 0.3): "rare large gradients do less harm",
    ("shape", "constant"): "the rate stays where learning is fastest",
    ("lr", "x2"): "learn faster", ("lr", "/2"): "learn more steadily",
    ("matrix_lr", "x2"): "matrices learn faster", ("matrix_lr", "/2"): "more steadily",
}  # fmt: skip


def drafts(recipe: Recipe) -> Iterator[Draft]:
    """Every value of every field that the optimizer and the schedule of the recipe read."""
    for field, values in VALUES.items():
        before = getattr(recipe.train, field)
        for value in values:
            if value != before:
                yield _trained(recipe, field, value, value)
    for field, (least, most) in RATES.items():
        now = getattr(recipe.train, field)
        for label, value in (("x2", now * 2), ("/2", now / 2)):
            if least <= value <= most:
                yield _trained(recipe, field, label, float(f"{value:.6g}"))
    for field, values in INITIAL.items():
        for value in values:
            if value != getattr(recipe.model, field):
                made = with_model(recipe, **{field: value})
                yield _draft(field, field, value, value, made, "mutate")


def _trained(recipe: Recipe, field: str, label: Any, value: Any) -> Draft:
    before, lacking = getattr(recipe.train, field), LACKING.get(field)
    verb: Verb = "mutate"
    if lacking is not None:
        verb = "ablate" if value == lacking else "insert" if before == lacking else "mutate"
    made = with_train(recipe, **{field: value})
    return _draft(f"train.{field}", field, label, value, made, verb)


def _draft(path: str, field: str, label: Any, value: Any, made: Recipe, verb: Verb) -> Draft:
    why = WHY.get((field, label), f"is {field}={label} better here?")
    return Draft(f"{field}={label}", verb, (path,), (value,), made, why)
