"""A lab as a test holds it, and the keeper that makes one of the size that is asked for.

Must not know pods.
"""

import re
import time
from collections.abc import Sequence
from pathlib import Path

from nodeagent.lab import archives, cluster, errors, images, journal, machine, operate, phases, preflight, prove, shapes
from nodeagent.lab import processes as host
from nodeagent.lab.testing import api

PLACES = (Path("/dev/shm"), Path("/var/tmp"), Path("/tmp"))  # the first that can carry overlays
IMPORT_SECONDS = 300.0
LOOK_BACK = 400  # lines
NOISE = re.compile(r"level=info|shim disconnected|cleanup warnings|GetContainerEvents")


class Lab:
    """A cluster that is up: its machines, what is done to them, and what they say."""

    def __init__(self, running: cluster.Running) -> None:
        self.running = running

    @property
    def nodes(self) -> tuple[str, ...]:
        """The nodes' names; the machine of the control plane is called server."""
        return tuple(node.name for node in self.running.plan.nodes)

    @property
    def directory(self) -> Path:
        """Where the lab keeps its state: `nodeagent lab status --directory` takes it."""
        return self.running.plan.directory

    @property
    def kubeconfig(self) -> Path:
        """The administrator's, for kubectl and for clients in any language."""
        return self.running.plan.kubeconfig

    def address(self, name: str) -> str:
        """A machine's own address. Raises LabError when there is no such machine."""
        return self.running.machine(name).ip

    def exec(self, name: str, *argv: str, stdin: bytes = b"", seconds: float = 30.0) -> str:
        """Run a command in a machine and return what it printed. Raises LabError with its stderr when it fails."""
        return machine.run(self.running.first(name), argv, stdin=stdin, seconds=seconds).decode(errors="replace")

    def kill(self, name: str) -> None:
        """End a machine at once, as a power cut does."""
        operate.kill(self.running, name)

    def start(self, name: str) -> None:
        """Boot a machine that was killed. Its services come up by and by: see `wait`."""
        operate.start(self.running, name)

    def restart(self, service: str, *machines: str) -> None:
        """Restart containerd, agent, dns or server, wherever it runs or on these machines."""
        operate.restart(self.running, service, machines=machines)

    def partition(self, name: str, *others: str) -> None:
        """Cut the wires between a machine and others, or all others, without a word to either."""
        operate.partition(self.running, name, others)

    def heal(self, name: str = "", *others: str) -> None:
        """Mend cut wires; without arguments all."""
        operate.heal(self.running, name, others)

    def load_image(self, archive: Path) -> list[str]:
        """Put the images of a docker or OCI archive on every node; returns their names."""
        names = archives.names(archive)
        for node in self.nodes:
            argv = host.inside(self.running.first(node).pid, images.CTR)
            archives.put(archive, argv=argv, seconds=IMPORT_SECONDS)
        return names

    def wait(self) -> None:
        """Until the API answers and every node that was not killed is Ready. Raises LabError when one is not."""
        alive = len(self.nodes) - len([name for name in self.running.record.killed if name in self.nodes])
        api.complete(lambda: prove.wait_for_cluster(self.kubeconfig, nodes=alive, report=phases.Phases()))

    def logs(self, *, since: float = 0.0, lines: int = 40) -> dict[str, str]:
        """The last lines of each service that has said something since a time (seconds since the epoch).

        What the runtime says of each container it starts and ends is left out.
        """
        told = {}
        for log in journal.files(self.directory):
            if log.path.stat().st_mtime >= since:
                said = [line for line in log.last(LOOK_BACK) if not NOISE.search(line)][-lines:]
                told[f"{log.machine} {log.service}"] = "\n".join(said)
        return {name: text for name, text in told.items() if text}


class Keeper:
    """The one lab that is up now (`lab`), in `directory`; asking for another size takes it down first."""

    def __init__(self, directory: Path, *, keep: bool = False) -> None:
        self.directory, self._keep = directory, keep
        self.lab: Lab | None = None

    def of(self, nodes: int, *, underlay: str = shapes.ONE_LINK) -> Lab:
        """A healthy lab with this many nodes on this underlay. Raises LabError when none can be made here."""
        lab = self.lab or self._found()
        if lab is not None and (
            (len(lab.nodes), lab.running.record.underlay) != (nodes, underlay) or not is_whole(lab)
        ):
            self.close()
            lab = None
        if lab is None:
            options = cluster.Options(directory=self.directory, nodes=nodes, port=0, underlay=underlay)
            lab = Lab(cluster.up(options, report=phases.Phases()))
        self.lab = lab
        if lab.running.record.cuts:
            lab.heal()
        lab.wait()
        return lab

    def _found(self) -> Lab | None:
        """A lab that an earlier run has kept."""
        try:
            return Lab(cluster.running(self.directory))
        except errors.LabError:
            return None

    def close(self) -> None:
        """Remove the lab, if one is up."""
        cluster.down(self.directory)
        self.lab = None

    def end(self) -> None:
        """Remove the lab, unless it is to be kept."""
        if not self._keep:
            self.close()


def is_whole(lab: Lab) -> bool:
    """Whether all of its machines run."""
    return not lab.running.record.killed and cluster.is_up(lab.running.record)


def place(candidates: Sequence[Path] = PLACES) -> Path:
    """A folder that can carry a lab's directory. Raises LabError when there is none."""
    for folder in candidates:
        if folder.is_dir() and not preflight.unfit_directory(folder):
            return folder
    raise errors.LabError("no folder here can carry a lab", hint="mount a tmpfs on /dev/shm")


def unique() -> str:
    """A short name no other run uses at this time."""
    return f"{time.monotonic_ns():x}"[-8:]
