"""What Services show of their pods, and how little is rewritten when something changes."""

from typing import Any

import msgspec
import pytest

from controlplane.controllers import backends, endpoints, endpointslice, writes
from controlplane.projection import Endpoints, EndpointSlice, Pod, Service

NAMED = [{"name": "web", "port": 80, "targetPort": "http"}]


def service(*, headless: bool = False, ports: Any = NAMED, **spec: Any) -> Service:
    meta = {"name": "web", "namespace": "default", "uid": "svc", "labels": {"tier": "front"}}
    full = {"selector": {"app": "web"}, "ports": ports, "clusterIP": "None" if headless else "10.96.0.9", **spec}
    return msgspec.convert({"metadata": meta, "spec": full}, Service)


def pod(name: str, ip: str, *, ready: bool = True, port: int = 8080, leaving: bool = False, **more: Any) -> Pod:
    meta = {"name": name, "namespace": "default", "uid": f"uid-{name}", "labels": {"app": "web"}}
    if leaving:
        meta["deletionTimestamp"] = "2026-01-01T00:00:30Z"
    container = {"name": "c", "ports": [{"name": "http", "containerPort": port}]}
    stamp = "2026-01-01T00:00:10Z"
    status = {
        "phase": more.pop("phase", "Running"),
        "podIP": ip,
        "podIPs": [{"ip": ip}, *more.pop("second", [])],
        "conditions": [{"type": "Ready", "status": "True" if ready else "False", "lastTransitionTime": stamp}],
    }
    spec = {"nodeName": "n1", "containers": [container], **more}
    return msgspec.convert({"metadata": meta, "spec": spec, "status": status}, Pod)


class Slices:
    """Slices as the API server would hold them after the planned writes."""

    def __init__(self) -> None:
        self.all: dict[str, EndpointSlice] = {}
        self.made = 0

    def follow(self, of: Service, pods: list[Pod]) -> list[writes.Write]:
        planned = list(endpointslice.plan(of, pods, list(self.all.values())))
        for write in planned:
            if isinstance(write, writes.Create):
                self.made += 1
                meta = write.body["metadata"] | {"name": f"web-{self.made}", "uid": f"slice-{self.made}"}
                self.all[f"web-{self.made}"] = msgspec.convert({**write.body, "metadata": meta}, EndpointSlice)
            elif isinstance(write, writes.Delete):
                del self.all[write.name]
            else:
                held = self.all[write.name]
                held.endpoints = tuple(write.body["endpoints"])
                held.metadata.annotations.update(write.body["metadata"]["annotations"])
                merged = held.metadata.labels | write.body["metadata"]["labels"]
                held.metadata.labels = {k: v for k, v in merged.items() if v is not None}
        return planned

    def shown(self) -> dict[str, Any]:
        return {e["addresses"][0]: e["conditions"] for one in self.all.values() for e in one.endpoints}

    def sizes(self) -> list[int]:
        return sorted(len(one.endpoints) for one in self.all.values())


def many(count: int) -> list[Pod]:
    return [pod(f"p{i}", f"10.0.{i // 250}.{i % 250 + 1}") for i in range(count)]


def test_a_slice_names_its_service_its_manager_and_its_owner() -> None:
    [create] = endpointslice.plan(service(), [pod("a", "10.0.0.1")], [])
    assert isinstance(create, writes.Create)
    meta = create.body["metadata"]
    assert meta["generateName"] == "web-"
    assert meta["labels"] == {
        "tier": "front",
        "kubernetes.io/service-name": "web",
        "endpointslice.kubernetes.io/managed-by": "endpointslice-controller.k8s.io",
    }
    assert meta["annotations"] == {"endpoints.kubernetes.io/last-change-trigger-time": "2026-01-01T00:00:10Z"}
    assert meta["ownerReferences"][0] | {"uid": "svc", "kind": "Service"} == meta["ownerReferences"][0]
    assert create.body["ports"] == [{"name": "web", "port": 8080, "protocol": "TCP"}]


def test_headless_slices_say_so() -> None:
    [create] = endpointslice.plan(service(headless=True), [pod("a", "10.0.0.1")], [])
    assert isinstance(create, writes.Create)
    assert create.body["metadata"]["labels"]["service.kubernetes.io/headless"] == ""


@pytest.mark.parametrize(
    ("given", "spec", "expected"),
    [
        ({}, {}, (True, True, False)),
        ({"ready": False}, {}, (False, False, False)),
        ({"leaving": True}, {}, (False, True, True)),
        ({"leaving": True, "ready": False}, {}, (False, False, True)),
        ({"ready": False}, {"publishNotReadyAddresses": True}, (True, False, False)),
    ],
)
def test_conditions_of_an_endpoint(given: Any, spec: Any, expected: tuple[bool, bool, bool]) -> None:
    slices = Slices()
    slices.follow(service(**spec), [pod("a", "10.0.0.1", **given)])
    assert slices.shown()["10.0.0.1"] == dict(zip(("ready", "serving", "terminating"), expected, strict=True))


def test_a_named_port_is_resolved_pod_by_pod() -> None:
    slices = Slices()
    slices.follow(service(), [pod("a", "10.0.0.1", port=8080), pod("b", "10.0.0.2", port=9090)])
    ports = {one.endpoints[0]["addresses"][0]: one.ports[0]["port"] for one in slices.all.values()}
    assert ports == {"10.0.0.1": 8080, "10.0.0.2": 9090}


def test_a_pod_that_lacks_a_named_port_is_shown_without_it() -> None:
    two = [{"name": "web", "port": 80, "targetPort": "http"}, {"name": "x", "port": 81, "targetPort": "absent"}]
    slices = Slices()
    slices.follow(service(ports=two), [pod("a", "10.0.0.1")])
    [one] = slices.all.values()
    assert [port["name"] for port in one.ports] == ["web"]


def test_a_hundred_to_a_slice() -> None:
    slices = Slices()
    slices.follow(service(), many(250))
    assert slices.sizes() == [50, 100, 100]
    assert len(slices.shown()) == 250


def test_one_change_rewrites_one_slice() -> None:
    slices, pods = Slices(), many(250)
    slices.follow(service(), pods)
    pods[120] = pod("p120", "10.0.0.121", ready=False)
    [patch] = slices.follow(service(), pods)
    assert isinstance(patch, writes.Patch)
    assert slices.shown()["10.0.0.121"]["ready"] is False


def test_what_leaves_makes_room_for_what_comes_in_the_same_slice() -> None:
    slices, pods = Slices(), many(200)
    slices.follow(service(), pods)
    changed = [*pods[:30], *pods[31:], pod("new", "10.9.9.9")]
    assert len(slices.follow(service(), changed)) == 1
    assert slices.sizes() == [100, 100]


def test_a_newcomer_goes_where_there_is_room() -> None:
    slices = Slices()
    slices.follow(service(), many(150))
    slices.follow(service(), [*many(150), pod("new", "10.9.9.9")])
    assert slices.sizes() == [51, 100]


def test_nothing_changed_means_nothing_written() -> None:
    slices = Slices()
    slices.follow(service(), many(130))
    assert slices.follow(service(), many(130)) == []


def test_without_pods_one_empty_slice_stays() -> None:
    slices = Slices()
    slices.follow(service(), [])
    assert slices.sizes() == [0]
    slices.follow(service(), many(120))
    slices.follow(service(), [])
    assert slices.sizes() == [0]
    assert slices.follow(service(), []) == []


def test_a_service_without_selector_is_left_alone() -> None:
    assert endpointslice.plan(service(selector={}), [], []) == ()
    assert endpoints.plan(service(selector={}), [], None) is None


def test_labels_follow_the_service_without_touching_endpoints() -> None:
    slices, of = Slices(), service()
    slices.follow(of, many(3))
    of.metadata.labels = {"tier": "back", "new": "x"}
    slices.follow(of, many(3))
    [one] = slices.all.values()
    assert one.metadata.labels["tier"] == "back"
    of.metadata.labels = {}
    slices.follow(of, many(3))
    assert "tier" not in one.metadata.labels
    assert len(one.endpoints) == 3


def test_each_address_family_has_slices_of_its_own() -> None:
    slices = Slices()
    dual = service(ipFamilies=["IPv4", "IPv6"])
    slices.follow(dual, [pod("a", "10.0.0.1", second=[{"ip": "fd00::1"}]), pod("b", "10.0.0.2")])
    shown = {one.address_type: [e["addresses"][0] for e in one.endpoints] for one in slices.all.values()}
    assert shown == {"IPv4": ["10.0.0.1", "10.0.0.2"], "IPv6": ["fd00::1"]}


def test_a_pods_own_name_shows_only_below_its_service() -> None:
    slices = Slices()
    named = pod("a", "10.0.0.1", hostname="a-0", subdomain="web")
    other = pod("b", "10.0.0.2", hostname="b-0", subdomain="elsewhere")
    slices.follow(service(), [named, other])
    [one] = slices.all.values()
    assert [e.get("hostname") for e in one.endpoints] == ["a-0", None]


@pytest.mark.parametrize(
    ("asked", "hints"),
    [
        (None, None),
        ("PreferClose", {"forZones": [{"name": "a"}]}),
        ("PreferSameZone", {"forZones": [{"name": "a"}]}),
        ("PreferSameNode", {"forZones": [{"name": "a"}], "forNodes": [{"name": "n1"}]}),
    ],
)
def test_endpoints_tell_their_zone_and_whom_they_are_meant_for(asked: str | None, hints: Any) -> None:
    close = service(trafficDistribution=asked) if asked else service()
    pods = [pod("a", "10.0.0.1"), pod("b", "10.0.0.2", ready=False)]
    [create] = endpointslice.plan(close, pods, [], zones={"n1": "a"})
    assert isinstance(create, writes.Create)
    ready, unready = create.body["endpoints"]
    assert (ready["zone"], ready.get("hints")) == ("a", hints)
    assert "hints" not in unready


def test_finished_pods_and_pods_without_address_have_no_endpoint() -> None:
    pods = [pod("a", "10.0.0.1", phase="Succeeded"), pod("b", ""), pod("c", "10.0.0.3")]
    assert [one.metadata.name for one in backends.selected(service(), pods)] == ["c"]


def test_old_endpoints_tell_ready_from_unready_and_leave_out_the_leaving() -> None:
    pods = [pod("a", "10.0.0.2"), pod("b", "10.0.0.1", ready=False), pod("c", "10.0.0.3", leaving=True)]
    write = endpoints.plan(service(), pods, None)
    assert isinstance(write, writes.Create)
    [subset] = write.body["subsets"]
    assert [a["ip"] for a in subset["addresses"]] == ["10.0.0.2"]
    assert [a["ip"] for a in subset["notReadyAddresses"]] == ["10.0.0.1"]
    assert subset["ports"] == [{"name": "web", "port": 8080, "protocol": "TCP"}]


def test_old_endpoints_stop_at_a_thousand_and_say_so() -> None:
    pods = [*many(1001), pod("unready", "10.9.9.9", ready=False)]
    write = endpoints.plan(service(), pods, None)
    assert isinstance(write, writes.Create)
    assert len(write.body["subsets"][0]["addresses"]) == 1000
    assert "notReadyAddresses" not in write.body["subsets"][0]
    assert write.body["metadata"]["annotations"]["endpoints.kubernetes.io/over-capacity"] == "truncated"


def test_old_endpoints_are_written_only_on_change() -> None:
    write = endpoints.plan(service(), many(2), None)
    assert isinstance(write, writes.Create)
    held = msgspec.convert(write.body, Endpoints)
    assert endpoints.plan(service(), many(2), held) is None
    changed = endpoints.plan(service(), many(3), held)
    assert isinstance(changed, writes.Patch)
