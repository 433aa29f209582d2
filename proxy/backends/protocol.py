"""What every backend offers. Must not know Services beyond the RuleSet."""

from typing import Protocol

from proxy.backends.held import Held
from proxy.rules.plan import Changes, RuleSet


class BackendError(Exception):
    """The kernel or its tool refused the rules; nothing of that write took effect. Next comes a full write."""


class Backend(Protocol):
    """Rules in the kernel. Every write is one transaction: all of it or nothing."""

    async def replace(self, rules: RuleSet) -> None:
        """Makes the kernel hold exactly these rules, whatever it held."""
        ...

    async def change(self, changes: Changes) -> None:
        """Applies a difference to what the last write left."""
        ...

    async def present(self) -> bool:
        """Whether our rules are still there (somebody may have flushed everything)."""
        ...

    async def damaged(self) -> str:
        """Returns what was done once somebody else removed or changed our rules. BackendError where that is unseen."""
        ...

    async def held(self) -> Held:
        """What the kernel holds now, with counters; for people and comparisons."""
        ...

    async def cleanup(self) -> None:
        """Removes all that is ours and nothing else."""
        ...
