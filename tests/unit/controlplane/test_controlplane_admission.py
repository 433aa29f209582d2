"""What admission fills in and refuses: accounts and tokens, priorities, tolerations, service addresses."""

from typing import Any

import pytest

from tests.fakes.api_harness import Harness

Object = dict[str, Any]
NAMESPACE = "/api/v1/namespaces/default"
PODS = f"{NAMESPACE}/pods"
TOKEN_PATH = "/var/run/secrets/kubernetes.io/serviceaccount"


def pod(name: str = "p", **spec: Any) -> Object:
    return {"metadata": {"name": name}, "spec": {"containers": [{"name": "c", "image": "demo:1"}], **spec}}


async def test_a_pod_runs_as_the_default_account_with_its_token_mounted(api: Harness) -> None:
    _, made = await api.ask("POST", PODS, pod(initContainers=[{"name": "i", "image": "demo:1"}]))
    spec = made["spec"]
    assert (spec["serviceAccountName"], spec["serviceAccount"]) == ("default", "default")
    [volume] = spec["volumes"]
    assert volume["name"].startswith("kube-api-access-") and len(volume["name"]) == len("kube-api-access-") + 5
    token, ca, namespace = volume["projected"]["sources"]
    assert token["serviceAccountToken"] == {"expirationSeconds": 3607, "path": "token"}
    assert ca["configMap"]["name"] == "kube-root-ca.crt"
    assert namespace["downwardAPI"]["items"][0]["path"] == "namespace"
    for container in (*spec["containers"], *spec["initContainers"]):
        mount = {"name": volume["name"], "readOnly": True, "mountPath": TOKEN_PATH}
        assert container["volumeMounts"] == [mount]


@pytest.mark.parametrize(
    ("pod_says", "account_says", "mounted"),
    [(None, None, True), (False, None, False), (None, False, False), (True, False, True), (False, True, False)],
)
async def test_the_pod_decides_on_the_token_before_the_account(
    api: Harness, pod_says: bool | None, account_says: bool | None, mounted: bool
) -> None:
    account = {"metadata": {"name": "web"}, "imagePullSecrets": [{"name": "pull"}]}
    if account_says is not None:
        account["automountServiceAccountToken"] = account_says  # type: ignore[assignment]
    await api.ask("POST", f"{NAMESPACE}/serviceaccounts", account)
    spec: Object = {"serviceAccountName": "web"}
    if pod_says is not None:
        spec["automountServiceAccountToken"] = pod_says
    _, made = await api.ask("POST", PODS, pod(**spec))
    assert bool(made["spec"].get("volumes")) is mounted
    assert made["spec"]["imagePullSecrets"] == [{"name": "pull"}]


async def test_a_mount_of_its_own_at_the_tokens_place_is_left_alone(api: Harness) -> None:
    container = {"name": "c", "image": "demo:1", "volumeMounts": [{"name": "v", "mountPath": TOKEN_PATH}]}
    _, made = await api.ask("POST", PODS, pod(containers=[container], volumes=[{"name": "v", "emptyDir": {}}]))
    assert [volume["name"] for volume in made["spec"]["volumes"]] == ["v"]


async def test_a_pod_of_an_account_that_is_not_there_is_refused(api: Harness) -> None:
    code, told = await api.ask("POST", PODS, pod(serviceAccountName="none"))
    assert (code, told["message"]) == (
        403,
        'pods "p" is forbidden: error looking up service account default/none: serviceaccount "none" not found',
    )


async def test_a_pods_priority_is_that_of_its_class(api: Harness) -> None:
    _, plain = await api.ask("POST", PODS, pod("plain"))
    assert (plain["spec"]["priority"], plain["spec"]["preemptionPolicy"]) == (0, "PreemptLowerPriority")
    _, high = await api.ask("POST", PODS, pod("high", priorityClassName="system-node-critical"))
    assert high["spec"]["priority"] == 2000001000
    code, told = await api.ask("POST", PODS, pod("x", priorityClassName="none"))
    assert (code, told["message"]) == (403, 'pods "x" is forbidden: no PriorityClass with name none was found')
    code, told = await api.ask("POST", PODS, pod("y", priority=5))
    assert code == 403 and "integer value of priority (5) must not be provided in pod spec" in told["message"]
    classes = "/apis/scheduling.k8s.io/v1/priorityclasses"
    body = {"metadata": {"name": "usual"}, "value": 7, "globalDefault": True, "preemptionPolicy": "Never"}
    await api.ask("POST", classes, body)
    _, usual = await api.ask("POST", PODS, pod("usual"))
    assert [usual["spec"][field] for field in ("priority", "priorityClassName", "preemptionPolicy")] == [
        7,
        "usual",
        "Never",
    ]


async def test_a_pod_stays_five_minutes_on_a_lost_node_unless_it_says_otherwise(api: Harness) -> None:
    _, made = await api.ask("POST", PODS, pod())
    assert [(t["key"], t["tolerationSeconds"]) for t in made["spec"]["tolerations"]] == [
        ("node.kubernetes.io/not-ready", 300),
        ("node.kubernetes.io/unreachable", 300),
    ]
    own = {"key": "node.kubernetes.io/not-ready", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 5}
    _, made = await api.ask("POST", PODS, pod("own", tolerations=[own]))
    assert [t["tolerationSeconds"] for t in made["spec"]["tolerations"]] == [5, 300]
    _, made = await api.ask("POST", PODS, pod("all", tolerations=[{"operator": "Exists"}]))
    assert made["spec"]["tolerations"] == [{"operator": "Exists"}]


async def test_an_update_that_names_only_new_tolerations_keeps_those_every_pod_gets(api: Harness) -> None:
    """[sig-node] Pods Extended (pod generation): pod generation should start at 1 and increment per update."""
    _, made = await api.ask("POST", PODS, pod())
    made["spec"]["tolerations"] = [{"key": "foo", "operator": "Equal", "value": "bar", "effect": "NoSchedule"}]
    code, changed = await api.ask("PUT", f"{PODS}/{made['metadata']['name']}", made)
    assert (code, len(changed["spec"]["tolerations"])) == (200, 3)


async def test_a_service_address_is_taken_kept_and_given_back(api: Harness) -> None:
    services = f"{NAMESPACE}/services"

    def service(name: str, **spec: Any) -> Object:
        return {"metadata": {"name": name}, "spec": {"ports": [{"port": 80}], **spec}}

    _, first = await api.ask("POST", services, service("a"))
    address = first["spec"]["clusterIP"]
    assert address.startswith("10.96.") and first["spec"]["clusterIPs"] == [address]
    code, told = await api.ask("POST", services, service("b", clusterIP=address))
    assert code == 422 and "provided IP is already allocated" in told["message"]
    code, told = await api.ask("POST", services, service("a", clusterIP="10.96.200.1"))
    assert told["reason"] == "AlreadyExists"
    assert (await api.ask("POST", services, service("c", clusterIP="10.96.200.1")))[0] == 201  # was given back
    await api.ask("DELETE", f"{services}/a")
    assert (await api.ask("POST", services, service("b", clusterIP=address)))[0] == 201
    api.backend.full = True
    assert (await api.ask("POST", services, service("d", clusterIP="10.96.200.2")))[0] == 503
    api.backend.full = False
    assert (await api.ask("POST", services, service("d", clusterIP="10.96.200.2")))[0] == 201
