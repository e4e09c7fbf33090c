"""A recipe as a dictionary of what differs from its defaults, and back."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, ClassVar, Self


@dataclass(frozen=True)
class Fields:
    """What the recipes of all models have in common; the first field is the family."""

    of: ClassVar[str]  # "a tagger", for messages

    def to_dict(self) -> dict[str, Any]:
        """What differs from the defaults, and the family: short to read, and stable."""
        mine, default = asdict(self), asdict(type(self)())
        return {k: v for k, v in mine.items() if k == "family" or v != default[k]}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        """Raises ValueError that names the nearest field where one is unknown."""
        known = [field.name for field in fields(cls)]
        for key in data:
            if key not in known:
                near = difflib.get_close_matches(key, known, n=1)
                hint = f"Did you mean {near[0]!r}?" if near else f"Known: {', '.join(known)}."
                raise ValueError(f"{cls.of} has no field {key!r}. {hint}")
        return cls(**data)
