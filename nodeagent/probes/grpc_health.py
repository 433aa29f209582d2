"""gRPC probes: one call of grpc.health.v1.Health/Check, its two tiny messages coded by hand.

Must not know pods or thresholds. grpc is imported when the first such probe runs.
"""

from __future__ import annotations

from nodeagent.probes.plan import Outcome

_STATUS = {0: "UNKNOWN", 1: "SERVING", 2: "NOT_SERVING", 3: "SERVICE_UNKNOWN"}


def request(service: str) -> bytes:
    """HealthCheckRequest: field 1, the service."""
    name = service.encode()
    return b"" if not name else b"\x0a" + _varint(len(name)) + name


def answer(message: bytes) -> int:
    """The status in a HealthCheckResponse: field 1, a small enum, absent when 0."""
    return message[1] if len(message) >= 2 and message[0] == 0x08 else 0


def _varint(number: int) -> bytes:
    parts = bytearray()
    while number > 0x7F:
        parts.append(number & 0x7F | 0x80)
        number >>= 7
    parts.append(number)
    return bytes(parts)


async def probe(host: str, port: int, *, service: str, timeout: float) -> Outcome:
    """Ask once, within `timeout` seconds; only SERVING passes."""
    import grpc.aio  # heavy, and most nodes have no such probe

    address = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    options = [("grpc.enable_http_proxy", 0), ("grpc.primary_user_agent", "kube-probe/1.36")]
    async with grpc.aio.insecure_channel(address, options=options) as channel:
        call = channel.unary_unary(
            "/grpc.health.v1.Health/Check", request_serializer=request, response_deserializer=answer
        )
        try:
            status = await call(service, timeout=timeout)
        except grpc.aio.AioRpcError as e:
            if e.code() is grpc.StatusCode.DEADLINE_EXCEEDED:
                return Outcome(False, f'timeout: failed to connect service "{address}" within {timeout:g}s')
            if e.code() is grpc.StatusCode.UNIMPLEMENTED:
                return Outcome(False, "this server does not implement the grpc health protocol (grpc.health.v1.Health)")
            return Outcome(False, f"error: health rpc probe failed: {e.details()}")
    if status == 1:
        return Outcome(True, "service healthy")
    return Outcome(False, f'service unhealthy (responded with "{_STATUS.get(status, status)}")')
