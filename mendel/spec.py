"""The specs: parse, check, diff, hash. A spec is frozen; its hash is its identity."""

from __future__ import annotations

import json
import tomllib
from typing import Any, Literal, Self

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    field_validator,
    model_serializer,
    model_validator,
)

from mendel.types import Digest, InputError, did_you_mean, digest


class SpecError(InputError):
    """A spec has a field that is unknown, missing or out of range."""


class Spec(BaseModel):
    """Base of all specs: unknown fields are errors, and every value is plain JSON."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    @property
    def hash(self) -> Digest:
        return digest(self.to_dict())

    def to_dict(self) -> dict[str, Any]:
        return self.model_dump(mode="json", exclude_none=True)

    def to_json(self) -> str:
        return json.dumps(self.to_dict(), indent=2, ensure_ascii=False)

    def to_toml(self) -> str:
        """One key a line; nested specs as inline tables, so that the order of fields is kept."""
        return "".join(f"{key} = {_toml(value)}\n" for key, value in self.to_dict().items())

    @classmethod
    def parse(cls, data: dict[str, Any]) -> Self:
        """Build from plain data; raises SpecError that names the nearest field or the range."""
        try:
            return cls.model_validate(data)
        except ValidationError as error:
            raise SpecError(_explain(cls, error)) from None

    @classmethod
    def from_json(cls, text: str) -> Self:
        try:
            return cls.parse(json.loads(text))
        except json.JSONDecodeError as error:
            raise SpecError(f"{cls.__name__} is not JSON: {error}. Wanted one object.") from None

    @classmethod
    def from_toml(cls, text: str) -> Self:
        try:
            return cls.parse(tomllib.loads(text))
        except tomllib.TOMLDecodeError as error:
            raise SpecError(f"{cls.__name__} is not TOML: {error}.") from None

    def diff(self, other: Spec) -> dict[str, tuple[Any, Any]]:
        """Fields that differ: name -> (mine, the other's)."""
        mine, its = self.to_dict(), other.to_dict()
        keys = sorted(mine.keys() | its.keys())
        return {k: (mine.get(k), its.get(k)) for k in keys if mine.get(k) != its.get(k)}


class Limits(Spec):
    """What the shipped model must stay within."""

    max_bytes: int = Field(10_000_000, gt=0)
    max_latency_ms: float = Field(12.0, gt=0)  # p50, one text, one core, from the string
    max_params: int = Field(7_000_000, gt=0)


class TextSpec(Spec):
    """Which part builds the model, and the fields that it is given; the part checks them."""

    part: Literal["text", "tagger", "writer", "search"] = "text"
    fields: dict[str, int | float | str] = Field(default_factory=dict)

    @property
    def name(self) -> str:
        """Short and readable: the family and the first digits of the hash."""
        return f"{self.fields.get('family', self.part)}-{self.hash[:6]}"


class PartSpec(Spec):
    """A part by name and the fields that it is given; the part checks them.

    In TOML and JSON: "attention", or {part = "attention", window = 64}.
    """

    part: str
    fields: dict[str, Any] = Field(default_factory=dict)

    @model_validator(mode="before")
    @classmethod
    def _gather(cls, data: Any) -> Any:
        if isinstance(data, str):
            return {"part": data}
        if isinstance(data, dict) and "fields" not in data:
            return {
                "part": data.get("part"),
                "fields": {key: value for key, value in data.items() if key != "part"},
            }
        return data

    @model_serializer
    def _flat(self) -> dict[str, Any] | str:
        return {"part": self.part, **self.fields} if self.fields else self.part


class ModelSpec(Spec):
    """A model over a sequence of tokens: embedding, then layers, then a head.

    Layer i is x + mixer(norm(x)), then x + channel(norm(x)); it takes mixers[i % len(mixers)] and
    channels[i % len(channels)], so one entry serves all layers and several make a hybrid.
    """

    width: int = Field(128, gt=0, le=1 << 16)
    n_layers: int = Field(4, gt=0, le=1 << 10)
    context: int = Field(256, gt=0)  # tokens trained on at a time; learned positions end there
    vocab: int = Field(0, ge=0)  # 0: as many as the tokenizer has
    embedding: PartSpec = PartSpec(part="token")
    mixers: tuple[PartSpec, ...] = Field((PartSpec(part="attention"),), min_length=1)
    channels: tuple[PartSpec, ...] = (PartSpec(part="swiglu"),)  # empty: mixers alone
    norm: PartSpec = PartSpec(part="rms_norm")
    final_norm: bool = True
    head: PartSpec = PartSpec(part="lm")
    tied: bool = False  # the head's matrix is the embedding's
    init_std: float | None = Field(None, gt=0)  # None: 1 / sqrt(inputs) of each matrix
    residual_init: Literal["scaled", "zero", "same"] = "scaled"  # of what a layer adds to x

    @field_validator("mixers", "channels", mode="before")
    @classmethod
    def _as_pattern(cls, value: Any) -> Any:
        return value if isinstance(value, list | tuple) else (value,)

    @model_validator(mode="after")
    def _tied_needs_a_matrix(self) -> Self:
        if self.tied and self.head.part != "lm":
            raise ValueError(f"tied=true needs head='lm', got head={self.head.part!r}")
        return self


class TrainSpec(Spec):
    """How a sequence model is trained; with the data and the machine it gives the same losses."""

    budget: str = "2000steps"  # steps, tokens, FLOPs or time: 2000steps, 5e6tokens, 1e15flops, 10m
    batch: int = Field(32, gt=0)  # windows of the text a step
    optimizer: Literal["adamw", "muon"] = "adamw"
    lr: float = Field(3e-3, gt=0)  # of AdamW: at its highest
    matrix_lr: float = Field(0.02, gt=0)  # of Muon, which trains the matrices of the layers
    beta1: float = Field(0.9, ge=0, lt=1)
    beta2: float = Field(0.99, ge=0, lt=1)
    eps: float = Field(1e-8, gt=0)
    weight_decay: float = Field(0.1, ge=0)
    clip: float = Field(1.0, ge=0)  # length of the gradient at most; 0: as it is
    z_loss: float = Field(0.0, ge=0)  # times the mean squared log of the softmax's sum; 0: none
    exit_loss: float | None = Field(None, gt=0)  # times the nats at an exit on the way; None: none
    layer_dropout: float | None = Field(None, gt=0, lt=1)  # chance to skip the last layer; None: 0
    warmup: float = Field(0.05, ge=0, lt=1)  # share of the budget
    shape: Literal["constant", "linear", "cosine"] = "cosine"  # of the rate, after the warm-up
    final: float = Field(0.1, ge=0, le=1)  # the last rate to the highest
    seed: int = Field(0, ge=0, lt=1 << 62)
    n_seeds: int = Field(1, gt=0, le=1 << 10)  # runs with seeds seed, seed + 1, ...
    dtype: Literal["auto", "float32", "bfloat16"] = "auto"  # auto: bfloat16 on a GPU that has it
    tokenizer: str = "bytes"  # bytes, chars, bpe:4096
    holdout: float = Field(0.1, gt=0, lt=1)  # share of the text to validate on
    n_evaluations: int = Field(10, gt=0)


class Recipe(Spec):
    """A design and how it is trained: what the research clock breeds; a candidate's whole state."""

    model: ModelSpec = ModelSpec()
    train: TrainSpec = TrainSpec()


class FoldSpec(Spec):
    """How the folds of a design trial are run: what makes its scores repeatable."""

    seed: int = 0
    n_folds: int = Field(5, ge=1)


class PlanSpec(Spec):
    """How a server computes answers that are the same under every plan."""

    draft: Literal["none", "lookup", "shallow", "model"] = "none"  # who guesses tokens ahead
    n_draft: int = Field(0, ge=0, le=15)  # tokens guessed at a time
    depth: int | None = Field(None, gt=0)  # layers of a shallow draft
    reuse: bool = True  # take prefixes from the cache
    threads: int = Field(1, ge=1, le=256)

    @model_validator(mode="after")
    def _drafts_fit(self) -> Self:
        if (self.draft == "none") != (self.n_draft == 0):
            raise ValueError(f"draft={self.draft!r} with n_draft={self.n_draft}: both or neither")
        if (self.draft == "shallow") != (self.depth is not None):
            raise ValueError(f"draft={self.draft!r} with depth={self.depth}: shallow needs one")
        return self

    @property
    def name(self) -> str:
        """plain, lookup-4, model-4, shallow-2x4, plain-fresh, lookup-8-t2"""
        words = {"none": "plain"}
        words |= {who: f"{who}-{self.n_draft}" for who in ("lookup", "model")}
        name = words.get(self.draft, f"shallow-{self.depth}x{self.n_draft}")
        name += "" if self.reuse else "-fresh"
        return name if self.threads == 1 else f"{name}-t{self.threads}"


class DataSpec(Spec):
    """Which rows: by content, so that the same file under another name is the same data."""

    digest: Digest
    n_rows: int = Field(gt=0)
    text_column: str = "text"
    label_column: str = "label"
    second_column: str = ""  # of a pair
    provenance: Literal["collected", "written", "generated", "mixed", "unknown"] = "unknown"
    sealed: Digest | None = None  # of the test set


class TaskSpec(Spec):
    """One job for mendel: the words, the data and the limits."""

    description: str = Field(min_length=1)
    kind: Literal[
        "classify", "multilabel", "pair", "regress", "tag", "extract", "retrieve", "generate"
    ] = "classify"
    labels: tuple[str, ...] = ()  # none where the answer is a number
    order: tuple[str, ...] = ()  # of the labels, the least first, where the user named one
    data: DataSpec
    limits: Limits = Limits()
    coverage: float = Field(0.95, gt=0, lt=1)  # of the sets of labels, and of intervals
    reject: float = Field(0.01, gt=0, lt=1)  # share of right answers that abstention may cost
    prefer: Literal["accuracy", "size"] = "accuracy"

    @property
    def line_digest(self) -> Digest:
        """Names the line by the data alone: other words or limits draw on one error budget."""
        return digest({"kind": self.kind, "data": self.data.digest, "sealed": self.data.sealed})


def _explain(cls: type[Spec], error: ValidationError) -> str:
    first = error.errors()[0]
    field = ".".join(str(part) for part in first["loc"]) or cls.__name__
    if first["type"] == "extra_forbidden":
        known = list(cls.model_fields)
        hint = did_you_mean(str(first["loc"][-1]), known)
        hint = hint or f"It has {', '.join(known) or 'none'}."
        return f"{cls.__name__} has no field {field!r}. {hint}"
    got = first.get("input")
    return f"{cls.__name__}.{field}={got!r}: {first['msg']}."


def _toml(value: Any) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{_toml(str(k))} = {_toml(v)}" for k, v in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(_toml(item) for item in value) + "]"
    if isinstance(value, str):
        # JSON's escapes are TOML's, but for DEL
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    return json.dumps(value)
