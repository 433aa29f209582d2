"""Which strategy serves which resource. Owns nothing but this table."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

from controlplane.apiserver.registry import pod
from controlplane.apiserver.registry.strategy import Strategy
from kube.scheme import Resource

STRATEGIES: Mapping[str, Callable[[Resource], Strategy]] = MappingProxyType(
    {
        "pods": pod.Pods,
        "podtemplates": pod.PodTemplates,
    }
)
