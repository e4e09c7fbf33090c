"""Sealed texts written otherwise: does the project still give the answer that it gave?

The texts are those of the opening that has just been, no label is read, and nothing is fitted or
chosen afterwards: it belongs to that opening and is no further one.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np

from mendel.data.vault import Opening
from mendel.judge import interval

N_TEXTS = 200  # sealed ones, drawn evenly
MAX_CHARS = 1_000  # of a text; longer ones are left out
TIMEOUT_S = 120.0


def behaviour_of(project: Path, opening: Opening) -> dict[str, Any] | None:
    """Runs the project's own behaviour.py in a process of its own.

    returns  n_texts texts_are tests: name expected n n_same share low high failures; or error,
             since a model is not lost for this; None for a kind that has no such file
    """
    if not (project / "behaviour.py").exists():
        return None
    short = [text for text in opening.texts if len(text) <= MAX_CHARS]
    places = np.linspace(0, len(short) - 1, min(N_TEXTS, len(short))).astype(int)
    texts = [short[i] for i in places]
    argv = [sys.executable, str(project.resolve() / "behaviour.py"), "--json", "--stdin"]
    try:
        done = subprocess.run(
            argv,
            input=json.dumps(texts).encode(),
            capture_output=True,
            cwd=project,
            check=True,
            timeout=TIMEOUT_S,
            start_new_session=True,  # Ctrl-C is for us to answer
        )
        found = json.loads(done.stdout)
    except (subprocess.SubprocessError, ValueError) as error:
        said = (getattr(error, "stderr", None) or str(error).encode()).decode("utf-8", "replace")
        return {"error": " ".join(said.strip().splitlines()[-1:])}
    tests = [_with_interval(row) for row in found if row["n"]]
    return {"n_texts": len(texts), "texts_are": "sealed texts", "tests": tests}


def _with_interval(row: dict[str, Any]) -> dict[str, Any]:
    low, high = interval(row["n_same"], row["n"])
    return {**row, "low": low, "high": high}
