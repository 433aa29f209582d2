"""Clusters of real machines: made, waited for, looked into, ended.

Owns the order of the steps. What is in a machine is `seed`'s, how it runs `qemu`'s.
"""

import asyncio
import dataclasses
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from vm import image, qemu, seed

from nodeagent.lab import errors, images, phases, plan, prove

LOG_LINES = 60
READY_SECONDS = 300.0
UNPACK = "tar -xpf /dev/vdb -C / && hostname -F /etc/hostname && systemctl daemon-reload && sysctl -q --system"
Say = Callable[[str], None]


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Cluster:
    """Machines that run, in the words the cluster tests use: `plan.kubeconfig` is the administrator's."""

    plan: plan.Lab
    machines: tuple[qemu.Running, ...]

    def wait(self, *, seconds: float = READY_SECONDS) -> None:
        """Until the API answers and every node is Ready."""
        deadline = time.monotonic() + seconds
        while True:
            try:
                asyncio.run(
                    prove.wait_for_cluster(self.plan.kubeconfig, nodes=len(self.machines), report=phases.Phases())
                )
            except errors.LabError:
                if time.monotonic() > deadline:
                    raise
            else:
                return

    def end(self) -> None:
        """Ends every machine and removes what it had."""
        for running in self.machines:
            running.end()
        shutil.rmtree(self.plan.directory)

    def logs(self) -> dict[str, str]:
        """The last lines of every service's log, for the report of a failed test."""
        found = {}
        for running in self.machines:
            for unit in (*seed.units(server=running is self.machines[0]), "containerd.service"):
                words = ["/usr/bin/journalctl", "-q", "-o", "cat", "-n", str(LOG_LINES), "-u", unit]
                found[f"{running.machine.name} {unit}"] = running.run(words).stdout
        return found


def boot_image(*, say: Say) -> image.Image:
    """The disk for the project as it is now."""
    it = image.plan((image.ROOT / "pyproject.toml").read_text())
    return image.ensure(it, image.cache_folder(os.environ), say=say)


def up(
    boot: image.Image,
    *,
    kvm: bool,
    driver: seed.Driver,
    nodes: int = 1,
    memory_mib: int = 2048,
    kubelet: Mapping[str, object] | None = None,
    say: Say,
) -> Cluster:
    """A cluster that is ready. What was started is ended when a step fails."""
    directory = Path(tempfile.mkdtemp(prefix="navm-"))
    wanted = seed.Cluster(directory=directory, port=qemu.free_port(), driver=driver, nodes=nodes, kubelet=kubelet or {})
    lab, started = wanted.lab, list[qemu.Running]()
    start = time.monotonic()
    try:
        archives = seed.write(wanted)
        for number, node in enumerate(lab.nodes):
            it = qemu.Machine(
                name=node.name,
                folder=node.directory,
                seed=archives[number],
                number=number,
                peer=lab.nodes[(number + 1) % nodes].directory,
                memory_mib=memory_mib,
                ports=((wanted.port, plan.API_PORT),) if number == 0 else (),
            )
            started.append(qemu.start(it, boot=boot, kvm=kvm))
        for running in started:
            running.wait_until_up()
            say(f"{running.machine.name}: systemd is up ({time.monotonic() - start:.0f} s)")
        for running in started:
            install(running)
        found = Cluster(plan=lab, machines=tuple(started))
        found.wait()
        say(f"{nodes} nodes Ready ({time.monotonic() - start:.0f} s), driver {driver}")
    except BaseException:
        for running in started:
            running.end()
        shutil.rmtree(directory)
        raise
    return found


def install(running: qemu.Running) -> None:
    """Unpacks what the machine was handed, and starts it."""
    running.sh(UNPACK, seconds=120)
    running.sh("systemctl restart systemd-modules-load systemd-networkd containerd", seconds=120)
    running.sh("until ctr version >/dev/null 2>&1; do sleep 0.5; done", seconds=120)
    running(f"/usr/bin/{images.CTR[0]}", *images.CTR[1:], "import", seed.IMAGES, seconds=120)
    running.sh("systemctl enable --now --no-block $(cd /etc/systemd/system && ls nodeagent*.service)")
