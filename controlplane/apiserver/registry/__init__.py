"""The strategies: per kind, its defaults, preparation, validation, selectable fields and table columns.

Owns the table from resource to strategy. Must not know requests, the store or admission.
"""

from __future__ import annotations

from functools import cache

from controlplane.apiserver.registry import kinds
from controlplane.apiserver.registry.columns import Column
from controlplane.apiserver.registry.strategy import Plain, Strategy
from kube.scheme import Resource

__all__ = ["Column", "Strategy", "strategy_for"]


@cache
def strategy_for(resource: Resource) -> Strategy:
    """The rules of a resource; a kind without rules of its own gets the plain ones."""
    return kinds.STRATEGIES.get(resource.group_resource, Plain)(resource)
