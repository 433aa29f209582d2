"""Changing the proxy's mode on a host: what the other mode left goes, what is anybody else's stays."""

from kube.runtime import process
from proxy.backends import detect, iptables
from proxy.backends.detect import Choice
from proxy.backends.iptables import HostXtables, IptablesBackend
from proxy.backends.nftables import NftablesBackend
from proxy.rules.plan import Backend, Frontend, PortRules, RuleSet
from proxy.services.model import ServiceKey

FOREIGN = """
add table ip kube-proxy
add chain ip kube-proxy service-x
add table inet firewall
add chain inet firewall input { type filter hook input priority 5; }
add rule inet firewall input tcp dport 9 drop
"""


def rules() -> RuleSet:
    found = RuleSet()
    ports = {Frontend("10.96.0.1", "tcp", 80): PortRules(backends=(Backend("10.0.0.1", 80),), title="default/web")}
    found.replace(ServiceKey("default", "web"), ports)
    return found


async def nft(*words: str, stdin: str = "") -> str:
    return (await process.run(["/usr/sbin/nft", *words], stdin=stdin.encode(), timeout=10)).decode()


async def held(kind: str) -> list[str]:
    saved = await HostXtables(kind=kind).save(4)
    return [name for _, name in iptables.held_chains(saved) if name.startswith("KUBE-")]


async def test_nftables_takes_over_from_iptables_of_both_kinds_and_from_upstream(inside_host: str) -> None:
    await nft("-f", "-", stdin=FOREIGN)
    for kind in ("nft", "legacy"):
        await IptablesBackend(HostXtables(kind=kind)).replace(rules())
        assert await held(kind)
    await NftablesBackend().replace(rules())
    await detect.remove_others(Choice(mode="nftables"))
    assert await held("nft") == await held("legacy") == []
    tables = await nft("list", "tables")
    assert "kube-proxy" not in tables
    assert "inet firewall" in tables
    assert "ip nodeagent-proxy" in tables


async def test_iptables_takes_over_from_nftables(inside_host: str) -> None:
    await NftablesBackend().replace(rules())
    backend = IptablesBackend(HostXtables(kind="nft"))
    await backend.replace(rules())
    await detect.remove_others(Choice(mode="iptables", kind="nft"))
    assert "nodeagent-proxy" not in await nft("list", "tables")
    assert await backend.present()


async def test_a_host_with_rules_in_legacy_tables_is_seen(inside_host: str) -> None:
    assert detect.probe().nftables == ""
    await process.run(
        ["/usr/sbin/iptables-legacy", "-A", "INPUT", "-p", "tcp", "--dport", "9", "-j", "DROP"], timeout=10
    )
    assert detect.probe().legacy_rules
