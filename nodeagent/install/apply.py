"""Makes a plan true: files that differ are replaced, services that are concerned are restarted, and waited for."""

import json
import time
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from nodeagent.install import layout
from nodeagent.install.errors import InstallError
from nodeagent.install.host import Host
from nodeagent.install.plan import File, Plan

START_SECONDS: Final = 120.0
LOOK_SECONDS: Final = 0.2
TRIES: Final = 5


def write(host: Host, files: Sequence[File]) -> set[Path]:
    """Replace what differs; the paths that did."""
    changed = set()
    for file in files:
        if host.read(file.path) != file.content:
            host.write(file.path, file.content, mode=file.mode)
            changed.add(file.path)
    return changed


def prepare(host: Host, changed: Collection[Path]) -> None:
    """Have the kernel, systemd and containerd take up what was written."""
    if layout.MODULES in changed:
        for module in (host.read(layout.MODULES) or b"").decode().split():
            host.run(["modprobe", "-q", module], check=False)
    if layout.SYSCTLS in changed:
        # -e: a kernel without br_netfilter has no such key; doctor says what that means.
        host.run(["sysctl", "-q", "-e", "-p", str(layout.SYSCTLS)], check=False)
    if any(layout.UNITS in each.parents for each in changed):
        host.run(["systemctl", "daemon-reload"])
    if concerns_containerd(changed):
        host.run(["systemctl", "enable", layout.CONTAINERD_UNIT], check=False)
        host.run(["systemctl", "restart", layout.CONTAINERD_UNIT])
    for path, unit in ((layout.NETWORKD, "systemd-networkd"), (layout.NETWORK_MANAGER, "NetworkManager")):
        if path in changed:
            host.run(["systemctl", "try-reload-or-restart", unit], check=False)


def concerns_containerd(changed: Collection[Path]) -> bool:
    """Whether containerd has to start anew; its containers do not."""
    return any(each == layout.CONTAINERD_OURS or each.parent.name == f"{layout.CONTAINERD_UNIT}.d" for each in changed)


def to_restart(units: Sequence[str], changed: Collection[Path], *, new_release: bool) -> list[str]:
    """The units that must start anew: all for a new release or a changed configuration, else those with a new unit."""
    configured = any(each.parent == layout.ETC and each.suffix == ".yaml" for each in changed)
    return [unit for unit in units if new_release or configured or layout.UNITS / unit in changed]


def start(host: Host, units: Sequence[str], *, restart: Collection[str]) -> None:
    """Enable and start; who runs already and is not concerned is left alone."""
    for unit in units:
        host.run(["systemctl", "enable", unit])
        host.run(["systemctl", "restart" if unit in restart else "start", "--no-block", unit])
    for unit in units:
        wait(host, unit)


def wait(host: Host, unit: str, *, seconds: float = START_SECONDS) -> None:
    """Return when a unit says that it is ready; InstallError with its own last words when it does not."""
    deadline = time.monotonic() + seconds
    while True:
        found = show(host, unit)
        if found.get("ActiveState") == "active":
            return
        if (
            time.monotonic() > deadline
            or found.get("Result") not in (None, "success")
            or found.get("ActiveState") == "failed"
        ):
            break
        time.sleep(LOOK_SECONDS)
    last = host.run(["journalctl", "-u", unit, "-n", "10", "--no-pager", "-o", "cat"], check=False).strip()
    status = found.get("StatusText") or found.get("Result") or found.get("ActiveState")
    raise InstallError(f"{unit} does not become ready: {status}\n{last}")


def show(host: Host, unit: str) -> Mapping[str, str]:
    """What systemd knows of a unit."""
    text = host.run(["systemctl", "show", unit, "-p", "ActiveState,Result,StatusText,NRestarts"], check=False)
    return dict(line.partition("=")[::2] for line in text.splitlines())


def record(host: Host) -> dict[str, Any]:
    """What is installed here; empty when nothing is."""
    try:
        found = json.loads(host.read(layout.RECORD) or b"{}")
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def note(host: Host, **values: Any) -> None:
    """Remember what is installed here; `complete` is False until all of it is."""
    content = json.dumps({**record(host), **values}, indent=1).encode() + b"\n"
    host.write(layout.RECORD, content, mode=0o600)


def all_of(plan: Plan) -> str:
    """A plan as text, for --dry-run: every file with its content, every unit. Keys stay out of sight."""
    parts = []
    for file in plan.files:
        secret = file.mode == 0o600
        text = "(secret)\n" if secret else file.content.decode()
        parts.append(f"=== {file.path} {file.mode:o}\n{text}")
    return "".join(parts) + "".join(f"=== start {unit}\n" for unit in plan.units)
