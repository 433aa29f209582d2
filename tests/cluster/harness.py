"""kubectl on a cluster, and the clusters themselves: one lab at a time, of the size a test asks for.

Owns running things and waiting for them; must not know what a test expects.
"""

import asyncio
import contextlib
import os
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import census
import transcript

from nodeagent.lab import cluster, phases, prove

COMMAND_SECONDS = 90.0
LOG_LINES = 60


@dataclass(frozen=True, slots=True)
class Kubectl:
    """kubectl on one cluster, in one namespace."""

    program: Path
    config: Path
    namespace: str = "default"

    def argv(self, words: Sequence[str]) -> list[str]:
        """The whole command line."""
        return [str(self.program), "--kubeconfig", str(self.config), "--namespace", self.namespace, *words]

    def __call__(self, words: Sequence[str], stdin: str = "", *, seconds: float = COMMAND_SECONDS) -> transcript.Answer:
        done = subprocess.run(
            self.argv(words), input=stdin, capture_output=True, text=True, timeout=seconds, check=False, env=self.env()
        )
        return transcript.Answer(done.stdout, done.stderr, done.returncode)

    def ok(self, *words: str, stdin: str = "", seconds: float = COMMAND_SECONDS) -> str:
        """Its output; fails the test with its stderr when it does not succeed."""
        answer = self(words, stdin, seconds=seconds)
        assert answer.code == 0, f"kubectl {' '.join(words)}: exit code {answer.code}\n{answer.err}"
        return answer.out

    def env(self) -> dict[str, str]:
        """No cache or plug-in of whoever runs the tests."""
        home = str(self.config.parent / "home")
        return {"HOME": home, "PATH": os.environ["PATH"], "KUBECACHEDIR": home + "/cache", "TZ": "UTC"}


class Labs:
    """The lab that is up now; asking for another size takes it down first."""

    def __init__(self) -> None:
        self._running: cluster.Running | None = None
        self._directory = Path(tempfile.mkdtemp(prefix="natest-", dir="/dev/shm"))

    def of(self, nodes: int) -> cluster.Running:
        """A healthy lab with this many nodes."""
        running = self._running
        if running is not None and (len(running.plan.nodes) != nodes or not cluster.is_up(running.record)):
            self.close()
            running = None
        if running is None:
            options = cluster.Options(directory=self._directory / "lab", nodes=nodes, port=0)
            self._running = running = cluster.up(options, report=phases.Phases())
        self.wait(running)
        return running

    @staticmethod
    def wait(running: cluster.Running) -> None:
        """Until the API answers and every node is Ready."""
        nodes = len(running.plan.nodes)
        asyncio.run(prove.wait_for_cluster(running.plan.kubeconfig, nodes=nodes, report=phases.Phases()))

    def close(self) -> None:
        """Remove the lab, if one is up."""
        cluster.down(self._directory / "lab")
        self._running = None

    def end(self) -> None:
        """Remove the lab and the directory of all labs."""
        self.close()
        with contextlib.suppress(OSError):
            self._directory.rmdir()

    def belongings(self) -> census.Belongings:
        """What the lab that is up has on the host."""
        return census.belongings(self._directory / "lab")

    def logs(self) -> dict[str, str]:
        """The last lines of every service's log, for the report of a failed test."""
        found = {}
        for path in sorted((self._directory / "lab" / "machines").glob("*/data/var-log-nodeagent/*.log")):
            lines = path.read_text(errors="replace").splitlines()
            found[f"{path.parents[2].name} {path.name}"] = "\n".join(lines[-LOG_LINES:])
        return found
