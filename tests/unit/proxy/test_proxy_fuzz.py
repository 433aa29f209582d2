"""Objects nobody should write: no crash, no rule of another Service lost, and only text that the backends take."""

import asyncio
from typing import Any

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from fakes.iptables import FakeXtables
from fakes.nft import FakeNft
from kube.types import EndpointSlice, Service
from proxy.backends.iptables import IptablesBackend
from proxy.backends.nftables import NftablesBackend
from proxy.rules import plan
from proxy.rules.plan import Backend, Frontend, PortRules, Rules, RuleSet
from proxy.services.model import ServiceKey, ThisNode

HERE = ThisNode(name="node-1", zone="z", node_port_addresses=("192.168.7.1", "fd00::1"))
GOOD, BAD = ServiceKey("default", "good"), ServiceKey("default", "bad")
KEPT: Rules = {
    Frontend("10.96.0.1", "tcp", 80): PortRules(backends=(Backend("10.0.0.1", 80),), title="default/good:http")
}

texts = st.sampled_from(
    [
        "",
        "None",
        "10.96.0.1",
        "10.0.0.9",
        "fd00::9",
        "::",
        "0.0.0.0",
        "999.1.1.1",
        "x\ny",
        "fe80::1%a b",
        "::ffff:1.2.3.4",
    ]
)
blocks = st.sampled_from(
    ["10.0.0.0/8", "fd00::/8", "0.0.0.0/0", "10.0.0.1/8", "bogus", "10.0.0.0/99", "fe80::%x/64", "::/0"]
)
numbers = st.sampled_from([-1, 0, 1, 80, 30080, 65535, 65536, 1 << 40])
words = st.sampled_from(["TCP", "UDP", "SCTP", "tcp", "Local", "Cluster", "ClientIP", "LoadBalancer", "NodePort", "?"])
names = st.sampled_from(["", "http", "a b", 'q"uote', "x" * 300])

ports = st.fixed_dictionaries({"name": names, "port": numbers, "nodePort": numbers, "protocol": words})
services = st.fixed_dictionaries(
    {
        "type": words,
        "clusterIP": texts,
        "clusterIPs": st.lists(texts, max_size=3),
        "externalIPs": st.lists(texts, max_size=3),
        "externalTrafficPolicy": words,
        "internalTrafficPolicy": words,
        "sessionAffinity": words,
        "sessionAffinityConfig": st.fixed_dictionaries(
            {"clientIP": st.fixed_dictionaries({"timeoutSeconds": numbers})}
        ),
        "loadBalancerSourceRanges": st.lists(blocks, max_size=3),
        "healthCheckNodePort": numbers,
        "ports": st.lists(ports, max_size=3),
    }
)
endpoints = st.fixed_dictionaries(
    {"addresses": st.lists(texts, max_size=2), "nodeName": st.sampled_from(["node-1", "x"])}
)
slices = st.fixed_dictionaries(
    {
        "addressType": st.sampled_from(["IPv4", "IPv6", "FQDN", ""]),
        "endpoints": st.lists(endpoints, max_size=3),
        "ports": st.lists(st.fixed_dictionaries({"name": names, "port": numbers, "protocol": words}), max_size=2),
    }
)


def planned(spec: dict[str, Any], ingress: list[str], found: list[dict[str, Any]]) -> Rules:
    status = {"loadBalancer": {"ingress": [{"ip": ip} for ip in ingress]}}
    body = {"metadata": {"name": "bad", "namespace": "default"}, "spec": spec, "status": status}
    parts = [
        msgspec.convert({"metadata": {"name": "s", "namespace": "default"}} | each, EndpointSlice) for each in found
    ]
    return plan.plan(msgspec.convert(body, Service), parts, node=HERE, before={})


async def written(rules: Rules) -> None:
    applied = RuleSet()
    applied.replace(GOOD, KEPT)
    settled, _ = plan.settle(applied, {BAD: rules})
    goal = RuleSet()
    goal.replace(GOOD, KEPT)
    goal.replace(BAD, settled[BAD])
    for host, backend in ((nft := FakeNft(), NftablesBackend(nft)), (tables := FakeXtables(), IptablesBackend(tables))):
        await backend.replace(goal)
        (end,) = host.connect(source="10.0.0.7", to="10.96.0.1", protocol="tcp", port=80)
        assert (end.verdict, end.address) == ("delivered", "10.0.0.1")


@given(services, st.lists(texts, max_size=2), st.lists(slices, max_size=2))
def test_no_service_breaks_the_rules_of_another(
    spec: dict[str, Any], ingress: list[str], found: list[dict[str, Any]]
) -> None:
    asyncio.run(written(planned(spec, ingress, found)))
