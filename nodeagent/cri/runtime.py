"""The container runtime as the agent uses it: a small Protocol in groups, one real class (client.py), one fake.

Every call raises `nodeagent.errors.RuntimeFault` and nothing else. Stopping or removing what is not there succeeds.
"""

from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Protocol

from nodeagent.cri import records
from nodeagent.cri.v1 import cri_pb2 as cri


class Sandboxes(Protocol):
    """Pod sandboxes."""

    async def run(self, config: cri.PodSandboxConfig, *, handler: str = "") -> str:
        """Creates and starts a sandbox, network included; returns its id."""
        ...

    async def stop(self, sandbox_id: str) -> None:
        """Kills what runs in it and releases its network."""
        ...

    async def remove(self, sandbox_id: str) -> None:
        """Removes a sandbox and every container in it."""
        ...

    async def status(self, sandbox_id: str) -> records.Sandbox:
        """One sandbox with its addresses."""
        ...

    async def list(self, *, labels: Mapping[str, str] | None = None) -> list[records.Sandbox]:
        """All sandboxes that carry these labels, without addresses."""
        ...


class Containers(Protocol):
    """Containers in sandboxes."""

    async def create(self, sandbox_id: str, config: cri.ContainerConfig, *, sandbox: cri.PodSandboxConfig) -> str:
        """Creates a container, not running yet; returns its id."""
        ...

    async def start(self, container_id: str) -> None:
        """Starts a created container."""
        ...

    async def stop(self, container_id: str, *, grace: int) -> None:
        """SIGTERM, then SIGKILL after `grace` seconds; returns when it is dead."""
        ...

    async def remove(self, container_id: str) -> None:
        """Removes a container, killing it if it runs."""
        ...

    async def status(self, container_id: str) -> records.Container:
        """One container with times, exit code and reason."""
        ...

    async def list(self, *, labels: Mapping[str, str] | None = None) -> list[records.Container]:
        """All containers that carry these labels, without times and exit codes."""
        ...

    async def update(self, container_id: str, resources: cri.LinuxContainerResources) -> None:
        """Changes the limits of a running container."""
        ...

    async def reopen_log(self, container_id: str) -> None:
        """Tells the runtime that the log file was rotated away."""
        ...


class Execs(Protocol):
    """Running commands and opening streams. The URLs are the runtime's own streaming server."""

    async def run(self, container_id: str, command: Sequence[str], *, timeout: float) -> records.ExecResult:
        """Runs a command to its end. `timeout` in seconds, 0 for none; over it `RuntimeFault`."""
        ...

    async def exec_url(
        self, container_id: str, command: Sequence[str], *, tty: bool, stdin: bool, stdout: bool, stderr: bool
    ) -> str:
        """Where to stream a command."""
        ...

    async def attach_url(self, container_id: str, *, tty: bool, stdin: bool, stdout: bool, stderr: bool) -> str:
        """Where to stream the main process."""
        ...

    async def port_forward_url(self, sandbox_id: str, ports: Sequence[int]) -> str:
        """Where to stream connections into the sandbox."""
        ...


class Images(Protocol):
    """The runtime's image store."""

    async def list(self) -> list[records.Image]:
        """Every image."""
        ...

    async def status(self, image: str) -> records.Image | None:
        """The image this name or id stands for, None if absent."""
        ...

    async def pull(
        self, image: str, *, auth: cri.AuthConfig | None = None, sandbox: cri.PodSandboxConfig | None = None
    ) -> str:
        """Pulls; returns the image reference to create containers with."""
        ...

    async def remove(self, image: str) -> None:
        """Removes an image."""
        ...

    async def usage(self) -> Mapping[str, int]:
        """Bytes used by images, by mount point of their file system."""
        ...


class Runtime(Protocol):
    """One container runtime."""

    @property
    def sandboxes(self) -> Sandboxes:
        """Pod sandboxes."""
        ...

    @property
    def containers(self) -> Containers:
        """Containers."""
        ...

    @property
    def execs(self) -> Execs:
        """Commands and streams."""
        ...

    @property
    def images(self) -> Images:
        """Images."""
        ...

    async def info(self) -> records.RuntimeInfo:
        """Version, readiness, cgroup driver."""
        ...

    def events(self) -> AsyncIterator[records.RuntimeEvent]:
        """Changes as they happen; raises `RuntimeUnimplemented` where the runtime has none. Events may be lost."""
        ...

    async def close(self) -> None:
        """Closes the connection."""
        ...
