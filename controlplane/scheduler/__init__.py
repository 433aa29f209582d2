"""The scheduler: gives every pod without a node one, or says why not.

In: nodes and pods. Out: bindings, the PodScheduled condition, events. resources, snapshot, affinity, filter, score and
decide are pure; queue says who is next; component runs it. Must not know any other controller.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from kube.runtime.component import Component, Deps


def build(deps: Deps, *, scheduler_name: str = "default-scheduler") -> Component:
    """The scheduler for pods whose spec.schedulerName is scheduler_name."""
    from controlplane.scheduler.component import Scheduler

    return Scheduler(deps, scheduler_name=scheduler_name)
