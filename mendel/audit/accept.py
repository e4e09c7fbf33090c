"""Code of strangers runs in the sandbox until a person accepts its digest; then it may be a part.

The digest is of the text, so a file that changes by one letter is a stranger again.
"""

from __future__ import annotations

import hashlib
import json
import time
from pathlib import Path

from mendel.audit.execute import execute
from mendel.blobs import write_atomically
from mendel.ledger import home
from mendel.types import Digest, InputError, MendelError


class UnacceptedError(MendelError, PermissionError):
    """Code that no person has accepted was to run outside the sandbox."""


def read_source(file: Path) -> str:
    """The text of a Python file; raises InputError where there is none."""
    try:
        return file.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        raise InputError(f"{file} is no UTF-8 text. Wanted a Python file.") from None
    except OSError as error:
        raise InputError(
            f"{file} cannot be read: {error.strerror}. Wanted a Python file."
        ) from None


def source_digest(text: str) -> Digest:
    """What a person accepts."""
    return hashlib.sha256(text.encode("utf-8")).hexdigest()


def accept(text: str, file: Path) -> Digest:
    """Record that a person has accepted this text; twice is once."""
    found = source_digest(text)
    record = {"file": str(file), "at": time.time(), "digest": found}
    _record(found).parent.mkdir(parents=True, exist_ok=True)
    write_atomically(_record(found), json.dumps(record).encode("utf-8"))
    return found


def is_accepted(text: str) -> bool:
    return _record(source_digest(text)).is_file()


def load_parts(file: Path) -> None:
    """Run an accepted file in this process, so that the parts that it registers are on the menu.

    raises   UnacceptedError before any of it has run
    """
    text = read_source(file)  # once: what was looked up is what runs
    if not is_accepted(text):
        raise UnacceptedError(
            f"{file} (sha256 {source_digest(text)[:12]}...) is not accepted, and only what is "
            f"runs outside the sandbox. Audit it: mendel audit {file}:CLASS. Read it. Then: "
            f"mendel accept {file}"
        )
    execute(text, f"mendel_part_{source_digest(text)[:12]}", str(file))


def _record(found: Digest) -> Path:
    return home() / "accepted" / f"{found}.json"
