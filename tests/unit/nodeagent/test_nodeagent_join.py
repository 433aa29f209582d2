"""Joining and renewing as decisions: who may join whom, what is asked for and when, which server is asked."""

import contextlib
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import pytest
from cryptography import x509

from kube import csr, kubeconfig, pki, types
from kube.client.errors import Unreachable
from kube.client.failover import FailoverTransport
from kube.client.transport import Response, StreamResponse
from kube.kubeconfig import RestConfig
from nodeagent.certificates import plan as certificates
from nodeagent.join import discover, plan
from nodeagent.join.errors import JoinError
from nodeagent.node import servers

NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)
ME = plan.Machine(name="n1", machine_id="aaa", ip="192.0.2.11")


def node(name: str, machine_id: str, address: str) -> dict[str, Any]:
    addresses = [{"type": "InternalIP", "address": address}, {"type": "Hostname", "address": name}]
    return {"metadata": {"name": name}, "status": {"nodeInfo": {"machineID": machine_id}, "addresses": addresses}}


@pytest.mark.parametrize(
    ("other", "word"),
    [
        (node("n2", "bbb", "192.0.2.12"), ""),
        (node("n1", "aaa", "192.0.2.99"), ""),  # the same machine again, with a new address
        (node("n1", "bbb", "192.0.2.12"), "node n1 exists and is another machine (machine id bbb, address 192.0.2.12"),
        (node("n2", "bbb", "192.0.2.11"), "node n2 has the address 192.0.2.11 already"),
        (node("n2", "aaa", "192.0.2.12"), "node n2 has the same machine id"),
    ],
)
def test_a_machine_joins_beside_others_but_never_in_their_place(other: dict[str, Any], word: str) -> None:
    found = plan.refusals(ME, [other])
    assert (word in found[0]) if word else not found


@pytest.mark.parametrize(
    ("version", "word"),
    [
        ("v1.36.2", None),
        ("v1.39.0", None),
        ("v1.40.0", "more than 3"),
        ("v1.35.9", "older than this agent"),
        ("", "version"),
    ],
)
def test_an_agent_is_never_newer_than_its_server_and_at_most_three_versions_older(
    version: str, word: str | None
) -> None:
    found = plan.version_problem(version)
    assert found is None if word is None else word in str(found)


def test_the_clusters_settings_are_taken_and_the_usual_ones_stand_in_for_what_is_missing() -> None:
    kubelet = "clusterDNS: [10.32.0.10]\nclusterDomain: example.org\nmaxPods: 7\n"
    assert plan.cluster(kubelet, "clusterCIDR: 10.1.0.0/16") == plan.Cluster(
        dns=("10.32.0.10",), domain="example.org", pod_cidr="10.1.0.0/16"
    )
    assert plan.cluster(None, "][") == plan.Cluster()


@pytest.mark.parametrize(
    ("url", "good"),
    [
        ("https://s:6443", "https://s:6443"),
        ("192.0.2.2", "https://192.0.2.2:6443"),
        ("https://[2001:db8::1]", "https://[2001:db8::1]:6443"),
        ("http://s", ""),
        ("https://s/path", ""),
        ("https://s:port", ""),
        ("", ""),
    ],
)
def test_a_servers_address_is_understood_or_refused(url: str, good: str) -> None:
    if good:
        assert discover.check(url) == good
        return
    with pytest.raises(JoinError, match="--server"):
        discover.check(url)


def test_clocks_that_disagree_are_told_in_seconds_and_direction() -> None:
    ahead = discover.lead("Mon, 23 Nov 2026 12:10:00 GMT", NOW)
    assert ahead == 600
    assert "600 s behind" in str(discover.skew_problem(ahead))
    assert "ahead of" in str(discover.skew_problem(-ahead))
    assert discover.skew_problem(299) is None
    assert discover.lead("nonsense", NOW) == discover.lead(None, NOW) == 0


# renewal


def cert(tmp_path: Path, wanted: certificates.Wanted, *, hours: float) -> x509.Certificate:
    body = csr.make(csr.new_key(), common_name=wanted.common_name, dns_names=wanted.dns_names, ips=wanted.ips)
    signed = csr.sign(pki.ensure_ca(tmp_path), body, usages=wanted.usages, seconds=hours * 3600, now=datetime.now(UTC))
    return x509.load_pem_x509_certificate(signed)


def test_a_certificate_is_renewed_between_70_and_90_percent_of_its_life(tmp_path: Path) -> None:
    wanted = certificates.client("n1")
    found = cert(tmp_path, wanted, hours=100)
    life = found.not_valid_after_utc - found.not_valid_before_utc
    first, last = (certificates.renewal(found, jitter=jitter) - found.not_valid_before_utc for jitter in (0, 1))
    assert (first / life, last / life) == pytest.approx((0.7, 0.9))
    soon = found.not_valid_before_utc + life * 0.6
    assert 0 < certificates.pause(found, wanted, now=soon, jitter=0) <= (life * 0.11).total_seconds()
    assert certificates.pause(found, wanted, now=soon + life * 0.2, jitter=0) == 0
    assert certificates.pause(None, wanted, now=soon, jitter=0) == 0


def test_a_node_with_a_new_address_wants_a_new_serving_certificate_at_once(tmp_path: Path) -> None:
    found = cert(tmp_path, certificates.serving("n1", ["192.0.2.11"]), hours=100)
    now = datetime.now(UTC)
    assert certificates.pause(found, certificates.serving("n1", ["192.0.2.11"]), now=now, jitter=0) > 0
    assert certificates.pause(found, certificates.serving("n1", ["192.0.2.12"]), now=now, jitter=0) == 0
    assert certificates.lacks(found, certificates.serving("n2", ["192.0.2.11"])) == ["n2"]


# several servers


class Scripted:
    """A server that answers or is silent."""

    def __init__(self, config: RestConfig, silent: set[str], log: list[str]) -> None:
        self.server, self._silent, self._log = config.server, silent, log

    async def request(self, method: str, path: str, **_: Any) -> Response:
        self._log.append(self.server)
        if self.server in self._silent:
            raise Unreachable(self.server, "silent")
        return Response(200, {}, self.server.encode())

    @contextlib.asynccontextmanager
    async def stream(self, method: str, path: str, **_: Any) -> AsyncIterator[StreamResponse]:
        answer = await self.request(method, path)

        async def chunks() -> AsyncIterator[bytes]:
            yield answer.body

        yield StreamResponse(200, {}, chunks())

    async def close(self) -> None:
        self._log.append(f"closed {self.server}")


@pytest.fixture
def several() -> tuple[FailoverTransport, set[str], list[str]]:
    silent: set[str] = set()
    log: list[str] = []
    config = RestConfig(server="https://a", more_servers=("https://b", "https://c"))
    return FailoverTransport(config, make=lambda each: Scripted(each, silent, log)), silent, log


async def test_a_read_goes_to_the_next_server_at_once_and_stays_there(
    several: tuple[FailoverTransport, set[str], list[str]],
) -> None:
    transport, silent, log = several
    silent |= {"https://a", "https://b"}
    assert (await transport.request("GET", "/version")).body == b"https://c"
    silent.clear()
    async with transport.stream("GET", "/watch") as answer:
        assert [chunk async for chunk in answer.chunks] == [b"https://c"]
    assert log == ["https://a", "https://b", "https://c", "https://c"]


async def test_a_write_is_not_done_twice_but_the_next_try_goes_elsewhere(
    several: tuple[FailoverTransport, set[str], list[str]],
) -> None:
    transport, silent, log = several
    silent.add("https://a")
    with pytest.raises(Unreachable):
        await transport.request("POST", "/pods")
    assert (await transport.request("POST", "/pods")).status == 200
    assert log == ["https://a", "https://b"]


async def test_when_all_are_silent_the_caller_is_told(several: tuple[FailoverTransport, set[str], list[str]]) -> None:
    transport, silent, log = several
    silent |= set(transport.servers)
    with pytest.raises(Unreachable):
        await transport.request("GET", "/version")
    with pytest.raises(Unreachable):
        async with transport.stream("GET", "/watch"):
            pass
    assert len(log) == 6


async def test_servers_come_and_go_while_the_one_in_use_stays(
    several: tuple[FailoverTransport, set[str], list[str]],
) -> None:
    transport, silent, _log = several
    silent.add("https://a")
    await transport.request("GET", "/version")
    await transport.learn(["https://a", "https://b", "https://d"])
    assert transport.servers[0] == "https://b"
    assert set(transport.servers) == {"https://a", "https://b", "https://d"}
    await transport.learn([])
    assert len(transport.servers) == 3


def test_the_servers_are_those_of_the_services_endpoints() -> None:
    raw = {
        "metadata": {"name": "kubernetes"},
        "addressType": "IPv4",
        "endpoints": [{"addresses": ["192.0.2.2"]}, {"addresses": ["192.0.2.3"]}],
        "ports": [{"name": "https", "port": 6443}],
    }
    assert servers.urls(msgspec.convert(raw, types.EndpointSlice)) == [
        "https://192.0.2.2:6443",
        "https://192.0.2.3:6443",
    ]


def test_a_kubeconfig_remembers_the_other_servers_and_stays_a_kubeconfig(tmp_path: Path) -> None:
    file = tmp_path / "kubelet.kubeconfig"
    text = kubeconfig.render(server="https://a", user="n1", ca_data=b"CA", pair_file="/pki/n1.pem")
    file.write_text(text)
    assert kubeconfig.learn_servers(file, ["https://a", "https://b"])
    assert not kubeconfig.learn_servers(file, ["https://a", "https://b"])
    found = kubeconfig.load(file)
    assert (found.server, found.more_servers) == ("https://a", ("https://b",))
    assert found.cert_file == found.key_file == Path("/pki/n1.pem")
