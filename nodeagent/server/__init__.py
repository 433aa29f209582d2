"""The kubelet's own HTTPS API: health, pods, logs, exec, attach, port-forward, figures.

In: requests of the API server and of operators. Out: what the runtime and the pods say. It changes nothing by itself.
"""

from nodeagent.server.kubelet import KubeletServer

__all__ = ["KubeletServer"]
