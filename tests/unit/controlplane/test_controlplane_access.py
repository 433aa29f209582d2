"""Who is who and who may do what: certificates, tokens, the fixed rules, and upstream's words for a refusal."""

from datetime import UTC, datetime
from typing import Any

import pytest

from controlplane.apiserver import tokens
from controlplane.apiserver.authn import Authenticator
from controlplane.apiserver.authz import Attributes, Authorizer
from controlplane.apiserver.noderules import NodeRules, references
from controlplane.apiserver.rules import components, everyone
from kube import pki, status
from kube.client.identity import User
from tests.fakes.api_harness import Harness

Object = dict[str, Any]
AUTHENTICATED = "system:authenticated"
NODE = User("system:node:n1", ("system:nodes", AUTHENTICATED))
ACCOUNT = User("system:serviceaccount:default:web", ("system:serviceaccounts", AUTHENTICATED))
ANONYMOUS = User("system:anonymous", ("system:unauthenticated",))
PODS = "/api/v1/namespaces/default/pods"


def scope(**state: Any) -> Object:
    return {"headers": [], "state": state}


def bearer(token: str) -> Object:
    return {"headers": [(b"authorization", b"Bearer " + token.encode())], "state": {}}


def authenticator(api: Harness) -> Authenticator:
    return api.server.context.authenticator


async def test_the_identity_in_this_process_needs_no_proof(api: Harness) -> None:
    user = authenticator(api).identify(scope(user=User("system:kube-scheduler")))
    assert (user.name, user.groups) == ("system:kube-scheduler", (AUTHENTICATED,))


async def test_a_client_certificate_names_user_and_groups(api: Harness) -> None:
    ca = pki.load_ca(api.settings.pki)
    pair = pki.node_client(ca, name="n1")
    der = pki.x509.load_pem_x509_certificate(pair.cert_pem).public_bytes(pki.serialization.Encoding.DER)
    user = authenticator(api).identify(scope(peer_certificate=der))
    assert (user.name, user.groups) == ("system:node:n1", ("system:nodes", AUTHENTICATED))


async def test_nobody_is_anonymous_and_a_bad_token_is_refused_even_so(api: Harness) -> None:
    assert authenticator(api).identify(scope()).name == "system:anonymous"
    for header in (b"Bearer nonsense", b"Bearer ", b"Basic YTpi"):
        with pytest.raises(status.ApiError) as caught:
            authenticator(api).identify({"headers": [(b"authorization", header)], "state": {}})
        assert caught.value.code == 401


async def pod_token(api: Harness, **spec: Any) -> Object:
    container = {"name": "c", "image": "demo:1"}
    await api.ask("POST", PODS, {"metadata": {"name": "p"}, "spec": {"containers": [container], "nodeName": "n1"}})
    wish = {
        "spec": {"expirationSeconds": 3607, "boundObjectRef": {"kind": "Pod", "apiVersion": "v1", "name": "p"}, **spec}
    }
    code, made = await api.ask("POST", "/api/v1/namespaces/default/serviceaccounts/default/token", wish)
    assert code == 201
    return made


async def test_a_pods_token_proves_its_account_until_the_pod_is_gone(api: Harness) -> None:
    made = await pod_token(api)
    user = authenticator(api).identify(bearer(made["status"]["token"]))
    assert user.name == "system:serviceaccount:default:default"
    assert user.groups == ("system:serviceaccounts", "system:serviceaccounts:default", AUTHENTICATED)
    assert user.extra["authentication.kubernetes.io/pod-name"] == ("p",)
    assert user.extra["authentication.kubernetes.io/node-name"] == ("n1",)
    expires = datetime.fromisoformat(made["status"]["expirationTimestamp"])
    assert 3500 < (expires - datetime.now(UTC)).total_seconds() <= 3607
    await api.ask("DELETE", f"{PODS}/p", gracePeriodSeconds="0")
    with pytest.raises(status.ApiError) as caught:
        authenticator(api).identify(bearer(made["status"]["token"]))
    assert caught.value.code == 401


async def test_a_token_ends_with_its_account_and_fits_its_audience_only(api: Harness) -> None:
    accounts = "/api/v1/namespaces/default/serviceaccounts"
    await api.ask("POST", accounts, {"metadata": {"name": "web"}})
    _, made = await api.ask("POST", f"{accounts}/web/token", {"spec": {"audiences": ["vault"]}})
    token = made["status"]["token"]
    with pytest.raises(status.ApiError):
        authenticator(api).identify(bearer(token))
    reviews = "/apis/authentication.k8s.io/v1/tokenreviews"
    _, review = await api.ask("POST", reviews, {"spec": {"token": token, "audiences": ["vault", "other"]}})
    assert review["status"]["authenticated"] and review["status"]["audiences"] == ["vault"]
    assert review["status"]["user"]["username"] == "system:serviceaccount:default:web"
    await api.ask("DELETE", f"{accounts}/web")
    _, review = await api.ask("POST", reviews, {"spec": {"token": token, "audiences": ["vault"]}})
    assert review["status"] == {"user": {}, "error": "the service account is gone"}


@pytest.mark.parametrize(
    ("spec", "code", "part"),
    [
        ({"expirationSeconds": 599}, 422, "may not specify a duration less than 10 minutes"),
        ({"boundObjectRef": {"kind": "Node", "name": "n"}}, 400, "cannot bind token"),
        ({"boundObjectRef": {"kind": "Pod", "name": "none"}}, 404, 'pods "none" not found'),
    ],
)
async def test_a_token_request_that_cannot_be_is_refused(api: Harness, spec: Object, code: int, part: str) -> None:
    path = "/api/v1/namespaces/default/serviceaccounts/default/token"
    answered, told = await api.ask("POST", path, {"spec": spec})
    assert answered == code
    assert part in told["message"]


async def test_a_forged_or_expired_token_proves_nothing(api: Harness) -> None:
    made = await pod_token(api)
    head, claims, signature = made["status"]["token"].split(".")
    for forged in (f"{head}.{claims}.{signature[::-1]}", f"{head}.{claims}.", f"{head}.e30.{signature}"):
        with pytest.raises(tokens.InvalidToken):
            api.server.context.tokens.verify(forged)


async def test_the_keys_and_the_issuer_are_published_to_those_who_are_known(api: Harness) -> None:
    code, keys = await api.ask("GET", "/openid/v1/jwks", user=ACCOUNT)
    assert code == 200 and keys["keys"][0]["alg"] == "ES256"
    code, found = await api.ask("GET", "/.well-known/openid-configuration", user=ACCOUNT)
    assert (code, found["issuer"]) == (200, "https://kubernetes.default.svc.cluster.local")
    assert (await api.ask("GET", "/openid/v1/jwks", user=ANONYMOUS))[0] == 403


@pytest.mark.parametrize(
    ("user", "method", "path", "message"),
    [
        (ACCOUNT, "GET", PODS,
         'pods is forbidden: User "system:serviceaccount:default:web" cannot list resource "pods" in API group "" '
         'in the namespace "default"'),
        (ACCOUNT, "GET", "/api/v1/nodes/n",
         'nodes "n" is forbidden: User "system:serviceaccount:default:web" cannot get resource "nodes" in API group "" '
         "at the cluster scope"),
        (ACCOUNT, "GET", f"{PODS}/p/log",
         'pods/log "p" is forbidden: User "system:serviceaccount:default:web" cannot get resource "pods/log" in '
         'API group "" in the namespace "default"'),
        (ACCOUNT, "DELETE", "/apis/apps/v1/namespaces/default/deployments/d",
         'deployments.apps "d" is forbidden: User "system:serviceaccount:default:web" cannot delete resource '
         '"deployments" in API group "apps" in the namespace "default"'),
        (ANONYMOUS, "GET", "/api", 'forbidden: User "system:anonymous" cannot get path "/api"'),
        (ANONYMOUS, "GET", "/metrics", 'forbidden: User "system:anonymous" cannot get path "/metrics"'),
    ],
)  # fmt: skip
async def test_a_refusal_says_who_may_not_do_what(
    api: Harness, user: User, method: str, path: str, message: str
) -> None:
    code, told = await api.ask(method, path, user=user)
    assert (code, told["reason"], told["message"]) == (403, "Forbidden", message)


@pytest.mark.parametrize("path", ["/version", "/livez", "/readyz", "/healthz", "/readyz/ping"])
async def test_anybody_may_read_health_and_version(api: Harness, path: str) -> None:
    assert (await api.raw("GET", path, user=ANONYMOUS)).status == 200
    assert (await api.raw("POST", path, user=ANONYMOUS)).status == 403


POD: Object = {
    "metadata": {"name": "p", "namespace": "default"},
    "spec": {
        "nodeName": "n1",
        "serviceAccountName": "web",
        "volumes": [
            {"name": "a", "secret": {"secretName": "from-volume"}},
            {"name": "b", "projected": {"sources": [{"configMap": {"name": "projected"}}, {"secret": {"name": "s2"}}]}},
            {"name": "c", "csi": {"driver": "d", "secretRef": {"name": "from-csi"}}},
            {"name": "d", "persistentVolumeClaim": {"claimName": "disk"}},
            {"name": "e", "ephemeral": {"volumeClaimTemplate": {"spec": {}}}},
        ],
        "containers": [
            {"name": "c", "envFrom": [{"configMapRef": {"name": "from-envfrom"}}],
             "env": [{"name": "X", "valueFrom": {"secretKeyRef": {"name": "from-env", "key": "k"}}}]},
        ],
        "imagePullSecrets": [{"name": "pull"}],
    },
}  # fmt: skip


def test_a_pods_references_are_found_wherever_they_are() -> None:
    assert references(POD, "secrets") == {"from-volume", "s2", "from-csi", "from-env", "pull"}
    assert references(POD, "configmaps") == {"projected", "from-envfrom"}
    assert references(POD, "persistentvolumeclaims") == {"disk", "p-e"}


def judge(
    user: User, verb: str, resource: str, *, group: str = "", namespace: str = "", name: str = "", sub: str = ""
) -> bool:
    def pods_of(node: str, where: str) -> list[Object]:
        return [POD] if (node, where) == ("n1", "default") else []

    authorizer = Authorizer([everyone, components, NodeRules(pods_of)])
    return authorizer.authorize(Attributes(user, verb, group, "v1", resource, sub, namespace, name)).allowed


@pytest.mark.parametrize(
    ("verb", "resource", "where", "allowed"),
    [
        ("get", "secrets", {"namespace": "default", "name": "from-env"}, True),
        ("watch", "configmaps", {"namespace": "default", "name": "from-envfrom"}, True),
        ("get", "secrets", {"namespace": "default", "name": "other"}, False),
        ("get", "secrets", {"namespace": "kube-system", "name": "from-env"}, False),
        ("list", "secrets", {"namespace": "default"}, False),
        ("update", "secrets", {"namespace": "default", "name": "from-env"}, False),
        ("get", "persistentvolumeclaims", {"namespace": "default", "name": "disk"}, True),
        ("get", "persistentvolumeclaims", {"namespace": "default", "name": "other"}, False),
        ("update", "persistentvolumeclaims", {"namespace": "default", "name": "disk"}, False),
        ("get", "persistentvolumes", {"name": "pv"}, True),
        ("list", "persistentvolumes", {}, False),
        ("deletecollection", "resourceslices", {"group": "resource.k8s.io"}, True),
        ("list", "services", {}, True),
        ("watch", "pods", {}, True),
        ("update", "pods", {"namespace": "default", "name": "p"}, False),
        ("patch", "pods", {"namespace": "default", "name": "p", "sub": "status"}, True),
        ("create", "nodes", {}, True),
        ("patch", "nodes", {"name": "n1", "sub": "status"}, True),
        ("patch", "nodes", {"name": "n2", "sub": "status"}, False),
        ("update", "leases", {"group": "coordination.k8s.io", "namespace": "kube-node-lease", "name": "n1"}, True),
        ("update", "leases", {"group": "coordination.k8s.io", "namespace": "kube-node-lease", "name": "n2"}, False),
        ("create", "serviceaccounts", {"namespace": "default", "name": "web", "sub": "token"}, True),
        ("create", "serviceaccounts", {"namespace": "default", "name": "admin", "sub": "token"}, False),
        ("update", "endpointslices",
         {"group": "discovery.k8s.io", "namespace": "kube-system", "name": "kube-dns-n1"}, True),
        ("update", "endpointslices",
         {"group": "discovery.k8s.io", "namespace": "kube-system", "name": "kube-dns-n2"}, False),
        ("create", "deployments", {"group": "apps", "namespace": "default"}, False),
        ("create", "pods", {"namespace": "default", "name": "p", "sub": "exec"}, False),
    ],
)  # fmt: skip
def test_what_a_node_may_do(verb: str, resource: str, where: dict[str, str], allowed: bool) -> None:
    assert judge(NODE, verb, resource, **where) is allowed


@pytest.mark.parametrize(
    ("user", "verb", "resource", "where", "allowed"),
    [
        ("system:kube-proxy", "watch", "endpointslices", {"group": "discovery.k8s.io"}, True),
        ("system:kube-proxy", "get", "secrets", {"namespace": "default", "name": "s"}, False),
        ("system:serviceaccount:kube-system:coredns", "watch", "endpointslices", {"group": "discovery.k8s.io"}, True),
        ("system:serviceaccount:kube-system:node-controller", "list", "nodes", {}, True),
        ("system:serviceaccount:kube-system:somebody", "list", "nodes", {}, False),
        ("system:serviceaccount:default:node-controller", "list", "nodes", {}, False),
        ("system:kube-dns", "create", "endpointslices",
         {"group": "discovery.k8s.io", "namespace": "kube-system"}, True),
        ("system:kube-dns", "update", "endpointslices",
         {"group": "discovery.k8s.io", "namespace": "kube-system", "name": "kube-dns-n1"}, True),
        ("system:kube-dns", "update", "endpointslices",
         {"group": "discovery.k8s.io", "namespace": "default", "name": "web-x"}, False),
        ("system:kube-scheduler", "create", "pods", {"namespace": "default", "name": "p", "sub": "binding"}, True),
        ("system:kube-scheduler", "update", "nodes", {"name": "n1"}, False),
        ("system:kube-controller-manager", "delete", "pods", {"namespace": "default", "name": "p"}, True),
        ("somebody", "create", "selfsubjectaccessreviews", {"group": "authorization.k8s.io"}, True),
        ("somebody", "get", "pods", {"namespace": "default", "name": "p"}, False),
    ],
)  # fmt: skip
def test_what_the_clusters_own_parts_may_do(
    user: str, verb: str, resource: str, where: dict[str, str], allowed: bool
) -> None:
    assert judge(User(user, (AUTHENTICATED,)), verb, resource, **where) is allowed


def test_a_node_needs_its_group_and_masters_need_nothing() -> None:
    assert not judge(User("system:node:n1", (AUTHENTICATED,)), "list", "services")
    assert judge(User("anybody", ("system:masters",)), "delete", "nodes", name="n1")


async def test_a_watch_of_one_secret_by_field_selector_is_judged_by_its_name(api: Harness) -> None:
    await api.ask("POST", PODS, {"metadata": {"name": "p"}, "spec": {
        "nodeName": "n1", "containers": [{"name": "c", "image": "demo:1"}],
        "volumes": [{"name": "v", "secret": {"secretName": "mine"}}]}})  # fmt: skip
    secrets = "/api/v1/namespaces/default/secrets"
    assert (await api.ask("GET", secrets, user=NODE, fieldSelector="metadata.name=mine"))[0] == 200
    assert (await api.ask("GET", secrets, user=NODE, fieldSelector="metadata.name=other"))[0] == 403
    assert (await api.ask("GET", secrets, user=NODE))[0] == 403


async def test_a_node_writes_its_own_objects_only(api: Harness) -> None:
    node = {"metadata": {"name": "n1", "labels": {"kubernetes.io/hostname": "n1"}}}
    code, made = await api.ask("POST", "/api/v1/nodes", node, user=NODE)
    assert code == 201
    assert [taint["key"] for taint in made["spec"]["taints"]] == ["node.kubernetes.io/not-ready"]
    code, told = await api.ask("POST", "/api/v1/nodes", {"metadata": {"name": "n2"}}, user=NODE)
    assert (code, "is not allowed to modify node" in told["message"]) == (403, True)
    merge = {"content-type": "application/merge-patch+json"}
    labels = {"metadata": {"labels": {"node-restriction.kubernetes.io/x": "y"}}}
    assert (await api.ask("PATCH", "/api/v1/nodes/n1", labels, user=NODE, headers=merge))[0] == 403
    taints: Object = {"spec": {"taints": []}}
    assert (await api.ask("PATCH", "/api/v1/nodes/n1", taints, user=NODE, headers=merge))[0] == 403
    for name, bound in (("mine", "n1"), ("other", "n2")):
        spec = {"nodeName": bound, "containers": [{"name": "c", "image": "demo:1"}]}
        await api.ask("POST", PODS, {"metadata": {"name": name}, "spec": spec})
    running = {"status": {"phase": "Running"}}
    assert (await api.ask("PATCH", f"{PODS}/mine/status", running, user=NODE, headers=merge))[0] == 200
    assert (await api.ask("PATCH", f"{PODS}/other/status", running, user=NODE, headers=merge))[0] == 403
    assert (await api.ask("DELETE", f"{PODS}/other", user=NODE))[0] == 403
    assert (await api.ask("DELETE", f"{PODS}/mine", user=NODE, gracePeriodSeconds="0"))[0] == 200


async def test_reviews_answer_what_the_door_would(api: Harness) -> None:
    path = "/apis/authorization.k8s.io/v1/"
    attributes = {"verb": "list", "resource": "services"}
    question = {"spec": {"resourceAttributes": attributes}}
    code, mine = await api.ask("POST", path + "selfsubjectaccessreviews", question, user=ACCOUNT)
    assert (code, mine["status"]["allowed"]) == (201, False)
    body = {"spec": {"user": NODE.name, "groups": ["system:nodes"], "resourceAttributes": attributes}}
    _, theirs = await api.ask("POST", path + "subjectaccessreviews", body)
    assert theirs["status"]["allowed"] is True
    assert (await api.ask("POST", path + "subjectaccessreviews", body, user=ACCOUNT))[0] == 403
    _, me = await api.ask("POST", "/apis/authentication.k8s.io/v1/selfsubjectreviews", {}, user=ACCOUNT)
    assert me["status"]["userInfo"]["username"] == ACCOUNT.name
    assert (await api.ask("POST", path + "selfsubjectaccessreviews", {"spec": {}}))[0] == 422


async def test_a_review_has_no_table(api: Harness) -> None:
    """[sig-api-machinery] Servers with support for Table transformation should return a 406 for a backend which does
    not implement metadata."""
    path = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"
    question = {"spec": {"nonResourceAttributes": {"path": "/", "verb": "get"}}}
    table = {"accept": "application/json;as=Table;v=v1;g=meta.k8s.io"}
    code, told = await api.ask("POST", path, question, headers=table)
    assert (code, told["reason"]) == (406, "NotAcceptable")


async def test_an_administrator_may_act_as_somebody_else_and_others_may_not(api: Harness) -> None:
    headers = {"impersonate-user": "system:serviceaccount:default:web"}
    path = "/apis/authentication.k8s.io/v1/selfsubjectreviews"
    _, me = await api.ask("POST", path, {}, headers=headers)
    found = me["status"]["userInfo"]
    assert found["username"] == "system:serviceaccount:default:web"
    assert found["groups"] == ["system:serviceaccounts", "system:serviceaccounts:default", AUTHENTICATED]
    assert (await api.ask("GET", PODS, headers=headers))[0] == 403
    code, told = await api.ask("GET", PODS, user=ACCOUNT, headers={"impersonate-user": "admin"})
    assert (code, told["message"]) == (
        403,
        'users "admin" is forbidden: User "system:serviceaccount:default:web" cannot impersonate resource "users" '
        'in API group "" at the cluster scope',
    )
    code, told = await api.ask("GET", PODS, user=ACCOUNT, headers={"impersonate-group": "system:masters"})
    assert (code, told["reason"]) == (400, "BadRequest")


async def test_a_node_gets_tokens_for_its_own_pods_only(api: Harness) -> None:
    path = "/api/v1/namespaces/default/serviceaccounts/default/token"
    uids = {}
    for name, node in (("mine", "n1"), ("other", "n2")):
        spec = {"nodeName": node, "containers": [{"name": "c", "image": "demo:1"}]}
        uids[name] = (await api.ask("POST", PODS, {"metadata": {"name": name}, "spec": spec}))[1]["metadata"]["uid"]

    def wish(name: str, **more: str) -> Object:
        return {"spec": {"boundObjectRef": {"kind": "Pod", "apiVersion": "v1", "name": name, **more}}}

    assert (await api.ask("POST", path, wish("mine", uid=uids["mine"]), user=NODE))[0] == 201
    for body, part in (
        ({"spec": {}}, "not bound to a pod"),
        (wish("mine"), "without a uid"),
        (wish("other", uid=uids["other"]), "scheduled on a different node"),
    ):
        code, told = await api.ask("POST", path, body, user=NODE)
        assert (code, part in told["message"]) == (403, True)
