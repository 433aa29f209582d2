"""What runs in each pod of the policy tests: serves echo on 80 and 81 by TCP and UDP, and connects where it is told.

Reads one JSON command a line, answers with one line. Standard library only, since nine of them start for one test.
"""

import errno
import json
import selectors
import socket
import struct
import sys
import time

PORTS = (80, 81)
SCTP = 132
loop = selectors.DefaultSelector()
held = {}
seen = []


def serve():
    for port in PORTS:
        listener = socket.create_server(("::", port), family=socket.AF_INET6, dualstack_ipv6=True, backlog=64)
        listener.setblocking(False)
        loop.register(listener, selectors.EVENT_READ, accept)
        udp = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
        udp.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        udp.bind(("::", port))
        udp.setblocking(False)
        loop.register(udp, selectors.EVENT_READ, answer)
    raw = socket.socket(socket.AF_INET, socket.SOCK_RAW, SCTP)
    raw.setblocking(False)
    loop.register(raw, selectors.EVENT_READ, note)


def accept(listener):
    connection, _ = listener.accept()
    connection.setblocking(False)
    loop.register(connection, selectors.EVENT_READ, echo)


def echo(connection):
    try:
        data = connection.recv(100)
        if data:
            connection.send(data)
            return
    except OSError:
        pass
    loop.unregister(connection)
    connection.close()


def answer(udp):
    data, peer = udp.recvfrom(100)
    try:
        udp.sendto(data, peer)
    except OSError:
        pass


def note(raw):
    packet, (address, _) = raw.recvfrom(200)
    seen.append([address, struct.unpack_from("!H", packet, 22)[0]])


def start(address, protocol, port):
    kind = socket.SOCK_STREAM if protocol == "tcp" else socket.SOCK_DGRAM
    client = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, kind)
    client.setblocking(False)
    code = client.connect_ex((address, port))
    if code not in (0, errno.EINPROGRESS):
        client.close()
        return None
    if protocol == "udp":
        client.send(b"?")
    return client


def attempt(targets, seconds):
    """Which of these answer; all are tried at once. One's own server is served meanwhile."""
    open_, reached = {}, [False] * len(targets)
    for place, (address, protocol, port) in enumerate(targets):
        client = start(address, protocol, port)
        if client is not None:
            open_[client] = (place, protocol)
            loop.register(client, selectors.EVENT_WRITE if protocol == "tcp" else selectors.EVENT_READ, None)
    end = time.monotonic() + seconds
    while open_ and time.monotonic() < end:
        for key, _ in loop.select(max(0.0, end - time.monotonic())):
            if key.data is not None:
                dispatch(key)
            elif key.fileobj in open_:
                place, protocol = open_.pop(key.fileobj)
                loop.unregister(key.fileobj)
                try:
                    reached[place] = (
                        protocol == "tcp" and not key.fileobj.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
                    ) or (protocol == "udp" and key.fileobj.recv(10) == b"?")
                except OSError:
                    pass
                key.fileobj.close()
    for client in open_:
        loop.unregister(client)
        client.close()
    return reached


def hold(name, address, port):
    """Opens a connection that stays."""
    held[name] = socket.create_connection((address, port), timeout=3)
    return True


def say(name, seconds):
    """Whether a held connection still carries data both ways."""
    held[name].settimeout(seconds)
    try:
        held[name].send(b"x")
        return held[name].recv(1) == b"x"
    except TimeoutError:
        return False


def sctp(address, port):
    """The first packet of an association: INIT, as a raw packet, since not every kernel speaks SCTP."""
    chunk = struct.pack("!BBHIIHHI", 1, 0, 20, 1, 65535, 1, 1, 1)
    packet = bytearray(struct.pack("!HHII", 40000, port, 0, 0) + chunk)
    packet[8:12] = struct.pack("<I", crc32c(packet))
    with socket.socket(socket.AF_INET, socket.SOCK_RAW, SCTP) as raw:
        raw.sendto(bytes(packet), (address, 0))
    return True


def crc32c(data):
    value = 0xFFFFFFFF
    for byte in data:
        value ^= byte
        for _ in range(8):
            value = (value >> 1) ^ (0x82F63B78 if value & 1 else 0)
    return value ^ 0xFFFFFFFF


def taken():
    """Who sent SCTP here since the last question: [address, port asked for]."""
    found = list(seen)
    seen.clear()
    return found


def command(_):
    line = sys.stdin.readline()
    if not line:
        sys.exit(0)
    name, *arguments = json.loads(line)
    print(json.dumps(globals()[name](*arguments)), flush=True)


def dispatch(key):
    """Serves what is ready; `attempt` may have done so meanwhile."""
    if key.fileobj.fileno() < 0:
        return
    try:
        key.data(key.fileobj)
    except BlockingIOError:
        return


serve()
loop.register(sys.stdin, selectors.EVENT_READ, command)
print("ready", flush=True)
while True:
    for ready, _ in loop.select():
        dispatch(ready)
