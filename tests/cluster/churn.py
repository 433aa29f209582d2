"""Endpoints that come and go under traffic: the programs that run on the nodes, and what must be true of what they saw.

Must not know labs or the API: it judges lists of moments. Times are Unix time of one machine, in seconds.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

SERVER = """
import asyncio, sys
async def main(address, ports):
    def serve(port):
        async def talk(reader, writer):
            try:
                writer.write(f"{address}:{port}\\n".encode())
                while line := await reader.readline():
                    writer.write(line)
                    await writer.drain()
            except OSError:
                pass
            finally:
                writer.close()
        return asyncio.start_server(talk, address, port)
    for port in ports:
        await serve(int(port))
    print("ready", flush=True)
    await asyncio.Event().wait()
asyncio.run(main(sys.argv[1], sys.argv[2:]))
"""

CLIENT = """
import asyncio, sys, time
address, seconds, pause, held = sys.argv[1], float(sys.argv[2]), float(sys.argv[3]), int(sys.argv[4])
end = time.time() + seconds
async def connect():
    begin = time.time()
    try:
        async with asyncio.timeout(5):
            reader, writer = await asyncio.open_connection(address, 80)
            name = (await reader.readline()).decode().strip()
    except (OSError, TimeoutError) as error:
        print("failed", begin, time.time(), type(error).__name__, flush=True)
        return None
    print("reached", begin, time.time(), name or "nobody", flush=True)
    return reader, writer
async def open_many():
    while time.time() < end:
        made = await connect()
        if made:
            made[1].close()
        await asyncio.sleep(pause)
async def hold(number):
    await asyncio.sleep(number * 0.05)
    made = await connect()
    while made and time.time() < end:
        begin, word = time.time(), f"{number} {time.time()}\\n".encode()
        try:
            async with asyncio.timeout(5):
                made[1].write(word)
                answer = await made[0].readline()
        except (OSError, TimeoutError):
            answer = b""
        if answer != word:
            print("lost", begin, time.time(), number, flush=True)
            return
        await asyncio.sleep(0.2)
    print("kept", end, time.time(), number, flush=True)
async def main():
    async with asyncio.TaskGroup() as group:
        group.create_task(open_many())
        for number in range(held):
            group.create_task(hold(number))
asyncio.run(main())
"""

REACHES = """
import socket, sys, time
def ask(name):
    labels = b"".join(bytes([len(part)]) + part.encode() for part in name.split(".")) + b"\\0"
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.settimeout(0.5)
        client.sendto(b"\\0\\1\\1\\0\\0\\1" + bytes(6) + labels + b"\\0\\1\\0\\1", ("10.96.0.10", 53))
        answer = client.recv(512)
    return socket.inet_ntoa(answer[-4:]) if answer[7] else ""
def reach(address):
    with socket.socket() as client:
        client.settimeout(0.03)
        client.connect((address, 80))
        return client.recv(64)
for name in sys.argv[1:]:
    resolved = 0.0
    while True:
        try:
            address = ask(name)
            resolved = resolved or (address and time.time())
            if address and reach(address):
                break
        except OSError:
            pass
        time.sleep(0.005)
    print(resolved, time.time(), flush=True)
"""


class Seen(NamedTuple):
    """One line of a client: `what` is reached, failed, kept or lost; `name` the endpoint, or what was wrong."""

    what: str
    begin: float
    end: float
    name: str


class Change(NamedTuple):
    """An endpoint that came or went: when the API was asked, and when it had answered."""

    asked: float
    answered: float
    name: str
    present: bool


def read(output: str) -> list[Seen]:
    """What a client printed."""
    rows = (line.split() for line in output.splitlines())
    return [Seen(what, float(begin), float(end), name) for what, begin, end, name in rows]


def wrong(
    seen: Iterable[Seen], changes: Sequence[Change], *, start: Mapping[str, bool], allowed: float
) -> Iterator[str]:
    """Connections that failed, and those that began more than `allowed` seconds after their endpoint was gone."""
    history: dict[str, list[Change]] = {}
    for change in changes:
        history.setdefault(change.name, []).append(change)
    for each in seen:
        if each.what in ("failed", "lost"):
            yield f"{each.what}: {each.name} at {each.begin:.3f}"
        elif each.what == "reached" and (late := _late(each, history.get(each.name, ()), start=start)) > allowed:
            yield f"{each.name} reached {late * 1000:.0f} ms after it was gone"


def latest(seen: Iterable[Seen], changes: Sequence[Change], *, start: Mapping[str, bool]) -> float:
    """How long after an endpoint was gone the latest connection to it began; 0 for none."""
    history: dict[str, list[Change]] = {}
    for change in changes:
        history.setdefault(change.name, []).append(change)
    reached = (each for each in seen if each.what == "reached")
    return max((_late(each, history.get(each.name, ()), start=start) for each in reached), default=0.0)


def _late(each: Seen, changes: Sequence[Change], *, start: Mapping[str, bool]) -> float:
    """For how long the endpoint had been gone when the connection began; 0 when it was there meanwhile."""
    if each.name not in start:
        return float("inf")
    present, since = start[each.name], 0.0
    for change in changes:
        if change.present and change.asked <= each.end:
            present = True
        elif not change.present and change.answered <= each.begin:
            present, since = False, change.answered
    return 0.0 if present else each.begin - since
