"""The control plane in three processes: each part takes its place at an API server it only knows by a kubeconfig."""

import asyncio
import contextlib
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from kube import kubeconfig, pki, scheme, serve, status
from kube.client.errors import ClientError
from kube.client.http import HttpTransport
from kube.client.rest import Client

NODE = {
    "metadata": {"name": "n1", "labels": {"kubernetes.io/hostname": "n1"}},
    "status": {
        "conditions": [{"type": "Ready", "status": "True"}],
        "allocatable": {"cpu": "4", "memory": "8Gi", "pods": "10"},
    },
}
WEB = {
    "metadata": {"name": "web", "namespace": "default"},
    "spec": {
        "replicas": 2,
        "selector": {"matchLabels": {"app": "web"}},
        "template": {
            "metadata": {"labels": {"app": "web"}},
            "spec": {"containers": [{"name": "c", "image": "demo:1"}]},
        },
    },
}


@contextlib.contextmanager
def part(*flags: str, log: Path) -> Iterator[subprocess.Popen[bytes]]:
    with open(log, "wb") as file:
        process = subprocess.Popen([sys.executable, "-m", "controlplane", *flags], stdout=file, stderr=file)
    try:
        yield process
    finally:
        process.terminate()
        process.wait(20)


def write_config(folder: Path) -> None:
    with serve.listen("127.0.0.1:0") as free:
        port = free.getsockname()[1]
    document = {
        "apiVersion": "nodeagent/v1",
        "kind": "ServerConfiguration",
        "dataDir": str(folder / "data"),
        "pkiDir": str(folder / "pki"),
        "listen": [f"127.0.0.1:{port}"],
        "kubeconfig": str(folder / "admin"),
    }
    (folder / "server.yaml").write_text(yaml.safe_dump(document))


def write_kubeconfig(folder: Path, user: str) -> str:
    """For one of the control plane's own users; the path."""
    server = kubeconfig.load(folder / "admin").server
    ca = pki.load_ca(folder / "pki")
    pair = pki.issue(ca, cn=user)
    path = folder / user
    kubeconfig.write(
        path, server=server, user=user, ca_data=ca.cert_pem, cert_data=pair.cert_pem, key_data=pair.key_pem
    )
    return str(path)


async def until(what: Callable[[], Awaitable[Any]]) -> Any:
    async with asyncio.timeout(30):
        while True:
            with contextlib.suppress(status.ApiError, ClientError, kubeconfig.KubeconfigError):
                if found := await what():
                    return found
            await asyncio.sleep(0.05)


@pytest.fixture
async def client(tmp_path: Path) -> AsyncIterator[Client]:
    """The administrator's, of an API server that runs without scheduler and controllers."""
    write_config(tmp_path)
    with part("--config", str(tmp_path), "--only", "apiserver", log=tmp_path / "apiserver.log"):

        async def ready() -> Client | None:
            made = Client(HttpTransport(kubeconfig.load(tmp_path / "admin")))
            try:
                await made.get(scheme.NAMESPACES, "default")
            except BaseException:
                await made.close()
                raise
            return made

        made = await until(ready)
        try:
            yield made
        finally:
            await made.close()


async def test_scheduler_and_controllers_work_at_another_api_server(client: Client, tmp_path: Path) -> None:
    node = await client.create(scheme.NODES, NODE)
    await client.patch(scheme.NODES, "n1", {"status": NODE["status"]}, subresource="status")
    await client.create(scheme.DEPLOYMENTS, WEB, namespace="default")

    async def pods() -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = (await client.list(scheme.PODS, namespace="default"))["items"]
        return found

    assert (await pods(), "podCIDR" in node["spec"]) == ([], False), "nobody but the API server is at work"
    controllers = write_kubeconfig(tmp_path, "system:kube-controller-manager")
    scheduler = write_kubeconfig(tmp_path, "system:kube-scheduler")
    flags = ("--config", str(tmp_path))
    with (
        part(*flags, "--only", "controllers", "--kubeconfig", controllers, log=tmp_path / "controllers.log"),
        part(*flags, "--only", "scheduler", "--kubeconfig", scheduler, log=tmp_path / "scheduler.log"),
    ):

        async def bound() -> bool:
            return [pod["spec"].get("nodeName") for pod in await pods()] == ["n1", "n1"]

        async def addressed() -> bool:
            return bool((await client.get(scheme.NODES, "n1"))["spec"].get("podCIDR"))

        await until(addressed)
        await until(bound)


def test_a_part_alone_needs_to_be_told_its_api_server(tmp_path: Path) -> None:
    write_config(tmp_path)
    log = tmp_path / "log"
    with part("--config", str(tmp_path), "--only", "scheduler", log=log) as process:
        assert process.wait(30) == 1
    assert log.read_text() == "error: --kubeconfig: required without our API server\n"
