"""All sound modules."""

from __future__ import annotations

from . import Case
from .sound_huggingface import HUGGINGFACE
from .sound_maps import MAPS
from .sound_parts import OURS
from .sound_review import REVIEW_SOUND
from .sound_torch import TORCH
from .sound_written import WRITTEN

SOUND: tuple[Case, ...] = (*OURS, *TORCH, *MAPS, *WRITTEN, *HUGGINGFACE, *REVIEW_SOUND)
