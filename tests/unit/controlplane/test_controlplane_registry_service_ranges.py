"""Ranges of Service addresses, and addresses that somebody holds: rules, and what the API server makes itself."""

from pathlib import Path
from typing import Any

import pytest

from controlplane.apiserver import registry
from fakes.api_harness import harness
from kube import scheme
from kube.client.identity import User
from kube.scheme import Resource

HELD = {"parentRef": {"group": "g.io", "resource": "things", "namespace": "foo", "name": "bar"}}


def check(resource: Resource, name: str, spec: dict[str, Any]) -> list[str]:
    strategy = registry.strategy_for(resource)
    return [str(error) for error in strategy.validate_create({"metadata": {"name": name}, "spec": spec})]


def change(resource: Resource, name: str, old: dict[str, Any], new: dict[str, Any]) -> list[str]:
    before, after = ({"metadata": {"name": name, "resourceVersion": "1"}, "spec": spec} for spec in (old, new))
    return [str(error) for error in registry.strategy_for(resource).validate_update(after, before)]


@pytest.mark.parametrize("name", ["255.255.255.255", "fe80::42:1dff:fe84:f9e2"])
def test_an_address_is_the_name_of_its_object(name: str) -> None:
    assert check(scheme.IP_ADDRESSES, name, HELD) == []
    assert "must be a valid IP address" in check(scheme.IP_ADDRESSES, name + "x", HELD)[0]


@pytest.mark.parametrize(
    ("parent", "fault"),
    [
        (None, "spec.parentRef: Required value"),
        ({"name": "a"}, "spec.parentRef.resource: Required value"),
        ({"resource": "services"}, "spec.parentRef.name: Required value"),
        ({"resource": "a/b", "name": "a"}, "spec.parentRef.resource: Invalid value: \"a/b\": may not contain '/'"),
        ({"resource": "a", "name": ".."}, "spec.parentRef.name: Invalid value: \"..\": may not be '..'"),
    ],
)
def test_an_address_names_who_holds_it(parent: dict[str, str] | None, fault: str) -> None:
    assert check(scheme.IP_ADDRESSES, "10.0.0.1", {"parentRef": parent} if parent else {}) == [fault]


def test_an_address_stays_with_who_holds_it() -> None:
    other = {"parentRef": HELD["parentRef"] | {"name": "other"}}
    (fault,) = change(scheme.IP_ADDRESSES, "10.0.0.1", HELD, other)
    assert fault.endswith("field is immutable")


@pytest.mark.parametrize(
    ("cidrs", "fault"),
    [
        (["10.96.0.0/16"], ""),
        (["10.96.0.0/16", "fd96::/108"], ""),
        ([], "at least one CIDR required"),
        (["10.96.0.0/16", "10.97.0.0/16"], "may specify no more than one IP for each IP family"),
        (["10.96.0.0/16", "fd96::/108", "fd97::/108"], "may only hold up to 2 values"),
        (["10.96.0.1/16"], "must not have bits set beyond the prefix length"),
    ],
)
def test_a_service_range_is_one_of_each_ip_version(cidrs: list[str], fault: str) -> None:
    found = check(scheme.SERVICE_CIDRS, "more", {"cidrs": cidrs})
    assert fault in found[0] if fault else found == []


def test_a_service_range_only_grows_by_the_other_ip_version() -> None:
    one, both = {"cidrs": ["10.96.0.0/16"]}, {"cidrs": ["10.96.0.0/16", "fd96::/108"]}
    assert change(scheme.SERVICE_CIDRS, "more", one, both) == []
    assert change(scheme.SERVICE_CIDRS, "more", both, one)
    assert change(scheme.SERVICE_CIDRS, "more", one, {"cidrs": ["10.97.0.0/16"]})


async def test_the_clusters_own_range_is_there_and_ready_and_a_node_may_read_it(tmp_path: Path) -> None:
    node = User("system:node:n1", ("system:nodes",))
    async with harness(tmp_path) as made:
        code, found = await made.ask("GET", "/apis/networking.k8s.io/v1/servicecidrs/kubernetes", user=node)
    assert code == 200
    assert found["spec"]["cidrs"] == ["10.96.0.0/16"]
    assert [(each["type"], each["status"]) for each in found["status"]["conditions"]] == [("Ready", "True")]
