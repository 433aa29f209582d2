"""Health: named checks behind /livez, /readyz and /healthz, printed as upstream prints them. Knows no check."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

Check = Callable[[], str | None]


@dataclass(slots=True)
class Health:
    """Checks by name; each says None when all is well, else why not. `live` names those that a restart could mend."""

    checks: dict[str, Check] = field(default_factory=dict)
    live: set[str] = field(default_factory=set)

    def add(self, name: str, check: Check, *, live: bool = False) -> None:
        """Add a check to readiness, with `live` also to liveness."""
        self.checks[name] = check
        if live:
            self.live.add(name)

    def judge(self, kind: str, *, excluded: Iterable[str]) -> dict[str, str | None]:
        """Every check of `kind` (livez, readyz, healthz) with its verdict."""
        skipped = set(excluded)
        names = [name for name in self.checks if kind != "livez" or name in self.live]
        return {name: self.checks[name]() for name in names if name not in skipped}


def report(kind: str, verdicts: Mapping[str, str | None], *, verbose: bool) -> tuple[int, str]:
    """Code and text of a health reply."""
    failed = [name for name, reason in verdicts.items() if reason is not None]
    if not failed and not verbose:
        return 200, "ok"
    lines = [f"[+]{name} ok" if reason is None else f"[-]{name} failed: {reason}" for name, reason in verdicts.items()]
    lines.append(f"{kind} check {'failed' if failed else 'passed'}")
    return (500 if failed else 200), "\n".join(lines) + "\n"
