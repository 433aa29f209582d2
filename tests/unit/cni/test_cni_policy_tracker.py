"""The tracker plans only what changed: whatever the events were, it ends where one that starts afresh would."""

from dataclasses import dataclass, field
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from cni.policy.model import NamedPort, Pod
from cni.policy.plan import Change, Element
from cni.policy.rules import Policy
from cni.policy.tracker import Tracker
from fakes.policy_cluster import pods, policy

NAMES = st.sampled_from(["x/a", "x/b", "y/a", "y/b"])
ADDRESSES = st.lists(st.sampled_from(["10.0.0.1", "10.0.0.2", "10.0.0.3", "fd00::1"]), min_size=1, unique=True)


def a_pod(key: str, app: str, addresses: list[str], local: bool, rank: str, port: int) -> Pod:
    namespace, name = key.split("/")
    return Pod(
        namespace=namespace,
        name=name,
        labels={"app": app},
        addresses=tuple(addresses),
        ports=(NamedPort("http", "tcp", port),),
        local=local,
        rank=(False, True, rank, key),
    )


PODS = st.builds(
    a_pod, NAMES, st.sampled_from("pq"), ADDRESSES, st.booleans(), st.sampled_from("12"), st.sampled_from([80, 81])
)
PEERS: list[list[dict[str, Any]]] = [
    [],
    [{"podSelector": pods(app="p")}],
    [{"namespaceSelector": pods(team="blue")}],
    [{"namespaceSelector": {}, "podSelector": pods(app="q")}, {"ipBlock": {"cidr": "10.0.0.0/30"}}],
]


def a_policy(key: str, app: str | None, peers: list[dict[str, Any]], ports: list[dict[str, Any]], way: str) -> Policy:
    namespace, name = key.split("/")
    rule: dict[str, Any] = {"ports": ports, **({("from" if way == "ingress" else "to"): peers} if peers else {})}
    types = [way.capitalize()]
    selector = pods(app=app) if app else {}
    return policy(namespace, name, podSelector=selector, policyTypes=types, **{way: [rule]})


POLICIES = st.builds(
    a_policy,
    NAMES,
    st.sampled_from([None, "p", "q"]),
    st.sampled_from(PEERS),
    st.sampled_from([[], [{"port": "http"}], [{"port": 80}]]),
    st.sampled_from(["ingress", "egress"]),
)
NAMESPACES = st.tuples(st.sampled_from("xy"), st.sampled_from([None, {}, {"team": "blue"}]))
EVENTS = st.one_of(
    PODS, POLICIES, NAMESPACES, st.tuples(st.just("no pod"), NAMES), st.tuples(st.just("no policy"), NAMES)
)


@dataclass
class World:
    """What the events left, and the elements that the changes added up to."""

    pods: dict[str, Pod] = field(default_factory=dict)
    policies: dict[str, Policy] = field(default_factory=dict)
    labels: dict[str, dict[str, str]] = field(default_factory=dict)
    elements: set[Element] = field(default_factory=set)

    def tell(self, tracker: Tracker, event: Any) -> None:
        match event:
            case Pod():
                self.pods[event.key] = event
                tracker.pod(event.key, event)
            case Policy():
                self.policies[event.key] = event
                tracker.policy(event.key, event)
            case ("no pod", key):
                self.pods.pop(key, None)
                tracker.pod(key, None)
            case ("no policy", key):
                self.policies.pop(key, None)
                tracker.policy(key, None)
            case (name, labels):
                self.labels.pop(name, None)
                self.labels |= {name: labels} if labels is not None else {}
                tracker.namespace(name, labels)

    def take(self, change: Change) -> None:
        """Follows the change as the kernel would, which refuses what does not fit."""
        gone = change.before.sets - change.after.sets
        assert set(change.remove) <= self.elements
        self.elements = {each for each in self.elements - set(change.remove) if each.set not in gone}
        assert not self.elements & set(change.add)
        self.elements |= set(change.add)

    def afresh(self) -> Tracker:
        tracker = Tracker()
        for name, labels in self.labels.items():
            tracker.namespace(name, labels)
        for key, each in self.policies.items():
            tracker.policy(key, each)
        for key, pod in self.pods.items():
            tracker.pod(key, pod)
        tracker.settle()
        return tracker


@given(rounds=st.lists(st.lists(EVENTS, min_size=1, max_size=4), min_size=1, max_size=6))
def test_many_small_changes_end_where_one_plan_of_everything_does(rounds: list[list[Any]]) -> None:
    tracker, world = Tracker(), World()
    for events in rounds:
        for event in events:
            world.tell(tracker, event)
        world.take(tracker.settle())
        wanted, afresh = tracker.wanted(), world.afresh().wanted()
        assert wanted.elements == afresh.elements == world.elements
        assert wanted.structure.chains == afresh.structure.chains
        assert wanted.structure.sets == afresh.structure.sets


def test_an_address_belongs_to_one_pod_the_newer_one() -> None:
    tracker, world = Tracker(), World()
    world.tell(tracker, a_policy("x/p", "p", PEERS[1], [], "ingress"))
    world.tell(tracker, a_pod("x/a", "p", ["10.0.0.1"], True, "1", 80))
    world.tell(tracker, a_pod("x/b", "q", ["10.0.0.1"], True, "2", 80))
    tracker.settle()
    assert tracker.wanted().empty is False
    assert {element.set for element in tracker.wanted().elements} == set()
    world.tell(tracker, ("no pod", "x/b"))
    assert {element.set.split("-")[0] for element in tracker.settle().add} == {"ingress", "self", "peers"}
