"""An emitted project runs, serves, measures, trains and tests itself without mendel."""

from __future__ import annotations

import ast
import csv
import fnmatch
import json
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import onnxruntime
import pytest

from mendel.emit.project import Agent, Emitted, emit_project
from mendel.parts.conformal import fit_drift
from mendel.parts.shipping import FORMAT
from mendel.parts.text.export import dequantised, training_logits
from mendel.parts.text.fit import Examples, fit
from mendel.parts.text.recipe import Recipe

ROOT = Path(__file__).parents[1]
KEY = "a-key-of-sixteen-or-more"
N_LABELS = 15
SMALL = {"dim": 16, "channels": 16, "hidden": 32, "epochs": 1}
TASK = {"name": "Support desk", "description": "Route a | message\nto its team", "kind": "classify"}
CARD = {
    "scores": {"accuracy": 0.8125, "95 % interval": [0.7, 0.9]},
    "limits": ["English only"],
    "latency": {"p50_ms": 0.2},
    "carbon": "little",
}


@pytest.fixture(scope="module")
def data() -> Examples:
    lines = (ROOT / "examples/support_desk/messages.jsonl").read_text(encoding="utf-8").splitlines()
    rows = [json.loads(line) for line in lines][:300]
    names = sorted({row["label"] for row in rows})
    numbers = np.array([names.index(row["label"]) for row in rows], np.int64)
    return Examples([row["text"] for row in rows], numbers, [*names, "(outside)"])


def settings(**changed: Any) -> dict[str, Any]:
    """Of a classifier with the 15 labels of the data."""
    chance = np.random.default_rng(0)
    drift = fit_drift({name: chance.random(400) for name in ("score", "unseen")})
    sets = {"coverage": 0.9, "n": 300, "least": [0.1] * N_LABELS}
    usual = {"temperature": 0.7, "outside_above": 0.75, "sets": sets, "drift": drift}
    return {**usual, **changed}


@pytest.fixture(scope="module")
def agents(data: Examples) -> dict[str, Agent]:
    def agent(recipe: Recipe, int8: bool = False) -> Agent:
        return Agent(
            kind="classify",
            trained=fit(recipe, data),
            int8=int8,
            labels=tuple(data.names[:-1]),
            settings=settings(),
            task=TASK,
            examples=tuple(data.texts[:30]),
            provenance="written",
            card=CARD,
        )

    dual = agent(Recipe(family="dual", **SMALL))
    linear = agent(Recipe(family="linear"))
    taught = agent(Recipe(family="dual-mixer", mixing="decay", teachers=1, **SMALL), int8=True)
    return {
        "keywords": agent(Recipe(family="keywords")),
        "linear": linear,
        "linear-int8": replace(linear, int8=True),
        "dual": dual,
        "dual-int8": replace(dual, int8=True),
        "taught-int8": taught,
    }


@pytest.fixture(scope="module")
def projects(
    agents: dict[str, Agent], tmp_path_factory: pytest.TempPathFactory
) -> dict[str, tuple[Path, Emitted]]:
    found = {}
    for name, agent in agents.items():
        folder = tmp_path_factory.mktemp(name)
        found[name] = folder, emit_project(agent, folder)
    return found


def run(
    folder: Path, *args: str, python: str = sys.executable, ok: bool = True
) -> subprocess.CompletedProcess[str]:
    """A command in the project's folder, as where there is no mendel on the path."""
    done = subprocess.run(
        [python, *args], cwd=folder, env=bare(), capture_output=True, text=True, timeout=240
    )
    assert not ok or done.returncode == 0, done.stdout + done.stderr
    return done


def bare() -> dict[str, str]:
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("PYTHON", "MENDEL", "PYTEST"))}
    return {**kept, "PYTHONDONTWRITEBYTECODE": "1", "OMP_NUM_THREADS": "1"}


def run_its_tests(folder: Path, python: str = sys.executable) -> None:
    done = run(folder, "-m", "pytest", "-q", "-p", "no:cacheprovider", python=python)
    assert " passed" in done.stdout and "skipped" not in done.stdout, done.stdout


@pytest.mark.parametrize("name", ["keywords", "linear", "dual"])  # dual-int8: the next test
def test_its_own_tests_pass(projects: dict[str, tuple[Path, Emitted]], name: str) -> None:
    run_its_tests(projects[name][0])


def test_its_own_tests_pass_in_a_clean_environment_without_mendel(
    projects: dict[str, tuple[Path, Emitted]], tmp_path: Path
) -> None:
    folder = projects["dual-int8"][0]
    run(tmp_path, "-m", "venv", "clean")
    scripts = tmp_path / "clean" / ("Scripts" if os.name == "nt" else "bin")
    python = str(scripts / "python")
    wanted = ["-r", "requirements-test.txt", "-c", str(ROOT / "constraints.txt")]
    run(folder, "-m", "pip", "install", "--quiet", *wanted, python=python)
    for absent in ("mendel", "torch", "onnx", "safetensors", "sklearn"):
        assert run(folder, "-c", f"import {absent}", python=python, ok=False).returncode == 1
    run_its_tests(folder, python)


@pytest.mark.parametrize(
    "name", ["keywords", "linear", "linear-int8", "dual", "dual-int8", "taught-int8"]
)
def test_the_graph_equals_the_code_that_trained_it(
    projects: dict[str, tuple[Path, Emitted]], agents: dict[str, Agent], name: str
) -> None:
    agent, folder = agents[name], projects[name][0]
    trained = dequantised(agent.trained) if agent.int8 else agent.trained
    texts = [*agent.examples, "", "zzz", "word " * 30_000]
    session = onnxruntime.InferenceSession((folder / "model.onnx").read_bytes())
    arrays = agent.trained.featurizer.arrays(texts)
    feed = {node.name: arrays[node.name] for node in session.get_inputs()}
    difference = np.abs(session.run(["logits"], feed)[0] - training_logits(trained, texts))
    assert difference.max() < 1e-4


def test_int8_golden_logits_are_those_of_the_rounded_tables(agents: dict[str, Agent]) -> None:
    agent = agents["dual-int8"]
    exact = training_logits(agent.trained, agent.examples)
    rounded = training_logits(dequantised(agent.trained), agent.examples)
    assert 1e-4 < np.abs(exact - rounded).max() < 0.5


def test_the_format_of_a_project_s_files_is_said_in_one_place(
    projects: dict[str, tuple[Path, Emitted]], tmp_path: Path
) -> None:
    folder = tmp_path / "newer"
    shutil.copytree(projects["linear"][0], folder)
    code = (folder / "shipping.py").read_text(encoding="utf-8")
    assert f"\nFORMAT = {FORMAT} " in code
    newer = code.replace(f"\nFORMAT = {FORMAT} ", f"\nFORMAT = {FORMAT + 1} ")
    (folder / "shipping.py").write_text(newer, encoding="utf-8")
    done = run(folder, "predict.py", "a text", ok=False)
    assert done.returncode == 2
    assert f"has format {FORMAT}, predict.py reads {FORMAT + 1}" in done.stderr


def test_the_same_agent_has_the_same_digest_and_another_one_another(
    agents: dict[str, Agent], projects: dict[str, tuple[Path, Emitted]], tmp_path: Path
) -> None:
    first = projects["dual"][1].digest
    again, other = tmp_path / "again", tmp_path / "other"
    again.mkdir()
    other.mkdir()
    assert emit_project(agents["dual"], again).digest == first
    assert emit_project(agents["dual"], again).digest == first  # as a run does, with its card
    assert (
        emit_project(replace(agents["dual"], settings=settings(outside_above=0.7)), other).digest
        != first
    )


def test_the_files_are_listed_small_and_of_source_only(
    projects: dict[str, tuple[Path, Emitted]],
) -> None:
    folder, emitted = projects["linear"]
    assert {"predict.py", "README.md", "textmodel/features.py", ".dockerignore"} <= set(
        emitted.files
    )
    model = {"model.onnx", "vocabulary.npz", "model.safetensors", "golden.json"}
    rest = sum((folder / name).stat().st_size for name in set(emitted.files) - model)
    assert rest < 160_000  # the code that runs, serves, tests and trains it, seven families' of it
    for name in emitted.files:
        if name.endswith(".py"):
            imported = modules_of((folder / name).read_text(encoding="utf-8"))
            assert not imported & {"mendel", "pickle", "joblib", "marshal", "shelve"}, name


def test_its_code_is_clean_by_its_own_rules(projects: dict[str, tuple[Path, Emitted]]) -> None:
    run(projects["linear"][0], "-m", "ruff", "check", "--no-cache", ".")
    run(projects["linear"][0], "-m", "ruff", "format", "--no-cache", "--check", ".")


def modules_of(source: str) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module.split(".")[0])
    return found


def test_the_card_states_what_is_known_and_calls_the_rest_unverified(
    agents: dict[str, Agent], projects: dict[str, tuple[Path, Emitted]], tmp_path: Path
) -> None:
    card = (projects["linear"][0] / "MODEL_CARD.md").read_text(encoding="utf-8")
    for fact in ("| accuracy | 0.8125 |", "- English only", "## Carbon", "a \\| message to its"):
        assert fact in card
    assert "UNVERIFIED" not in card and "{{" not in card and "\n\n\n" not in card
    emit_project(replace(agents["linear"], card={}, task={}), tmp_path)
    bare_card = (tmp_path / "MODEL_CARD.md").read_text(encoding="utf-8")
    assert "UNVERIFIED" in bare_card and "further than 0.75 outside" in bare_card
    assert (tmp_path / "README.md").read_text(encoding="utf-8").startswith("# text-model\n")


def test_an_agent_that_does_not_fit_its_model_is_refused(
    agents: dict[str, Agent], tmp_path: Path
) -> None:
    faults: list[tuple[str, Any]] = [
        ("labels", ("a", "b")),
        ("labels", (agents["linear"].labels[0],) * len(agents["linear"].labels)),
        ("settings", settings(temperature=0.0)),
        ("settings", settings(temperature=float("nan"))),
        ("settings", settings(outside_above=1.5)),
        ("settings", settings(sets={"coverage": 0.9, "least": [0.5]})),
        ("examples", ()),
    ]
    for field, value in faults:
        with pytest.raises(ValueError, match=r"labels|temperature|outside|sets|examples"):
            emit_project(replace(agents["linear"], **{field: value}), tmp_path)
        assert not list(tmp_path.iterdir())


def test_the_benchmark_reports_stable_keys_and_its_own_memory_only(
    projects: dict[str, tuple[Path, Emitted]],
) -> None:
    folder, emitted = projects["linear"]
    ballast = np.ones(60_000_000)  # 480 MB that the child must not count as its own
    found = json.loads(run(folder, "benchmark.py", "--json", "--runs", "100").stdout)
    assert ballast.nbytes > 400e6
    assert {"p50_ms", "p95_ms", "p99_ms", "texts_per_s", "load_s", "peak_mb"} <= found.keys()
    assert found["model_bytes"] == emitted.model_bytes
    assert 0 < found["p50_ms"] <= found["p95_ms"] <= found["p99_ms"]
    assert 10 < found["peak_mb"] < 400
    assert "p50_ms" in run(folder, "benchmark.py", "--runs", "10").stdout


@pytest.mark.parametrize("name", ["dual-int8", pytest.param("taught-int8", marks=pytest.mark.slow)])
def test_it_trains_again_into_a_whole_new_project(
    projects: dict[str, tuple[Path, Emitted]], data: Examples, tmp_path: Path, name: str
) -> None:
    folder = projects[name][0]
    with (tmp_path / "rows.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["message", "team"])
        writer.writerow(["two\nlines\u2028and \x85 more", "new label"])
        for text, label in zip(data.texts, data.labels, strict=True):
            writer.writerow([text, f"{data.names[label]}!"])
    new = tmp_path / "new"
    columns = ["--text-column", "message", "--label-column", "team"]
    command = ["train.py", "--data", str(tmp_path / "rows.csv"), *columns, "--out", str(new)]
    said = json.loads(run(folder, *command).stdout)
    assert said["data"]["rows"] == 301 and 0 <= said["scores"]["accuracy"] <= 1
    agent = json.loads((new / "agent.json").read_bytes())
    assert (
        "new label" in agent["labels"]
        and 0 < agent["settings"]["outside_above"] <= 1
        and agent["int8"]
    )
    assert {p.name for p in new.iterdir()} == {p.name for p in folder.iterdir()}
    assert "trained again by train.py from rows.csv" in (new / "MODEL_CARD.md").read_text("utf-8")
    run_its_tests(new)
    assert run(folder, *command, ok=False).returncode == 2  # the folder exists
    assert not list(tmp_path.glob(".new-*"))


def test_training_data_that_does_not_serve_is_refused_in_one_line(
    projects: dict[str, tuple[Path, Emitted]], tmp_path: Path
) -> None:
    cases = {
        "absent.csv": None,
        "columns.csv": "a,b\n1,2\n",
        "one_label.csv": "text,label\nx,a\ny,a\n",
        "broken.jsonl": '{"text": "x", "label": "a"}\n{"text": \n',
        "list.jsonl": "[1]\n",
    }
    for name, content in cases.items():
        if content is not None:
            (tmp_path / name).write_text(content, encoding="utf-8")
        done = run(
            projects["linear"][0],
            *("train.py", "--data", str(tmp_path / name), "--out", str(tmp_path / "new")),
            ok=False,
        )
        assert done.returncode == 2 and done.stderr.count("\n") == 1, done.stderr
        assert name in done.stderr


@contextmanager
def serving(folder: Path, *command: str) -> Iterator[str]:
    """A server in its own process; gives its address once it is up."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    filled = [word.replace("8000", str(port)) for word in command]
    process = subprocess.Popen([sys.executable, *filled], cwd=folder, env=bare())
    address = f"http://127.0.0.1:{port}"
    try:
        for _ in range(300):
            assert process.poll() is None, "the server ended"
            try:
                assert httpx.get(f"{address}/healthz").json() == {"status": "ok"}
                break
            except httpx.TransportError:
                time.sleep(0.1)
        yield address
    finally:
        process.terminate()
        process.wait(30)


def test_the_server_answers_as_the_library_does_within_its_limits(
    projects: dict[str, tuple[Path, Emitted]], agents: dict[str, Agent]
) -> None:
    folder = projects["linear"][0]
    texts = [*agents["linear"].examples[:3], "", "\ud800", "x" * 50_000]
    said = run(folder, "predict.py", *texts[:4]).stdout.splitlines()
    with serving(folder, "serve.py", "--port", "8000") as address:
        body = json.dumps({"texts": texts}).encode()
        answers = httpx.post(f"{address}/predict", content=body).json()["predictions"]
        assert answers[:4] == [json.loads(line) for line in said] and len(answers) == 6
        wanted = run(folder, "predict.py", "--why", *texts[:4]).stdout.splitlines()
        body = json.dumps({"texts": texts[:4], "why": True}).encode()
        why = httpx.post(f"{address}/predict", content=body).json()["predictions"]
        assert why == [json.loads(line) for line in wanted] and why[0]["why"][0]["words"]
        about = httpx.get(f"{address}/metadata").json()
        assert about["labels"] == list(agents["linear"].labels)
        wrong: list[tuple[int, Any]] = [
            (422, b"{"),
            (422, b"[" * 100_000),
            (422, b"[]"),
            (422, b'{"texts": []}'),
            (422, b'{"texts": "one"}'),
            (422, b'{"texts": ["a", 1]}'),
            (422, b'{"texts": ["a"], "top": 0}'),
            (422, b'{"texts": ["a"], "top": true}'),
            (422, b'{"texts": ["a"], "abstain": 1}'),
            (422, b'{"texts": ["a"], "why": 1}'),
            (422, json.dumps({"texts": ["a"] * 21, "why": True}).encode()),
            (422, json.dumps({"texts": ["a"] * 1_001}).encode()),
            (413, b"x" * 2_000_001),
            (413, (b"x" * 100_000 for _ in range(21))),  # in chunks, of no stated length
        ]
        for status, content in wrong:
            response = httpx.post(f"{address}/predict", content=content)
            assert response.status_code == status
            assert response.json()["detail"]
        rebound = httpx.get(f"{address}/metadata", headers={"Host": "evil.example"})
        assert rebound.status_code == 400


def test_the_server_listens_to_others_only_with_a_good_key(
    projects: dict[str, tuple[Path, Emitted]], tmp_path: Path
) -> None:
    folder = projects["linear"][0]
    (tmp_path / "short").write_text("short\n")
    (tmp_path / "two").write_text("two words of a long key\n")
    tries = [[], *(["--api-key-file", str(tmp_path / name)] for name in ("absent", "short", "two"))]
    for flags in tries:
        for host in ("0.0.0.0", "::", "example.org") if not flags else ("127.0.0.1",):
            done = run(folder, "serve.py", "--host", host, *flags, ok=False)
            assert done.returncode == 2 and done.stderr.count("\n") == 1, done.stderr
            assert "--api-key-file" in done.stderr


def test_the_container_holds_what_it_needs_and_its_server_asks_for_the_key(
    projects: dict[str, tuple[Path, Emitted]], tmp_path: Path
) -> None:
    folder = projects["dual-int8"][0]
    lines = (folder / "Dockerfile").read_text(encoding="utf-8").splitlines()
    steps = [line.split(maxsplit=1) for line in lines if line and not line.startswith(("#", " "))]
    image = tmp_path / "app"
    image.mkdir()
    for kind, rest in steps:
        if kind == "COPY":
            *sources, target = rest.split()
            for source in sources:
                docker_copy(folder, source, image / target)
        elif kind == "RUN" and "pip" in rest:
            assert (image / rest.split()[-1]).is_file()
    package = {f.relative_to(folder) for f in folder.glob("*model/**/*.py")}
    assert package and all((image / file).exists() for file in package)
    kinds = [kind for kind, _ in steps]
    assert kinds.index("USER") < kinds.index("CMD") and "HEALTHCHECK" in kinds
    assert dict(steps)["USER"] not in ("root", "0")
    command: list[str] = json.loads(dict(steps)["CMD"])
    assert command[0] == "python"
    refused = run(image, *command[1:], ok=False)  # there is no /run/secrets/api_key
    assert refused.returncode == 2 and "--api-key-file" in refused.stderr
    (tmp_path / "key").write_text(KEY + "\n")
    command[-1] = str(tmp_path / "key")
    with serving(image, *command[1:]) as address:
        body = {"texts": ["where is my parcel"]}
        for key in (None, "wrong", KEY + "x"):
            headers = {"Authorization": f"Bearer {key}"} if key else {}
            assert httpx.post(f"{address}/predict", json=body, headers=headers).status_code == 401
            assert httpx.get(f"{address}/metadata", headers=headers).status_code == 401
        assert httpx.get(f"{address}/docs").status_code == 404
        right = {"Authorization": f"Bearer {KEY}"}
        answer = httpx.post(f"{address}/predict", json=body, headers=right).json()
        assert len(answer["predictions"]) == 1


def docker_match(name: str, pattern: str) -> bool:
    """As Docker does: a star stands for part of one folder's name, never for a slash."""
    parts, wanted = name.split("/"), pattern.split("/")
    return len(parts) == len(wanted) and all(map(fnmatch.fnmatch, parts, wanted))


def docker_copy(folder: Path, source: str, target: Path) -> None:
    """COPY of one source, of what .dockerignore lets through."""
    lines = (folder / ".dockerignore").read_text(encoding="utf-8").splitlines()
    allowed = [line[1:] for line in lines if line.startswith("!")]
    path = folder / source
    assert path.exists(), source
    for file in path.rglob("*") if path.is_dir() else [path]:
        name = file.relative_to(folder).as_posix()
        if any(docker_match(name, pattern) for pattern in allowed):
            to = target / file.relative_to(path if path.is_dir() else folder)
            to.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(file, to)
