"""The server process over TLS: what keeps it from starting, what a kill leaves, how it ends."""

import asyncio
import contextlib
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from server_process import Process

from kube import scheme, serve


@pytest.fixture
def process(tmp_path: Path) -> Iterator[Process]:
    made = Process(tmp_path)
    yield made
    made.stop()


def config_map(name: str) -> dict[str, object]:
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "namespace": "default"}}


async def test_kill_9_loses_no_acknowledged_write_and_a_watcher_goes_on_where_it_was(process: Process) -> None:
    child = process.start()
    await process.ready()
    async with process.client() as client:
        kept = [await client.create(scheme.CONFIG_MAPS, config_map(f"c{i}")) for i in range(20)]
        await client.delete(scheme.CONFIG_MAPS, "c0", namespace="default")
    os.kill(child.pid, signal.SIGKILL)
    child.wait(10)
    process.start()
    await process.ready()
    async with process.client() as client:
        found = await client.list(scheme.CONFIG_MAPS, namespace="default")
        names = {item["metadata"]["name"]: item["metadata"]["resourceVersion"] for item in found["items"]}
        assert {made["metadata"]["name"] for made in kept} - names.keys() == {"c0"}
        assert names["c19"] == kept[19]["metadata"]["resourceVersion"]
        seen = []
        since = kept[17]["metadata"]["resourceVersion"]
        async for event in client.watch(scheme.CONFIG_MAPS, namespace="default", resource_version=since):
            seen.append(event.type)
            if len(seen) == 3:
                break
        assert seen == ["ADDED", "ADDED", "DELETED"]


async def test_a_taken_port_and_a_taken_store_are_said_in_one_line(process: Process) -> None:
    with contextlib.closing(serve.listen(f"127.0.0.1:{process.port}")):
        told = await asyncio.to_thread(lambda: process.start().communicate(timeout=20)[1].decode())
    assert told == (
        f"error: cannot listen on 127.0.0.1:{process.port}: Address already in use: "
        "is another server running? `listen` names the addresses\n"
    )
    assert not (process.folder / "kubeconfig").exists()


async def test_a_term_signal_ends_watches_cleanly_and_the_process_well(process: Process) -> None:
    child = process.start()
    await process.ready()
    async with (
        process.client() as client,
        client.transport.stream("GET", "/api/v1/namespaces", params={"watch": "1"}) as answer,
    ):
        await anext(answer.chunks)
        child.send_signal(signal.SIGTERM)
        async with asyncio.timeout(5):
            assert [chunk async for chunk in answer.chunks if b"ERROR" in chunk] == []
    assert await asyncio.to_thread(child.wait, 10) == 0
