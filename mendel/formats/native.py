"""Our own directory: spec.toml, model.safetensors, tokenizer.json where there is one, SHA256SUMS.

The weights carry their spec too, so that a directory can tell when the two are not of one save.
"""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as serialize
from torch import Tensor

from mendel.data.tokenizers import FILE as TOKENIZER
from mendel.data.tokenizers import Tokenizer, load_tokenizer
from mendel.formats.sums import write_sums
from mendel.model import Model, build
from mendel.spec import ModelSpec
from mendel.types import InputError

SPEC, WEIGHTS = "spec.toml", "model.safetensors"
SPEC_KEY = "mendel_spec"  # in the metadata of the weights
FLOATS = {"F64", "F32", "F16", "BF16"}  # as safetensors names them


def save(model: Model, folder: Path, tokenizer: Tokenizer | None = None) -> None:
    """Write the directory; what else lies in it stays.

    A new directory appears whole. In one that exists each file is replaced at once, the weights
    first: load knows when the rest did not follow.

    raises   InputError before anything is written when the tokenizer has more ids than the model
    """
    check_vocab(tokenizer, model, folder)
    with whole(folder) as part:
        metadata = {"format": "pt", SPEC_KEY: model.spec.to_json()}
        save_tensors(_tensors(model), part / WEIGHTS, metadata)
        (part / SPEC).write_text(model.spec.to_toml(), encoding="utf-8")
        if tokenizer is not None:
            tokenizer.save(part / TOKENIZER)
    if tokenizer is None:  # one of an earlier model would write another text
        (folder / TOKENIZER).unlink(missing_ok=True)


def load(
    folder: Path, *, tokenizer: Tokenizer | None = None, dtype: torch.dtype = torch.float32
) -> tuple[Model, Tokenizer | None]:
    """Read what save wrote; weights of any float type become `dtype`.

    tokenizer  one to use in place of the directory's
    raises   InputError when a file is missing or cut, or spec and weights do not fit
    """
    if not folder.is_dir():
        raise InputError(f"{folder} is no directory. Wanted one with {SPEC} and {WEIGHTS}.")
    tensors = Tensors([folder / WEIGHTS])
    spec = _spec(folder, tensors)
    model = filled(spec, tensors, {}, folder / SPEC, dtype=dtype)
    return model, tokenizer_of(folder, model, tokenizer)


def tokenizer_of(folder: Path, model: Model, given: Tokenizer | None) -> Tokenizer | None:
    """The one given, or the directory's if it has one; raises InputError if it is of another."""
    found = given
    if given is None and (folder / TOKENIZER).exists():
        found = load_tokenizer(folder)
    check_vocab(found, model, folder)
    return found


class Tensors:
    """The tensors of some safetensors files by name; each is read when it is asked for."""

    def __init__(self, files: Iterable[Path]) -> None:
        self.files = list(files)
        self.metadata: dict[str, str] = {}
        self._slices: dict[str, Any] = {}
        for file in self.files:
            handle = _open(file)
            self.metadata |= handle.metadata() or {}
            self._slices |= {name: handle.get_slice(name) for name in handle.keys()}  # noqa: SIM118

    @property
    def names(self) -> set[str]:
        return set(self._slices)

    def shape(self, name: str) -> tuple[int, ...]:
        return tuple(self._slices[name].get_shape())

    def dtype(self, name: str) -> str:
        return str(self._slices[name].get_dtype())

    def forget(self, names: Iterable[str]) -> None:
        """Leave out tensors that say nothing."""
        for name in list(names):
            self._slices.pop(name, None)

    def read(self, name: str) -> Tensor:
        tensor: Tensor = self._slices[name][...]
        return tensor


def filled(
    spec: ModelSpec,
    tensors: Tensors,
    theirs: Mapping[str, str],
    source: Path,
    *,
    dtype: torch.dtype = torch.float32,
) -> Model:
    """Build the model of a spec and give it the tensors of a file.

    theirs   our name -> the file's, where they differ
    source   what the spec was read from, for messages
    raises   InputError that names the tensors which are missing, too many or of another shape;
             nothing of the model's size was allocated by then
    """
    n_out = _n_out(spec, tensors)
    shapes = _shapes(spec, n_out, len(tensors.names), source)
    wanted = {theirs.get(name, name): shape for name, shape in shapes.items()}
    _check_fit(wanted, tensors, source)
    model = build(spec, n_out=n_out).to(dtype)
    with torch.no_grad():
        for name, tensor in _tensors(model).items():
            tensor.copy_(tensors.read(theirs.get(name, name)))
    return model


def save_tensors(tensors: Mapping[str, Tensor], file: Path, metadata: dict[str, str]) -> None:
    """Write safetensors, with room in memory for a copy of them.

    Their own save_file hides a full disk in an error of its own, lets only the owner read the file,
    and replaces whatever is there, even a device.
    """
    plain = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    file.write_bytes(serialize(plain, metadata))


@contextmanager
def whole(folder: Path) -> Iterator[Path]:
    """A directory beside, to write into; at the end its files are in `folder`, or none is."""
    if folder.exists() and not folder.is_dir():
        raise InputError(f"{folder} is a file. Wanted a new directory, or one of a saved model.")
    folder.parent.mkdir(parents=True, exist_ok=True)
    part = folder.parent / f".{folder.name}-{secrets.token_hex(4)}"
    part.mkdir()
    try:
        yield part
        write_sums(part)
        for file in part.iterdir():
            with file.open("rb") as handle:
                os.fsync(handle.fileno())
        _move(part, folder)
    finally:
        shutil.rmtree(part, ignore_errors=True)


def check_vocab(tokenizer: Tokenizer | None, model: Model, where: Path) -> None:
    if tokenizer is not None and tokenizer.vocab_size > model.spec.vocab:
        raise InputError(
            f"{where}: the tokenizer has {tokenizer.vocab_size} ids, the model's vocab is "
            f"{model.spec.vocab}. Wanted at most as many. Give the tokenizer that it was "
            "trained with."
        )


def some(names: Iterable[str], limit: int = 3) -> str:
    """The first few of many names."""
    names = sorted(names)
    more = f" and {len(names) - limit} more" if len(names) > limit else ""
    return ", ".join(names[:limit]) + more


def _tensors(model: Model) -> dict[str, Tensor]:
    tensors = dict(model.state_dict())
    if model.spec.tied:
        del tensors["head.logits.weight"]
    return tensors


def _spec(folder: Path, tensors: Tensors) -> ModelSpec:
    """spec.toml, if the weights are of it; where it was deleted, the spec that they carry."""
    carried = tensors.metadata.get(SPEC_KEY)
    file = folder / SPEC
    if not file.exists() and carried:
        return ModelSpec.from_json(carried)
    try:
        spec = ModelSpec.from_toml(file.read_text(encoding="utf-8"))
    except InputError as error:
        raise type(error)(f"{file}: {error}") from None
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"cannot read {file}: {error}. Wanted a saved model's {SPEC}.") from None
    if carried and (other := ModelSpec.from_json(carried)).hash != spec.hash:
        fields = ", ".join(f"{k}={a!r} for {b!r}" for k, (a, b) in spec.diff(other).items())
        raise InputError(
            f"{file} is not the spec that {WEIGHTS} was trained with: {fields}. An interrupted "
            f"save, or an edit. Delete {SPEC} to use the one that the weights carry."
        )
    return spec


def _open(file: Path) -> Any:
    try:
        return safe_open(file, framework="pt")
    except FileNotFoundError:
        raise InputError(f"{file} is missing. Wanted the weights as safetensors.") from None
    except (SafetensorError, OSError) as error:
        size = f"{file.stat().st_size:,} bytes" if file.is_file() else "no file"
        raise InputError(
            f"{file} is no whole safetensors file: {error}. Got {size}; it may have been cut while "
            "it was copied. Fetch or save it again."
        ) from None


def _n_out(spec: ModelSpec, tensors: Tensors) -> int | None:
    """How many labels a head has is in no spec: the matrix says it."""
    if spec.head.part == "lm" or "head.logits.weight" not in tensors.names:
        return None
    return tensors.shape("head.logits.weight")[0]


def _shapes(
    spec: ModelSpec, n_out: int | None, n_tensors: int, source: Path
) -> dict[str, tuple[int, ...]]:
    if spec.n_layers > n_tensors:  # before so many layers are made, be it of nothing
        raise InputError(
            f"{source} has {spec.n_layers} layers, and the weights are {n_tensors} tensors. "
            "Wanted the weights of that spec."
        )
    try:
        with torch.device("meta"):  # shapes alone
            blank = Model(spec, n_out)
    except RuntimeError as error:
        raise InputError(f"{source}: a model of this size cannot be built: {error}.") from None
    return {name: tuple(tensor.shape) for name, tensor in _tensors(blank).items()}


def _check_fit(wanted: Mapping[str, tuple[int, ...]], tensors: Tensors, source: Path) -> None:
    files = some(file.name for file in tensors.files)
    do = f"Wanted the weights of {source}. Save the model again, or fetch both files anew."
    missing, extra = wanted.keys() - tensors.names, tensors.names - wanted.keys()
    if missing or extra:
        parts = [f"missing {some(missing)}"] if missing else []
        parts += [f"unexpected {some(extra)}"] if extra else []
        raise InputError(f"{files} has other tensors than the model: {'; '.join(parts)}. {do}")
    wrong = [
        f"{name} is {_by(tensors.shape(name))}, wanted {_by(shape)}"
        for name, shape in wanted.items()
        if tensors.shape(name) != shape
    ]
    if wrong:
        raise InputError(f"{files} has tensors of another shape: {some(wrong)}. {do}")
    wrong = [f"{n} is {tensors.dtype(n)}" for n in wanted if tensors.dtype(n) not in FLOATS]
    if wrong:
        raise InputError(
            f"{files} has tensors that are no plain floats: {some(wrong)}. Wanted one of "
            f"{', '.join(sorted(FLOATS))}. Quantized weights are not read: take the float ones."
        )


def _by(shape: tuple[int, ...]) -> str:
    return "x".join(map(str, shape)) or "a number"


def _move(part: Path, folder: Path) -> None:
    if not folder.exists():
        part.rename(folder)
        return
    order = [WEIGHTS, SPEC, "config.json"]  # then the rest
    for file in sorted(part.iterdir(), key=lambda f: order.index(f.name) if f.name in order else 9):
        os.replace(file, folder / file.name)
