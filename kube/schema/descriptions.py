"""Our own short descriptions of kinds and fields, for `kubectl explain`.

Loaded when a document is written, and not kept. Must not know the schemas.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Texts:
    """Descriptions by type name, then by field; the field "" describes the type, the type "*" any type."""

    by_type: Mapping[str, Mapping[str, str]]

    def kind(self, name: str) -> str:
        """The description of a type, or ""."""
        return self.by_type.get(name, {}).get("", "")

    def field(self, name: str, field: str) -> str:
        """The description of a type's field, or that of the field in any type, or ""."""
        return self.by_type.get(name, {}).get(field) or self.by_type.get("*", {}).get(field, "")


def load() -> Texts:
    """The descriptions of `descriptions.yaml`."""
    import yaml

    source = Path(__file__).with_name("descriptions.yaml")
    return Texts(yaml.load(source.read_bytes(), Loader=yaml.CSafeLoader))
