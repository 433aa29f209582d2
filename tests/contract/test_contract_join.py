"""A machine joins a real server over TLS: verified before it is told anything, named after nobody else, renewed."""

import asyncio
import json
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from server_process import ROOT, Process

from kube import bootstraptoken, kubeconfig, pki, scheme, serve, status
from kube.client.failover import FailoverTransport
from kube.client.rest import Client
from kube.kubeconfig import RestConfig
from kube.runtime.clock import SystemClock
from nodeagent.certificates import keeper, plan
from nodeagent.join import discover, join
from nodeagent.join import plan as joining
from nodeagent.join.errors import JoinError

Object = dict[str, Any]
ME = joining.Machine(name="n1", machine_id="aaa", ip="192.0.2.11")


@pytest.fixture(scope="module")
def process(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Process]:
    made = Process(tmp_path_factory.mktemp("server"))
    made.start()
    yield made
    made.stop()


@pytest.fixture
async def admin(process: Process) -> AsyncIterator[Client]:
    await process.ready()
    async with process.client() as client:
        yield client


def command(process: Process, *arguments: str) -> subprocess.CompletedProcess[str]:
    argv = [sys.executable, "-m", "nodeagent", "token", *arguments, "--kubeconfig", str(process.folder / "kubeconfig")]
    return subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)


def token(process: Process, *arguments: str) -> str:
    done = command(process, "create", *arguments)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def wish(process: Process, text: str, *, machine: joining.Machine = ME, server: str = "") -> join.Wish:
    servers = (server or f"https://127.0.0.1:{process.port}",)
    return join.Wish(servers=servers, join=bootstraptoken.parse_join(text), machine=machine, patience=20)


def node(name: str, machine_id: str, address: str) -> Object:
    addresses = [{"type": "InternalIP", "address": address}]
    status = {"nodeInfo": {"machineID": machine_id}, "addresses": addresses}
    return {"apiVersion": "v1", "kind": "Node", "metadata": {"name": name}, "status": status}


def as_node(process: Process, pair: bytes, folder: Path) -> RestConfig:
    file = folder / "kubelet-client-current.pem"
    file.write_bytes(pair)
    admin = kubeconfig.load(process.folder / "kubeconfig")
    return RestConfig(server=admin.server, ca_data=admin.ca_data, cert_file=file, key_file=file)


async def test_a_token_becomes_a_certificate_that_is_renewed_by_itself_and_counts_at_once(
    process: Process, admin: Client, tmp_path: Path
) -> None:
    joined = await join.join(wish(process, token(process, "--description", "rack 2")), clock=SystemClock())
    assert joined.cluster == joining.Cluster(dns=("10.96.0.10",), domain="cluster.local", pod_cidr="10.244.0.0/16")
    cert = x509.load_pem_x509_certificate(joined.client_pem)
    assert cert.subject.rfc4514_string() == "CN=system:node:n1,O=system:nodes"

    rest = as_node(process, joined.client_pem, tmp_path)
    client = Client(FailoverTransport(rest))
    await client.create(scheme.NODES, node("n1", "aaa", "192.0.2.11"))
    keep = keeper.CertificateKeeper(
        tmp_path / "server.pem",
        wanted=lambda: plan.serving("n1", ("192.0.2.11",)),
        client=client,
        clock=SystemClock(),
        jitter=0.5,
    )
    async with asyncio.timeout(20), asyncio.TaskGroup() as group:
        task = group.create_task(keep.run())
        await keep.there.wait()
        task.cancel()
    serving = x509.load_pem_x509_certificate((tmp_path / "server.pem").read_bytes())
    assert plan.names(serving) == ({"n1"}, {"192.0.2.11"})
    serve.tls_context(tmp_path / "server.pem", tmp_path / "server.pem")
    renewed = await join.request.issue(client, plan.client("n1"), clock=SystemClock())
    assert x509.load_pem_x509_certificate(renewed).serial_number != cert.serial_number
    await client.close()
    await admin.delete(scheme.NODES, "n1")


async def test_a_server_of_another_cluster_is_told_nothing(process: Process, admin: Client, tmp_path: Path) -> None:
    """Somebody in between with a CA of his own, and a server without any: neither hears the token."""
    heard: list[bytes] = []
    pki.ensure_cluster(tmp_path, service_ip="10.96.0.1", zone="cluster.local", advertise="127.0.0.1")
    info = kubeconfig.render(server="https://127.0.0.1:1", user="", ca_data=(tmp_path / "ca.crt").read_bytes())
    body = json.dumps({"data": {"kubeconfig": info}}).encode()

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heard.append(await reader.readuntil(b"\r\n\r\n"))
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%s" % (len(body), body))
        await writer.drain()
        writer.close()

    context = serve.tls_context(tmp_path / "apiserver.crt", tmp_path / "apiserver.key")
    text = token(process)
    async with await asyncio.start_server(answer, "127.0.0.1", 0, ssl=context) as fake:
        port = fake.sockets[0].getsockname()[1]
        with pytest.raises(JoinError, match="not of the cluster this token was made for"):
            await join.join(wish(process, text, server=f"https://127.0.0.1:{port}"), clock=SystemClock())
    assert len(heard) == 1
    assert b"uthorization" not in heard[0]
    assert bootstraptoken.parse_join(text).token.secret.encode() not in heard[0]


async def test_a_deleted_an_expired_and_a_made_up_token_are_told_apart_from_a_wrong_server(
    process: Process, admin: Client
) -> None:
    text = token(process)
    made_up = str(bootstraptoken.JoinString(bootstraptoken.new(), bootstraptoken.parse_join(text).pin))
    assert command(process, "delete", text).returncode == 0
    for each in (text, made_up):
        with pytest.raises(JoinError, match="does not accept this token: it has expired or was deleted"):
            await join.join(wish(process, each), clock=SystemClock())


async def test_an_unreachable_server_is_named_with_what_to_look_at(process: Process) -> None:
    pin = "sha256:" + "0" * 64
    with pytest.raises(JoinError, match=r"127.0.0.1:1 cannot be reached: .*refused.*firewall"):
        await discover.find(("https://127.0.0.1:1",), pin)


@pytest.mark.parametrize(
    ("other", "word"),
    [
        (node("n1", "bbb", "192.0.2.12"), "node n1 exists and is another machine"),
        (node("n2", "bbb", "192.0.2.11"), "node n2 has the address 192.0.2.11 already"),
        (node("n2", "aaa", "192.0.2.12"), "node n2 has the same machine id aaa"),
    ],
)
async def test_a_machine_that_would_take_anothers_place_is_told_whose(
    process: Process, admin: Client, other: Object, word: str
) -> None:
    await admin.create(scheme.NODES, other)
    try:
        with pytest.raises(JoinError, match=word):
            await join.join(wish(process, token(process)), clock=SystemClock())
    finally:
        await admin.delete(scheme.NODES, other["metadata"]["name"])


async def test_tokens_are_listed_without_their_secrets_and_deleted_once(process: Process, admin: Client) -> None:
    text = token(process, "--ttl", "2h", "--description", "for the rack")
    listed = command(process, "list").stdout
    assert text[:6] in listed
    assert "for the rack" in listed
    assert text[7:23] not in listed
    assert json.loads(command(process, "list", "--output", "json").stdout)["tokens"]
    assert command(process, "delete", text[:6]).returncode == 0
    again = command(process, "delete", text[:6])
    assert (again.returncode, "no token" in again.stderr) == (1, True)
    assert command(process, "create", "--ttl", "soon").returncode == 1


async def test_an_expired_token_is_cleared_away(process: Process, admin: Client) -> None:
    name = token(process, "--ttl", "1s")[:6]
    async with asyncio.timeout(15):
        while True:
            try:
                await admin.get(scheme.SECRETS, f"bootstrap-token-{name}", namespace="kube-system")
            except status.ApiError as e:
                assert status.is_not_found(e)
                return
            await asyncio.sleep(0.1)


async def test_cluster_info_carries_a_signature_for_kubeadm(process: Process, admin: Client) -> None:
    name = token(process)[:6]
    async with asyncio.timeout(15):
        while True:
            info = await admin.get(scheme.CONFIG_MAPS, "cluster-info", namespace="kube-public")
            if f"jws-kubeconfig-{name}" in info["data"]:
                return
            await asyncio.sleep(0.1)


async def test_an_agent_turns_to_the_next_server_when_one_is_silent(process: Process, admin: Client) -> None:
    rest = kubeconfig.load(process.folder / "kubeconfig")
    transport = FailoverTransport(
        RestConfig(
            server="https://127.0.0.1:1",
            more_servers=(rest.server,),
            ca_data=rest.ca_data,
            cert_data=rest.cert_data,
            key_data=rest.key_data,
        )
    )
    client = Client(transport)
    found = await client.list(scheme.NAMESPACES)
    assert len(found["items"]) >= 4
    assert transport.servers == (rest.server, "https://127.0.0.1:1")
    await client.close()
