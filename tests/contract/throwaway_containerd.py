"""A containerd of its own for tests: its namespaces, folders and cgroups are thrown away, the host's are untouched."""

import contextlib
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from nodeagent.lab import images

CONFIG = """version = 2
root = "{root}/data"
state = "{root}/state"
oom_score = 0
disabled_plugins = [{disabled}"io.containerd.snapshotter.v1.aufs", "io.containerd.snapshotter.v1.btrfs",
  "io.containerd.snapshotter.v1.devmapper", "io.containerd.snapshotter.v1.zfs"]
[grpc]
address = "{root}/c.sock"
[plugins."io.containerd.internal.v1.opt"]
path = "{root}/opt"
[plugins."io.containerd.grpc.v1.cri"]
sandbox_image = "{pause}"
restrict_oom_score_adj = true
[plugins."io.containerd.grpc.v1.cri".containerd]
snapshotter = "overlayfs"
default_runtime_name = "runc"
[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
runtime_type = "io.containerd.runc.v2"
[plugins."io.containerd.grpc.v1.cri".cni]
bin_dir = "{root}/cni/bin"
conf_dir = "{root}/cni/net.d"
"""
INSIDE = "mount -t tmpfs tmpfs /run && ip link set lo up && exec catatonit -- containerd --config {root}/config.toml"


class Containerd:
    """One running containerd; `endpoint` is its CRI address, `cgroup` a parent for sandboxes."""

    def __init__(self, root: Path, *, disabled: str = "") -> None:
        self.root = root
        self.endpoint = f"unix://{root}/c.sock"
        self.cgroup = f"/nodeagent-test-{root.name}"
        pause = images.PAUSE
        quoted = f'"{disabled}", ' if disabled else ""
        (root / "config.toml").write_text(CONFIG.format(root=root, pause=pause, disabled=quoted))
        self.process = self._start()

    def _start(self) -> subprocess.Popen[bytes]:
        inside = INSIDE.format(root=self.root)
        command = ["unshare", "--mount", "--net", "--pid", "--fork", "--kill-child", "--mount-proc", "sh", "-c", inside]
        with (self.root / "log").open("ab") as log:
            process = subprocess.Popen(command, stdout=log, stderr=log)
        deadline = time.monotonic() + 20
        while self._ctr("version").returncode:
            if time.monotonic() > deadline or process.poll() is not None:
                raise RuntimeError((self.root / "log").read_text()[-2000:])
            time.sleep(0.05)
        return process

    def _ctr(self, *arguments: str) -> subprocess.CompletedProcess[bytes]:
        command = ["ctr", "--address", f"{self.root}/c.sock", "--namespace", "k8s.io", *arguments]
        return subprocess.run(command, capture_output=True, timeout=60)

    def load(self, archive: Path) -> None:
        """Imports an image archive."""
        done = self._ctr("images", "import", "--all-platforms", str(archive))
        if done.returncode:
            raise RuntimeError(done.stderr.decode())

    def restart(self) -> None:
        """Ends containerd and everything in its namespaces, and starts it anew on the same folders."""
        self.stop()
        (self.root / "c.sock").unlink(missing_ok=True)
        self.process = self._start()

    def stop(self) -> None:
        """Ends it and all it started."""
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
        for child in children:
            with contextlib.suppress(ProcessLookupError):
                os.kill(int(child), signal.SIGKILL)
        self.process.wait(20)


def remove_cgroups(name: str) -> None:
    """Removes a cgroup tree in every hierarchy."""
    base = Path("/sys/fs/cgroup")
    for root in [base, *(p for p in base.iterdir() if p.is_dir() and not p.is_symlink())]:
        path = root / name.lstrip("/")
        if path.is_dir():
            for folder in sorted((p for p in path.rglob("*") if p.is_dir()), reverse=True):
                folder.rmdir()
            path.rmdir()


@contextlib.contextmanager
def running(*, disabled: str = "", with_images: bool = True) -> Iterator[Containerd]:
    """A containerd with our two images, gone without a trace afterwards."""
    root = Path(tempfile.mkdtemp(prefix="na-", dir="/tmp"))
    found = None
    try:
        found = Containerd(root, disabled=disabled)
        if with_images:
            for archive in images.build(root / "images"):
                found.load(archive)
        yield found
    finally:
        if found is not None:
            found.stop()
            remove_cgroups(found.cgroup)
        shutil.rmtree(root)
