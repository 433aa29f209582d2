# ruff: noqa: E501 (a table of cases reads best with one case on a line)
"""Tables: the columns and the cells people know from `kubectl get`, kind by kind."""

from datetime import UTC, datetime
from typing import Any

import pytest

from controlplane.apiserver import registry, tables
from kube import scheme
from kube.scheme import Resource

NOW = datetime(2026, 11, 23, 15, 0, 0, tzinfo=UTC)
META = {"name": "web", "namespace": "default", "creationTimestamp": "2026-11-23T14:57:30Z"}
AGE = "2m30s"


def table(resource: Resource, fields: dict[str, Any], **meta: Any) -> dict[str, Any]:
    obj = {"metadata": {**META, **meta}, **fields}
    return tables.table(registry.strategy_for(resource), [obj], {}, "None", now=NOW)


def shown(resource: Resource, fields: dict[str, Any], *, wide: bool = False, **meta: Any) -> dict[str, Any]:
    body = table(resource, fields, **meta)
    (row,) = body["rows"]
    pairs = zip(body["columnDefinitions"], row["cells"], strict=True)
    return {column["name"]: cell for column, cell in pairs if wide or column["priority"] == 0}


TEMPLATE = {"spec": {"containers": [{"name": "a", "image": "x:1"}, {"name": "b", "image": "y:2"}]}}
SELECTOR = {"matchLabels": {"app": "web"}}
WORKLOAD = {"Containers": "a,b", "Images": "x:1,y:2", "Selector": "app=web"}


@pytest.mark.parametrize(
    ("resource", "fields", "expected"),
    [
        (scheme.SERVICES, {"spec": {"type": "NodePort", "clusterIP": "10.96.0.9", "ports": [{"port": 80, "nodePort": 30080, "protocol": "TCP"}, {"port": 53, "protocol": "UDP"}], "selector": {"b": "2", "a": "1"}}}, {"Name": "web", "Type": "NodePort", "Cluster-IP": "10.96.0.9", "External-IP": "<none>", "Port(s)": "80:30080/TCP,53/UDP", "Age": AGE, "Selector": "a=1,b=2"}),
        (scheme.ENDPOINTS, {"subsets": [{"addresses": [{"ip": f"10.0.0.{n}"} for n in range(1, 6)], "ports": [{"port": 80}]}]}, {"Name": "web", "Endpoints": "10.0.0.1:80,10.0.0.2:80,10.0.0.3:80 + 2 more...", "Age": AGE}),
        (scheme.ENDPOINT_SLICES, {"addressType": "IPv4", "ports": [{"port": 80}], "endpoints": [{"addresses": ["10.0.0.1"]}]}, {"Name": "web", "AddressType": "IPv4", "Ports": "80", "Endpoints": "10.0.0.1", "Age": AGE}),
        (scheme.ENDPOINT_SLICES, {"addressType": "IPv4"}, {"Name": "web", "AddressType": "IPv4", "Ports": "<unset>", "Endpoints": "<unset>", "Age": AGE}),
        (scheme.NAMESPACES, {"status": {"phase": "Active"}}, {"Name": "web", "Status": "Active", "Age": AGE}),
        (scheme.CONFIG_MAPS, {"data": {"a": "1"}, "binaryData": {"b": ""}}, {"Name": "web", "Data": 2, "Age": AGE}),
        (scheme.SECRETS, {"type": "Opaque", "data": {"a": ""}}, {"Name": "web", "Type": "Opaque", "Data": 1, "Age": AGE}),
        (scheme.SERVICE_ACCOUNTS, {}, {"Name": "web", "Secrets": 0, "Age": AGE}),
        (scheme.DEPLOYMENTS, {"spec": {"replicas": 3, "selector": SELECTOR, "template": TEMPLATE}, "status": {"readyReplicas": 1, "updatedReplicas": 2, "availableReplicas": 1}}, {"Name": "web", "Ready": "1/3", "Up-to-date": 2, "Available": 1, "Age": AGE, **WORKLOAD}),
        (scheme.REPLICA_SETS, {"spec": {"replicas": 3, "selector": SELECTOR, "template": TEMPLATE}, "status": {"replicas": 2, "readyReplicas": 1}}, {"Name": "web", "Desired": 3, "Current": 2, "Ready": 1, "Age": AGE, **WORKLOAD}),
        (scheme.REPLICATION_CONTROLLERS, {"spec": {"replicas": 1, "selector": {"app": "web"}, "template": TEMPLATE}}, {"Name": "web", "Desired": 1, "Current": 0, "Ready": 0, "Age": AGE, **WORKLOAD}),
        (scheme.DAEMON_SETS, {"spec": {"selector": SELECTOR, "template": TEMPLATE}, "status": {"desiredNumberScheduled": 3, "currentNumberScheduled": 2, "numberReady": 1}}, {"Name": "web", "Desired": 3, "Current": 2, "Ready": 1, "Up-to-date": 0, "Available": 0, "Node Selector": "<none>", "Age": AGE, **WORKLOAD}),
        (scheme.STATEFUL_SETS, {"spec": {"replicas": 2, "template": TEMPLATE}, "status": {"readyReplicas": 1}}, {"Name": "web", "Ready": "1/2", "Age": AGE, "Containers": "a,b", "Images": "x:1,y:2"}),
        (scheme.JOBS, {"spec": {"completions": 1, "selector": SELECTOR, "template": TEMPLATE}, "status": {"succeeded": 1, "startTime": "2026-11-23T14:58:00Z", "completionTime": "2026-11-23T14:58:10Z", "conditions": [{"type": "Complete", "status": "True"}]}}, {"Name": "web", "Status": "Complete", "Completions": "1/1", "Duration": "10s", "Age": AGE, **WORKLOAD}),
        (scheme.CRON_JOBS, {"spec": {"schedule": "* * * * *", "jobTemplate": {"spec": {"template": TEMPLATE}}}, "status": {"active": [{}], "lastScheduleTime": "2026-11-23T14:59:00Z"}}, {"Name": "web", "Schedule": "* * * * *", "Timezone": "<none>", "Suspend": "False", "Active": 1, "Last Schedule": "60s", "Age": AGE, "Containers": "a,b", "Images": "x:1,y:2", "Selector": "<none>"}),
        (scheme.CONTROLLER_REVISIONS, {"revision": 3}, {"Name": "web", "Controller": "<none>", "Revision": "3", "Age": AGE}),
        (scheme.LEASES, {"spec": {"holderIdentity": "node-1"}}, {"Name": "web", "Holder": "node-1", "Age": AGE}),
        (scheme.PERSISTENT_VOLUMES, {"spec": {"capacity": {"storage": "1Gi"}, "accessModes": ["ReadWriteOnce", "ReadOnlyMany"], "persistentVolumeReclaimPolicy": "Retain", "claimRef": {"namespace": "default", "name": "c"}, "storageClassName": "fast", "volumeMode": "Filesystem"}, "status": {"phase": "Bound"}}, {"Name": "web", "Capacity": "1Gi", "Access Modes": "RWO,ROX", "Reclaim Policy": "Retain", "Status": "Bound", "Claim": "default/c", "StorageClass": "fast", "VolumeAttributesClass": "<unset>", "Reason": "", "Age": AGE, "VolumeMode": "Filesystem"}),
        (scheme.PERSISTENT_VOLUME_CLAIMS, {"spec": {"volumeName": "v", "storageClassName": "fast"}, "status": {"phase": "Bound", "capacity": {"storage": "1Gi"}, "accessModes": ["ReadWriteMany"]}}, {"Name": "web", "Status": "Bound", "Volume": "v", "Capacity": "1Gi", "Access Modes": "RWX", "StorageClass": "fast", "VolumeAttributesClass": "<unset>", "Age": AGE, "VolumeMode": "<unset>"}),
        (scheme.STORAGE_CLASSES, {"provisioner": "p", "reclaimPolicy": "Delete", "volumeBindingMode": "Immediate"}, {"Name": "web", "Provisioner": "p", "ReclaimPolicy": "Delete", "VolumeBindingMode": "Immediate", "AllowVolumeExpansion": False, "Age": AGE}),
        (scheme.PRIORITY_CLASSES, {"value": 5, "globalDefault": True}, {"Name": "web", "Value": 5, "Global-Default": True, "Age": AGE, "PreemptionPolicy": "PreemptLowerPriority"}),
        (scheme.RUNTIME_CLASSES, {"handler": "runc"}, {"Name": "web", "Handler": "runc", "Age": AGE}),
        (scheme.NETWORK_POLICIES, {"spec": {"podSelector": SELECTOR}}, {"Name": "web", "Pod-Selector": "app=web", "Age": AGE}),
        (scheme.SERVICE_CIDRS, {"spec": {"cidrs": ["10.96.0.0/16", "fd96::/108"]}}, {"Name": "web", "CIDRs": "10.96.0.0/16,fd96::/108", "Age": AGE}),
        (scheme.IP_ADDRESSES, {"spec": {"parentRef": {"resource": "services", "namespace": "default", "name": "web"}}}, {"Name": "web", "ParentRef": "services/default/web", "Age": AGE}),
        (scheme.INGRESSES, {"spec": {"rules": [{"host": "x.com"}], "tls": [{}]}, "status": {"loadBalancer": {"ingress": [{"ip": "1.2.3.4"}]}}}, {"Name": "web", "Class": "<none>", "Hosts": "x.com", "Address": "1.2.3.4", "Ports": "80, 443", "Age": AGE}),
        (scheme.POD_DISRUPTION_BUDGETS, {"spec": {"minAvailable": "50%"}, "status": {"disruptionsAllowed": 1}}, {"Name": "web", "Min Available": "50%", "Max Unavailable": "N/A", "Allowed Disruptions": 1, "Age": AGE}),
        (scheme.CERTIFICATE_SIGNING_REQUESTS, {"spec": {"signerName": "s", "username": "u", "expirationSeconds": 86400}, "status": {"conditions": [{"type": "Approved"}], "certificate": "x"}}, {"Name": "web", "Age": AGE, "SignerName": "s", "Requestor": "u", "RequestedDuration": "24h", "Condition": "Approved,Issued"}),
        (scheme.RESOURCE_QUOTAS, {"status": {"hard": {"pods": "4", "limits.cpu": "2"}, "used": {"pods": "1"}}}, {"Name": "web", "Request": "pods: 1/4", "Limit": "limits.cpu: 0/2", "Age": AGE}),
        (scheme.LIMIT_RANGES, {}, {"Name": "web", "Created At": "2026-11-23T14:57:30Z"}),
    ],
)  # fmt: skip
def test_the_row_of_each_kind(resource: Resource, fields: dict[str, Any], expected: dict[str, Any]) -> None:
    assert shown(resource, fields, wide=True) == expected


@pytest.mark.parametrize(
    ("spec", "status", "expected"),
    [
        ({"type": "LoadBalancer"}, {}, "<pending>"),
        ({"type": "LoadBalancer"}, {"loadBalancer": {"ingress": [{"ip": "1.2.3.4"}]}}, "1.2.3.4"),
        ({"type": "ExternalName", "externalName": "x.com"}, {}, "x.com"),
        ({"type": "ClusterIP", "externalIPs": ["1.2.3.4", "5.6.7.8"]}, {}, "1.2.3.4,5.6.7.8"),
    ],
)
def test_the_outside_address_of_a_service(spec: dict[str, Any], status: dict[str, Any], expected: str) -> None:
    assert shown(scheme.SERVICES, {"spec": spec, "status": status})["External-IP"] == expected


def test_an_ordinary_table_hides_the_wide_columns() -> None:
    assert list(shown(scheme.PODS, {"spec": {}})) == ["Name", "Ready", "Status", "Restarts", "Age"]
    assert list(shown(scheme.NODES, {})) == ["Name", "Status", "Roles", "Age", "Version"]
    assert list(shown(scheme.DEPLOYMENTS, {})) == ["Name", "Ready", "Up-to-date", "Available", "Age"]
    assert list(shown(scheme.EVENTS, {})) == ["Last Seen", "Type", "Reason", "Object", "Message"]


def test_a_node_shows_state_roles_and_machine() -> None:
    info = {
        "kubeletVersion": "v1.36.0",
        "osImage": "Debian",
        "kernelVersion": "6.1",
        "containerRuntimeVersion": "containerd://1.6",
    }
    addresses = [{"type": "Hostname", "address": "n"}, {"type": "InternalIP", "address": "10.0.0.1"}]
    status = {"conditions": [{"type": "Ready", "status": "True"}], "nodeInfo": info, "addresses": addresses}
    labels = {"node-role.kubernetes.io/worker": "", "node-role.kubernetes.io/control-plane": ""}
    assert shown(scheme.NODES, {"spec": {"unschedulable": True}, "status": status}, wide=True, labels=labels) == {
        "Name": "web",
        "Status": "Ready,SchedulingDisabled",
        "Roles": "control-plane,worker",
        "Age": AGE,
        "Version": "v1.36.0",
        "Internal-IP": "10.0.0.1",
        "External-IP": "<none>",
        "OS-Image": "Debian",
        "Kernel-Version": "6.1",
        "Container-Runtime": "containerd://1.6",
    }


@pytest.mark.parametrize(("ready", "word"), [("True", "Ready"), ("False", "NotReady"), ("Unknown", "NotReady")])
def test_the_state_of_a_node(ready: str, word: str) -> None:
    assert shown(scheme.NODES, {"status": {"conditions": [{"type": "Ready", "status": ready}]}})["Status"] == word


def test_a_node_nobody_heard_of_is_unknown() -> None:
    assert shown(scheme.NODES, {})["Status"] == "Unknown"


def test_an_event_tells_when_what_and_to_whom() -> None:
    event = {
        "type": "Warning",
        "reason": "BackOff",
        "message": "Back-off\n",
        "count": 4,
        "firstTimestamp": "2026-11-23T14:50:00Z",
        "lastTimestamp": "2026-11-23T14:59:30Z",
        "involvedObject": {"kind": "Pod", "name": "p", "fieldPath": "spec.containers{c}"},
        "source": {"component": "kubelet", "host": "node-1"},
    }
    assert shown(scheme.EVENTS, event, wide=True) == {
        "Last Seen": "30s",
        "Type": "Warning",
        "Reason": "BackOff",
        "Object": "pod/p",
        "Subobject": "spec.containers{c}",
        "Source": "kubelet, node-1",
        "Message": "Back-off",
        "First Seen": "10m",
        "Count": 4,
        "Name": "web",
    }


def test_an_event_of_the_new_kind_counts_in_its_series() -> None:
    event = {
        "eventTime": "2026-11-23T14:50:00.000000Z",
        "series": {"count": 3, "lastObservedTime": "2026-11-23T14:59:00.000000Z"},
    }
    found = shown(scheme.EVENTS, event, wide=True)
    assert (found["Last Seen"], found["First Seen"], found["Count"]) == ("60s", "10m", 3)


def test_what_a_row_carries_besides_its_cells() -> None:
    strategy = registry.strategy_for(scheme.CONFIG_MAPS)
    obj = {"metadata": META, "data": {"a": "b"}}
    included = {
        include: tables.table(strategy, [obj], {"resourceVersion": "7"}, include, now=NOW)["rows"][0]["object"]
        for include in ("None", "Metadata", "Object")
    }
    assert included == {
        "None": None,
        "Metadata": {"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": META},
        "Object": obj,
    }


def test_a_table_describes_its_columns_once() -> None:
    strategy = registry.strategy_for(scheme.NAMESPACES)
    body = tables.table(strategy, [], {"resourceVersion": "7"}, "None", now=NOW)
    assert (body["kind"], body["apiVersion"], body["metadata"]) == ("Table", "meta.k8s.io/v1", {"resourceVersion": "7"})
    assert [
        (column["name"], column["type"], column["format"], column["priority"]) for column in body["columnDefinitions"]
    ] == [
        ("Name", "string", "name", 0),
        ("Status", "string", "", 0),
        ("Age", "string", "", 0),
    ]
    assert tables.table(strategy, [], {}, "None", now=NOW, definitions=False)["columnDefinitions"] == []


def test_a_finished_pod_is_marked() -> None:
    (row,) = table(scheme.PODS, {"spec": {}, "status": {"phase": "Failed"}})["rows"]
    assert row["conditions"] == [
        {"type": "Completed", "status": "True", "reason": "Failed", "message": "The pod failed."}
    ]


@pytest.mark.parametrize("resource", scheme.RESOURCES, ids=lambda resource: resource.group_resource)
def test_every_kind_has_as_many_cells_as_columns(resource: Resource) -> None:
    body = table(resource, {})
    assert len(body["rows"][0]["cells"]) == len(body["columnDefinitions"])
