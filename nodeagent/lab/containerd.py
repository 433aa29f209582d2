"""containerd in a machine: which one the host has, and the configuration it gets. Text and parsing are pure.

Must not know pods; it only makes the CRI socket answer.
"""

import re
import shutil
import time
from pathlib import Path

from nodeagent.lab import errors, machine, processes, state

SOCKET = "/run/containerd/containerd.sock"
CONFIG = "/etc/containerd/nodeagent.toml"
CAP_SYS_RESOURCE = 24
START_SECONDS = 30.0
# Snapshotters and services no pod uses; each costs a start.
UNUSED_PLUGINS = (
    "io.containerd.snapshotter.v1.aufs",
    "io.containerd.snapshotter.v1.btrfs",
    "io.containerd.snapshotter.v1.devmapper",
    "io.containerd.snapshotter.v1.zfs",
    "io.containerd.tracing.processor.v1.otlp",
    "io.containerd.internal.v1.tracing",
)


def parse_version(text: str) -> tuple[int, int]:
    """Major and minor from what `containerd --version` prints. Raises LabError when there is none in it."""
    found = re.search(r"\bv?(\d+)\.(\d+)\.\d+", text)
    if found is None:
        raise errors.LabError(f"containerd does not say its version: {text.strip()!r}")
    return int(found[1]), int(found[2])


def find() -> tuple[str, tuple[int, int]]:
    """The host's containerd and its version. Raises LabError when there is none or it is too old."""
    program = shutil.which("containerd")
    if program is None:
        raise errors.LabError("containerd is not installed", hint="apt-get install --no-install-recommends containerd")
    version = parse_version(processes.run([program, "--version"]).decode())
    if version < (1, 6):
        raise errors.LabError(f"containerd {version[0]}.{version[1]} is too old: 1.6 or later is needed for CRI v1")
    return program, version


def may_lower_oom_score(status: str) -> bool:
    """Whether root here has CAP_SYS_RESOURCE, from the text of /proc/self/status.

    Without it every sandbox would fail.
    """
    effective = re.search(r"^CapEff:\s*([0-9a-f]+)", status, re.MULTILINE)
    return bool(effective and int(effective[1], 16) >> CAP_SYS_RESOURCE & 1)


def read_may_lower_oom_score() -> bool:
    """The same of this process."""
    return may_lower_oom_score(Path("/proc/self/status").read_text())


def config(version: tuple[int, int], *, sandbox_image: str, restrict_oom_score: bool) -> str:
    """The configuration file for this version: cgroupfs driver, CNI folders, our sandbox image, nothing else."""
    render = _version_three if version >= (2, 0) else _version_two
    return render(sandbox_image, "true" if restrict_oom_score else "false")


def wait_until_up(first: state.Process) -> None:
    """Return when containerd in this machine answers with its CRI service. Raises LabError when it does not."""
    deadline = time.monotonic() + START_SECONDS
    # Looking at the socket costs nothing; asking takes the processor from what is being waited for.
    while not listens(first) and time.monotonic() < deadline:
        time.sleep(0.01)
    while True:
        try:
            plugins = machine.run(first, ["ctr", "plugins", "ls"]).decode()
            break
        except errors.LabError as error:
            if time.monotonic() > deadline:
                raise errors.LabError(f"containerd of {first.name} does not answer: {error}") from error
            time.sleep(0.03)
    if not re.search(r"^io\.containerd\.grpc\.v1\s+cri\s.*\sok\b", plugins, re.MULTILINE):
        raise errors.LabError(
            f"containerd of {first.name} has no working CRI plugin", hint="install a containerd built with CRI"
        )


def listens(first: state.Process) -> bool:
    """Whether containerd in this machine has made its socket."""
    return Path(f"/proc/{first.pid}/root{SOCKET}").exists()


def _head(version: int) -> str:
    unused = ", ".join(f'"{name}"' for name in UNUSED_PLUGINS)
    return f"""version = {version}
root = "/var/lib/containerd"
state = "/run/containerd"
oom_score = 0
disabled_plugins = [{unused}]
[debug]
level = "warn"
[grpc]
address = "{SOCKET}"
"""


def _version_two(sandbox_image: str, restrict: str) -> str:
    cri = 'plugins."io.containerd.grpc.v1.cri"'
    return f"""{_head(2)}[{cri}]
sandbox_image = "{sandbox_image}"
restrict_oom_score_adj = {restrict}
[{cri}.containerd]
snapshotter = "overlayfs"
default_runtime_name = "runc"
[{cri}.containerd.runtimes.runc]
runtime_type = "io.containerd.runc.v2"
[{cri}.containerd.runtimes.runc.options]
SystemdCgroup = false
[{cri}.cni]
bin_dir = "/opt/cni/bin"
conf_dir = "/etc/cni/net.d"
"""


def _version_three(sandbox_image: str, restrict: str) -> str:
    images, runtime = "plugins.'io.containerd.cri.v1.images'", "plugins.'io.containerd.cri.v1.runtime'"
    return f"""{_head(3)}[{images}]
snapshotter = "overlayfs"
[{images}.pinned_images]
sandbox = "{sandbox_image}"
[{runtime}]
restrict_oom_score_adj = {restrict}
[{runtime}.containerd]
default_runtime_name = "runc"
[{runtime}.containerd.runtimes.runc]
runtime_type = "io.containerd.runc.v2"
[{runtime}.containerd.runtimes.runc.options]
SystemdCgroup = false
[{runtime}.cni]
bin_dir = "/opt/cni/bin"
conf_dir = "/etc/cni/net.d"
"""
