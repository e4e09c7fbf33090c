"""Documents of a search and what is asked of them, as the rows of a design run."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

from mendel.clocks.design.request import Request
from mendel.data.faults import Fault
from mendel.data.readers import Examples
from mendel.parts.search.documents import Documents, read_documents
from mendel.train.made_queries import make_queries
from mendel.train.queries import read_queries
from mendel.types import InputError

MIN_PASSAGES = 10  # fewer are read sooner than searched
NOTES = {
    "binary": "not text, whatever its name says: left out",
    "unreadable": "cannot be read: left out",
    "linked": "a link to a file outside the folder: left out",
    "empty": "no word in it: left out",
    "encoding": "not UTF-8: read as Windows-1252, look at the accents",
}


def documents_of(request: Request) -> Documents | None:
    """The passages of the folder; None for other kinds. Raises InputError for too few."""
    if request.kind != "retrieve":
        if request.queries:
            raise InputError(f"--queries is for kind retrieve. Got kind {request.kind}.")
        return None
    if not os.path.isdir(request.data):
        got = "a file" if os.path.exists(request.data) else "nothing"
        raise InputError(
            f"{request.data} is no folder. Got {got}. Wanted one of documents (.txt .md .rst "
            ".html) to search. Give the folder that holds them."
        )
    found = read_documents(request.data)
    if len(found.passages) < MIN_PASSAGES:
        raise InputError(
            f"{request.data} has {len(found.passages)} passages in {len(found.files)} documents"
            f"{_besides(found)}. Wanted {MIN_PASSAGES} passages or more, in files that end in .txt "
            ".md .rst or .html. Add documents."
        )
    return found


def search_rows(request: Request, documents: Documents, queries: Path | None) -> Examples:
    """Queries of a file, or made from the documents, with the passages that answer them."""
    if queries is None:
        made = make_queries(documents.passages)
        return replace(made, faults=_faults(documents))
    found = read_queries(queries, documents.passages, text_column=request.text_column)
    own = _faults(documents) if queries == request.queries else ()
    return replace(found, faults=(*own, *found.faults))


def _faults(documents: Documents) -> tuple[Fault, ...]:
    return tuple(
        Fault(f"document: {why}", len(files), (), f"{NOTES[why]} ({', '.join(files[:3])})")
        for why, files in documents.odd.items()
    )


def _besides(documents: Documents) -> str:
    told = [f"{len(files)} {why}" for why, files in documents.odd.items()]
    told += [f"{documents.others} of other kinds"] if documents.others else []
    return f" ({', '.join(told)})" if told else ""
