"""The logs of a lab's services: where they are, and their last lines. Only reads; works on labs that are up, down half
way, or dead.
"""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Log:
    """One service's log on one machine; `init` is the machine's own."""

    machine: str
    service: str
    path: Path

    def last(self, lines: int) -> list[str]:
        """Its last lines."""
        return self.path.read_text(errors="replace").splitlines()[-lines:] if lines > 0 else []


def files(directory: Path, *, machine: str | None = None, service: str | None = None) -> list[Log]:
    """The logs in a lab's directory, the server's first."""
    pattern = f"{machine or '*'}/data/var-log-nodeagent/{service or '*'}.log"
    found = [
        Log(machine=path.parents[2].name, service=path.stem, path=path)
        for path in (directory / "machines").glob(pattern)
    ]
    return sorted(found, key=lambda log: (log.machine != "server", len(log.machine), log.machine, log.service))
