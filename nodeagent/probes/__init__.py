"""Probes: startup, liveness and readiness of running containers.

In: running containers. Out: results, and a call whenever one is news. Must not know what follows from a result.
"""

from nodeagent.probes.prober import Probes, Running

__all__ = ["Probes", "Running"]
