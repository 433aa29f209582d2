"""The whole DNS process against an API in memory: from an object to an answer, two servers that watch each other."""

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import dns.message
import dns.rcode
import msgspec
import pytest
from prometheus_client import CollectorRegistry

from fakes.apiserver import FakeApiServer
from kube import scheme
from kube.client.informer import Informers
from kube.runtime.clock import SystemClock
from kube.runtime.config import ConfigError
from proxy.dns import config as configuration
from proxy.dns import files, peers, published
from proxy.dns.daemon import Daemon

HOST = "127.0.0.1"
WEB = "web.default.svc.cluster.local"
PORTS: list[dict[str, Any]] = [{"name": "http", "port": 80, "protocol": "TCP"}]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])


def service(name: str, address: str, namespace: str = "default") -> dict[str, Any]:
    spec = {"type": "ClusterIP", "clusterIP": address, "clusterIPs": [address], "ports": PORTS}
    return {"metadata": {"name": name, "namespace": namespace}, "spec": spec}


class QuickClock(SystemClock):
    """Waits a fiftieth of what it is told."""

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds / 50)


class Cluster:
    """An API with DNS servers."""

    def __init__(self) -> None:
        self.api = FakeApiServer()
        self.api.put(scheme.NAMESPACES, {"metadata": {"name": "default"}})
        self.api.put(scheme.SERVICES, service("kube-dns", "10.96.0.10", "kube-system"))
        self.ports: dict[str, int] = {}
        self.ready: dict[str, int] = {}

    def daemon(self, node: str, **options: Any) -> tuple[Daemon, Informers]:
        self.api.put(scheme.NODES, {"metadata": {"name": node, "uid": f"uid-{node}"}})
        self.ports[node], self.ready[node] = free_port(), free_port()
        body = {
            "nodeName": node,
            "nodeIP": HOST,
            "kubeconfig": "/nowhere",
            "port": self.ports[node],
            "forward": [f"{HOST}:1"],
            "lameduckSeconds": 15,
            "healthAddress": f"{HOST}:{free_port()}",
            "readyAddress": f"{HOST}:{self.ready[node]}",
            "metricsAddress": f"{HOST}:{free_port()}",
        }
        config = msgspec.convert(body | options, configuration.DNSConfiguration)
        clock = QuickClock()
        client = self.api.client()
        informers = Informers(client, clock=clock)
        made = Daemon(
            config, client=client, informers=informers, clock=clock, registry=CollectorRegistry(), address=HOST
        )
        return made, informers

    @asynccontextmanager
    async def running(self, node: str, **options: Any) -> AsyncIterator[asyncio.Task[None]]:
        daemon, informers = self.daemon(node, **options)
        async with asyncio.TaskGroup() as group:
            feeding = group.create_task(informers.run())
            running = group.create_task(daemon.run())
            await until(lambda: daemon.ready() is None)
            yield running
            running.cancel()
            await asyncio.wait([running])
            feeding.cancel()

    def is_ready(self, node: str) -> bool | None:
        """What the node's slice says."""
        found = self.api.find(scheme.ENDPOINT_SLICES, f"kube-dns-{node}", namespace="kube-system")
        return found["endpoints"][0]["conditions"]["ready"] if found else None


async def until(check: Callable[[], bool | Awaitable[bool]]) -> None:
    for _ in range(500):
        found = check()
        if found if isinstance(found, bool) else await found:
            return
        await asyncio.sleep(0.01)
    raise AssertionError("it did not come")


async def ask(port: int, name: str = WEB) -> dns.message.Message:
    loop = asyncio.get_running_loop()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.setblocking(False)
        client.connect((HOST, port))
        client.send(dns.message.make_query(name, "A").to_wire())
        async with asyncio.timeout(5):
            return dns.message.from_wire(await loop.sock_recv(client, 4096))


async def get(port: int, path: str) -> tuple[int, str]:
    reader, writer = await asyncio.open_connection(HOST, port)
    writer.write(f"GET {path} HTTP/1.1\r\n\r\n".encode())
    text = (await reader.read()).decode()
    writer.close()
    return int(text.split()[1]), text.partition("\r\n\r\n")[2]


async def test_an_object_becomes_an_answer_and_goes_again() -> None:
    cluster = Cluster()
    async with cluster.running("a"):
        port = cluster.ports["a"]
        assert (await ask(port)).rcode() == dns.rcode.NXDOMAIN
        cluster.api.put(scheme.SERVICES, service("web", "10.96.0.7"))

        async def seen() -> bool:
            return [str(item) for rrset in (await ask(port)).answer for item in rrset] == ["10.96.0.7"]

        async def gone() -> bool:
            return not (await ask(port)).answer

        await until(seen)
        cluster.api.remove(scheme.SERVICES, "web", namespace="default")
        await until(gone)
        assert (await ask(port, "ns.dns.cluster.local")).answer


async def test_a_server_is_an_endpoint_while_it_runs_and_says_when_it_leaves() -> None:
    cluster = Cluster()
    async with cluster.running("b"), cluster.running("a") as running:
        assert cluster.is_ready("a")
        assert (await get(cluster.ready["a"], "/ready"))[0] == 200
        running.cancel()
        await until(lambda: cluster.is_ready("a") is False)
        assert (await ask(cluster.ports["a"], "ns.dns.cluster.local")).answer, "it answers a while longer"
        assert (await get(cluster.ready["a"], "/ready"))[0] == 503


async def test_a_slice_that_somebody_spoils_is_written_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(published, "LOOK_SECONDS", 30.0)
    cluster = Cluster()
    async with cluster.running("a"):
        cluster.api.remove(scheme.ENDPOINT_SLICES, "kube-dns-a", namespace="kube-system")
        await until(lambda: cluster.is_ready("a") is True)


async def test_a_dead_neighbour_is_taken_out_of_the_service(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(peers, "PROBE_SECONDS", 0.1)
    cluster = Cluster()
    async with cluster.running("a"):
        async with cluster.running("b"):
            dead = cluster.api.find(scheme.ENDPOINT_SLICES, "kube-dns-b", namespace="kube-system")
            assert dead is not None
        await until(lambda: cluster.is_ready("b") is False)
        cluster.api.put(scheme.ENDPOINT_SLICES, dead)  # as if it had died without a word
        assert cluster.is_ready("b") is True
        await until(lambda: cluster.is_ready("b") is False)
        assert cluster.is_ready("a") is True


async def test_replies_are_counted_under_corednss_names() -> None:
    cluster = Cluster()
    daemon, informers = cluster.daemon("a", port=free_port())
    registry = daemon._registry
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(informers.run()), group.create_task(daemon.run())]
        await until(lambda: daemon.ready() is None)
        await ask(daemon._config.port)
        labels = {"server": f"dns://:{daemon._config.port}", "zone": ".", "view": "", "rcode": "NXDOMAIN", "plugin": ""}
        assert registry.get_sample_value("coredns_dns_responses_total", labels) == 1.0
        for task in tasks:
            task.cancel()


async def test_a_changed_configuration_is_taken_over_and_a_wrong_one_is_not(caplog: pytest.LogCaptureFixture) -> None:
    cluster = Cluster()
    daemon, informers = cluster.daemon("a", reloadSeconds=1)
    found = daemon._config
    read: list[configuration.DNSConfiguration | ConfigError] = [found]

    def reread() -> configuration.DNSConfiguration:
        if isinstance(read[0], ConfigError):
            raise read[0]
        return read[0]

    daemon._reread = reread

    async def answered() -> bool:
        return bool((await ask(found.port, "db.example.com")).answer)

    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(informers.run()), group.create_task(daemon.run())]
        await until(lambda: daemon.ready() is None)
        read[0] = msgspec.structs.replace(found, hosts=("192.0.2.5 db.example.com",))
        await until(answered)
        read[0] = ConfigError("dns.yaml: unknown field x")
        await until(lambda: "the old one stays: dns.yaml: unknown field x" in caplog.text)
        assert await answered()
        for task in tasks:
            task.cancel()


def headless(*, ready: bool, kind: str = "None") -> dict[str, Any]:
    found = service("db", kind)
    found["spec"]["publishNotReadyAddresses"] = not ready
    return found


def slice_of(ready: bool) -> dict[str, Any]:
    labels = {"kubernetes.io/service-name": "db"}
    endpoint = {"addresses": ["10.1.0.1"], "hostname": "db-0", "conditions": {"ready": ready}}
    metadata = {"name": "db-x", "namespace": "default", "labels": labels}
    return {"metadata": metadata, "addressType": "IPv4", "endpoints": [endpoint], "ports": PORTS}


async def test_slices_and_their_service_may_come_and_change_in_any_order() -> None:
    cluster = Cluster()
    name = "db-0.db.default.svc.cluster.local"
    async with cluster.running("a"):
        port = cluster.ports["a"]

        def answered(wanted: bool) -> Callable[[], Awaitable[bool]]:
            async def check() -> bool:
                return bool((await ask(port, name)).answer) is wanted

            return check

        cluster.api.put(scheme.ENDPOINT_SLICES, slice_of(ready=True))
        cluster.api.put(scheme.SERVICES, headless(ready=True))
        await until(answered(True))
        cluster.api.put(scheme.ENDPOINT_SLICES, slice_of(ready=False))
        await until(answered(False))
        cluster.api.put(scheme.SERVICES, headless(ready=False))
        await until(answered(True))
        cluster.api.put(scheme.SERVICES, headless(ready=False, kind="10.96.0.9"))
        await until(answered(False))
        cluster.api.put(scheme.SERVICES, headless(ready=False))
        await until(answered(True))
        cluster.api.remove(scheme.SERVICES, "db", namespace="default")
        await until(answered(False))


def pod(address: str, *, phase: str = "Running", host_network: bool = False) -> dict[str, Any]:
    status = {"phase": phase, "podIP": address, "podIPs": [{"ip": address}]}
    return {
        "metadata": {"name": "p", "namespace": "default"},
        "spec": {"hostNetwork": host_network},
        "status": status,
    }


async def test_the_first_name_of_a_pods_search_path_is_enough() -> None:
    cluster = Cluster()
    cluster.api.put(scheme.SERVICES, service("web", "10.96.0.7"))
    cluster.api.put(scheme.PODS, pod(HOST))
    async with cluster.running("a", autopath=True):
        reply = await ask(cluster.ports["a"], "web.default.default.svc.cluster.local")
        assert [str(item) for rrset in reply.answer for item in rrset] == [WEB + ".", "10.96.0.7"]
        assert (await ask(cluster.ports["a"], "none.default.svc.cluster.local")).rcode() != dns.rcode.NOERROR
        cluster.api.put(scheme.PODS, pod(HOST, host_network=True))

        async def alone() -> bool:
            return not (await ask(cluster.ports["a"], "web.default.default.svc.cluster.local")).answer

        await until(alone)


async def test_verified_pod_names_end_with_the_pod() -> None:
    cluster = Cluster()
    cluster.api.put(scheme.PODS, pod("10.1.2.3"))
    name = "10-1-2-3.default.pod.cluster.local"
    async with cluster.running("a", pods="verified"):
        port = cluster.ports["a"]
        assert (await ask(port, name)).answer
        assert (await ask(port, name.replace("10-1", "10-9"))).rcode() == dns.rcode.NXDOMAIN
        cluster.api.put(scheme.PODS, pod("10.1.2.3", phase="Succeeded"))

        async def gone() -> bool:
            return (await ask(port, name)).rcode() == dns.rcode.NXDOMAIN

        await until(gone)


async def test_a_hosts_file_follows_the_zone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "LOOK_SECONDS", 0.02)
    cluster, path = Cluster(), tmp_path / "hosts"
    async with cluster.running("a", files={"hosts": str(path)}):
        cluster.api.put(scheme.SERVICES, service("web", "10.96.0.7"))
        await until(lambda: path.exists() and f"10.96.0.7 {WEB}\n" in path.read_text())
        cluster.api.remove(scheme.SERVICES, "web", namespace="default")
        await until(lambda: WEB not in path.read_text())
