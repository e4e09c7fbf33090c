"""Whether seeds train one by one or in one batched run: what is faster here, measured once."""

from __future__ import annotations

import json
import os
import platform
import statistics
import time
from pathlib import Path

import torch

from mendel.blobs import write_atomically
from mendel.ledger import home
from mendel.parts.part import resolve
from mendel.spec import ModelSpec, TrainSpec
from mendel.train.group import Group, MemoryShort, Source, pick_device
from mendel.types import digest

N_TIMED = 5  # steps of each way; the first one warms up and does not count


def make_groups(
    spec: ModelSpec,
    how: TrainSpec,
    seeds: tuple[int, ...],
    source: Source,
    together: bool | None = None,
) -> list[Group]:
    """The seeds of a run, together or apart; None = what is faster here."""
    device = pick_device()
    if together is None:
        together = len(seeds) > 1 and batched_is_faster(spec, how, len(seeds), source, device)
    if together:
        return [Group(spec, how, seeds, device)]
    return [Group(spec, how, (seed,), device) for seed in seeds]


def batched_is_faster(
    spec: ModelSpec, how: TrainSpec, n_seeds: int, source: Source, device: torch.device
) -> bool:
    """Time a few steps of both ways; what was found is kept in MENDEL_HOME for this machine."""
    known, key = _read(), _key(spec, how, n_seeds, device)
    if key not in known:
        seeds = tuple(range(n_seeds))
        ways = {
            "together": [Group(spec, how, seeds, device)],
            "apart": [Group(spec, how, (seed,), device) for seed in seeds],
        }
        try:
            known[key] = time_ways(ways, source)
        except MemoryShort:
            return False  # together they need the most
        _write(known)
    return known[key]["together"] < known[key]["apart"]


def time_ways(ways: dict[str, list[Group]], source: Source) -> dict[str, float]:
    """Median seconds of a step of all seeds; the ways take turns and share the noise."""
    times: dict[str, list[float]] = {way: [] for way in ways}
    for step in range(N_TIMED + 1):
        for way, groups in ways.items():
            began = time.perf_counter()
            for group in groups:
                group.step(source, step, 1.0)
            times[way].append(time.perf_counter() - began)
    return {way: statistics.median(found[1:]) for way, found in times.items()}


def _key(spec: ModelSpec, how: TrainSpec, n_seeds: int, device: torch.device) -> str:
    """By what decides the time, so that most candidates of a search share a measurement."""
    is_gpu = device.type == "cuda"
    here = [
        torch.cuda.get_device_name(device) if is_gpu else platform.processor(),
        os.cpu_count(), torch.get_num_threads(), torch.__version__, device.type,
    ]  # fmt: skip
    mixers = sorted({resolve("mixer", mixer)[0].name for mixer in spec.mixers})
    shape = [spec.width, spec.n_layers, spec.context, mixers]
    return digest([*shape, how.batch, how.optimizer, how.dtype, n_seeds, *here])[:16]


def _file() -> Path:
    return home() / "machine.json"


def _read() -> dict[str, dict[str, float]]:
    try:
        found: dict[str, dict[str, float]] = json.loads(_file().read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}  # nothing measured yet, or a file that is to be written anew
    return found


def _write(known: dict[str, dict[str, float]]) -> None:
    try:
        _file().parent.mkdir(parents=True, exist_ok=True)
        write_atomically(_file(), json.dumps(known, indent=2).encode())
    except OSError:
        pass  # it will be measured again
