"""Our nft tables after another agent has flushed the rules of the host."""

import asyncio
import subprocess
import time
from collections.abc import Callable
from ipaddress import ip_address
from pathlib import Path

from cni import forward, masquerade
from cni.capabilities import PortMapping
from cni.ports import ruleset
from cni.ports.publisher import NftPorts
from cni.ports.ruleset import Record
from cni.tables import Kept, TableWatch, Visited


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
        watch = TableWatch(
            {
                masquerade.TABLE: Kept(families=lambda: masquerade.families(rules), restore=masquerading),
                ruleset.TABLE: Kept(families=lambda: ruleset.families(ports.published()), restore=publishing),
            }
        )
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
            await asyncio.to_thread(nft, f"flush chain ip {masquerade.TABLE} postrouting")
            await until(lambda: sorted(listed()) == sorted(before))
            assert called.count(masquerade.TABLE) == 2
            watching.cancel()

    asyncio.run(story())


def iptables(*argv: str, program: str = "/usr/sbin/iptables") -> str:
    done = subprocess.run([program, "-w", "5", *argv], capture_output=True, text=True, check=True, timeout=20)
    return done.stdout


def test_a_flushed_forward_chain_lets_pods_pass_again_within_a_second(inside_host: str) -> None:
    iptables("-P", "FORWARD", "DROP")
    looks: list[float] = []

    async def look() -> None:
        looks.append(time.monotonic())
        await forward.accept(["10.1.0.0/24"])

    async def story() -> None:
        watch = TableWatch({}, [Visited(table=t, chains=forward.CHAINS, look=look) for t in forward.TABLES])
        async with asyncio.TaskGroup() as group:
            watching = group.create_task(watch.run())
            await asyncio.sleep(0.05)
            await look()
            before = iptables("-S")
            for harm in (["-F"], ["-D", "FORWARD", "-j", forward.CHAIN], ["-I", "FORWARD", "1", "-j", "DROP"]):
                iptables(*harm)
                assert iptables("-S") != before
                begin = time.monotonic()
                await until(lambda: iptables("-S").splitlines()[3:5] == before.splitlines()[3:5])
                assert time.monotonic() - begin < 1.0
                await asyncio.sleep(0.5)
            quiet = len(looks)
            iptables("-A", "OUTPUT", "-j", "ACCEPT")
            await asyncio.sleep(0.5)
            assert len(looks) == quiet
            watching.cancel()

    asyncio.run(story())
