"""Pods, containers and sandboxes for the kubelet's tests, in few words."""

from typing import Any

import msgspec

from kube import types
from nodeagent.cri import labels, records
from nodeagent.pods import observed, plan, spec

UID = "11111111-2222-3333-4444-555555555555"
NANO = 1_000_000_000
IMAGE = "nodeagent.local/busybox:1"


def container(name: str = "main", **fields: Any) -> dict[str, Any]:
    """A container of a spec, in API form."""
    return {"name": name, "image": IMAGE, **fields}


def pod(*containers: dict[str, Any], init: tuple[dict[str, Any], ...] = (), **spec: Any) -> types.Pod:
    """A pod called default/web. `status` and `metadata` may be given besides spec fields."""
    status, metadata = spec.pop("status", {}), spec.pop("metadata", {})
    obj = {
        "metadata": {"name": "web", "namespace": "default", "uid": UID, "generation": 1, **metadata},
        "spec": {"containers": list(containers) or [container()], "initContainers": list(init), **spec},
        "status": status,
    }
    return msgspec.convert(obj, types.Pod)


def sandbox(id: str = "box", *, attempt: int = 0, ready: bool = True, ip: str = "10.0.0.1") -> records.Sandbox:
    """A sandbox of that pod; the later the attempt the newer."""
    return records.Sandbox(
        id=id,
        uid=UID,
        namespace="default",
        name="web",
        attempt=attempt,
        ready=ready,
        created_at=NANO * (1 + attempt),
        ips=(ip,) if ready and ip else (),
        labels={labels.POD_UID: UID},
    )


def ran(name: str = "main", state: records.State = "running", **fields: Any) -> records.Container:
    """A container of that pod in sandbox `box`; `restarts` is its count, `code` its exit code, `ended` in seconds."""
    restarts, code = fields.pop("restarts", 0), fields.pop("code", 0)
    ended, image = fields.pop("ended", 100.0), fields.pop("image", IMAGE)
    made_from = spec.content_hash(types.Container(name=name, image=image))
    return records.Container(
        id=fields.pop("id", f"{name}-{restarts}"),
        name=name,
        state=state,
        sandbox_id=fields.pop("sandbox_id", "box"),
        attempt=restarts,
        created_at=(50 + restarts) * NANO,
        started_at=0 if state == "created" else (51 + restarts) * NANO,
        finished_at=int(ended * NANO) if state == "exited" else 0,
        exit_code=code,
        reason=fields.pop("reason", ""),
        image=image,
        image_ref="sha256:bb",
        annotations={labels.RESTART_COUNT: str(restarts), labels.HASH: made_from, **fields.pop("annotations", {})},
        **fields,
    )


def seen(*things: records.Sandbox | records.Container) -> observed.Observed:
    """What the runtime has of the pod."""
    return observed.of(
        UID,
        [t for t in things if isinstance(t, records.Sandbox)],
        [t for t in things if isinstance(t, records.Container)],
    )


def planned(of: types.Pod, *things: records.Sandbox | records.Container, **more: Any) -> plan.PodPlan:
    """The plan for the pod, at second 100 unless told otherwise."""
    return plan.plan(of, plan.Situation(seen=seen(*things), now=more.pop("now", 100.0), **more))


def starts(found: plan.PodPlan) -> list[tuple[str, int]]:
    """(container, restart count) of what the plan starts."""
    return [(start.name, start.restart_count) for start in found.start]
