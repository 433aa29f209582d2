"""What the kernel holds, in the words of Services: where each frontend leads and how often it was taken. PURE.

Every backend reads its own rules back into this; who shows them to people needs no other.
"""

from collections.abc import Sequence
from typing import NamedTuple, Protocol

from proxy.rules.plan import Backend, Frontend, RuleSet

REFUSED, DROPPED = "refused", "dropped"


class Way(NamedTuple):
    """One way out of a frontend; `outside` when it is only for clients that are neither pods nor the node.

    `connections` is how many were led there; in iptables an endpoint has one counter for all frontends of its port.
    """

    frontend: Frontend
    backend: Backend
    connections: int = 0
    outside: bool = False


class Held(Protocol):
    """The rules of one network namespace at one moment."""

    @property
    def ways(self) -> Sequence[Way]:
        """All ways; those of a frontend in the order in which its endpoints are numbered."""
        ...

    def ends(self, frontend: Frontend) -> str:
        """REFUSED or DROPPED where a frontend has no way; "" where no rule is about it."""
        ...

    def difference(self, rules: RuleSet) -> list[str]:
        """What is missing (`+`) and what is too much (`-`), one line each; what is noted of clients is left out."""
        ...

    def command(self, frontend: Frontend) -> str:
        """What a person types to see the rule of a frontend."""
        ...
