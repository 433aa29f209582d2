"""What the runtime says, as frozen values: the only form in which the rest of the agent sees sandboxes and containers.

Times are Unix nanoseconds as CRI gives them, 0 where CRI has none.
"""

import dataclasses
from collections.abc import Mapping
from typing import Literal

State = Literal["created", "running", "exited", "unknown"]


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Sandbox:
    """One pod sandbox. `ips` is empty in a listing; a status call fills it."""

    id: str
    uid: str
    namespace: str
    name: str
    attempt: int = 0
    ready: bool = True
    created_at: int = 0
    ips: tuple[str, ...] = ()
    host_network: bool = False
    labels: Mapping[str, str] = dataclasses.field(default_factory=dict)
    annotations: Mapping[str, str] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Container:
    """One container, dead or alive. Fields below `created_at` are filled by a status call only."""

    id: str
    sandbox_id: str = ""
    name: str
    attempt: int = 0
    state: State = "created"
    created_at: int = 0
    started_at: int = 0
    finished_at: int = 0
    exit_code: int = 0
    reason: str = ""
    message: str = ""
    image: str = ""
    image_ref: str = ""
    image_id: str = ""
    log_path: str = ""
    labels: Mapping[str, str] = dataclasses.field(default_factory=dict)
    annotations: Mapping[str, str] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Image:
    """One image in the runtime's store; `size` in bytes."""

    id: str
    tags: tuple[str, ...] = ()
    digests: tuple[str, ...] = ()
    size: int = 0
    uid: int | None = None
    username: str = ""
    pinned: bool = False


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Handler:
    """One way the runtime runs pods, and what it can; "" is the default one."""

    name: str
    user_namespaces: bool = False
    recursive_read_only: bool = False


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class RuntimeInfo:
    """Who the runtime is and whether it and its network are ready. `cgroup_driver` None: it cannot say (before 2.0)."""

    name: str
    version: str
    ready: bool
    ready_message: str = ""
    network_ready: bool
    network_message: str = ""
    cgroup_driver: Literal["systemd", "cgroupfs"] | None = None
    handlers: tuple[Handler, ...] = ()
    groups_policy: bool = False


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class ExecResult:
    """What a finished command printed, and its exit code."""

    stdout: bytes = b""
    stderr: bytes = b""
    exit_code: int = 0


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class RuntimeEvent:
    """Something happened to a container or sandbox of this pod: look again."""

    pod_uid: str
    container_id: str
