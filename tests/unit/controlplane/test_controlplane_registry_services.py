# ruff: noqa: E501 (a table of cases reads best with one case on a line)
"""Services: defaults, the agreement of their address fields, the rules, and what a change of type drops."""

import copy
from typing import Any

import pytest

from controlplane.apiserver import registry
from kube import scheme

Spec = dict[str, Any]
PORT = {"port": 80}
FULL = {"port": 80, "protocol": "TCP", "targetPort": 80}


def created(spec: Spec, **meta: Any) -> dict[str, Any]:
    obj = {"metadata": {"name": "web", "namespace": "default", **meta}, "spec": copy.deepcopy(spec)}
    strategy = registry.strategy_for(scheme.SERVICES)
    strategy.default(obj)
    strategy.prepare_create(obj)
    return obj


def check(spec: Spec, **meta: Any) -> list[str]:
    return [str(error) for error in registry.strategy_for(scheme.SERVICES).validate_create(created(spec, **meta))]


COMMON = {
    "internalTrafficPolicy": "Cluster",
    "ipFamilies": ["IPv4"],
    "ipFamilyPolicy": "SingleStack",
    "sessionAffinity": "None",
}


@pytest.mark.parametrize(
    ("sentence", "spec", "expected"),
    [
        ("an address in the cluster", {"ports": [PORT]}, {**COMMON, "type": "ClusterIP", "ports": [FULL]}),
        ("a port on each node", {"type": "NodePort", "ports": [PORT]}, {**COMMON, "type": "NodePort", "externalTrafficPolicy": "Cluster", "ports": [FULL]}),
        ("a load balancer", {"type": "LoadBalancer", "ports": [PORT]}, {**COMMON, "type": "LoadBalancer", "allocateLoadBalancerNodePorts": True, "externalTrafficPolicy": "Cluster", "ports": [FULL]}),
        ("another name", {"type": "ExternalName", "externalName": "x.com"}, {"type": "ExternalName", "externalName": "x.com", "sessionAffinity": "None"}),
        ("no address", {"clusterIP": "None", "selector": {"a": "b"}}, {**COMMON, "type": "ClusterIP", "clusterIP": "None", "clusterIPs": ["None"], "selector": {"a": "b"}}),
        ("no address, no selector", {"clusterIP": "None"}, {**COMMON, "type": "ClusterIP", "clusterIP": "None", "clusterIPs": ["None"], "ipFamilies": ["IPv4", "IPv6"], "ipFamilyPolicy": "RequireDualStack"}),
        ("a chosen address", {"clusterIP": "10.96.0.10"}, {**COMMON, "type": "ClusterIP", "clusterIP": "10.96.0.10", "clusterIPs": ["10.96.0.10"]}),
        ("a named target", {"ports": [{"port": 80, "targetPort": "http"}]}, {**COMMON, "type": "ClusterIP", "ports": [{**FULL, "targetPort": "http"}]}),
        ("affinity for three hours", {"sessionAffinity": "ClientIP"}, {**COMMON, "type": "ClusterIP", "sessionAffinity": "ClientIP", "sessionAffinityConfig": {"clientIP": {"timeoutSeconds": 10800}}}),
        ("outside addresses", {"externalIPs": ["1.2.3.4"]}, {**COMMON, "type": "ClusterIP", "externalIPs": ["1.2.3.4"], "externalTrafficPolicy": "Cluster"}),
    ],
)  # fmt: skip
def test_defaults(sentence: str, spec: Spec, expected: Spec) -> None:
    assert created(spec)["spec"] == expected, sentence


def test_a_new_service_has_an_empty_load_balancer_status() -> None:
    assert created({"ports": [PORT]})["status"] == {"loadBalancer": {}}


P = "spec.ports"
IP = "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)"


@pytest.mark.parametrize(
    ("sentence", "spec", "expected"),
    [
        ("one port", {"ports": [PORT]}, []),
        ("ports are needed", {}, [f"{P}: Required value"]),
        ("but not without an address", {"clusterIP": "None"}, []),
        ("port numbers", {"ports": [{"port": 0}]}, [f"{P}[0].port: Invalid value: 0: must be between 1 and 65535, inclusive", f"{P}[0].targetPort: Invalid value: 0: must be between 1 and 65535, inclusive"]),
        ("several ports have names", {"ports": [PORT, {"port": 81}]}, [f"{P}[0].name: Required value", f"{P}[1].name: Required value"]),
        ("unique names", {"ports": [{**PORT, "name": "a"}, {"port": 81, "name": "a"}]}, [f'{P}[1].name: Duplicate value: "a"']),
        ("each port once", {"ports": [{**PORT, "name": "a"}, {**PORT, "name": "b"}]}, [f'{P}[1]: Duplicate value: {{"Name":"","Protocol":"TCP","AppProtocol":null,"Port":80,"TargetPort":0,"NodePort":0}}']),
        ("per protocol", {"ports": [{**PORT, "name": "a"}, {**PORT, "name": "b", "protocol": "UDP"}]}, []),
        ("known protocols", {"ports": [{**PORT, "protocol": "ICMP"}]}, [f'{P}[0].protocol: Unsupported value: "ICMP": supported values: "SCTP", "TCP", "UDP"']),
        ("named targets", {"ports": [{**PORT, "targetPort": "Http"}]}, [f'{P}[0].targetPort: Invalid value: "Http": must contain only alpha-numeric characters (a-z, 0-9), and hyphens (-)']),
        ("known types", {"type": "Magic", "ports": [PORT]}, ['spec.type: Unsupported value: "Magic": supported values: "ClusterIP", "ExternalName", "LoadBalancer", "NodePort"']),
        ("node ports need the type", {"ports": [{**PORT, "nodePort": 30000}]}, [f"{P}[0].nodePort: Forbidden: may not be used when `type` is 'ClusterIP'"]),
        ("node ports need an address", {"type": "NodePort", "clusterIP": "None", "ports": [PORT]}, ["spec.clusterIPs[0]: Invalid value: \"None\": may not be set to 'None' for NodePort services"]),
        ("another name is given", {"type": "ExternalName"}, ["spec.externalName: Required value"]),
        ("and has no address", {"type": "ExternalName", "externalName": "x.com.", "clusterIP": "10.96.0.1"}, ["spec.clusterIPs: Forbidden: may not be set for ExternalName services"]),
        ("affinity is known", {"sessionAffinity": "Cookie", "ports": [PORT]}, ['spec.sessionAffinity: Unsupported value: "Cookie": supported values: "ClientIP", "None"']),
        ("affinity ends", {"sessionAffinity": "ClientIP", "sessionAffinityConfig": {"clientIP": {"timeoutSeconds": 86401}}, "ports": [PORT]}, ["spec.sessionAffinityConfig.clientIP.timeoutSeconds: Invalid value: 86401: must be greater than 0 and less than 86400"]),
        ("addresses are addresses", {"clusterIP": "ten", "ports": [PORT]}, [f'spec.clusterIPs[0]: Invalid value: "ten": {IP}']),
        ("both fields agree", {"clusterIP": "10.96.0.1", "clusterIPs": ["10.96.0.2"], "ports": [PORT]}, ['spec.clusterIPs: Invalid value: ["10.96.0.2"]: first value must match `clusterIP`']),
        ("the first field too", {"clusterIPs": ["10.96.0.2"], "ports": [PORT]}, ['spec.clusterIPs: Invalid value: ["10.96.0.2"]: must be empty when `clusterIP` is not specified']),
        ("families are known", {"ipFamilies": ["IPv5"], "ports": [PORT]}, ['spec.ipFamilies[0]: Unsupported value: "IPv5": supported values: "IPv4", "IPv6"']),
        ("families and addresses agree", {"clusterIP": "10.96.0.1", "ipFamilies": ["IPv6"], "ports": [PORT]}, ['spec.clusterIPs[0]: Invalid value: "10.96.0.1": expected an IPv6 value as indicated by `ipFamilies[0]`']),
        ("outside addresses are ordinary", {"externalIPs": ["127.0.0.1"], "ports": [PORT]}, ['spec.externalIPs[0]: Invalid value: "127.0.0.1": may not be in the loopback range (127.0.0.0/8, ::1/128)']),
        ("traffic policies need outside traffic", {"externalTrafficPolicy": "Local", "ports": [PORT]}, ['spec.externalTrafficPolicy: Invalid value: "Local": may only be set for externally-accessible services']),
        ("traffic policies are known", {"internalTrafficPolicy": "Near", "ports": [PORT]}, ['spec.internalTrafficPolicy: Unsupported value: "Near": supported values: "Cluster", "Local"']),
        ("ranges need a load balancer", {"loadBalancerSourceRanges": ["10.0.0.0/8"], "ports": [PORT]}, ["spec.LoadBalancerSourceRanges: Forbidden: may only be used when `type` is 'LoadBalancer'"]),
        ("classes too", {"loadBalancerClass": "a/b", "ports": [PORT]}, ["spec.loadBalancerClass: Forbidden: may only be used when `type` is 'LoadBalancer'"]),
        ("selectors are labels", {"selector": {"app": "web"}, "ports": [PORT]}, []),
        ("distribution is known", {"trafficDistribution": "Far", "ports": [PORT]}, ['spec.trafficDistribution: Unsupported value: "Far": supported values: "PreferClose", "PreferSameNode", "PreferSameZone"']),
    ],
)  # fmt: skip
def test_rules(sentence: str, spec: Spec, expected: list[str]) -> None:
    assert check(spec) == expected, sentence


def updated(old_spec: Spec, new_spec: Spec) -> tuple[Spec, list[str]]:
    old = created(old_spec)
    new: dict[str, Any] = {"metadata": dict(old["metadata"]), "spec": copy.deepcopy(new_spec)}
    strategy = registry.strategy_for(scheme.SERVICES)
    strategy.default(new)
    strategy.prepare_update(new, old)
    return new["spec"], [str(error) for error in strategy.validate_update(new, old)]


HELD = {"clusterIP": "10.96.0.9", "clusterIPs": ["10.96.0.9"], "ports": [PORT]}
NODE_PORT = {**HELD, "type": "NodePort", "ports": [{**FULL, "nodePort": 30080}]}


def test_an_update_that_leaves_the_address_out_keeps_it() -> None:
    spec, errors = updated(HELD, {"ports": [{"port": 81}]})
    assert (spec["clusterIP"], spec["clusterIPs"], errors) == ("10.96.0.9", ["10.96.0.9"], [])


def test_an_update_that_leaves_the_node_port_out_keeps_it() -> None:
    spec, errors = updated(NODE_PORT, {"type": "NodePort", "ports": [{**PORT, "targetPort": 8080}]})
    assert (spec["ports"][0]["nodePort"], errors) == (30080, [])


def test_the_address_does_not_change() -> None:
    assert updated(HELD, {**HELD, "clusterIP": "10.96.0.8"})[1] == [
        'spec.clusterIPs[0]: Invalid value: ["10.96.0.8"]: may not change once set'
    ]


def test_an_address_does_not_go_headless() -> None:
    assert updated(HELD, {**HELD, "clusterIP": "None"})[1] == [
        'spec.clusterIPs[0]: Invalid value: ["None"]: may not change once set'
    ]


def test_becoming_another_name_drops_the_address() -> None:
    spec, errors = updated(HELD, {**HELD, "type": "ExternalName", "externalName": "x.com"})
    assert errors == []
    assert not spec.keys() & {"clusterIP", "clusterIPs", "ipFamilies", "ipFamilyPolicy"}


def test_becoming_internal_drops_the_node_port_and_the_outside_policy() -> None:
    spec, errors = updated(NODE_PORT, {**NODE_PORT, "type": "ClusterIP", "externalTrafficPolicy": "Cluster"})
    assert errors == []
    assert "nodePort" not in spec["ports"][0]
    assert "externalTrafficPolicy" not in spec


def test_a_load_balancers_address_says_how_it_is_reached() -> None:
    strategy = registry.strategy_for(scheme.SERVICES)
    old = created({"type": "LoadBalancer", "ports": [PORT]})
    new = {**old, "status": {"loadBalancer": {"ingress": [{"ip": "1.2.3.4"}]}}}
    assert [str(error) for error in strategy.validate_status(new, old)] == [
        "status.loadBalancer.ingress[0].ipMode: Required value: must be specified when `ip` is set"
    ]


def test_an_address_of_a_load_balancer_is_its_own_unless_it_is_said_to_be_a_proxys() -> None:
    """[sig-network] Services should complete a service status lifecycle."""
    old = created({"type": "LoadBalancer", "ports": [PORT]})
    new = copy.deepcopy(old) | {"status": {"loadBalancer": {"ingress": [{"ip": "203.0.113.1"}, {"hostname": "a.b"}]}}}
    registry.strategy_for(scheme.SERVICES).default(new)
    assert new["status"]["loadBalancer"]["ingress"] == [{"ip": "203.0.113.1", "ipMode": "VIP"}, {"hostname": "a.b"}]
