"""What a check says: fine, or a finding with what was seen, why it matters, and what mends it. PURE."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from nodeagent.doctor.facts import Facts

FAILURE: Final = "failure"
WARNING: Final = "warning"


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One thing that is wrong. `safe`: the fix can be run unasked, it breaks nothing and comes back by itself."""

    saw: str
    fix: str
    level: str = WARNING
    safe: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """One pitfall. `number`: its row in the operations contract, 0 for those below the table."""

    number: int
    name: str
    why: str
    judge: Callable[[Facts], Finding | None]


def exit_code(findings: Sequence[Finding]) -> int:
    """0 fine, 1 something failed, 3 only warnings."""
    if any(each.level == FAILURE for each in findings):
        return 1
    return 3 if findings else 0
