"""Older machines, by what numba may use: the same texts, drafted or plain, and how fast.

AVX-512 off and AVX2 off are other machines: a program's digest differs, and so may its last bits;
on each of them every plan must still equal the plain one.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from argparse import Namespace
from pathlib import Path
from typing import Any

from research_sections.rows import Row, Rows

from serve_sections import equal, ours
from serve_sections.train import unseen

NO_512 = "-avx512f,-avx512bw,-avx512cd,-avx512dq,-avx512vl,-avx512bf16,-avx512vnni,-avx512vbmi"
MACHINES: dict[str, dict[str, str]] = {
    "as it is": {},
    "AVX2": {"NUMBA_CPU_NAME": "haswell", "NUMBA_CPU_FEATURES": NO_512,
             "ATEN_CPU_CAPABILITY": "avx2"},
    "SSE alone": {"NUMBA_CPU_NAME": "generic", "ATEN_CPU_CAPABILITY": "default"},
}  # fmt: skip
N_PROMPTS, CHILD = 50, "MENDEL_BENCH_MACHINE"


def measure(options: Namespace) -> dict[str, Any]:
    """This process's own row where a parent asks for it, else a process for each machine."""
    if os.environ.get(CHILD):
        return one(options)
    asked = {"section": "machines", "model": str(options.model), "dtype": options.dtype,
             "n": options.requests or N_PROMPTS}  # fmt: skip
    rows, found = Rows(options.rows, asked), {}
    for name, env in MACHINES.items():
        found[name] = rows.get(name, lambda e=env: in_child(options, e))
        print(name, found[name], flush=True)
    return found


def in_child(options: Namespace, env: dict[str, str]) -> Row:
    """Compiled anew, in a folder of its own: what numba kept is of this machine."""
    with tempfile.TemporaryDirectory() as name:
        out = Path(name) / "out.json"
        given = {**os.environ, **env, CHILD: "1", "NUMBA_CACHE_DIR": name}
        command = [sys.executable, *sys.argv[:1], "machines", "--models", str(options.models),
                   "--model", str(options.model), "--dtype", options.dtype, "--shared",
                   str(options.shared), "--requests", str(options.requests or N_PROMPTS),
                   "--out", str(out)]  # fmt: skip
        subprocess.run(command, env=given, check=True)
        [row] = json.loads(out.read_text())["rows"].values()
        return dict(row)


def one(options: Namespace) -> Row:
    loaded = ours.load(options.model)
    ready = ours.program(loaded.model, options.dtype)
    maker, n = equal.Prompts(loaded, unseen(options.shared)), options.requests
    asked = [maker.request(i) for i in range(n)]
    menu = ours.plans(ready.n_layers, options.threads)
    with ours.engine(ready, menu, equal.Drawn(list(menu), 0)) as running:
        mixed = ours.ask(running, asked, n_at_once=equal.N_AT_ONCE)
    with ours.pinned(ready, ours.PLAIN, max_running=1) as running:
        plain = ours.ask(running, [ours.as_asked_before(done) for done in mixed])
    return {
        "prompts": n,
        "different": sum(a.ids != b.ids for a, b in zip(mixed, plain, strict=True)),
        "plain_ms": ours.percentile([done.step_ms for done in plain], 50),
        "program": type(ready).__name__,
        "digest": ready.digest[:12],
    }
