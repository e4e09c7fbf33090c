"""Parquet files and Hugging Face data sets on disk, by pyarrow (`pip install "mendel[tables]"`)."""

from __future__ import annotations

import json
from importlib import import_module
from pathlib import Path
from typing import Any

from mendel.data.delimited import Table
from mendel.types import InputError

PARQUET = b"PAR1"  # the first bytes of every such file
STATE, SPLITS, INFO = "state.json", "dataset_dict.json", "dataset_info.json"
# what pyarrow and json raise on damaged bytes; most of Arrow's own errors are ValueErrors
DAMAGE = (
    ArithmeticError,
    AttributeError,
    LookupError,
    MemoryError,
    NotImplementedError,
    OSError,
    RecursionError,
    TypeError,
    ValueError,
)


def is_dataset(folder: Path) -> bool:
    """A folder that save_to_disk wrote: of one data set, or of several splits."""
    return (folder / STATE).is_file() or (folder / SPLITS).is_file()


def read_parquet(path: Path) -> Table:
    """The columns of a parquet file as Python values.

    raises  InputError without pyarrow, or where the file is damaged
    """
    parquet = _module("pyarrow.parquet", path)
    try:
        return _table(parquet.ParquetFile(path).read(use_threads=False), {})
    except DAMAGE as error:
        raise _damaged(path, error) from None


def read_dataset(folder: Path) -> Table:
    """The rows of a Hugging Face data set; numbers of a ClassLabel become its names.

    raises  InputError without pyarrow, for several splits, or where files are damaged
    """
    if not (folder / STATE).is_file():
        splits = sorted(p.name for p in folder.iterdir() if (p / STATE).is_file())
        raise InputError(
            f"{folder.name} has several splits. Got {', '.join(splits) or 'none that is there'}. "
            f"Wanted one of them. Name it: {folder / (splits or ['train'])[0]}."
        )
    pyarrow = _module("pyarrow", folder)
    try:
        state = json.loads((folder / STATE).read_bytes())
        files = [folder / Path(file["filename"]).name for file in state["_data_files"]]
        parts = [pyarrow.ipc.open_stream(file.read_bytes()).read_all() for file in files]
        info = folder / INFO
        features = json.loads(info.read_bytes())["features"] if info.is_file() else {}
        return _table(pyarrow.concat_tables(parts), features or {})
    except DAMAGE as error:
        raise _damaged(folder, error) from None


def _table(found: Any, features: dict[str, Any]) -> Table:
    """Values by column; what is binary (images, sound) is left out."""
    found.validate(full=True)  # without it, damaged offsets end the process
    meta = json.loads((found.schema.metadata or {}).get(b"huggingface", b"{}"))
    features = features or meta.get("info", {}).get("features") or {}
    names, columns = [], []
    for name, column in zip(found.column_names, found.columns, strict=True):
        if "binary" not in str(column.type):
            names.append(name)
            columns.append(_named(column.to_pylist(), features.get(name)))
    rows = list(zip(*columns, strict=True))
    return Table(tuple(names), rows, range(1, len(rows) + 1))


def _named(values: list[Any], feature: Any) -> list[Any]:
    """Numbers of a ClassLabel as its names, in lists too; -1 says that there is none."""
    inner = feature[0] if isinstance(feature, list) and feature else feature
    while isinstance(inner, dict) and isinstance(inner.get("feature"), dict):
        inner = inner["feature"]
    if not (isinstance(inner, dict) and inner.get("_type") == "ClassLabel"):
        return values
    names = dict(enumerate(inner["names"]))
    return [[names.get(n) for n in v] if isinstance(v, list) else names.get(v) for v in values]


def _module(name: str, path: Path) -> Any:
    try:
        return import_module(name)
    except ImportError:
        raise InputError(
            f"{path.name} is in a format that needs pyarrow, which is not installed. Wanted it, "
            'or CSV or JSON lines. Run: pip install "mendel[tables]".'
        ) from None


def _damaged(path: Path, error: Exception) -> InputError:
    why = " ".join(str(error).split())[:200] or type(error).__name__
    return InputError(
        f"{path.name} cannot be read as a parquet file or a data set on disk. Got {why}. Wanted "
        "what pyarrow or datasets wrote. Write it anew, or export CSV or JSON lines."
    )
