"""Who makes a request, as the API server sees it. A value; it knows nothing of how it was proven."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

NO_EXTRA: Mapping[str, tuple[str, ...]] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class User:
    """A Kubernetes user: name, groups, uid and the authenticator's extra values."""

    name: str
    groups: tuple[str, ...] = ()
    uid: str = ""
    extra: Mapping[str, tuple[str, ...]] = field(default_factory=lambda: NO_EXTRA)
