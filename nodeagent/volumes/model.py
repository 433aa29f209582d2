"""The values volumes are made of: errors, files to be written, mounts for a container.

Owns shapes only.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Literal

from nodeagent.errors import NodeagentError

Propagation = Literal["private", "host_to_container", "bidirectional"]


class VolumeError(NodeagentError):
    """A volume cannot be made ready. `reason` is the event's reason, `message` its text."""

    def __init__(self, message: str, *, reason: str = "FailedMount") -> None:
        super().__init__(message)
        self.reason = reason
        self.message = message


@dataclasses.dataclass(frozen=True, slots=True)
class Mount:
    """One mount of a container: a path of the node, or part of an image that the runtime mounts itself."""

    host_path: str
    container_path: str
    readonly: bool = False
    propagation: Propagation = "private"
    image: str = ""
    image_sub_path: str = ""


@dataclasses.dataclass(frozen=True, slots=True)
class File:
    """One file of a generated volume. `uid` None leaves it to root."""

    data: bytes
    mode: int = 0o644
    uid: int | None = None


Files = Mapping[str, File]
"""Files by their path in the volume."""


@dataclasses.dataclass(frozen=True, slots=True)
class Content:
    """What a ConfigMap or Secret holds, decoded."""

    data: Mapping[str, bytes]
    immutable: bool = False
