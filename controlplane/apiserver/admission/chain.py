"""The order of admission: every plug-in may change the object, then every plug-in may refuse it.

Owns the shape of a plug-in and of what it is shown. Knows no plug-in.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from kube.client.identity import User
from kube.scheme import Resource

Object = dict[str, Any]


@dataclass(slots=True)
class Attributes:
    """One write on its way. What a plug-in reserves it gives back in `undo`; what it frees, it frees in `commit`."""

    operation: str  # CREATE, UPDATE or DELETE
    resource: Resource
    namespace: str
    name: str
    user: User
    obj: Object
    old: Object | None = None
    subresource: str = ""
    dry_run: bool = False
    on_undo: list[Callable[[], None]] = field(default_factory=list)
    on_commit: list[Callable[[], None]] = field(default_factory=list)

    def undo(self) -> None:
        """The write did not happen."""
        _run(self.on_undo)
        self.on_commit.clear()

    def commit(self) -> None:
        """The write is stored."""
        _run(self.on_commit)
        self.on_undo.clear()


class Plugin:
    """An admission plug-in; both steps do nothing unless overridden. They raise ApiError to refuse."""

    async def mutate(self, attributes: Attributes) -> None:
        """Change `attributes.obj` in place."""

    async def validate(self, attributes: Attributes) -> None:
        """Refuse what must not be stored."""


class Chain:
    """Plug-ins in order."""

    def __init__(self, plugins: Sequence[Plugin]) -> None:
        self._mutating = [plugin for plugin in plugins if type(plugin).mutate is not Plugin.mutate]
        self._validating = [plugin for plugin in plugins if type(plugin).validate is not Plugin.validate]

    async def mutate(self, attributes: Attributes) -> None:
        """Let every plug-in change the object."""
        for plugin in self._mutating:
            await plugin.mutate(attributes)

    async def validate(self, attributes: Attributes) -> None:
        """Let every plug-in refuse it."""
        for plugin in self._validating:
            await plugin.validate(attributes)


def _run(actions: list[Callable[[], None]]) -> None:
    while actions:
        actions.pop()()
