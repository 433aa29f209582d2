"""Clusters of real machines: booted, installed by the project's own installer, waited for, ended.

Owns the order of the steps. What is in a machine is `seed`'s, how it runs `qemu`'s.
"""

import asyncio
import dataclasses
import os
import re
import shutil
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from vm import image, qemu, seed

from nodeagent.lab import errors, images, phases, prove

API_PORT = 6443
LOG_LINES = 40
UNITS = ("nodeagent-server", "nodeagent-agent", "nodeagent-dns", "containerd")
STEP_SECONDS = 900.0
READY_SECONDS = 400.0
UNPACK = "tar -xpf /dev/vdb -C / && hostname -F /etc/hostname && systemctl restart systemd-networkd"
SETTLE = "/usr/lib/systemd/systemd-networkd-wait-online --timeout=60"
Say = Callable[[str], None]


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Cluster:
    """Machines that run; the first is the server too."""

    directory: Path
    machines: tuple[qemu.Running, ...]

    @property
    def plan(self) -> "Cluster":
        """Where the cluster tests look for the kubeconfig."""
        return self

    @property
    def kubeconfig(self) -> Path:
        """The administrator's, for kubectl on the host."""
        return self.directory / "kubeconfig"

    def wait(self, *, seconds: float = READY_SECONDS) -> None:
        """Until the API answers and every node is Ready."""
        deadline, nodes = time.monotonic() + seconds, len(self.machines)
        while True:
            try:
                asyncio.run(prove.wait_for_cluster(self.kubeconfig, nodes=nodes, report=phases.Phases()))
            except errors.LabError:
                if time.monotonic() > deadline:
                    raise
            else:
                return

    def end(self) -> None:
        """Ends every machine and removes what it had."""
        for running in self.machines:
            running.end()
        shutil.rmtree(self.directory)

    def logs(self) -> dict[str, str]:
        """The last lines of every service's log, for the report of a failed test."""
        words = ["/usr/bin/journalctl", "-q", "-o", "cat", "-n", str(LOG_LINES), "-u"]
        return {f"{r.machine.name} {unit}": r.run([*words, unit]).stdout for r in self.machines for unit in UNITS}


def boot_image(*, say: Say) -> image.Image:
    """The disk for the project as it is now."""
    it = image.plan((image.ROOT / "pyproject.toml").read_text())
    return image.ensure(it, image.cache_folder(os.environ), say=say)


def up(
    boot: image.Image, *, kvm: bool, driver: seed.Driver, nodes: int = 1, memory_mib: int = 2048, say: Say
) -> Cluster:
    """A cluster that is ready. What was started is ended when a step fails."""
    found = Cluster(directory=Path(tempfile.mkdtemp(prefix="navm-")), machines=())
    start = time.monotonic()
    try:
        archives, port = seed.write(found.directory, machines=nodes, root=boot.root), qemu.free_port()
        for number in range(nodes):
            it = machine(found.directory, number, nodes=nodes, seed_archive=archives[number], port=port)
            running = qemu.start(dataclasses.replace(it, memory_mib=memory_mib), boot=boot, kvm=kvm)
            found = dataclasses.replace(found, machines=(*found.machines, running))
        for running in found.machines:
            running.wait_until_up()
            say(f"{running.machine.name}: systemd is up ({time.monotonic() - start:.0f} s)")
        token = ""
        for number, running in enumerate(found.machines):
            install(running, number, driver=driver, token=token)
            say(f"{running.machine.name}: installed, driver {driver} ({time.monotonic() - start:.0f} s)")
            if number == 0:
                token = running.sh("nodeagent token create", seconds=STEP_SECONDS).split()[-1]
                text = running("/bin/cat", "/etc/nodeagent/admin.kubeconfig")
                found.kubeconfig.write_text(re.sub(r"server: \S+", f"server: https://127.0.0.1:{port}", text))
        found.wait()
        say(f"{nodes} Ready ({time.monotonic() - start:.0f} s)")
    except BaseException:
        found.end()
        raise
    return found


def machine(directory: Path, number: int, *, nodes: int, seed_archive: Path, port: int) -> qemu.Machine:
    """The machine with this number; the API of the first is at `port` of the host's loopback."""
    folder, peer = (directory / seed.name(each) for each in (number, (number + 1) % nodes))
    folder.mkdir()
    ports = ((port, API_PORT),) if number == 0 else ()
    return qemu.Machine(name=folder.name, folder=folder, seed=seed_archive, peer=peer, number=number, ports=ports)


def install(running: qemu.Running, number: int, *, driver: seed.Driver, token: str) -> None:
    """Unpacks what the machine was handed, and runs the installer; again where services start slower than it waits."""
    running.sh(f"{UNPACK} && {SETTLE}", seconds=STEP_SECONDS)
    running.sh("until ctr version >/dev/null 2>&1; do sleep 0.5; done", seconds=STEP_SECONDS)
    running.sh(f"{' '.join(images.CTR)} import {seed.IMAGES}", seconds=STEP_SECONDS)
    words = " ".join(seed.install(number, driver=driver, token=token))
    running.sh(f"cd {seed.CLONE}; {words} 2>&1 || {words} 2>&1 || {words} 2>&1", seconds=STEP_SECONDS)
