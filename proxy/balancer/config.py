"""`LoadBalancerConfiguration` (nodeagent/v1): which addresses there are to give, and to which Services."""

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from kube.runtime import config as documents
from kube.runtime.config import Section
from proxy.balancer import pool

KIND = "LoadBalancerConfiguration"


class LoadBalancerConfiguration(Section, frozen=True, kw_only=True):
    """`addresses`: blocks and ranges (`192.0.2.8/29`, `192.0.2.20-192.0.2.30`). `class`: the loadBalancerClass of the
    Services that are served; empty serves those that name none. `kubeconfig`: who may write Services' status and
    Leases in kube-system; nodes' own identities may not. `interface`: where the addresses are answered for; by default
    the one whose network they are in.
    """

    addresses: tuple[str, ...]
    kubeconfig: str
    class_: str = msgspec.field(name="class", default="")
    interface: str = ""

    def __post_init__(self) -> None:
        if not self.addresses:
            raise ValueError("addresses: no address")
        for text in self.addresses:
            pool.parse(text)


def read(kinds: Mapping[str, Sequence[Mapping[str, Any]]]) -> LoadBalancerConfiguration | None:
    """The configuration among these documents; None without one. Raises ConfigError."""
    if not kinds.get(KIND):
        return None
    return documents.one(kinds, KIND, LoadBalancerConfiguration)
