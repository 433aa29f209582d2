"""The path of a packet, as text for a failed test: what `nodeagent trace` says of it."""

from nodeagent.lab.testing.handle import Lab
from nodeagent.lab.testing.pods import Pod
from nodeagent.lab.testing.reach import Target


def told(lab: Lab, source: Pod | str, to: Target, *, protocol: str) -> str:
    """Each hop and where it stops."""
    return ""
