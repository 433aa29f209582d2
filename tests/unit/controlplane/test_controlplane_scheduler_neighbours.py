"""Pods that want to be beside other pods, away from them, or spread evenly."""

from typing import Any

import msgspec
import pytest

from controlplane.projection import Node, Pod
from controlplane.scheduler import decide, snapshot, spread
from controlplane.scheduler.snapshot import Snapshot

HOST, ZONE = "kubernetes.io/hostname", "topology.kubernetes.io/zone"


def node(name: str, zone: str = "", **spec: Any) -> Node:
    labels = {HOST: name} | ({ZONE: zone} if zone else {})
    status = {"allocatable": {"cpu": "100", "memory": "100Gi", "pods": "100"}}
    return msgspec.convert({"metadata": {"name": name, "labels": labels}, "spec": spec, "status": status}, Node)


def pod(name: str, app: str = "web", *, on: str = "", namespace: str = "default", owner: str = "", **spec: Any) -> Pod:
    refs = [{"uid": owner, "controller": True}] if owner else []
    labels = {"app": app} | spec.pop("labels", {})
    meta = {"name": name, "namespace": namespace, "uid": name, "labels": labels, "ownerReferences": refs}
    return msgspec.convert({"metadata": meta, "spec": {"nodeName": on, "containers": [{"name": "c"}], **spec}}, Pod)


def world(nodes: list[Node], *pods: Pod) -> Snapshot:
    made = Snapshot()
    for one in nodes:
        made.put_node(one)
    for each in pods:
        made.put_pod(each)
    return made


def feasible(made: Snapshot, wanted: Pod) -> set[str]:
    verdict = decide.decide(snapshot.pod_info(wanted), made, choose=sorted)  # type: ignore[arg-type]
    return {on.name for on in made.nodes} - set(verdict.refusals)


def chosen(made: Snapshot, wanted: Pod) -> str | None:
    return decide.decide(snapshot.pod_info(wanted), made, choose=lambda names: ",".join(sorted(names))).node


def refused(made: Snapshot, wanted: Pod) -> set[str]:
    verdict = decide.decide(snapshot.pod_info(wanted), made, choose=lambda names: names[0])
    return {reason for refusal in verdict.refusals.values() for reason in refusal.reasons}


def term(app: str, key: str = HOST, **more: Any) -> dict[str, Any]:
    return {"topologyKey": key, "labelSelector": {"matchLabels": {"app": app}}, **more}


def beside(*terms: dict[str, Any]) -> dict[str, Any]:
    return {"podAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": list(terms)}}


def away(*terms: dict[str, Any]) -> dict[str, Any]:
    return {"podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": list(terms)}}


def prefer(kind: str, weight: int, one: dict[str, Any]) -> dict[str, Any]:
    return {kind: {"preferredDuringSchedulingIgnoredDuringExecution": [{"weight": weight, "podAffinityTerm": one}]}}


ZONES = [node("a1", "a"), node("a2", "a"), node("b1", "b")]


def test_beside_means_the_same_value_of_the_key() -> None:
    made = world(ZONES, pod("db", "db", on="a1"))
    assert feasible(made, pod("p", affinity=beside(term("db")))) == {"a1"}
    assert feasible(made, pod("p", affinity=beside(term("db", ZONE)))) == {"a1", "a2"}
    assert refused(made, pod("p", affinity=beside(term("db")))) == {"node(s) didn't match pod affinity rules"}


def test_all_terms_must_find_a_pod_that_matches_them_all() -> None:
    made = world(ZONES, pod("db", "db", on="a1"), pod("cache", "cache", on="a1"))
    assert feasible(made, pod("p", affinity=beside(term("db"), term("cache")))) == set()


def test_a_group_that_wants_to_be_together_can_start_anywhere() -> None:
    assert feasible(world(ZONES), pod("p", affinity=beside(term("web")))) == {"a1", "a2", "b1"}
    assert feasible(world(ZONES), pod("p", affinity=beside(term("db")))) == set()


def test_nodes_without_the_key_are_beside_nobody() -> None:
    made = world([node("a1", "a"), node("bare")])
    assert feasible(made, pod("p", affinity=beside(term("web", ZONE)))) == {"a1"}


def test_away_keeps_pods_apart() -> None:
    made = world(ZONES, pod("x", on="a1"))
    assert feasible(made, pod("p", affinity=away(term("web")))) == {"a2", "b1"}
    assert feasible(made, pod("p", affinity=away(term("web", ZONE)))) == {"b1"}
    assert refused(made, pod("p", affinity=away(term("web")))) == {"node(s) didn't match pod anti-affinity rules"}


def test_a_pod_in_place_can_refuse_a_newcomer_that_has_no_opinion() -> None:
    made = world(ZONES, pod("loner", "loner", on="a1", affinity=away(term("web", ZONE))))
    assert feasible(made, pod("p")) == {"b1"}
    assert feasible(made, pod("p", "other")) == {"a1", "a2", "b1"}
    assert refused(made, pod("p")) == {"node(s) didn't satisfy existing pods anti-affinity rules"}


@pytest.mark.parametrize(
    ("scope", "fits"),
    [
        ({}, set()),
        ({"namespaces": ["team"]}, {"a1"}),
        ({"namespaceSelector": {}}, {"a1"}),
        ({"namespaceSelector": {"matchLabels": {"kind": "shared"}}}, {"a1"}),
        ({"namespaceSelector": {"matchLabels": {"kind": "private"}}}, set()),
    ],
)
def test_terms_mean_the_pods_own_namespace_unless_they_say_otherwise(scope: dict[str, Any], fits: set[str]) -> None:
    made = world(ZONES, pod("db", "db", on="a1", namespace="team"))
    made.namespaces["team"] = {"kind": "shared"}
    assert feasible(made, pod("p", affinity=beside(term("db", **scope)))) == fits


def test_label_keys_narrow_a_term_to_the_pods_own_revision() -> None:
    made = world(ZONES, pod("old", on="a1", labels={"rev": "1"}), pod("new", on="a2", labels={"rev": "2"}))
    wanted = pod("p", labels={"rev": "2"}, affinity=away(term("web", matchLabelKeys=["rev"])))
    assert feasible(made, wanted) == {"a1", "b1"}


def test_preferences_draw_and_put_off() -> None:
    made = world(ZONES, pod("db", "db", on="b1"))
    assert chosen(made, pod("p", affinity=prefer("podAffinity", 50, term("db")))) == "b1"
    assert chosen(made, pod("p", affinity=prefer("podAntiAffinity", 50, term("db", ZONE)))) == "a1,a2"


def test_a_pod_that_insisted_on_company_draws_it() -> None:
    made = world(ZONES, pod("db", "db", on="b1", affinity=beside(term("db"))))
    made.put_pod(pod("needy", "needy", on="a2", affinity=beside(term("web"))))
    assert chosen(made, pod("p")) == "a2"


def constraint(key: str, skew: int = 1, *, hard: bool = True, **more: Any) -> dict[str, Any]:
    selector = {"matchLabels": {"app": "web"}}
    when = "DoNotSchedule" if hard else "ScheduleAnyway"
    return {"topologyKey": key, "maxSkew": skew, "whenUnsatisfiable": when, "labelSelector": selector, **more}


def test_skew_is_kept_over_zones() -> None:
    made = world(ZONES, pod("x", on="a1"))
    wanted = pod("p", topologySpreadConstraints=[constraint(ZONE)])
    assert feasible(made, wanted) == {"b1"}
    assert refused(made, wanted) == {"node(s) didn't match pod topology spread constraints"}
    assert feasible(made, pod("p", topologySpreadConstraints=[constraint(ZONE, 2)])) == {"a1", "a2", "b1"}


def test_nodes_without_the_key_are_no_domain() -> None:
    made = world([*ZONES, node("bare")])
    wanted = pod("p", topologySpreadConstraints=[constraint(ZONE)])
    assert feasible(made, wanted) == {"a1", "a2", "b1"}
    assert refused(made, wanted) == {"node(s) didn't match pod topology spread constraints (missing required label)"}


def test_too_few_domains_count_as_an_empty_one_more() -> None:
    made = world(ZONES, pod("x", on="a1"), pod("y", on="b1"))
    assert feasible(made, pod("p", topologySpreadConstraints=[constraint(ZONE)])) == {"a1", "a2", "b1"}
    assert feasible(made, pod("p", topologySpreadConstraints=[constraint(ZONE, minDomains=3)])) == set()


def test_nodes_the_pod_cannot_use_are_left_out_of_the_count_unless_asked_for() -> None:
    made = world(ZONES, pod("x", on="a1"))
    only_a = {"nodeSelector": {ZONE: "a"}}
    assert feasible(made, pod("p", topologySpreadConstraints=[constraint(ZONE)], **only_a)) == {"a1", "a2"}
    ignoring = constraint(ZONE, nodeAffinityPolicy="Ignore")
    assert feasible(made, pod("p", topologySpreadConstraints=[ignoring], **only_a)) == set()
    tainted = world([*ZONES[:2], node("b1", "b", taints=[{"key": "k", "effect": "NoSchedule"}])], pod("x", on="a1"))
    assert feasible(tainted, pod("p", topologySpreadConstraints=[constraint(ZONE)])) == set()
    honoring = constraint(ZONE, nodeTaintsPolicy="Honor")
    assert feasible(tainted, pod("p", topologySpreadConstraints=[honoring])) == {"a1", "a2"}


def test_pods_of_other_namespaces_and_pods_on_their_way_out_do_not_count() -> None:
    leaving = pod("y", on="a1")
    leaving.metadata.deletion_timestamp = "2026-01-01T00:00:00Z"
    made = world(ZONES, pod("x", on="a1", namespace="team"), leaving)
    assert feasible(made, pod("p", topologySpreadConstraints=[constraint(ZONE)])) == {"a1", "a2", "b1"}


def test_a_soft_constraint_prefers_the_emptier_zone() -> None:
    made = world(ZONES, pod("x", on="a1"))
    assert chosen(made, pod("p", topologySpreadConstraints=[constraint(ZONE, hard=False)])) == "b1"


def test_siblings_are_spread_without_being_asked() -> None:
    made = world(ZONES, pod("x", on="a1", owner="rs"), pod("y", on="b1", owner="other"))
    assert chosen(made, pod("p", owner="rs")) == "b1"


def test_scores_are_even_when_there_is_nothing_to_tell_apart() -> None:
    assert spread.scores([(HOST, 1, {})], [{HOST: "a"}, {HOST: "b"}]) == [100, 100]


def test_what_a_pod_wanted_is_forgotten_with_it() -> None:
    made = world(ZONES, pod("loner", on="a1", owner="rs", affinity=away(term("web"))))
    made.remove_pod("loner")
    assert (made.with_terms, made.siblings) == ({}, {})
