"""What `nodeagent/upstream.yaml` asks an administrator to allow: what our own API server's rules allow, and no more."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

import nodeagent
from controlplane.apiserver import noderules, rules
from kube import scheme
from nodeagent.lab import plan

FILE = Path(nodeagent.__file__).with_name("upstream.yaml")
Question = tuple[str, str, str]
PUBLISHING = {("discovery.k8s.io", "endpointslices", verb) for verb in ("create", "update", "patch", "delete")}


def documents() -> dict[tuple[str, str], dict[str, Any]]:
    return {(doc["kind"], doc["metadata"]["name"]): doc for doc in yaml.safe_load_all(FILE.read_text())}


def allowed(role: dict[str, Any]) -> set[Question]:
    return {
        (group, resource, verb)
        for rule in role["rules"]
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
    }


def granted(grants: tuple[rules.Grant, ...]) -> set[Question]:
    return {(grant.group, resource, verb) for grant in grants for resource in grant.resources for verb in grant.verbs}


def test_every_role_names_what_the_api_has_and_is_bound() -> None:
    found = documents()
    for (kind, name), doc in found.items():
        if kind.endswith("Binding"):
            assert (doc["roleRef"]["kind"], doc["roleRef"]["name"]) == (kind.removesuffix("Binding"), name)
        elif kind.endswith("Role"):
            assert (f"{kind}Binding", name) in found
            assert all(scheme.by_plural(group, "v1", resource) for group, resource, _ in allowed(doc))


@pytest.mark.parametrize(
    ("folders", "role"), [(("proxy/*.py", "cni/**/*.py"), "nodeagent:node"), (("proxy/dns/*.py",), "nodeagent:dns")]
)
def test_whatever_is_followed_may_be_listed_and_watched(folders: tuple[str, ...], role: str) -> None:
    sources = [path.read_text() for folder in folders for path in FILE.parents[1].glob(folder)]
    followed = {name for text in sources for name in re.findall(r"informers\.get\(\s*scheme\.(\w+)", text)}
    assert followed
    wanted = {(r.group, r.plural, verb) for r in (getattr(scheme, n) for n in followed) for verb in ("list", "watch")}
    assert wanted <= allowed(documents()["ClusterRole", role])


def test_the_roles_allow_no_more_than_our_own_rules() -> None:
    found = documents()
    node, dns = allowed(found["ClusterRole", "nodeagent:node"]), allowed(found["ClusterRole", "nodeagent:dns"])
    assert node <= granted(noderules.GRANTS)
    assert dns <= granted(rules.COMPONENTS["system:kube-dns"])
    assert allowed(found["Role", "nodeagent:dns"]) == PUBLISHING


def test_the_dns_service_is_where_pods_look_for_it_and_chooses_no_pods() -> None:
    service = documents()["Service", "kube-dns"]
    assert service["spec"]["clusterIP"] == plan.DNS_SERVICE
    assert "selector" not in service["spec"]
