"""What the runtime has of one pod at one moment, and the questions the planner asks of it. PURE."""

import dataclasses
from collections.abc import Iterable

from nodeagent.cri import labels, records


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Observed:
    """A pod's sandboxes and containers, newest first."""

    uid: str
    sandboxes: tuple[records.Sandbox, ...] = ()
    containers: tuple[records.Container, ...] = ()

    @property
    def sandbox(self) -> records.Sandbox | None:
        """The newest sandbox, ready or not."""
        return self.sandboxes[0] if self.sandboxes else None

    @property
    def ips(self) -> tuple[str, ...]:
        """Addresses of the newest sandbox while it is ready."""
        return self.sandboxes[0].ips if self.sandboxes and self.sandboxes[0].ready else ()

    @property
    def running(self) -> tuple[records.Container, ...]:
        """Containers that run."""
        return tuple(c for c in self.containers if c.state == "running")

    def of(self, name: str) -> tuple[records.Container, ...]:
        """All containers of a name, newest first."""
        return tuple(c for c in self.containers if c.name == name)

    def latest(self, name: str) -> records.Container | None:
        """The newest container of a name, of whichever sandbox."""
        return next((c for c in self.containers if c.name == name), None)

    def current(self, name: str) -> records.Container | None:
        """The newest container of a name, if it belongs to the newest sandbox."""
        found = self.latest(name)
        sandbox = self.sandbox
        return found if found and sandbox and found.sandbox_id == sandbox.id else None


def of(uid: str, sandboxes: Iterable[records.Sandbox], containers: Iterable[records.Container]) -> Observed:
    """Sorts what was listed; attempt decides where two were made in the same nanosecond."""
    return Observed(
        uid=uid,
        sandboxes=tuple(sorted(sandboxes, key=lambda s: (s.created_at, s.attempt), reverse=True)),
        containers=tuple(sorted(containers, key=lambda c: (c.created_at, restart_count(c)), reverse=True)),
    )


def restart_count(container: records.Container) -> int:
    """How often this container had been restarted when it was made."""
    text = container.annotations.get(labels.RESTART_COUNT, "")
    return int(text) if text.isdigit() else container.attempt


def failed(container: records.Container) -> bool:
    """Whether it ended, and not well."""
    return container.state == "unknown" or (container.state == "exited" and container.exit_code != 0)


def succeeded(container: records.Container) -> bool:
    """Whether it ended well."""
    return container.state == "exited" and container.exit_code == 0
