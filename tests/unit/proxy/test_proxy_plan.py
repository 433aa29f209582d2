"""From Service and EndpointSlice objects to rules, and from rules to what changed."""

import sys
from typing import Any

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from kube.types import EndpointSlice, Service
from proxy.backends import elements, packed
from proxy.rules import plan
from proxy.rules.plan import Backend, Frontend, PortRules, RuleSet
from proxy.services.model import ServiceKey, ThisNode

NODE = "node-1"
HERE = ThisNode(name=NODE)
WEB = ServiceKey("default", "web")
FRONTEND = Frontend("10.96.0.10", "tcp", 80)


def service(*, labels: dict[str, str] | None = None, **spec: Any) -> Service:
    ports = [{"name": "", "port": 80, "protocol": "TCP"}]
    body = {"clusterIP": "10.96.0.10", "clusterIPs": ["10.96.0.10"], "ports": ports} | spec
    return msgspec.convert(
        {"metadata": {"name": "web", "namespace": "default", "labels": labels or {}}, "spec": body}, Service
    )


def endpoint(address: str, *, node: str = NODE, **conditions: bool) -> dict[str, Any]:
    return {"addresses": [address], "nodeName": node, "conditions": conditions}


def slice_of(*endpoints: dict[str, Any], port: int = 8080, name: str = "", **labels: str) -> EndpointSlice:
    return msgspec.convert(
        {
            "metadata": {"name": "web-x", "namespace": "default", "labels": labels},
            "addressType": "IPv4",
            "endpoints": list(endpoints),
            "ports": [{"name": name, "port": port, "protocol": "TCP"}],
        },
        EndpointSlice,
    )


def backends(found: Service | None, *slices: EndpointSlice) -> list[str] | None:
    rules = plan.plan(found, slices, node=HERE, before={}).get(FRONTEND)
    return None if rules is None else [f"{b.address}:{b.port}" for b in rules.backends]


def test_a_cluster_address_leads_to_the_ready_endpoints_of_all_slices() -> None:
    found = backends(service(), slice_of(endpoint("10.0.0.1", ready=True)), slice_of(endpoint("10.0.0.2")))
    assert found == ["10.0.0.1:8080", "10.0.0.2:8080"]


def test_an_endpoint_that_is_not_ready_is_left_out() -> None:
    assert backends(service(), slice_of(endpoint("10.0.0.1", ready=False), endpoint("10.0.0.2", ready=True))) == [
        "10.0.0.2:8080"
    ]


def test_without_ready_endpoints_those_that_still_serve_while_they_terminate_are_used() -> None:
    leaving = endpoint("10.0.0.1", ready=False, serving=True, terminating=True)
    failing = endpoint("10.0.0.2", ready=False, serving=False, terminating=True)
    assert backends(service(), slice_of(leaving, failing)) == ["10.0.0.1:8080"]


def test_the_same_endpoint_in_two_slices_counts_once() -> None:
    assert backends(service(), slice_of(endpoint("10.0.0.1")), slice_of(endpoint("10.0.0.1"))) == ["10.0.0.1:8080"]


def test_a_port_is_matched_by_name_and_protocol() -> None:
    assert backends(service(), slice_of(endpoint("10.0.0.1"), name="other")) == []


def test_services_that_are_not_the_proxys_business_have_no_rules() -> None:
    one = slice_of(endpoint("10.0.0.1"))
    assert backends(service(clusterIP="None", clusterIPs=["None"]), one) is None
    assert backends(service(type="ExternalName"), one) is None
    assert backends(service(labels={"service.kubernetes.io/service-proxy-name": "mine"}), one) is None
    assert backends(None, one) is None


def test_slices_of_headless_services_and_other_proxies_are_ignored() -> None:
    labels = {"service.kubernetes.io/headless": ""}
    assert backends(service(), slice_of(endpoint("10.0.0.1"), **labels)) == []


def test_a_local_policy_uses_this_node_only_and_drops_when_nobody_is_here() -> None:
    local = service(internalTrafficPolicy="Local")
    here, there = endpoint("10.0.0.1"), endpoint("10.0.0.2", node="node-2")
    assert backends(local, slice_of(here, there)) == ["10.0.0.1:8080"]
    rules = plan.plan(local, [slice_of(there)], node=HERE, before={})[FRONTEND]
    assert (rules.backends, rules.drop) == ((), True)
    assert not plan.plan(local, [], node=HERE, before={})[FRONTEND].drop


def test_only_pods_of_this_node_may_meet_themselves() -> None:
    rules = plan.plan(
        service(), [slice_of(endpoint("10.0.0.1"), endpoint("10.0.0.2", node="node-2"))], node=HERE, before={}
    )
    assert rules[FRONTEND].hairpins == frozenset({"10.0.0.1"})


def test_a_service_of_two_families_has_a_frontend_each() -> None:
    rules = plan.plan(service(clusterIPs=["10.96.0.10", "fd00::a"]), [], node=HERE, before={})
    assert {frontend.version for frontend in rules} == {4, 6}


def test_reordering_endpoints_changes_nothing() -> None:
    first = plan.plan(service(), [slice_of(endpoint("10.0.0.2"), endpoint("10.0.0.1"))], node=HERE, before={})
    again = plan.plan(service(), [slice_of(endpoint("10.0.0.1"), endpoint("10.0.0.2"))], node=HERE, before=first)
    applied = RuleSet()
    applied.replace(WEB, first)
    assert not plan.difference(applied, {WEB: again})


names = st.lists(st.integers(1, 20), unique=True, max_size=12)


def as_backends(numbers: list[int]) -> list[Backend]:
    return [Backend(f"10.0.0.{n}", 80) for n in numbers]


@given(names, names)
def test_backends_are_exactly_the_wanted_ones_and_move_only_into_holes(old: list[int], new: list[int]) -> None:
    before, wanted = tuple(as_backends(old)), set(as_backends(new))
    after = plan.stable(before, wanted)
    assert set(after) == wanted
    assert len(after) == len(wanted)
    moved = [b for place, b in enumerate(after) if b in before and before.index(b) != place]
    assert len(moved) <= len(set(before) - wanted)


@given(st.lists(st.dictionaries(st.integers(0, 3), names, max_size=4), max_size=8))
def test_applying_differences_one_by_one_ends_at_the_same_elements_as_writing_all(
    steps: list[dict[int, list[int]]],
) -> None:
    applied, present = RuleSet(), set[elements.Element]()
    for step in steps:
        wanted = {}
        for number, numbers in step.items():
            key, frontend = ServiceKey("default", f"s{number}"), Frontend(f"10.96.0.{number}", "tcp", 80)
            old = applied.services.get(key, {}).get(frontend)
            found = set(as_backends(numbers))
            rules = PortRules(
                backends=plan.stable(old.backends if old else (), found), hairpins=frozenset(b.address for b in found)
            )
            wanted[key] = {frontend: rules} if numbers else {}
        changes = plan.difference(applied, wanted)
        for edit in elements.edits(changes):
            if edit.delete:
                present.remove(edit.element)
            else:
                assert edit.element not in present
                present.add(edit.element)
        for key, rules_of in wanted.items():
            applied.replace(key, rules_of)
    assert present == set(elements.of_rules(applied))


def test_one_endpoint_more_costs_three_elements_whatever_the_cluster_holds() -> None:
    applied = RuleSet()
    for number in range(1000):
        key, frontend = (
            ServiceKey("default", f"s{number}"),
            Frontend(f"10.97.{number // 250}.{number % 250}", "tcp", 80),
        )
        applied.replace(key, {frontend: PortRules(backends=tuple(as_backends([1, 2])))})
    frontend = Frontend("10.97.0.7", "tcp", 80)
    changes = plan.difference(
        applied, {ServiceKey("default", "s7"): {frontend: PortRules(backends=tuple(as_backends([1, 2, 3])))}}
    )
    assert len(elements.edits(changes)) == 3


def test_an_element_is_encoded_as_the_kernel_lays_out_a_concatenation() -> None:
    assert packed.field("address", "10.96.0.1").hex() == "0a600001"
    assert packed.field("protocol", "tcp").hex() == "06000000"
    assert packed.field("port", 80).hex() == "00500000"
    assert int.from_bytes(packed.field("index", 3), sys.byteorder) == 3
    assert packed.unpack(elements.KEYS["endpoints"], bytes.fromhex("0a600001060000000050000003000000"), 4) == (
        "10.96.0.1",
        "tcp",
        80,
        3,
    )
