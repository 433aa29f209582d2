"""Our nft tables after another agent has flushed the rules of the host."""

import asyncio
import subprocess
from collections.abc import Callable
from ipaddress import ip_address
from pathlib import Path

from cni import masquerade
from cni.capabilities import PortMapping
from cni.ports import ruleset
from cni.ports.publisher import NftPorts
from cni.ports.ruleset import Record
from cni.tables import TableWatch


def listed() -> str:
    return subprocess.run(["nft", "list", "ruleset"], capture_output=True, text=True, check=True).stdout


def nft(text: str) -> None:
    subprocess.run(["nft", "-f", "-"], input=text.encode(), check=True, timeout=10)


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(5):
        while not condition():  # noqa: ASYNC110 - the kernel tells this test nothing
            await asyncio.sleep(0.02)


def test_flushed_tables_come_back_and_our_own_replacement_starts_nothing(inside_host: str, tmp_path: Path) -> None:
    subprocess.run(["ip", "link", "add", "cni0", "type", "bridge"], check=True, timeout=10)
    ports = NftPorts(tmp_path / "ports")
    port = PortMapping("tcp", 8080, 80)
    record = Record(container_id="one", ifname="eth0", addresses=(ip_address("10.1.0.2"),), ports=(port,))
    rules = masquerade.ruleset(own=["10.1.0.0/24"], pods=[])
    called: list[str] = []

    async def masquerading() -> None:
        called.append(masquerade.TABLE)
        await asyncio.to_thread(nft, rules)

    async def publishing() -> None:
        called.append(ruleset.TABLE)
        await asyncio.to_thread(ports.restore)

    async def story() -> None:
        watch = TableWatch({masquerade.TABLE: masquerading, ruleset.TABLE: publishing})
        async with asyncio.TaskGroup() as group:
            watching = group.create_task(watch.run())
            await asyncio.sleep(0.05)
            await asyncio.to_thread(nft, rules)
            await asyncio.to_thread(nft, rules)
            await asyncio.to_thread(ports.publish, record, bridge="cni0")
            await asyncio.sleep(0.5)
            assert called == []
            before = await asyncio.to_thread(listed)
            await asyncio.to_thread(nft, "flush ruleset")
            await until(lambda: sorted(listed()) == sorted(before))
            assert sorted(called) == [masquerade.TABLE, ruleset.TABLE]
            watching.cancel()

    asyncio.run(story())
