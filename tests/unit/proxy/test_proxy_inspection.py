"""Rules as people read them."""

import pytest
from test_proxy_exposure import HERE, endpoint, service, slices

from fakes.nft import FakeNft
from kube.runtime import netlink, nfelements
from proxy import inspection
from proxy.backends import elements, packed
from proxy.backends.elements import Edit, Element
from proxy.backends.nftables import NftablesBackend
from proxy.rules.plan import RuleSet
from proxy.services.model import ServiceKey

WEB = ServiceKey("default", "web")


def rules(*addresses: str) -> RuleSet:
    found = service(loadBalancerSourceRanges=["10.0.0.0/8"], sessionAffinity="ClientIP", externalTrafficPolicy="Local")
    return inspection.rule_set([found], slices(*(endpoint(a) for a in addresses)), node=HERE)


async def test_what_was_written_does_not_differ() -> None:
    backend = NftablesBackend(FakeNft())
    await backend.replace(rules("10.0.0.1", "10.0.0.2"))
    assert (await backend.held()).difference(rules("10.0.0.1", "10.0.0.2")) == []


async def test_the_difference_names_what_is_missing_and_what_is_too_much() -> None:
    backend = NftablesBackend(FakeNft())
    await backend.replace(rules("10.0.0.1"))
    text = (await backend.held()).difference(rules("10.0.0.9"))
    assert "+ ipv4 endpoints: 10.96.0.10 . tcp . 80 . 0 : 10.0.0.9 . 8080" in text
    assert "- ipv4 endpoints: 10.96.0.10 . tcp . 80 . 0 : 10.0.0.1 . 8080" in text


def test_the_rules_are_printed_by_service_with_their_conditions() -> None:
    text = "\n".join(inspection.lines(rules("10.0.0.1")))
    assert text.startswith("default/web:http\n  198.51.100.7:80/tcp  balancer  [source kept")
    assert "only from 10.0.0.0/8]\n    -> 10.0.0.1:8080  here" in text
    assert "[fd00::1]:30080/tcp  node-port" in text
    assert "refused: no endpoint" in text


async def test_a_service_is_shown_as_the_kernel_has_it() -> None:
    backend = NftablesBackend(FakeNft())
    await backend.replace(rules("10.0.0.1"))
    text = "\n".join(inspection.counted(WEB, rules("10.0.0.2"), (await backend.held()).ways))
    assert "-> 10.0.0.1:8080  0 connections  (not wanted)" in text
    assert "-> 10.0.0.2:8080  missing in the kernel" in text


@pytest.mark.parametrize(
    ("version", "block"), [(4, "10.0.0.0/8"), (4, "0.0.0.0/0"), (6, "fd00:1::/32"), (6, "::1/128")]
)
def test_an_element_reads_back_as_it_was_written(version: int, block: str) -> None:
    address = "10.96.0.1" if version == 4 else "fd96::1"
    found = Element(table_version=version, set=elements.ALLOWED, key=(address, "tcp", 80, block))
    for element in (
        found,
        Element(table_version=version, set=elements.STICKY, key=(address, "udp", 53), chain="remember-10"),
        Element(table_version=version, set=elements.ENDPOINTS, key=(address, "sctp", 9, 3), data=(address, 7)),
    ):
        step = nfelements.step(packed.pack(Edit(element=element)), table="t")
        listed = netlink.attributes(netlink.attributes(step.body)[nfelements.LIST_ELEMENTS])
        held = nfelements.read(listed[nfelements.LIST_ELEMENT])
        assert packed.read(element.set, version, held) == element
