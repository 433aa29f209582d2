"""A pod's own files on the node: hosts file, termination messages, log folders and links, and their removal.

Blocking file work, to be called in a thread; everything may run twice. Volumes are not its concern.
"""

import contextlib
import os
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from kube import types
from nodeagent.cri import labels, records
from nodeagent.pods import container as configs
from nodeagent.pods import observed, spec

MESSAGE_BYTES: Final = 4096
LOG_BYTES: Final = 2048
LOG_LINES: Final = 80
ALL_MESSAGES_BYTES: Final = 12 * 1024
LINK_NAME: Final = 255


class PodFiles:
    """Files below the kubelet's root and the log folders."""

    def __init__(self, root: Path, *, pod_logs: Path, container_logs: Path) -> None:
        self._root = root
        self._pod_logs = pod_logs
        self._container_logs = container_logs

    def pod(self, uid: str) -> Path:
        """The folder of a pod."""
        return self._root / "pods" / uid

    def log_directory(self, namespace: str, name: str, uid: str) -> Path:
        """Where the runtime writes the pod's logs."""
        return self._pod_logs / f"{namespace}_{name}_{uid}"

    def logs_of(self, pod: types.Pod) -> Path:
        """The same, for a pod."""
        return self.log_directory(pod.metadata.namespace, pod.metadata.name, pod.metadata.uid)

    def hosts(self, uid: str) -> Path:
        """The managed hosts file."""
        return self.pod(uid) / "etc-hosts"

    def message(self, uid: str, container: str, restart_count: int) -> Path:
        """Where a container's termination message arrives."""
        return self.pod(uid) / "containers" / container / f"termination-{restart_count}"

    def prepare_pod(self, pod: types.Pod) -> None:
        """Folders of a pod before its sandbox is made."""
        self.pod(pod.metadata.uid).mkdir(mode=0o750, parents=True, exist_ok=True)
        self.logs_of(pod).mkdir(mode=0o755, parents=True, exist_ok=True)

    def prepare_container(self, pod: types.Pod, container: str, *, restart_count: int, hosts: str | None) -> None:
        """Log folder, empty termination message, hosts file (None: not managed)."""
        (self.logs_of(pod) / container).mkdir(mode=0o755, parents=True, exist_ok=True)
        message = self.message(pod.metadata.uid, container, restart_count)
        message.parent.mkdir(mode=0o750, parents=True, exist_ok=True)
        with message.open("w"):
            message.chmod(0o666)  # written by whichever user the container runs as
        if hosts is not None:
            path = self.hosts(pod.metadata.uid)
            if not path.exists() or path.read_text() != hosts:
                # In place: running containers have this very file mounted.
                path.write_text(hosts)
                path.chmod(0o644)

    def link_log(self, pod: types.Pod, container: str, container_id: str, *, restart_count: int) -> None:
        """The flat link log collectors look for. A host without room or rights for it runs pods all the same."""
        self._container_logs.mkdir(mode=0o755, parents=True, exist_ok=True)
        link = self._container_logs / link_name(pod, container, container_id)
        with contextlib.suppress(OSError):
            link.unlink(missing_ok=True)
            link.symlink_to(self.logs_of(pod) / configs.log_path(container, restart_count))

    def remove_container(self, pod: types.Pod, dead: records.Container) -> None:
        """Log, link and message of a container the runtime has removed."""
        count = observed.restart_count(dead)
        for path in (
            self._container_logs / link_name(pod, dead.name, dead.id),
            self.logs_of(pod) / configs.log_path(dead.name, count),
            self.message(pod.metadata.uid, dead.name, count),
        ):
            with contextlib.suppress(OSError):
                path.unlink(missing_ok=True)

    def remove_pod(self, namespace: str, name: str, uid: str) -> None:
        """Everything of a pod whose volumes are already unmounted; a mount left inside keeps the folder."""
        logs = self.log_directory(namespace, name, uid)
        pattern = f"{name}_{namespace}_*"
        for link in self._container_logs.glob(pattern):
            with contextlib.suppress(OSError):
                if Path(os.readlink(link)).is_relative_to(logs):
                    link.unlink()
        shutil.rmtree(logs, ignore_errors=True)
        self.remove_folder(uid)

    def remove_folder(self, uid: str) -> None:
        """The pod's folder, unless something is still mounted in it."""
        folder = self.pod(uid)
        if not any(os.path.ismount(p) for p in folder.rglob("*") if p.is_dir()):
            shutil.rmtree(folder, ignore_errors=True)

    def messages(
        self, pod_uid: str, ended: Iterable[records.Container], *, logs: Path, containers: int = 1
    ) -> dict[str, str]:
        """Termination messages of ended containers by their id; of `containers` of the pod each has its share."""
        share = min(MESSAGE_BYTES, ALL_MESSAGES_BYTES // max(1, containers))
        return {c.id: text for c in ended if (text := self._message(pod_uid, c, logs, most=share))}

    def _message(self, pod_uid: str, container: records.Container, logs: Path, *, most: int) -> str:
        count = observed.restart_count(container)
        with contextlib.suppress(OSError), self.message(pod_uid, container.name, count).open("rb") as file:
            text = file.read(most).decode(errors="replace")
            if text:
                return text
        wants_log = container.annotations.get(labels.TERMINATION_POLICY) == "FallbackToLogsOnError"
        if wants_log and container.exit_code != 0:
            return tail(logs / configs.log_path(container.name, count), most=min(most, LOG_BYTES))
        return ""


def tail(path: Path, *, most: int = LOG_BYTES) -> str:
    """The end of a CRI log as plain text: at most `most` bytes or 80 lines."""
    try:
        with path.open("rb") as file:
            file.seek(0, os.SEEK_END)
            file.seek(max(0, file.tell() - 16 * LOG_BYTES))
            lines = file.read().splitlines()
    except OSError:
        return ""
    texts = []
    for line in lines:
        parts = line.split(b" ", 3)
        if len(parts) == 4:
            texts.append(parts[3] + (b"\n" if parts[2] == b"F" else b""))
    return b"".join(texts[-LOG_LINES:])[-most:].decode(errors="replace")


def link_name(pod: types.Pod, container: str, container_id: str) -> str:
    """`pod_namespace_container-id.log`, as log collectors parse it."""
    stem = f"{pod.metadata.name}_{pod.metadata.namespace}_{container}-{container_id}"
    return stem[: LINK_NAME - 4] + ".log"


def manages_hosts(pod: types.Pod, container: spec.AnyContainer) -> bool:
    """Whether this container gets our hosts file: not over a mount of its own, nor over the host's without need."""
    if any(mount.mount_path == "/etc/hosts" for mount in container.volume_mounts):
        return False
    return not pod.spec.host_network or bool(pod.spec.host_aliases)
