"""A recipe as a stand-alone torch file, with a test of its own: mendel is needed for neither.

Recipe -> plain code of exactly that model, from templates -> model.py, test_model.py, golden values
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from safetensors.torch import save_file

from mendel.model import build, resolved
from mendel.parts.part import NAMED, PARTS, Kind, resolve
from mendel.parts.recurrence import CHUNK
from mendel.spec import ModelSpec, PartSpec, Recipe
from mendel.types import InputError

VOCAB = 256  # bytes, where the recipe leaves the vocabulary to its data
N_TEXTS, N_TOKENS = 2, 41  # stored: several chunks, the last one not full
NOISE = 0.15  # of a weight's size, added to each: none is at a value where it is silent
RTOL, ATOL = 1e-4, 1e-4
SIZES = ("n_heads", "n_kv_heads", "head_dim", "key_dim", "value_dim", "conv", "hidden", "ratio")
CODE: dict[Kind, tuple[str, ...]] = {  # that there are templates for
    "mixer": ("recurrence", "routed", "attention", "short_conv", "multi_scale_fir", "hyena"),
    "channel": ("mlp", "gated"),
    "norm": ("rms_norm", "layer_norm"),
    "embedding": ("token",),
    "head": ("lm",),
}


def export(recipe: Recipe, folder: Path, *, title: str, about: Sequence[str] = ()) -> list[Path]:
    """Write model.py, test_model.py and golden.safetensors into a new or empty folder.

    title    one line; about: what a reader should know of the recipe, a line each
    returns  the files
    raises   InputError where the folder is not empty, or a part has no template
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise InputError(f"{folder} is there and not empty. Wanted a new folder. Name another.")
    model, test = source(recipe, title=title, about=about)
    stored = golden(recipe.model)
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in (("model.py", model), ("test_model.py", test)):
        (folder / name).write_text(text, encoding="utf-8")
    save_file(stored, folder / "golden.safetensors")
    return [folder / name for name in ("model.py", "test_model.py", "golden.safetensors")]


def source(recipe: Recipe, *, title: str, about: Sequence[str] = ()) -> tuple[str, str]:
    """The text of the model's file and of its test's; raises InputError as export does."""
    spec = resolved(recipe.model)
    _refuse_what_has_no_template(spec)
    named = _classes(spec)
    classes = [_class(kind, part, name) for name, (kind, part) in named.items()]

    def name(kind: Kind, part: PartSpec) -> str:
        return next(name for name, found in named.items() if found == (kind, part))

    fields = {
        "title": _safe(title),
        "about": [_safe(line) for line in (*about, "", *_training(recipe))],
        "uses": _uses("\n".join(classes)),
        "classes": classes,
        "mixers": [name("mixer", part) for part in spec.mixers],
        "channels": [name("channel", part) for part in spec.channels],
        "norm": name("norm", spec.norm),
        "learned_positions": spec.embedding.fields.get("position") == "learned",
        "embedding_norm": bool(spec.embedding.fields.get("norm")),
        "init_words": _init_words(spec),
        "vocab": spec.vocab or VOCAB,
        **{field: getattr(spec, field) for field in (
            "width", "n_layers", "context", "final_norm", "tied", "init_std", "residual_init",
        )},
    }  # fmt: skip
    scans = any("scan_naive" in text for text in classes)
    told = {"vocab": fields["vocab"], "tied": spec.tied, "scans": scans}
    test = _render("test_model.py.j2", rtol=RTOL, atol=ATOL, **told)
    return _render("model.py.j2", **fields), test


@torch.no_grad()
def golden(spec: ModelSpec) -> dict[str, torch.Tensor]:
    """Weights of mendel's own model, tokens, and what it answers to them."""
    spec = resolved(spec.model_copy(update={"vocab": spec.vocab or VOCAB}))
    model = build(spec, seed=1).eval()
    draw = torch.Generator().manual_seed(2)
    for p in model.parameters():
        size = p.square().mean().sqrt().clamp(0.1, 1.0)
        p.add_(NOISE * size * torch.randn(p.shape, generator=draw))
    learned = spec.embedding.fields.get("position") == "learned"
    n = min(N_TOKENS, spec.context) if learned else N_TOKENS
    tokens = torch.randint(spec.vocab, (N_TEXTS, n), generator=draw)
    weights = {name: p.detach().clone() for name, p in model.named_parameters()}  # tied ones once
    return {"tokens": tokens, "output": model(tokens)[0], **weights}


def _uses(code: str) -> dict[str, bool]:
    """Which of what classes share is called."""
    calls = {
        "convolve": "causal_convolve", "identity": "identity_filters", "unit": "unit",
        "rotary": "rotate", "low_rank": "LowRank",
    }  # fmt: skip
    found = {name: f"{function}(" in code for name, function in calls.items()}
    return {**found, "math": "math." in code}


def _classes(spec: ModelSpec) -> dict[str, tuple[Kind, PartSpec]]:
    """A class name for each different part, after the literature where it has one."""
    parts: list[tuple[Kind, PartSpec]] = [("norm", spec.norm)]
    parts += [("mixer", part) for part in spec.mixers]
    parts += [("channel", part) for part in spec.channels]
    found: dict[str, tuple[Kind, PartSpec]] = {}
    for kind, part in parts:
        if (kind, part) not in found.values():
            name = "".join(word.title() for word in known_as(kind, part).split("_"))
            n = sum(other.startswith(name) and other[len(name) :].isdigit() for other in found)
            found[f"{name}{n + 2}" if name in found else name] = kind, part
    return found


def known_as(kind: Kind, part: PartSpec) -> str:
    """A name of the menu whose fields are these but for the sizes, or the part's own."""
    for name, named in NAMED[kind].items():
        if resolve(kind, named)[0].name == part.part:
            its, mine = _fields(kind, named), _fields(kind, part)
            if all(its[field] == mine[field] for field in its if field not in SIZES):
                return name
    return part.part


def _fields(kind: Kind, part: PartSpec) -> dict[str, Any]:
    """Every field, None included, which the specs' own dictionaries leave out."""
    cls, fields = resolve(kind, part)
    return cls.Fields.parse(fields).model_dump()


def _class(kind: Kind, part: PartSpec, name: str) -> str:
    """The text of one class, and of what it is made of."""
    fields = _fields(kind, part)
    if part.part == "recurrence":
        return _recurrence(fields, name)
    if part.part != "routed":
        return _render(f"{part.part}.j2", c=name, f=fields)
    delta = {
        "n_heads": fields["n_heads"], "conv": fields["conv"], "beta_max": fields["beta_max"],
        "key_norm": True, "erase": "delta", "write": "beta",
        "decay": "learned" if fields["retention"] else "none",
    }  # fmt: skip
    whole = _fields("mixer", PartSpec(part="recurrence", fields=delta))
    inner = _recurrence(whole, f"{name}Delta", inner=True)
    return _render("routed.j2", c=name, f=fields, delta=inner)


def _recurrence(f: dict[str, Any], name: str, *, inner: bool = False) -> str:
    """inner: of a routed mixer, which takes what the state gives and does the rest itself."""
    kind = {"none": "none", "channel": "channel", "bounded": "channel"}.get(f["decay"], "scalar")
    n, t = f["n_steps"], "t"
    j = "j" if n > 1 else t  # of what there is n times a token
    erased = {"none": [], "delta": ["r"], "key": ["p", "r"]}[f["erase"]]
    slices = {"q": t, "k": j, "v": j}
    slices |= {"log_decay": t} if f["decay"] != "none" else {}
    slices |= {"write": j} if f["write"] != "one" else {}
    slices |= {each: j for each in erased}
    return _render(
        "recurrence.j2", c=name, f=f, inner=inner, given=list(slices),
        slices=list(slices.values()), chunk=max(CHUNK[kind] // n, 1),
    )  # fmt: skip


def _refuse_what_has_no_template(spec: ModelSpec) -> None:
    parts: list[tuple[Kind, PartSpec]] = [
        ("embedding", spec.embedding), ("norm", spec.norm), ("head", spec.head),
        *(("mixer", part) for part in spec.mixers), *(("channel", part) for part in spec.channels),
    ]  # fmt: skip
    for kind, part in parts:
        if part.part not in CODE[kind] or part.part not in PARTS[kind]:
            raise InputError(
                f"the {kind} {part.part!r} cannot be written as a stand-alone file. "
                f"Wanted {', '.join(CODE[kind])}. Its own source is the place to look."
            )


def _training(recipe: Recipe) -> list[str]:
    """How it is to be trained, in words."""
    how = recipe.train
    rate = f"lr {how.lr:g}" + (f", Muon's {how.matrix_lr:g}" if how.optimizer == "muon" else "")
    betas = f"betas {how.beta1:g} and {how.beta2:g}"
    return [
        f"Trained with {how.optimizer}, {rate}, {betas}, weight decay {how.weight_decay:g},",
        f"gradients clipped at {how.clip:g}; {how.warmup:.0%} warm-up, then {how.shape} to "
        f"{how.final:g} of the rate.",
    ]


def _init_words(spec: ModelSpec) -> str:
    words = [] if spec.init_std is None else [f"matrices have deviation {spec.init_std:g}"]
    added = {"zero": "a layer adds nothing", "scaled": "a layer adds less where there are more"}
    words += [added[spec.residual_init]] if spec.residual_init in added else []
    return ", ".join(words)


def _safe(line: str) -> str:
    """As it may stand in a docstring."""
    return line.replace("\\", "/").replace('"', "'").rstrip()


def _render(template: str, **values: Any) -> str:
    env = Environment(
        loader=FileSystemLoader(Path(__file__).parent / "templates"), undefined=StrictUndefined,
        trim_blocks=True, lstrip_blocks=True, autoescape=False,  # noqa: S701  it is Python
    )  # fmt: skip
    return env.get_template(template).render(**values).strip() + "\n"
