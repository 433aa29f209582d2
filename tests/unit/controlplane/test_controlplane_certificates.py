"""Signing requests and joining nodes: who may ask, approve and sign, and which machine may be which node."""

import base64
import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from controlplane.apiserver.admission import identity
from controlplane.controllers import bootstrapping, certificates
from controlplane.projection import Condition, Meta, Node, NodeAddress, NodeStatus, SigningRequest, SigningRequestSpec
from kube import bootstraptoken, csr, pki, status
from kube.client.identity import User
from tests.fakes.api_harness import Harness

Object = dict[str, Any]
CSRS = "/apis/certificates.k8s.io/v1/certificatesigningrequests"
SECRETS = "/api/v1/namespaces/kube-system/secrets"
AUTHENTICATED = "system:authenticated"
NODE = User("system:node:n1", (pki.NODE_GROUP, AUTHENTICATED))
MACHINE = User("system:bootstrap:abcdef", (bootstraptoken.GROUP, bootstraptoken.NODE_GROUP, AUTHENTICATED))
MANAGER = User("system:kube-controller-manager", (AUTHENTICATED,))
SERVING = [csr.DIGITAL_SIGNATURE, csr.SERVER_AUTH]
CLIENT = [csr.DIGITAL_SIGNATURE, csr.CLIENT_AUTH]
NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)


def pem(name: str = "system:node:n1", *organizations: str, **names: Any) -> bytes:
    return csr.make(csr.new_key(), common_name=name, organizations=organizations or [pki.NODE_GROUP], **names)


def request(signer: str = csr.KUBELET_CLIENT, usages: list[str] = CLIENT, *, body: bytes = b"", **spec: Any) -> Object:
    encoded = base64.b64encode(body or pem()).decode()
    spec = {"signerName": signer, "usages": usages, "request": encoded, **spec}
    return {"metadata": {"name": "r"}, "spec": spec}


def approved(obj: Object, kind: str = "Approved") -> Object:
    return {**obj, "status": {"conditions": [{"type": kind, "status": "True", "reason": "Test"}]}}


# the resource


async def test_the_server_writes_down_who_asks_whatever_the_body_says(api: Harness) -> None:
    code, made = await api.ask("POST", CSRS, request(username="system:admin", groups=["system:masters"]), user=MACHINE)
    assert code == 201
    assert made["spec"]["username"] == MACHINE.name
    assert made["spec"]["groups"] == list(MACHINE.groups)


async def test_nobody_creates_an_approved_request_and_update_changes_neither_spec_nor_status(api: Harness) -> None:
    _, made = await api.ask("POST", CSRS, approved(request()))
    assert "conditions" not in made.get("status", {})
    made["spec"]["usages"] = SERVING
    _, changed = await api.ask("PUT", f"{CSRS}/r", approved(made))
    assert changed["spec"]["usages"] == CLIENT
    assert not (changed.get("status") or {}).get("conditions")


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"request": "bm9uZQ=="}, "spec.request"),
        ({"usages": []}, "spec.usages"),
        ({"usages": ["flying"]}, "spec.usages[0]"),
        ({"usages": [*CLIENT, CLIENT[0]]}, "spec.usages[2]"),
        ({"signerName": "short"}, "spec.signerName"),
        ({"signerName": "kubernetes.io/legacy-unknown"}, "spec.signerName"),
        ({"expirationSeconds": 599}, "spec.expirationSeconds"),
    ],
)
async def test_a_bad_request_is_refused_by_field(api: Harness, change: Object, field: str) -> None:
    obj = request()
    obj["spec"] |= change
    code, answer = await api.ask("POST", CSRS, obj)
    assert code == 422
    assert [cause["field"] for cause in answer["details"]["causes"]] == [field]


async def test_approval_is_a_view_of_its_own_with_times_and_no_way_back(api: Harness) -> None:
    _, made = await api.ask("POST", CSRS, request())
    code, _ = await api.ask("PUT", f"{CSRS}/r/status", approved(made))
    assert code == 422  # approval is not the signer's to give
    code, done = await api.ask("PUT", f"{CSRS}/r/approval", approved(made))
    assert code == 200
    condition = done["status"]["conditions"][0]
    assert condition["lastUpdateTime"]
    assert condition["lastTransitionTime"]
    done["status"]["conditions"] = []
    code, answer = await api.ask("PUT", f"{CSRS}/r/approval", done)
    assert code == 422
    assert "may not remove" in answer["message"]
    code, _ = await api.ask("PUT", f"{CSRS}/r/approval", approved(done, "Denied"))
    assert code == 422


async def test_a_certificate_is_set_once_by_status_only(api: Harness) -> None:
    ca = pki.load_ca(api.settings.pki)
    _, made = await api.ask("POST", CSRS, request())
    signed = base64.b64encode(csr.sign(ca, pem(), usages=CLIENT, seconds=3600)).decode()
    made["status"] = {"certificate": signed}
    _, same = await api.ask("PUT", f"{CSRS}/r/approval", made)
    assert "certificate" not in same.get("status", {})
    made["metadata"] = same["metadata"]
    code, done = await api.ask("PUT", f"{CSRS}/r/status", made)
    assert (code, done["status"]["certificate"]) == (200, signed)
    done["status"]["certificate"] = base64.b64encode(ca.cert_pem).decode()
    code, _ = await api.ask("PUT", f"{CSRS}/r/status", done)
    assert code == 422


async def test_a_node_may_neither_approve_nor_sign_for_itself(api: Harness) -> None:
    _, made = await api.ask("POST", CSRS, request(), user=NODE)
    for view in ("approval", "status"):
        code, _ = await api.ask("PUT", f"{CSRS}/r/{view}", approved(made), user=NODE)
        assert code == 403


async def test_nobody_becomes_administrator_by_a_request(api: Harness) -> None:
    code, answer = await api.ask("POST", CSRS, request(csr.CLIENT, body=pem("eve", "system:masters")))
    assert code == 403
    assert "system:masters" in answer["message"]


async def test_kubectl_sees_what_became_of_a_request(api: Harness) -> None:
    _, made = await api.ask("POST", CSRS, request())
    await api.ask("PUT", f"{CSRS}/r/approval", approved(made))
    table = {"accept": "application/json;as=Table;v=v1;g=meta.k8s.io"}
    _, shown = await api.ask("GET", CSRS, headers=table)
    assert shown["rows"][0]["cells"][-1] == "Approved"


# tokens


async def token_user(api: Harness, **more: Any) -> tuple[bootstraptoken.Token, Any]:
    token = bootstraptoken.new()
    code, _ = await api.ask("POST", SECRETS, bootstraptoken.secret(token, **{"expires": None, **more}))
    assert code == 201
    scope = {"headers": [(b"authorization", f"Bearer {token}".encode())], "state": {}}
    return token, lambda: api.server.context.authenticator.identify(scope)


async def test_a_token_proves_a_machine_until_its_secret_goes(api: Harness) -> None:
    token, ask = await token_user(api)
    user = ask()
    assert user.name == f"system:bootstrap:{token.id}"
    assert set(user.groups) == {bootstraptoken.GROUP, bootstraptoken.NODE_GROUP, AUTHENTICATED}
    await api.ask("DELETE", f"{SECRETS}/bootstrap-token-{token.id}")
    with pytest.raises(status.ApiError) as caught:
        ask()
    assert caught.value.code == 401


async def test_an_expired_token_proves_nobody(api: Harness) -> None:
    _, ask = await token_user(api, expires=datetime.now(UTC) - timedelta(seconds=1))
    with pytest.raises(status.ApiError) as caught:
        ask()
    assert caught.value.code == 401


async def test_a_token_may_ask_for_a_certificate_and_look_for_namesakes_and_nothing_else(api: Harness) -> None:
    for method, path, body, code in (
        ("POST", CSRS, request(), 201),
        ("GET", f"{CSRS}/r", None, 200),
        ("GET", "/api/v1/nodes", None, 200),
        ("GET", "/api/v1/namespaces/kube-system/configmaps/kubelet-config", None, 200),
        ("GET", SECRETS, None, 403),
        ("GET", "/api/v1/pods", None, 403),
        ("POST", "/api/v1/nodes", {"metadata": {"name": "n"}}, 403),
    ):
        found, answer = await api.ask(method, path, body, user=MACHINE)
        assert found == code, (path, answer)


async def test_anybody_may_read_where_the_cluster_is_and_no_other_map(api: Harness) -> None:
    nobody = User("system:anonymous", ("system:unauthenticated",))
    code, info = await api.ask("GET", "/api/v1/namespaces/kube-public/configmaps/cluster-info", user=nobody)
    assert code == 200
    assert "https://192.0.2.1:6443" in info["data"]["kubeconfig"]
    code, _ = await api.ask("GET", "/api/v1/namespaces/kube-system/configmaps/kubelet-config", user=nobody)
    assert code == 403


# the controllers' judgement


def signing(signer: str, usages: list[str], *, user: User = NODE) -> SigningRequest:
    spec = SigningRequestSpec(signer_name=signer, usages=tuple(usages), username=user.name, groups=user.groups)
    return SigningRequest(metadata=Meta(name="r"), spec=spec)


def node(*addresses: str, name: str = "n1") -> Node:
    found = tuple(NodeAddress(type="InternalIP", address=each) for each in addresses)
    return Node(metadata=Meta(name=name), status=NodeStatus(addresses=found))


def test_a_machine_with_a_token_and_a_node_renewing_need_different_permissions() -> None:
    asked = csr.read(pem())
    by_token = certificates.judge(signing(csr.KUBELET_CLIENT, CLIENT, user=MACHINE), asked, None)
    assert [each[0] for each in by_token.permissions] == ["nodeclient"]
    by_itself = certificates.judge(signing(csr.KUBELET_CLIENT, CLIENT), asked, None)
    assert [each[0] for each in by_itself.permissions] == ["selfnodeclient", "nodeclient"]


def test_a_serving_request_is_approved_for_the_nodes_own_addresses_and_waits_for_others() -> None:
    asked = csr.read(pem(ips=["192.0.2.7"], dns_names=["n1"]))
    ask = signing(csr.KUBELET_SERVING, SERVING)
    assert certificates.judge(ask, asked, node("192.0.2.7")).message
    assert certificates.judge(ask, asked, node("192.0.2.8")) == certificates.Verdict(wait=True)
    assert certificates.judge(ask, asked, None) == certificates.Verdict(wait=True)


def test_a_node_gets_no_serving_certificate_of_another_node() -> None:
    asked = csr.read(pem("system:node:n2", ips=["192.0.2.7"]))
    assert certificates.judge(signing(csr.KUBELET_SERVING, SERVING), asked, node("192.0.2.7", name="n2")) == (
        certificates.Verdict()
    )


@pytest.mark.parametrize("name", ["kubernetes", "kubernetes.default.svc", "Localhost"])
def test_no_node_gets_a_certificate_that_proves_the_api_server(name: str) -> None:
    asked = csr.read(pem(f"system:node:{name}", dns_names=[name]))
    ask = signing(csr.KUBELET_SERVING, SERVING, user=User(f"system:node:{name}", NODE.groups))
    assert certificates.judge(ask, asked, node("192.0.2.7", name=name)) == certificates.Verdict()


def test_addresses_of_services_and_of_the_loopback_are_no_machines() -> None:
    def fault(address: str) -> str:
        found = {"status": {"addresses": [{"type": "InternalIP", "address": address}]}}
        return identity.unreal(found, ranges=["10.96.0.0/16", "fd00:96::/112"])

    assert fault("192.0.2.7") == ""
    assert "10.96.0.1 is no address of a machine" in fault("10.96.0.1")
    assert "Services' range" in fault("fd00:96::1") and fault("127.0.0.1") and "no IP" in fault("x")


def test_requests_to_other_signers_are_nobody_elses_business() -> None:
    assert certificates.judge(signing("example.com/own", CLIENT), csr.read(pem()), None) == certificates.Verdict()


@pytest.mark.parametrize(("wanted", "given"), [(None, 31536000), (60, 600), (3600, 3600), (10**9, 31536000)])
def test_a_certificate_lives_ten_minutes_to_a_year(wanted: int | None, given: int) -> None:
    assert certificates.lifetime(wanted) == given


@pytest.mark.parametrize(
    ("hours", "kinds", "stale"),
    [(23, (), False), (25, (), True), (0.5, ("Denied",), False), (2, ("Denied",), True), (2, ("Approved",), False)],
)
def test_a_request_is_kept_a_day_while_open_and_an_hour_once_decided(
    hours: float, kinds: tuple[str, ...], stale: bool
) -> None:
    made = (NOW - timedelta(hours=hours)).strftime("%Y-%m-%dT%H:%M:%SZ")
    found = signing(csr.CLIENT, CLIENT)
    found.metadata.creation_timestamp = made
    found.status.conditions = tuple(Condition(type=kind, status="True", last_update_time=made) for kind in kinds)
    assert certificates.stale(found, NOW) is stale


def test_the_cluster_info_is_signed_for_each_token_that_signs_and_loses_old_signatures() -> None:
    token = bootstraptoken.Token("abcdef", "0123456789abcdef")
    kept = bootstraptoken.Kept(token=token, signs=True)
    data = {"kubeconfig": "text", "jws-kubeconfig-zzzzzz": "old"}
    found = bootstrapping.signatures(data, [kept], NOW)
    assert found["jws-kubeconfig-zzzzzz"] is None
    signature = str(found["jws-kubeconfig-abcdef"])
    head, nothing, mac = signature.split(".")
    assert (json.loads(base64.urlsafe_b64decode(head + "==")), nothing) == ({"alg": "HS256", "kid": "abcdef"}, "")
    assert mac
    again = bootstrapping.signatures({"kubeconfig": "text", "jws-kubeconfig-abcdef": signature}, [kept], NOW)
    assert again == {}


# one machine, one node


def machine(name: str, machine_id: str, *addresses: str) -> Object:
    found = [{"type": "InternalIP", "address": each} for each in addresses]
    return {"metadata": {"name": name}, "status": {"nodeInfo": {"machineID": machine_id}, "addresses": found}}


def test_a_second_machine_of_the_same_name_is_told_of_the_first() -> None:
    fault = identity.collision(
        machine("n1", "bbb", "192.0.2.8"), old=machine("n1", "aaa", "192.0.2.7"), others=[machine("n1", "aaa")]
    )
    assert "machine id aaa" in fault
    assert "192.0.2.7" in fault
    assert "kubectl delete node n1" in fault


def test_a_second_node_with_the_same_address_is_told_whose_it_is() -> None:
    others = [machine("n1", "aaa", "10.0.2.15")]
    fault = identity.collision(machine("n2", "bbb", "10.0.2.15"), old=None, others=others)
    assert "node n1 has the address 10.0.2.15" in fault
    assert "nodeIP of n2" in fault


def test_a_machine_may_change_its_address_and_say_the_same_again() -> None:
    old = machine("n1", "aaa", "192.0.2.7")
    assert identity.collision(machine("n1", "aaa", "192.0.2.8"), old=old, others=[old]) == ""


async def test_a_kubelet_with_anothers_address_gets_no_status_while_an_administrator_may_write_any(
    api: Harness,
) -> None:
    await api.ask("POST", "/api/v1/nodes", machine("n2", "bbb", "192.0.2.7"))
    code, answer = await api.ask("POST", "/api/v1/nodes", machine("n1", "aaa", "192.0.2.7"), user=NODE)
    assert code == 403
    assert "node n2 has the address 192.0.2.7 already" in answer["message"]
    code, _ = await api.ask("POST", "/api/v1/nodes", machine("n3", "aaa", "192.0.2.7"))
    assert code == 201
