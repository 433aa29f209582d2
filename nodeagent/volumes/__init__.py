"""Volumes of pods: what is mounted, what is written into it, and how it is kept current.

In: pods, ConfigMaps, Secrets, tokens. Out: paths on the node and mounts for containers.
Must not know the runtime; `Volumes` is what the rest of the agent uses.
"""

from nodeagent.volumes.model import Mount, VolumeError
from nodeagent.volumes.mounts import Volumes

__all__ = ["Mount", "VolumeError", "Volumes"]
