"""Checks of kinds' APIs from their creation to the end of a collection, under the specs' own names."""

import json
import secrets
import threading
import time
from collections.abc import Callable

from conformance_network import Json, Net, endpoint_slice

Check = Callable[[Net], None]


def lifecycle(kind: str, manifest: Json, *, change: Json, status: Json | None = None) -> Check:
    """A check of a kind's API: create, get, list, watch, patch, update, status, delete, delete of a collection."""

    def check(net: Net) -> None:
        label = f"test-{secrets.token_hex(3)}"
        made = json.loads(json.dumps(manifest))
        made["metadata"]["labels"] = {"special": label}
        name, events = made["metadata"]["name"], []
        watching = threading.Thread(
            target=lambda: events.append(
                net.kubectl(["get", kind, "-l", f"special={label}", "-w", "-o", "name", "--request-timeout=6s"]).out
            )
        )
        watching.start()
        time.sleep(1.0)
        net.create(made)
        assert net.get(kind, name)["metadata"]["name"] == name
        assert len(net.get(kind, "-l", f"special={label}")["items"]) == 1
        patched = net.patch(kind, name, body={"metadata": {"annotations": {"patched": "true"}}, **change})
        assert patched["metadata"]["annotations"]["patched"] == "true"
        patched["metadata"]["annotations"]["updated"] = "true"
        net.kubectl.ok("replace", "-f", "-", stdin=json.dumps(patched))
        assert net.get(kind, name)["metadata"]["annotations"]["updated"] == "true"
        if status is not None:
            told = net.patch(kind, name, "--subresource=status", body={"status": status})
            assert told["status"] == status
        net.kubectl.ok("delete", kind, name)
        made["metadata"]["labels"] = {"special": label}
        net.create(made)
        net.kubectl.ok("delete", kind, "-l", f"special={label}")
        assert net.get(kind, "-l", f"special={label}")["items"] == []
        watching.join(timeout=15)
        assert name in events[0]

    return check


HELD: Json = {"parentRef": {"group": "mygroup", "resource": "myresources", "namespace": "foo", "name": "bar"}}
RULE: Json = {
    "http": {
        "paths": [{"path": "/", "pathType": "Prefix", "backend": {"service": {"name": "web", "port": {"number": 80}}}}]
    }
}
LIFECYCLES: dict[str, Check] = {
    "[sig-network] EndpointSlice should support creating EndpointSlice API operations": lifecycle(
        "endpointslices",
        endpoint_slice("byhand-1", "absent", ["10.1.2.3"], {"name": "a", "port": 80, "protocol": "TCP"}),
        change={},
    ),
    "[sig-network] Endpoints should test the lifecycle of an Endpoint": lifecycle(
        "endpoints",
        {
            "apiVersion": "v1",
            "kind": "Endpoints",
            "metadata": {"name": "lonely"},
            "subsets": [{"addresses": [{"ip": "10.0.0.24"}], "ports": [{"port": 80}]}],
        },
        change={"subsets": [{"addresses": [{"ip": "10.0.0.25"}], "ports": [{"port": 8080}]}]},
    ),
    "[sig-network] Ingress API should support creating Ingress API operations": lifecycle(
        "ingresses",
        {
            "apiVersion": "networking.k8s.io/v1",
            "kind": "Ingress",
            "metadata": {"name": "front"},
            "spec": {"rules": [{"host": "a.test", **RULE}]},
        },
        change={},
        status={"loadBalancer": {"ingress": [{"ip": "169.1.1.1"}]}},
    ),
    "[sig-network] IngressClass API should support creating IngressClass API operations": lifecycle(
        "ingressclasses",
        {
            "apiVersion": "networking.k8s.io/v1",
            "kind": "IngressClass",
            "metadata": {"name": "front"},
            "spec": {"controller": "example.com/c"},
        },
        change={},
    ),
    "[sig-network] ServiceCIDR and IPAddress API should support IPAddress API operations": lifecycle(
        "ipaddresses",
        {
            "apiVersion": "networking.k8s.io/v1",
            "kind": "IPAddress",
            "metadata": {"name": "255.255.255.255"},
            "spec": HELD,
        },
        change={},
    ),
}
