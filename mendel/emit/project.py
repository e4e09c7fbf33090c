"""An agent as a folder that runs, serves, tests and trains itself where mendel is not installed.

templates/*.py and the like are copied as they are; README.md and MODEL_CARD.md are rendered;
textmodel/ is parts/text as it is. The model's files are written by parts/text/export.py, which
is also what the emitted train.py writes them by.
"""

from __future__ import annotations

import re
import shutil
from dataclasses import dataclass
from pathlib import Path

from mendel.emit.runtime import TEMPLATES
from mendel.parts import text
from mendel.parts.text.export import Agent, render, write_card, write_model
from mendel.types import Digest

TEXTMODEL = Path(text.__file__).parent
COPIED = (
    *("predict.py", "train.py", "serve.py", "benchmark.py", "tests/test_model.py", "pytest.ini"),
    *("requirements.txt", "requirements-train.txt", "requirements-serve.txt"),
    *("requirements-test.txt", "Dockerfile", "dockerignore", "ruff", "card.md.j2"),
)
# a package leaves hidden files out, and a ruff.toml here would rule over ours
RENAMED = {"dockerignore": ".dockerignore", "ruff": "ruff.toml"}
NEEDED_TO_ANSWER = ("model.onnx", "vocabulary.npz")

__all__ = ["Agent", "Emitted", "emit_project"]


@dataclass(frozen=True)
class Emitted:
    """What was written.

    digest        sha256 of agent.json, which names the model's files by theirs
    model_bytes   what answering needs: graph and vocabulary
    files         paths in the folder, sorted
    """

    digest: Digest
    model_bytes: int
    files: tuple[str, ...]


def emit_project(agent: Agent, folder: Path) -> Emitted:
    """Write the project into a folder that exists; the caller renames it when it is complete."""
    for name in COPIED:
        _copy(TEMPLATES / name, folder / RENAMED.get(name, name))
    for module in sorted(TEXTMODEL.glob("*.py")):
        _copy(module, folder / "textmodel" / module.name)
    _write_readme(agent, folder)
    digest = write_model(agent, folder)
    write_card(folder)
    files = sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file())
    model_bytes = sum((folder / name).stat().st_size for name in NEEDED_TO_ANSWER)
    return Emitted(digest, model_bytes, tuple(files))


def _copy(source: Path, target: Path) -> None:
    target.parent.mkdir(exist_ok=True)
    shutil.copyfile(source, target)


def _write_readme(agent: Agent, folder: Path) -> None:
    template = (TEMPLATES / "README.md.j2").read_text(encoding="utf-8")
    slug = re.sub(r"[^a-z0-9]+", "-", agent.name.lower()).strip("-")[:60].strip("-") or "agent"
    description = str(agent.task.get("description") or "Gives each text one of a set of labels.")
    readme = render(template, name=agent.name, description=description, slug=slug)
    (folder / "README.md").write_text(readme, encoding="utf-8", newline="\n")
