"""CRI messages to the frozen values of `records`, and nothing else. PURE."""

from typing import Final

from nodeagent.cri import labels, records
from nodeagent.cri.v1 import cri_pb2 as cri

STATES: Final[dict[int, records.State]] = {
    cri.CONTAINER_CREATED: "created",
    cri.CONTAINER_RUNNING: "running",
    cri.CONTAINER_EXITED: "exited",
    cri.CONTAINER_UNKNOWN: "unknown",
}


def listed_sandbox(item: cri.PodSandbox) -> records.Sandbox:
    """A sandbox of a listing, which has no addresses."""
    return records.Sandbox(
        id=item.id,
        uid=item.metadata.uid,
        namespace=item.metadata.namespace,
        name=item.metadata.name,
        attempt=item.metadata.attempt,
        ready=item.state == cri.SANDBOX_READY,
        created_at=item.created_at,
        labels=dict(item.labels),
        annotations=dict(item.annotations),
    )


def sandbox(status: cri.PodSandboxStatus) -> records.Sandbox:
    """A sandbox with addresses, first the primary one."""
    ips = (status.network.ip, *(extra.ip for extra in status.network.additional_ips))
    return records.Sandbox(
        id=status.id,
        uid=status.metadata.uid,
        namespace=status.metadata.namespace,
        name=status.metadata.name,
        attempt=status.metadata.attempt,
        ready=status.state == cri.SANDBOX_READY,
        created_at=status.created_at,
        ips=tuple(ip for ip in ips if ip),
        host_network=status.linux.namespaces.options.network == cri.NODE,
        labels=dict(status.labels),
        annotations=dict(status.annotations),
    )


def listed_container(item: cri.Container) -> records.Container:
    """A container of a listing, which has no times but the creation."""
    return records.Container(
        id=item.id,
        sandbox_id=item.pod_sandbox_id,
        name=item.metadata.name,
        attempt=item.metadata.attempt,
        state=STATES.get(item.state, "unknown"),
        created_at=item.created_at,
        image=item.image.image,
        image_ref=item.image_ref,
        image_id=item.image_id,
        labels=dict(item.labels),
        annotations=dict(item.annotations),
    )


def container(status: cri.ContainerStatus) -> records.Container:
    """A container with everything its status says. The sandbox id is not part of it."""
    return records.Container(
        id=status.id,
        name=status.metadata.name or status.labels.get(labels.CONTAINER_NAME, ""),
        attempt=status.metadata.attempt,
        state=STATES.get(status.state, "unknown"),
        created_at=status.created_at,
        started_at=status.started_at,
        finished_at=status.finished_at,
        exit_code=status.exit_code,
        reason=status.reason,
        message=status.message,
        image=status.image.image,
        image_ref=status.image_ref,
        image_id=status.image_id,
        log_path=status.log_path,
        labels=dict(status.labels),
        annotations=dict(status.annotations),
    )


def image(item: cri.Image) -> records.Image:
    """An image; `uid` is None where the image names a user or none."""
    return records.Image(
        id=item.id,
        tags=tuple(item.repo_tags),
        digests=tuple(item.repo_digests),
        size=item.size,
        uid=item.uid.value if item.HasField("uid") else None,
        username=item.username,
        pinned=item.pinned,
    )


def info(
    version: cri.VersionResponse, status: cri.StatusResponse, config: cri.RuntimeConfigResponse | None
) -> records.RuntimeInfo:
    """Version, conditions and driver in one value."""
    conditions = {c.type: c for c in status.status.conditions}
    ready, network = conditions.get("RuntimeReady"), conditions.get("NetworkReady")
    driver = None if config is None else ("systemd" if config.linux.cgroup_driver == cri.SYSTEMD else "cgroupfs")
    return records.RuntimeInfo(
        name=version.runtime_name,
        version=version.runtime_version,
        ready=bool(ready and ready.status),
        ready_message=said(ready),
        network_ready=bool(network and network.status),
        network_message=said(network),
        cgroup_driver=driver,  # type: ignore[arg-type]
        handlers=tuple(
            records.Handler(
                name=each.name,
                user_namespaces=each.features.user_namespaces,
                recursive_read_only=each.features.recursive_read_only_mounts,
            )
            for each in status.runtime_handlers
        ),
        groups_policy=status.features.supplemental_groups_policy,
    )


def said(condition: cri.RuntimeCondition | None) -> str:
    """What a failing condition says, in the words upstream's Ready condition uses."""
    if condition is None:
        return "the runtime does not report this condition"
    return "" if condition.status else f"{condition.reason}: {condition.message}"
