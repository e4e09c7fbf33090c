"""From a path to a table, whatever the format: told apart by content first, then by suffix."""

from __future__ import annotations

import os
from pathlib import Path

from mendel.data.arrow import PARQUET, is_dataset, read_dataset, read_parquet
from mendel.data.decode import decoded, read_bytes
from mendel.data.delimited import Table, delimited, folded, is_json_lines, json_lines
from mendel.data.faults import MAX_CHARS, NOTES, Fault, Log, as_error, no_rows
from mendel.data.sentences import is_conll, is_seq, read_conll, read_seq
from mendel.data.targets import TaskKind

__all__ = ["MAX_CHARS", "NOTES", "Fault", "Log", "Table", "as_error", "folded", "read_table"]


def read_table(
    path: Path, wanted: set[str], labelled: bool, log: Log, kind: TaskKind | None = None
) -> Table:
    """The cells of a file or folder as they stand, one row or more.

    path       CSV, TSV, JSON lines, CoNLL, parquet; a folder of seq.in, seq.out and label, or of
               a Hugging Face data set
    wanted     columns that the user named, which make a first row a header
    labelled   False = there may be one column only
    log        what was mended is added to it
    kind       tag makes text with tags in its last column CoNLL sooner; None = not known yet
    raises     InputError when the file cannot be read, or no row is left
    """
    table = _table(path, wanted, labelled, log, kind)
    if not (table.rows and table.columns):
        raise no_rows(path, log)
    return table


def _table(path: Path, wanted: set[str], labelled: bool, log: Log, kind: TaskKind | None) -> Table:
    if os.path.isdir(path) and is_dataset(path):  # unlike Path.is_dir, it never raises
        return read_dataset(path)
    folder = path.parent if path.name == "seq.in" else path
    if os.path.isdir(folder) and is_seq(folder):
        return read_seq(folder, log)
    raw = read_bytes(path)
    if raw.startswith(PARQUET):
        return read_parquet(path)
    content = decoded(path, raw, log)
    if is_json_lines(path, content):
        return json_lines(content, log)
    if is_conll(path, content, wanted=kind == "tag"):
        return read_conll(content, labelled, log)
    return delimited(path, content, wanted, labelled, log)
