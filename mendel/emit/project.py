"""An agent as a folder that runs, serves, tests and trains itself where mendel is not installed.

templates/*.py and the like are copied as they are; README.md, MODEL_CARD.md and the files of the
container are rendered; textmodel/ is parts/text with parts/carried inside it, and likewise for the
other models. What depends on the kind of task is in answers.py, learning.py and
tests/test_answers.py. The model's files are written by parts/shipping.py, which is also what the
emitted train.py writes them by.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from mendel.emit.runtime import TEMPLATES, TRAVELS_AS, answers_of, packages, template
from mendel.parts import shipping
from mendel.parts.shipping import Agent, render, write_card, write_model
from mendel.types import Digest

PARTS = Path(shipping.__file__).parent
BY_KIND = {  # folder of templates -> file in the project
    "answers": "answers.py",
    "learning": "learning.py",
    "answer_tests": "tests/test_answers.py",
}
COPIED = (
    *(
        "predict.py",
        "explain.py",
        "train.py",
        "serve.py",
        "benchmark.py",
        "tests/test_model.py",
        "pytest.ini",
    ),
    *("requirements.txt", "requirements-train.txt", "requirements-serve.txt"),
    *("requirements-test.txt", "ruff", "card.md.j2"),
)
# of kinds whose answers can be compared and rest on words of the text
OF_WORDS = ("behaviour.py", "tests/test_behaviour.py", "tests/test_explain.py")
# a package leaves hidden files out, and a ruff.toml here would rule over ours
RENDERED = {
    "README.md.j2": "README.md",
    "Dockerfile": "Dockerfile",
    "dockerignore": ".dockerignore",
}
RENAMED = {"ruff": "ruff.toml"}
CARRIED = "carried"  # folder of parts that every model's package gets
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
    """Write the project into a folder that exists; the caller renames it when it is complete.

    raises   ValueError where labels or settings do not fit the model
    """
    _check(agent)
    for name in COPIED:
        _copy(TEMPLATES / name, folder / RENAMED.get(name, name))
    for templates, name in BY_KIND.items():
        _copy(template(templates, agent.kind), folder / name)
    if explains(agent.kind):
        for name in OF_WORDS:
            _copy(TEMPLATES / name, folder / name)
    for name in ("shipping.py", "conformal.py"):
        _copy(PARTS / name, folder / name)
    package, export = packages(agent.kind)
    _write_package(PARTS / package, folder / TRAVELS_AS[package])
    signature = answers_of(agent.kind).SIGNATURE
    _write_rendered(agent, signature, folder)
    digest = write_model(agent, export, signature, folder)
    write_card(folder)
    files = sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file())
    model_bytes = sum((folder / name).stat().st_size for name in NEEDED_TO_ANSWER)
    return Emitted(digest, model_bytes, tuple(files))


def explains(kind: str) -> bool:
    """Do answers of the kind rest on words that can be weighed, and can they be compared?"""
    return hasattr(answers_of(kind).Decoder, "evidence")


def _check(agent: Agent) -> None:
    _, export = packages(agent.kind)
    about = {"labels": agent.labels, "settings": agent.settings}
    decoder = answers_of(agent.kind).Decoder(about, agent.trained.featurizer)
    if export.n_outputs(agent.trained) != decoder.n_outputs:
        raise ValueError(
            f"labels: {len(agent.labels)} for a model with {export.n_outputs(agent.trained)} "
            "outputs. Wanted as many as it has."
        )


def _write_package(part: Path, target: Path) -> None:
    """The model's own code, and inside it what all models carry."""
    for source, place in ((part, target), (PARTS / CARRIED, target / CARRIED)):
        place.mkdir(exist_ok=True)  # a project is written again with its card's facts
        for module in sorted(source.glob("*.py")):
            code = module.read_text(encoding="utf-8")
            code = code.replace(f"from ..{CARRIED}", f"from .{CARRIED}")
            (place / module.name).write_text(code, encoding="utf-8", newline="\n")


def _copy(source: Path, target: Path) -> None:
    target.parent.mkdir(exist_ok=True)
    shutil.copyfile(source, target)


def _write_rendered(agent: Agent, signature: Mapping[str, str], folder: Path) -> None:
    slug = re.sub(r"[^a-z0-9]+", "-", agent.name.lower()).strip("-")[:60].strip("-") or "agent"
    values = {
        "name": agent.name,
        "description": str(agent.task.get("description") or "Answers texts."),
        "slug": slug,
        "kind": agent.kind,
        "output": signature["output"],
        "explains": explains(agent.kind),
        "package": TRAVELS_AS[packages(agent.kind)[0]],
    }
    for name, target in RENDERED.items():
        template = (TEMPLATES / name).read_text(encoding="utf-8")
        rendered = render(template, **values)
        (folder / target).write_text(rendered, encoding="utf-8", newline="\n")
