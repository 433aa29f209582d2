"""Fifty pods come and go, and the node is as it was; `python -m tests.bench.soak` does it with a thousand."""

import asyncio

from harness import Kubectl

from nodeagent.lab import cluster
from tests.bench import soak

TOGETHER = 25


def test_fifty_pods_leave_nothing_behind(kubectl: Kubectl, one_node: cluster.Running) -> None:
    asyncio.run(soak.soak(one_node, TOGETHER, together=TOGETHER, namespace=kubectl.namespace))
    before = soak.belongings(one_node)
    asyncio.run(soak.soak(one_node, TOGETHER, together=TOGETHER, namespace=kubectl.namespace))
    assert asyncio.run(soak.settled(one_node, before, seconds=15)) == {}
