"""iptables rules as upstream's tools know them, how little a change writes, and who gets which backend."""

import pytest

from fakes.iptables import FakeXtables
from proxy.backends import detect, iptables, iptables_rules
from proxy.backends.detect import Choice, Host
from proxy.backends.iptables import IptablesBackend
from proxy.backends.protocol import BackendError
from proxy.rules import plan
from proxy.rules.plan import Backend, Frontend, PortRules, RuleSet
from proxy.services.model import ServiceKey


def cluster(services: int) -> RuleSet:
    rules = RuleSet()
    for number in range(services):
        frontend = Frontend(f"10.96.{number // 250}.{number % 250 + 1}", "tcp", 80)
        backends = tuple(Backend(f"10.244.{number // 250}.{place + 1}", 8080) for place in range(2))
        ports = {frontend: PortRules(backends=backends, title=f"default/s{number}:http")}
        rules.replace(ServiceKey("default", f"s{number}"), ports)
    return rules


def test_chains_are_named_as_upstream_names_them() -> None:
    # From upstream's own tests: ns1/svc1:p80 over TCP, its endpoint 10.180.0.1:80.
    assert iptables_rules.name("SVC", "ns1/svc1:p80", "tcp") == "KUBE-SVC-XPGD46QRK7WJZT7O"
    assert iptables_rules.name("SEP", "ns1/svc1:p80", "tcp", "10.180.0.1:80") == "KUBE-SEP-SXIVWICOYRO3J4NJ"


def test_the_nth_of_n_endpoints_is_chosen_with_ten_decimals() -> None:
    backends = tuple(Backend(f"10.0.0.{n}", 80) for n in range(1, 4))
    frontend = Frontend("10.96.0.1", "tcp", 80)
    found = iptables_rules.part("ns/s:p", "tcp", {frontend: PortRules(backends=backends, title="ns/s:p")})
    chain = found.chains["nat", iptables_rules.name("SVC", "ns/s:p", "tcp")]
    assert [rule.split(" -j ")[0].split()[-1] for rule in chain[:2]] == ["0.3333333333", "0.5000000000"]
    assert chain[2].startswith("-j KUBE-SEP-")


async def test_a_change_of_an_endpoint_writes_the_chains_of_its_service_only() -> None:
    host = FakeXtables()
    backend, rules = IptablesBackend(host), cluster(300)
    await backend.replace(rules)
    key, frontend = ServiceKey("default", "s7"), Frontend("10.96.0.8", "tcp", 80)
    wanted = PortRules(backends=(Backend("10.244.0.1", 8080), Backend("10.9.9.9", 8080)), title="default/s7:http")
    await backend.change(plan.difference(rules, {key: {frontend: wanted}}))
    script = host.scripts[-1]
    assert len(script.splitlines()) < 12
    assert "KUBE-SERVICES" not in script
    assert {end.address for end in host.connect(source="10.0.0.9", to="10.96.0.8", protocol="tcp", port=80)} == {
        "10.244.0.1",
        "10.9.9.9",
    }


async def test_many_endpoints_have_no_comments_and_few_have() -> None:
    host = FakeXtables()
    backend = IptablesBackend(host)
    await backend.replace(cluster(500))
    assert "--comment" in host.scripts[-2]
    many = cluster(501)
    await backend.replace(many)
    assert "--comment" not in host.scripts[-2] + host.scripts[-1]
    assert (await backend.held()).difference(many) == []


async def test_changes_one_by_one_end_where_a_full_write_does() -> None:
    host, other = FakeXtables(), FakeXtables()
    backend, rules = IptablesBackend(host), RuleSet()
    await backend.replace(rules)
    goal = cluster(5)
    for key, ports in cluster(8).services.items():
        await backend.change(plan.difference(rules, {key: ports}))
        rules.replace(key, ports)
    for key in [key for key in rules.services if key not in goal.services]:
        await backend.change(plan.difference(rules, {key: {}}))
        rules.replace(key, {})
    await IptablesBackend(other).replace(goal)
    assert host.chains == other.chains


async def test_only_what_is_ours_is_removed() -> None:
    host = FakeXtables()
    await host.restore(4, "*nat\n:KUBE-KUBELET-CANARY - [0:0]\n-A PREROUTING -s 10.0.0.1 -j ACCEPT\nCOMMIT\n")
    before = iptables.held_chains(await host.save(4))
    backend = IptablesBackend(host)
    await backend.replace(cluster(3))
    await backend.cleanup()
    assert iptables.held_chains(await host.save(4)) == before


def host(*, nftables: str = "", iptables: str = "nft", legacy_rules: bool = False) -> Host:
    return Host(nftables=nftables, iptables=iptables, legacy_rules=legacy_rules)


def test_nftables_is_taken_where_it_works_and_iptables_where_the_rules_are_otherwise() -> None:
    assert detect.choose("", host()) == Choice(mode="nftables")
    assert detect.choose("", host(nftables="too old")) == Choice(mode="iptables", kind="nft")
    assert detect.choose("", host(nftables="too old", legacy_rules=True)) == Choice(mode="iptables", kind="legacy")
    assert detect.choose("iptables", host()) == Choice(mode="iptables", kind="nft")
    assert detect.choose("iptables", host(iptables="legacy")) == Choice(mode="iptables", kind="legacy")
    assert detect.choose("legacy", host()) == Choice(mode="iptables", kind="legacy")


def test_a_mode_that_cannot_be_had_is_refused_with_the_reason() -> None:
    with pytest.raises(BackendError, match="too old"):
        detect.choose("nftables", host(nftables="too old"))
    with pytest.raises(BackendError, match="install one"):
        detect.choose("", host(nftables="too old", iptables=""))
