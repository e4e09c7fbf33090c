"""Rows with the answers of trained networks for labels: what many know, for one to learn."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from scipy.special import expit, softmax

from .export import training_logits
from .features import Floats
from .fit import Examples, Trained


def answered_by(data: Examples, teachers: Trained) -> Examples:
    """The same rows; targets are the shares, probabilities or numbers that the teachers say.

    Their logits are averaged first, as where all of them ship.
    source   Hinton 2015; Furlanello 2018 (students of the same shape as their teachers)
    """
    logits = training_logits(teachers, data.texts)
    return replace(data, targets=logits if data.kind == "regress" else _shares(data.kind, logits))


def _shares(kind: str, logits: Floats) -> Floats:
    shares = softmax(logits, axis=1) if kind == "classify" else expit(logits)
    return np.asarray(shares, np.float32)
