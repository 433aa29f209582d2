"""NetworkPolicies: which traffic a pod may have.

Projections for decoding only; see `kube.types`.
"""

from __future__ import annotations

import msgspec

from kube.types.base import Projection
from kube.types.meta import LabelSelector, ObjectMeta


class NetworkPolicyPort(Projection):
    """A port, or a range of ports."""

    end_port: int | None = None
    port: int | str | None = None
    protocol: str = "TCP"


class IPBlock(Projection):
    """An address block with holes."""

    cidr: str = ""
    except_: tuple[str, ...] = ()


class NetworkPolicyPeer(Projection):
    """Who is on the other side."""

    ip_block: IPBlock | None = None
    namespace_selector: LabelSelector | None = None
    pod_selector: LabelSelector | None = None


class NetworkPolicyIngressRule(Projection):
    """Traffic let in."""

    from_: tuple[NetworkPolicyPeer, ...] = ()
    ports: tuple[NetworkPolicyPort, ...] = ()


class NetworkPolicyEgressRule(Projection):
    """Traffic let out."""

    ports: tuple[NetworkPolicyPort, ...] = ()
    to: tuple[NetworkPolicyPeer, ...] = ()


class NetworkPolicySpec(Projection):
    """Which pods, and what is allowed."""

    egress: tuple[NetworkPolicyEgressRule, ...] = ()
    ingress: tuple[NetworkPolicyIngressRule, ...] = ()
    pod_selector: LabelSelector = msgspec.field(default_factory=LabelSelector)
    policy_types: tuple[str, ...] = ()


class NetworkPolicy(Projection):
    """What traffic the chosen pods may have; everything else is refused."""

    api_version: str = ""
    kind: str = ""
    metadata: ObjectMeta = msgspec.field(default_factory=ObjectMeta)
    spec: NetworkPolicySpec = msgspec.field(default_factory=NetworkPolicySpec)
