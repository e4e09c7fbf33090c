"""The main job, run for real on the example that ships: each test is named after what it claims."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

import mendel
from mendel.clocks.design.clock import DesignClock
from mendel.clocks.design.run import Run
from mendel.data.vault import TRIAL, Sealed, Vault, same_label
from mendel.emit.runtime import load_model
from mendel.ledger import Ledger, View
from mendel.rows import replay
from mendel.types import Kind, SealedError, Trial

ROOT = Path(__file__).parents[1]
EXAMPLE = ROOT / "examples" / "support_desk" / "messages.jsonl"
TASK = "Route support-desk messages"


@pytest.fixture(scope="session")
def designed(tmp_path_factory: pytest.TempPathFactory) -> tuple[mendel.Design, Path]:
    """One run that many tests look at: (design, home)."""
    folder = tmp_path_factory.mktemp("designed")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MENDEL_HOME", str(folder / "home"))
        found = mendel.design(TASK, data=EXAMPLE, out=folder / "model", budget_s=40)
    return found, folder / "home"


@pytest.fixture
def clock(designed: tuple[mendel.Design, Path]) -> DesignClock:
    ledger = Ledger(folder=designed[1])
    [folder] = (designed[1] / "runs").iterdir()
    return DesignClock(Run.load(folder), ledger, time.time() + 60)


def command(*flags: str, data: Path = EXAMPLE, budget: str = "30s") -> list[str]:
    start = [sys.executable, "-m", "mendel", "design", TASK, "--data", str(data)]
    return [*start, "--budget", budget, "--yes", *flags]


def run(*flags: str, data: Path = EXAMPLE, budget: str = "30s") -> subprocess.CompletedProcess[str]:
    argv = command(*flags, data=data, budget=budget)
    return subprocess.run(argv, capture_output=True, text=True, timeout=200)


def wait_for_a_model(home: Path) -> None:
    """Until some rung has told a round whose model could ship."""
    for _ in range(600):
        if (home / "ledger.db").exists():
            ledger = Ledger(folder=home)
            models = [t for t in ledger.turns() if "model" in t.result.artifacts]
            ledger.close()
            if models:
                return
        time.sleep(0.1)
    raise AssertionError("no model after 60 s")


def test_a_sentence_and_a_file_become_a_model_that_answers(
    designed: tuple[mendel.Design, Path],
) -> None:
    design, _ = designed
    answers = design.predict(["where is my refund", "how do I reset my password??"])
    assert len(answers) == 2
    assert all(0 <= answer.probability <= 1 for answer in answers)
    sealed = design.report["sealed"]
    beside = {row["name"]: row["score"] for row in design.report["baselines"]}
    assert sealed["accuracy"] > 2 * beside["majority"] and sealed["n"] >= 50
    assert sealed["low"] < sealed["accuracy"] < sealed["high"]


def test_a_report_on_written_rows_says_so(designed: tuple[mendel.Design, Path]) -> None:
    text = (designed[0].folder / "report.md").read_text()
    assert "UNVERIFIED" in text and "written for this example" in text


def test_the_run_stays_inside_its_budget(designed: tuple[mendel.Design, Path]) -> None:
    spent = designed[0].report["time"]
    assert spent["spent_s"] <= 1.5 * spent["budget_s"]  # noisy machines; benchmarks hold the bar


def test_the_emitted_project_passes_its_own_tests(designed: tuple[mendel.Design, Path]) -> None:
    argv = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "tests"]
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    done = subprocess.run(argv, cwd=designed[0].folder, env=environment, capture_output=True)
    assert done.returncode == 0, done.stdout.decode()


def test_a_saved_design_answers_the_same(
    designed: tuple[mendel.Design, Path], tmp_path: Path
) -> None:
    copy = load_model(designed[0].save(tmp_path / "copy"))
    texts = ["my kettle is broken", "invoice please"]
    mine = designed[0].predict(texts)
    assert [a.probability for a in copy.predict(texts)] == [a.probability for a in mine]


def test_predicting_needs_neither_torch_nor_what_designing_needs(
    designed: tuple[mendel.Design, Path],
) -> None:
    absent = ["torch", "sklearn", "onnx", "datasketch", "safetensors", "jinja2", "matplotlib"]
    code = (
        f"import sys; sys.modules.update(dict.fromkeys({absent!r}))\n"
        f"sys.argv = ['mendel', 'predict', {str(designed[0].folder)!r}, 'where is my refund']\n"
        "from mendel.cli import main; main()"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["top"]


def test_a_stranger_s_project_is_read_as_data_and_its_code_is_not_run(
    designed: tuple[mendel.Design, Path], tmp_path: Path
) -> None:
    folder = designed[0].save(tmp_path / "stranger")
    for code in (folder / "predict.py", folder / "textmodel" / "features.py"):
        code.write_text(f"open({str(tmp_path / 'ran')!r}, 'w')")
    assert load_model(folder).predict(["hello"])
    assert not (tmp_path / "ran").exists()


def test_live_is_the_champion_is_the_replay(clock: DesignClock) -> None:
    champion = clock.ledger.champion(clock.line)
    assert champion is not None and champion.candidate.state["model"] is not None
    assert clock.champion().identity == champion.identity
    assert replay(clock.ledger.turns())[clock.line] == champion


def test_any_turn_can_be_replayed_to_the_same_scores(clock: DesignClock) -> None:
    champion = clock.ledger.champion(clock.line)
    assert champion is not None
    for told in clock.history.turns()[:8]:
        before = [t.result for t in clock.history.turns() if t.trial == told.trial][: told.round]
        trial = Trial("again", clock.line, told.candidate, champion, tuple(before))
        again = clock.trial(trial)
        assert again.scores == told.result.scores
        assert again.artifacts["kept"] == told.result.artifacts["kept"]


def test_no_sealed_row_is_among_the_rows_that_trials_see(clock: DesignClock) -> None:
    sealed = json.loads(next((clock.ledger.folder / "vault").iterdir()).read_text())
    assert len(sealed["texts"]) == clock.run.spec.n_sealed >= 50
    assert not set(sealed["texts"]) & set(clock.rows.texts)
    everything = "".join(p.read_text() for p in clock.run.folder.glob("*.json*"))
    assert not any(json.dumps(text) in everything for text in sealed["texts"] if len(text) > 30)


def test_a_trial_cannot_open_the_vault(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(TRIAL, "1")
    with pytest.raises(SealedError, match="Wanted the judge"):
        Vault(ledger)


def test_a_proposer_s_view_shows_no_sealed_score(clock: DesignClock) -> None:
    opened = clock.ledger.turns(clock.line, kinds=[Kind.OPENING])
    assert opened and opened[0].sealed is not None
    seen = View(clock.ledger, clock.line).turns()
    assert all(turn.sealed is None and turn.kind is Kind.TRIAL for turn in seen)


def test_each_opening_is_a_turn_and_is_counted(ledger: Ledger, clock: DesignClock) -> None:
    vault = Vault(ledger)
    sealed = vault.seal(["a", "b\nc"], ["x", "y"])
    answer = 'import sys; [print(\'{"label": "x"}\') for line in sys.stdin]'
    candidate = clock.champion().candidate
    for n in (1, 2):
        opening = vault.open(
            sealed, {"it": [sys.executable, "-c", answer]}, line=clock.line, candidate=candidate
        )
        assert opening.n_openings == n and opening.scores("it", same_label) == [1, 0]
    assert len(ledger.turns(kinds=[Kind.OPENING])) == 2
    with pytest.raises(SealedError, match="failed"):
        vault.open(sealed, {"it": ["false"]}, line=clock.line, candidate=candidate)
    assert vault.n_openings(Sealed(sealed.digest, 2)) == 3  # the failed one counts


def test_the_process_that_answers_sealed_texts_sees_no_label_and_no_home(
    ledger: Ledger, clock: DesignClock
) -> None:
    spy = (
        "import json, os, sys\n"
        "for line in sys.stdin:\n"
        "    print(json.dumps({'label': None, 'read': line, 'env': sorted(os.environ)}))"
    )
    vault = Vault(ledger)
    opening = vault.open(
        vault.seal(["where is it"], ["secret_label"]),
        {"spy": [sys.executable, "-c", spy]},
        line=clock.line,
        candidate=clock.champion().candidate,
    )
    [saw] = opening.answers["spy"]
    assert saw["read"] == "where is it\n" and "MENDEL_HOME" not in saw["env"]
    assert "secret_label" not in json.dumps(saw)


def test_ctrl_c_ships_the_best_so_far(home: Path, tmp_path: Path) -> None:
    out = tmp_path / "model"
    child = subprocess.Popen(command("--out", str(out), budget="5m"), stderr=subprocess.PIPE)
    wait_for_a_model(home)
    child.send_signal(signal.SIGINT)
    _, errors = child.communicate(timeout=120)
    assert child.returncode == 0, errors.decode()
    report = json.loads((out / "report.json").read_text())
    assert report["shipped"]["interrupted"] and report["time"]["spent_s"] < 200
    assert load_model(out).predict(["hello"])[0].probability > 0


def test_a_killed_run_resumes_and_a_second_resume_does_nothing(home: Path, tmp_path: Path) -> None:
    out = tmp_path / "model"
    mine = tmp_path / ".model.part-mine" / "thesis.txt"
    mine.parent.mkdir()
    mine.write_text("years of work")
    child = subprocess.Popen(command("--out", str(out)), stderr=subprocess.DEVNULL)
    wait_for_a_model(home)
    child.kill()
    child.wait()
    assert not out.exists()
    before = len(Ledger().turns(kinds=[Kind.TRIAL]))
    done = run("--out", str(out), "--resume")
    assert done.returncode == 0, done.stderr
    assert "resuming" in done.stderr and (out / "model.onnx").exists()
    [folder] = (home / "runs").iterdir()  # the same run, not a second one
    turns = Ledger().turns(Run.load(folder).line, kinds=[Kind.TRIAL])
    assert len(turns) > before or before > 12
    assert len({(t.trial, t.round) for t in turns}) == len(turns)
    assert mine.read_text() == "years of work"
    assert [p.name for p in tmp_path.glob(".model.part-*")] == [".model.part-mine"]
    again = run("--out", str(out), "--resume")
    assert again.returncode == 0 and "finished before" in again.stderr


def test_there_is_nothing_to_resume_where_nothing_ran(home: Path, tmp_path: Path) -> None:
    done = run("--out", str(tmp_path / "model"), "--resume")
    assert done.returncode == 2 and "Leave out --resume" in done.stderr


def test_ctrl_c_while_it_finishes_does_not_lose_the_model(home: Path, tmp_path: Path) -> None:
    out = tmp_path / "model"
    child = subprocess.Popen(
        command("--out", str(out), budget="20s"), stderr=subprocess.PIPE, text=True
    )
    assert child.stderr is not None
    for line in child.stderr:
        if "packing" in line:
            child.send_signal(signal.SIGINT)
            break
    _, errors = child.communicate(timeout=120)
    assert child.returncode == 0, errors
    assert (out / "model.onnx").exists()


def test_two_runs_on_one_ledger_both_proceed(home: Path, tmp_path: Path) -> None:
    children = [
        subprocess.Popen(
            command("--out", str(tmp_path / name), budget="40s"), stderr=subprocess.PIPE
        )
        for name in ("one", "two")
    ]
    for child in children:
        _, errors = child.communicate(timeout=200)
        assert child.returncode == 0, errors.decode()
    lines = {line.run for line, _ in Ledger().champions()}
    assert len(lines) == 2
    opened = [
        json.loads((tmp_path / n / "report.json").read_text())["sealed"]["opened"]
        for n in ("one", "two")
    ]
    assert sorted(opened) == [1, 2]  # one task, one sealed set: the second report says twice


def test_when_no_model_meets_a_limit_the_report_says_which_and_nothing_ships(
    home: Path, tmp_path: Path
) -> None:
    out = tmp_path / "model"
    argv = [a for a in command("--out", str(out), "--max-latency", "0.031ms") if a != "--yes"]
    done = subprocess.run(
        argv, capture_output=True, text=True, timeout=200, stdin=subprocess.DEVNULL
    )
    assert done.returncode == 0, done.stderr
    assert "--max-latency" in done.stdout and "missed by" in done.stdout
    assert sorted(p.name for p in out.iterdir()) == ["report.html", "report.json", "report.md"]


def test_the_nearest_ships_when_the_user_said_yes(home: Path, tmp_path: Path) -> None:
    done = run("--out", str(tmp_path / "model"), "--max-latency", "0.031ms")
    assert done.returncode == 0, done.stderr
    assert "missed by" in done.stdout and (tmp_path / "model" / "model.onnx").exists()


def test_soft_faults_are_counted_and_strict_makes_them_hard(home: Path, tmp_path: Path) -> None:
    good = [json.loads(line) for line in EXAMPLE.read_text().splitlines()][:250]
    rows = [
        f'"{row["text"].replace(chr(34), "").replace(chr(10), " ")}",{row["label"]}' for row in good
    ]
    rows += ["one field", "a,b,c", ",order_status", '"only one of its kind",lonely']
    rows += [
        '"a\x07bell",order_status',
        f'"{"long " * 200_000}",order_status',
        '"caf\xe9",order_status',
    ]
    data = tmp_path / "faulty.csv"
    data.write_bytes(("text,label\n" + "\n".join(rows) + "\n").encode("latin-1", "replace"))
    done = run("--out", str(tmp_path / "model"), data=data)
    assert done.returncode == 0, done.stderr
    faults = json.loads((tmp_path / "model" / "report.json").read_text())["data"]["faults"]
    kinds = {fault["kind"] for fault in faults}
    assert {"ragged-row", "empty", "single-row-class", "control-character", "long-text"} <= kinds
    assert "encoding" in kinds
    strict = run("--out", str(tmp_path / "strict"), "--strict", data=data)
    assert strict.returncode == 2 and "ragged" in strict.stderr
    assert not (tmp_path / "strict").exists()


@pytest.mark.parametrize("full", ["home", "out"])
def test_a_full_disk_stops_with_one_message_and_leaves_nothing(
    home: Path, tmp_path: Path, full: str
) -> None:
    """On a real file system of 200 kB, less than any run needs, in a namespace of our own."""
    if shutil.which("unshare") is None:
        pytest.skip("needs unshare, of util-linux")
    small = tmp_path / "small"
    small.mkdir()
    out = small / "model" if full == "out" else tmp_path / "model"
    place = f"MENDEL_HOME={small}/home" if full == "home" else f"MENDEL_HOME={home}"
    job = " ".join(f"'{a}'" for a in command("--out", str(out)))
    look = f"ls -A {small} | grep -v home; ls -A {tmp_path} | grep model"
    script = (
        f"mount -t tmpfs -o size=200k none {small} || exit 77; {place} {job}; echo exit=$?; {look}"
    )
    done = subprocess.run(
        ["unshare", "-rm", "sh", "-c", script], capture_output=True, text=True, timeout=200
    )
    if done.returncode == 77 or "exit=" not in done.stdout:
        pytest.skip(f"no mount namespace here: {done.stderr[-200:]}")
    assert "exit=2" in done.stdout, done.stderr
    assert "disk is full" in done.stderr and "Traceback" not in done.stderr
    assert done.stdout.split("exit=2")[1].split() == [], "something was left behind"


def test_out_of_fold_rows_are_each_seen_once(clock: DesignClock) -> None:
    from mendel.clocks.design import ladder

    complete = [
        s
        for s in ladder.standings(clock.history.turns())
        if len(s.turns) == clock.run.spec.train.n_folds
    ]
    rows, logits = clock.out_of_fold(complete[0], "float32")
    assert rows.texts == clock.rows.texts and rows.targets == clock.rows.targets
    assert logits.shape == (len(rows.texts), len(clock.rows.names) + 2)  # no label; what is new
    logits = logits[:, :-2]
    pairs = zip(logits.argmax(1), rows.targets, strict=True)
    right = float(np.mean([rows.names[i] == target for i, target in pairs]))
    scores = [turn.result.scores[0] for turn in complete[0].turns]
    assert right == pytest.approx(np.average(scores, weights=np.bincount(clock.rows.folds)))
