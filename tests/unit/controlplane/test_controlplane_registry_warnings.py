# ruff: noqa: E501 (a table of cases reads best with one case on a line)
"""Warnings: what is legal and still most likely a mistake, as kubectl prints it."""

from typing import Any

import pytest

from controlplane.apiserver import registry
from kube import scheme

DNS = "which can result in surprising behavior; a DNS label is recommended: [must not contain dots]"


def warned(fields: dict[str, Any] | None = None, name: str = "p", **container: Any) -> list[str]:
    spec = {"containers": [{"name": "c", "image": "x", **container}], **(fields or {})}
    obj = {"metadata": {"name": name, "namespace": "default"}, "spec": spec}
    strategy = registry.strategy_for(scheme.PODS)
    strategy.default(obj)
    assert strategy.warnings(obj, obj) == []
    return strategy.warnings(obj, None)


C = "spec.containers[0]"


@pytest.mark.parametrize(
    ("sentence", "found", "expected"),
    [
        ("nothing to say", warned(), []),
        ("the name becomes a host name", warned(name="a.b"), [f"metadata.name: this is used in the Pod's hostname, {DNS}"]),
        ("one variable hides another", warned(env=[{"name": "A", "value": "1"}, {"name": "A", "value": "2"}]), [f'{C}.env[1]: hides previous definition of "A", which may be dropped when using apply']),
        ("unless it builds on it", warned(env=[{"name": "A", "value": "1"}, {"name": "A", "value": "$(A)2"}]), []),
        ("two equal ports", warned(ports=[{"containerPort": 80}, {"containerPort": 80}]), [f"{C}.ports[1]: duplicate port definition with {C}.ports[0]"]),
        ("a port with and without host port", warned(ports=[{"containerPort": 80}, {"containerPort": 80, "hostPort": 80}]), [f"{C}.ports[1]: overlapping port definition with {C}.ports[0]"]),
        ("old labels of nodes", warned({"nodeSelector": {"beta.kubernetes.io/os": "linux"}}), ['spec.nodeSelector[beta.kubernetes.io/os]: deprecated since v1.14; use "kubernetes.io/os" instead']),
        ("half a byte", warned(resources={"requests": {"memory": "100m"}}), [f'{C}.resources.requests[memory]: fractional byte value "100m" is invalid, must be an integer']),
        ("old volumes", warned({"volumes": [{"name": "v", "gitRepo": {"repository": "r"}}]}), ["spec.volumes[0].gitRepo: deprecated in v1.11"]),
        ("a secret without name", warned({"imagePullSecrets": [{}]}), ['spec.imagePullSecrets[0].name: invalid empty name ""']),
        ("an alias twice", warned({"hostAliases": [{"ip": "1.1.1.1"}, {"ip": "1.1.1.1"}]}), ['spec.hostAliases[1].ip: duplicate ip "1.1.1.1"']),
        ("grace below zero", warned({"terminationGracePeriodSeconds": -1}), ["spec.terminationGracePeriodSeconds: must be >= 0; negative values are invalid and will be treated as 1"]),
        ("spread over nothing", warned({"topologySpreadConstraints": [{"topologyKey": "zone"}]}), ["spec.topologySpreadConstraints[0].labelSelector: a null labelSelector results in matching no pod"]),
    ],
)  # fmt: skip
def test_a_pod(sentence: str, found: list[str], expected: list[str]) -> None:
    assert found == expected, sentence


def deployment(name: str, generation: int) -> dict[str, Any]:
    template = {"spec": {"containers": [{"name": "c", "env": [{"name": "A"}, {"name": "A"}]}]}}
    return {"metadata": {"name": name, "generation": generation}, "spec": {"template": template}}


def test_a_deployment_speaks_of_its_template_when_that_may_have_changed() -> None:
    strategy = registry.strategy_for(scheme.DEPLOYMENTS)
    hides = 'spec.template.spec.containers[0].env[1]: hides previous definition of "A", which may be dropped when using apply'
    assert strategy.warnings(deployment("a.b", 1), None) == [
        f"metadata.name: this is used in Pod names and hostnames, {DNS}",
        hides,
    ]
    assert strategy.warnings(deployment("a.b", 2), deployment("a.b", 1)) == [hides]
    assert strategy.warnings(deployment("a.b", 2), deployment("a.b", 2)) == []


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ({"type": "ClusterIP", "clusterIP": "None", "sessionAffinity": "ClientIP"}, ["spec.SessionAffinity is ignored for headless services"]),
        ({"type": "ClusterIP", "externalName": "x.com"}, ['spec.externalName is ignored when spec.type is not "ExternalName"']),
        ({"type": "ClusterIP", "trafficDistribution": "PreferClose"}, ['spec.trafficDistribution: "PreferClose" is deprecated; use "PreferSameZone"']),
        ({"type": "ExternalName", "externalName": "x.com", "externalIPs": ["1.2.3.4"]}, ['spec.externalIPs is ignored when spec.type is "ExternalName"']),
        ({"type": "ClusterIP", "externalIPs": ["1.2.3.4"]}, ["spec.externalIPs is deprecated and may no longer be implemented in some clusters"]),
        ({"type": "ClusterIP", "sessionAffinity": "None"}, []),
    ],
)  # fmt: skip
def test_a_service(spec: dict[str, Any], expected: list[str]) -> None:
    assert registry.strategy_for(scheme.SERVICES).warnings({"metadata": {}, "spec": spec}, None) == expected
