"""What the proxy writes into nf_tables, read back: by itself and by nft."""

from kube.runtime import process
from proxy.backends import elements
from proxy.backends.nftables import NFT, NftablesBackend
from proxy.rules import plan
from proxy.rules.plan import BALANCER, Backend, Frontend, PortRules, RuleSet
from proxy.services.model import ServiceKey


def everything() -> RuleSet:
    rules = RuleSet()
    for number, (address, target) in enumerate((("10.96.0.1", "10.0.0."), ("fd96::1", "fd00::"))):
        backends = tuple(Backend(f"{target}{n}", 8080) for n in range(1, 4))
        plain = PortRules(backends=backends, hairpins=frozenset({backends[0].address}))
        rich = PortRules(
            backends=backends,
            kind=BALANCER,
            local_only=True,
            local=backends[:1],
            affinity=77,
            sources=("10.0.0.0/8", "192.168.1.7/32") if not number else ("fd00::/8",),
        )
        ports = {Frontend(address, "tcp", 80): plain, Frontend(address, "sctp", 81): rich}
        rules.replace(ServiceKey("default", f"s{number}"), ports | {Frontend(address, "udp", 82): PortRules(drop=True)})
    return rules


async def test_everything_in_the_kernel_reads_back_as_it_was_meant(inside_host: str) -> None:
    backend = NftablesBackend()
    await backend.replace(everything())
    assert (await backend.held()).difference(everything()) == []


async def test_nft_can_list_our_tables(inside_host: str) -> None:
    backend = NftablesBackend()
    await backend.replace(everything())
    for family in ("ip", "ip6"):
        listed = await process.run([NFT, "list", "table", family, "nodeagent-proxy"], timeout=10)
        assert b"update @affinity" in listed


async def test_five_thousand_endpoints_of_one_service_are_all_there_and_one_more_is_a_small_change(
    inside_host: str,
) -> None:
    frontend, key = Frontend("10.96.0.1", "tcp", 80), ServiceKey("default", "many")
    many = tuple(Backend(f"10.0.{number // 250}.{number % 250 + 1}", 8080) for number in range(5001))
    rules, backend = RuleSet(), NftablesBackend()
    rules.replace(key, {frontend: PortRules(backends=many[:-1], title="default/many")})
    await backend.replace(rules)
    changes = plan.difference(rules, {key: {frontend: PortRules(backends=many, title="default/many")}})
    assert len(elements.edits(changes)) == 3
    await backend.change(changes)
    assert {way.backend for way in (await backend.held()).ways} == set(many)
