"""The input of status generation: everything known about a pod besides its spec, as one frozen value. PURE."""

import dataclasses
from collections.abc import Mapping

from kube import types
from nodeagent.pods import observed, plan


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Waiting:
    """Why a container does not run."""

    reason: str
    message: str = ""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """`final`: nothing of the pod runs or will run again. `end` with a reason: the pod failed for it.

    `messages` are termination messages by container id; `now` is RFC 3339; `start_time` when this agent first saw it.
    `granted` are the resources of containers by name, `in_force` those they run with by container id; `resizing` the
    conditions of a resize as (type, reason, message).
    """

    seen: observed.Observed
    now: str
    start_time: str = ""
    waiting: Mapping[str, Waiting] = dataclasses.field(default_factory=dict)
    results: plan.Results = dataclasses.field(default_factory=dict)
    messages: Mapping[str, str] = dataclasses.field(default_factory=dict)
    host_ips: tuple[str, ...] = ()
    end: plan.End | None = None
    final: bool = False
    granted: Mapping[str, types.ResourceRequirements] = dataclasses.field(default_factory=dict)
    in_force: Mapping[str, types.ResourceRequirements] = dataclasses.field(default_factory=dict)
    resizing: tuple[tuple[str, str, str], ...] = ()
