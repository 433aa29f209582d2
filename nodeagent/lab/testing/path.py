"""The path of a packet, as text for a failed test: what `nodeagent trace` says of it.

The command runs as a process of its own, as a person would run it: the lab must not import the trace's packages.
"""

import shlex
import subprocess
import sys

from nodeagent.lab import cluster
from nodeagent.lab.testing.handle import Lab
from nodeagent.lab.testing.pods import Pod
from nodeagent.lab.testing.reach import Target

SECONDS = 90.0


def told(lab: Lab, source: Pod | str, to: Target, *, protocol: str) -> str:
    """Each hop and where it stops; the command's own words when it cannot say."""
    start = ["node/" + source] if isinstance(source, str) else ["-n", source.namespace, "pod/" + source.name]
    asked = [*start, str(to), "--protocol", protocol.lower(), "--directory", str(lab.directory)]
    shown = "nodeagent trace " + shlex.join(asked)
    argv = [sys.executable, "-m", "nodeagent", "trace", *asked]
    try:
        done = subprocess.run(
            argv,
            capture_output=True,
            text=True,
            timeout=SECONDS,
            check=False,
            cwd=cluster.SOURCE,
        )
    except subprocess.TimeoutExpired:
        return f"$ {shown}\nno answer within {SECONDS:.0f} s"
    return f"$ {shown}\n{done.stdout}{done.stderr}".rstrip()
