"""kubectl on a cluster: a program run with a deadline, and its output. Must not know what a test expects."""

import os
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import transcript

COMMAND_SECONDS = 90.0


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
