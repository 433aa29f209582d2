"""Probes: thresholds, timing under a virtual clock, and the mechanisms over loopback."""

from __future__ import annotations

import asyncio
import datetime
from collections.abc import AsyncIterator, Sequence
from typing import Any

import msgspec
import pytest

from kube import types
from nodeagent import errors
from nodeagent.cri.records import ExecResult
from nodeagent.pods.kit import RunningContainer
from nodeagent.probes import Probes, attempt, grpc_health, http, plan
from nodeagent.stats import metrics

EPOCH = datetime.datetime(2026, 11, 23, 12, tzinfo=datetime.UTC)


def a_probe(**fields: Any) -> types.Probe:
    return msgspec.convert(fields, types.Probe)


@pytest.mark.parametrize(
    ("outcomes", "needed", "results"),
    [
        ("..", 1, [True, True]),
        ("xxx", 1, [None, None, False]),
        (".xx.xxx.", 1, [True, True, True, True, True, True, False, True]),
        ("xx.xxx.x..", 2, [None, None, None, None, None, False, False, False, False, True]),
    ],
)
def test_results_turn_at_their_thresholds(outcomes: str, needed: int, results: list[bool | None]) -> None:
    probe, state, seen = a_probe(failureThreshold=3, successThreshold=needed), plan.State(), []
    for outcome in outcomes:
        state = plan.step(state, probe, passed=outcome == ".")
        seen.append(state.result)
    assert seen == results


def test_startup_ends_with_either_verdict_liveness_with_failure_and_readiness_never() -> None:
    final = {
        (kind, result): plan.is_final(kind, plan.State(result)) for kind in plan.KINDS for result in (True, False, None)
    }
    assert {key for key, value in final.items() if value} == {
        ("startup", True),
        ("startup", False),
        ("liveness", False),
    }


def test_the_first_run_waits_for_the_initial_delay_and_a_restarted_agent_spreads_its_load() -> None:
    probe = a_probe(initialDelaySeconds=5, periodSeconds=10)
    assert plan.first_delay(probe, age=1.0, found_running=False, luck=0.9) == 4.0
    assert plan.first_delay(probe, age=60.0, found_running=False, luck=0.9) == 0.0
    assert plan.first_delay(probe, age=60.0, found_running=True, luck=0.5) == 5.0


class LoopClock:
    """A clock that follows the loop, so that looptime turns it."""

    def monotonic(self) -> float:
        return asyncio.get_running_loop().time()

    def now(self) -> datetime.datetime:
        return EPOCH + datetime.timedelta(seconds=self.monotonic())

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)


class Kubelet:
    """Probes whose exec answers from a script: seconds since start -> exit code."""

    def __init__(self) -> None:
        self.clock = LoopClock()
        self.code = lambda command: 0
        self.runs: list[tuple[float, str]] = []
        self.news: list[tuple[str, str, bool, str]] = []
        self.probes = Probes(exec=self.exec, clock=self.clock, on_result=self.told)

    async def __aenter__(self) -> Kubelet:
        self.group = await asyncio.TaskGroup().__aenter__()
        self.task = self.group.create_task(self.probes.run())
        return self

    async def __aexit__(self, *failure: Any) -> None:
        self.task.cancel()
        await self.group.__aexit__(*failure)

    async def exec(self, container_id: str, command: Sequence[str], /, *, timeout: float) -> ExecResult:
        self.runs.append((round(self.clock.monotonic(), 3), command[0]))
        return ExecResult(stdout=b"said\n", exit_code=self.code(command[0]))

    def told(self, uid: str, container: str, kind: str, passed: bool, text: str) -> None:
        self.news.append((container, kind, passed, text))

    def running(self, *, id: str = "1", age: float = 0.0) -> dict[str, RunningContainer]:
        started = self.clock.now().timestamp() - age
        return {"c": RunningContainer(id=id, started_at=int(started * 1e9), pod_ip="127.0.0.1")}


def a_pod(*, status: Any = None, **container: Any) -> types.Pod:
    body = {"metadata": {"uid": "u"}, "spec": {"containers": [{"name": "c", **container}]}, "status": status or {}}
    return msgspec.convert(body, types.Pod)


def command(name: str, **fields: Any) -> dict[str, Any]:
    return {"exec": {"command": [name]}, "periodSeconds": 10, **fields}


@pytest.mark.looptime
async def test_a_container_without_initial_delay_is_asked_at_once() -> None:
    async with Kubelet() as kubelet:
        kubelet.probes.sync(a_pod(readinessProbe=command("ready")), kubelet.running())
        assert kubelet.probes.results("u") == {("c", "readiness"): None}
        await asyncio.sleep(0.01)
        assert kubelet.probes.results("u") == {("c", "readiness"): True}
        assert kubelet.news == [("c", "readiness", True, "")]
        await asyncio.sleep(25)
        assert [at for at, _ in kubelet.runs] == [0, 10, 20]
        assert len(kubelet.news) == 1


@pytest.mark.looptime
async def test_the_initial_delay_counts_from_the_containers_start() -> None:
    async with Kubelet() as kubelet:
        kubelet.probes.sync(a_pod(livenessProbe=command("alive", initialDelaySeconds=7)), kubelet.running())
        await asyncio.sleep(30)
        assert [at for at, _ in kubelet.runs] == [7, 17, 27]


@pytest.mark.looptime
async def test_startup_gates_the_others() -> None:
    async with Kubelet() as kubelet:
        kubelet.code = lambda name: 1 if name == "up" and kubelet.clock.monotonic() < 15 else 0
        pod = a_pod(
            startupProbe=command("up", failureThreshold=5),
            livenessProbe=command("alive"),
            readinessProbe=command("ready"),
        )
        kubelet.probes.sync(pod, kubelet.running())
        await asyncio.sleep(15)
        assert {name for _, name in kubelet.runs} == {"up"}
        assert kubelet.probes.results("u")["c", "startup"] is None
        await asyncio.sleep(10)
        assert sorted(kubelet.runs[2:]) == [(20, "alive"), (20, "ready"), (20, "up")]
        assert all(kubelet.probes.results("u").values())


@pytest.mark.looptime
async def test_a_dead_container_is_reported_each_time_and_then_left_alone() -> None:
    async with Kubelet() as kubelet:
        kubelet.code = lambda _: 1
        pod = a_pod(livenessProbe=command("alive"))
        kubelet.probes.sync(pod, kubelet.running())
        await asyncio.sleep(60)
        assert [at for at, _ in kubelet.runs] == [0, 10, 20]
        assert kubelet.news == [("c", "liveness", False, "Liveness probe failed: said")] * 3
        assert kubelet.probes.results("u") == {("c", "liveness"): False}
        kubelet.probes.sync(pod, kubelet.running(id="2"))
        assert kubelet.probes.results("u") == {("c", "liveness"): None}
        await asyncio.sleep(1)
        assert kubelet.runs[-1][0] == 60


@pytest.mark.looptime
async def test_tries_are_counted_by_what_became_of_them_until_the_pod_goes() -> None:
    async with Kubelet() as kubelet:
        kubelet.code = lambda _: 1
        kubelet.probes.sync(a_pod(livenessProbe=command("alive", failureThreshold=9)), kubelet.running())
        await asyncio.sleep(25)
        assert kubelet.probes.tallies == {("Liveness", "failed", "c", "", "", "u"): 3}
        text = metrics.probes(kubelet.probes.tallies.items())
        assert 'pod_uid="u",probe_type="Liveness",result="failed"} 3' in text
        kubelet.probes.forget("u")
        assert kubelet.probes.tallies == {}


@pytest.mark.looptime
async def test_a_container_that_stopped_is_not_probed() -> None:
    async with Kubelet() as kubelet:
        pod = a_pod(readinessProbe=command("ready"))
        kubelet.probes.sync(pod, kubelet.running())
        await asyncio.sleep(1)
        kubelet.probes.sync(pod, {})
        assert kubelet.probes.results("u") == {}
        kubelet.probes.sync(pod, kubelet.running())
        kubelet.probes.forget("u")
        await asyncio.sleep(30)
        assert len(kubelet.runs) == 1


@pytest.mark.looptime
async def test_a_slow_probe_delays_no_other() -> None:
    async with Kubelet() as kubelet:
        plain = kubelet.probes._attempts._exec

        async def slow(container_id: str, words: Sequence[str], /, *, timeout: float) -> ExecResult:
            if words[0] == "slow":
                await asyncio.sleep(100)
            return await plain(container_id, words, timeout=timeout)

        kubelet.probes._attempts._exec = slow
        kubelet.probes.sync(a_pod(livenessProbe=command("slow"), readinessProbe=command("ready")), kubelet.running())
        await asyncio.sleep(25)
        assert [run for run in kubelet.runs if run[1] == "ready"] == [(0, "ready"), (10, "ready"), (20, "ready")]


@pytest.mark.looptime
async def test_a_restarted_agent_keeps_what_the_status_says_of_the_same_container() -> None:
    async with Kubelet() as kubelet:
        probes = {"startupProbe": command("up"), "readinessProbe": command("ready")}
        seen = {"name": "c", "containerID": "containerd://1", "ready": True, "started": True}
        await asyncio.sleep(1)
        kubelet.probes.sync(a_pod(status={"containerStatuses": [seen]}, **probes), kubelet.running(age=60))
        assert kubelet.probes.results("u") == {("c", "startup"): True, ("c", "readiness"): True}
        other = a_pod(status={"containerStatuses": [seen | {"containerID": "containerd://0"}]}, **probes)
        kubelet.probes.forget("u")
        kubelet.probes.sync(other, kubelet.running(age=60))
        assert kubelet.probes.results("u") == {("c", "startup"): None, ("c", "readiness"): None}


@pytest.mark.looptime
async def test_an_outcome_that_says_nothing_does_not_count() -> None:
    async with Kubelet() as kubelet:

        async def down(container_id: str, words: Sequence[str], /, *, timeout: float) -> ExecResult:
            raise errors.RuntimeUnavailable("ExecSync", "restarting")

        kubelet.probes._attempts._exec = down
        kubelet.probes.sync(a_pod(livenessProbe=command("alive")), kubelet.running())
        await asyncio.sleep(100)
        assert kubelet.probes.results("u") == {("c", "liveness"): None}
        assert kubelet.news == []


async def test_a_server_that_comes_up_a_moment_later_is_ready_a_moment_later() -> None:
    reserved = await asyncio.start_server(lambda r, w: None, "127.0.0.1", 0)
    port = reserved.sockets[0].getsockname()[1]
    reserved.close()
    await reserved.wait_closed()
    kubelet = Kubelet()
    pod = a_pod(readinessProbe={"tcpSocket": {"port": port}, "periodSeconds": 10})
    async with asyncio.timeout(5), asyncio.TaskGroup() as group:
        task = group.create_task(kubelet.probes.run())
        kubelet.probes.sync(pod, kubelet.running())
        await asyncio.sleep(0.12)
        assert kubelet.news == []  # early misses count for nothing
        async with await asyncio.start_server(lambda r, w: w.close(), "127.0.0.1", port):
            while not kubelet.news:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        task.cancel()
    assert kubelet.news == [("c", "readiness", True, "")]


class Pod:
    """An HTTP server in a pod: answers by path, keeps what was asked."""

    def __init__(self, answers: dict[str, bytes]) -> None:
        self.answers, self.heads, self.port = answers, [], 0

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        self.heads.append(head.decode())
        answer = self.answers[head.split()[1].decode()]
        if answer == b"hang":
            await reader.read()
        writer.write(answer.replace(b"PORT", str(self.port).encode()))
        writer.close()


ANSWERS = {
    "/ok": b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
    "/399": b"HTTP/1.0 399 Odd\r\n\r\n",
    "/500": b"HTTP/1.1 500 No\r\n\r\n",
    "/404": b"HTTP/1.1 404 No\r\n\r\n",
    "/here": b"HTTP/1.1 302 Found\r\nLocation: /ok\r\n\r\n",
    "/bad-here": b"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:PORT/500\r\n\r\n",
    "/away": b"HTTP/1.1 302 Found\r\nLocation: http://example.com/\r\n\r\n",
    "/loop": b"HTTP/1.1 302 Found\r\nLocation: /loop\r\n\r\n",
    "/nonsense": b"SSH-2.0-x\r\n\r\n",
    "/eof": b"",
    "/hang": b"hang",
}


@pytest.fixture
async def web() -> AsyncIterator[Pod]:
    pod = Pod(ANSWERS)
    async with await asyncio.start_server(pod.handle, "127.0.0.1", 0) as server:
        pod.port = server.sockets[0].getsockname()[1]
        yield pod


async def ask(port: int, path: str, **fields: Any) -> plan.Outcome:
    action = msgspec.convert({"port": port, "path": path, **fields}, types.HTTPGetAction)
    return await http.probe(attempt.http_target(action, port, "127.0.0.1"), timeout=0.3, tls=http.context())


@pytest.mark.parametrize(
    ("path", "passed", "message"),
    [
        ("/ok", True, "ok"),
        ("ok", True, "ok"),
        ("/399", True, ""),
        ("/500", False, "HTTP probe failed with statuscode: 500"),
        ("/404", False, "HTTP probe failed with statuscode: 404"),
        ("/here", True, "ok"),
        ("/bad-here", False, "HTTP probe failed with statuscode: 500"),
        ("/loop", False, "stopped after 10 redirects"),
        ("/nonsense", False, "malformed HTTP response"),
        ("/eof", False, "EOF"),
        ("/hang", False, "context deadline exceeded"),
    ],
)
async def test_http_answers(web: Pod, path: str, passed: bool, message: str) -> None:
    outcome = await ask(web.port, path)
    assert outcome.passed is passed
    assert message in outcome.message


async def test_a_redirect_to_another_host_passes_with_a_warning(web: Pod) -> None:
    outcome = await ask(web.port, "/away")
    assert (outcome.passed, outcome.warning) == (True, True)


async def test_the_headers_of_an_http_probe(web: Pod) -> None:
    await ask(web.port, "/ok")
    await ask(web.port, "/ok", httpHeaders=[{"name": "Host", "value": "me"}, {"name": "User-Agent", "value": "mine"}])
    lines = [set(head.strip().split("\r\n")[1:]) for head in web.heads]
    host = f"Host: 127.0.0.1:{web.port}"
    assert lines[0] == {host, "Connection: close", "User-Agent: kube-probe/1.36", "Accept: */*"}
    assert lines[1] == {"Host: me", "Connection: close", "User-Agent: mine", "Accept: */*"}


async def test_a_refused_connection_reads_as_upstream_says_it() -> None:
    server = await asyncio.start_server(lambda r, w: None, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    server.close()
    await server.wait_closed()
    refused = f"dial tcp 127.0.0.1:{port}: connect: connection refused"
    assert await ask(port, "/ok") == plan.Outcome(False, f'Get "http://127.0.0.1:{port}/ok": {refused}')
    assert await attempt.tcp("127.0.0.1", port, timeout=1) == plan.Outcome(False, refused)


async def test_an_open_port_passes(web: Pod) -> None:
    assert await attempt.tcp("127.0.0.1", web.port, timeout=1) == plan.Outcome(True)


def test_named_ports() -> None:
    container = msgspec.convert({"name": "c", "ports": [{"name": "web", "containerPort": 8080}]}, types.Container)
    assert [attempt.port_number(port, container) for port in (80, "81", "web")] == [80, 81, 8080]
    with pytest.raises(ValueError, match="couldn't find port: dns in container c"):
        attempt.port_number("dns", container)


def test_the_messages_of_the_grpc_health_protocol() -> None:
    assert grpc_health.request("") == b""
    assert grpc_health.request("abc") == b"\x0a\x03abc"
    assert [grpc_health.answer(m) for m in (b"", b"\x08\x01", b"\x08\x02")] == [0, 1, 2]


async def test_grpc_health_is_asked_for_its_service() -> None:
    import grpc.aio

    asked = []

    async def check(request: bytes, context: Any) -> bytes:
        asked.append(request)
        return b"\x08\x01" if request else b"\x08\x02"

    handler = grpc.unary_unary_rpc_method_handler(check)
    server = grpc.aio.server()
    server.add_generic_rpc_handlers(
        (grpc.method_handlers_generic_handler("grpc.health.v1.Health", {"Check": handler}),)
    )
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        assert await grpc_health.probe("127.0.0.1", port, service="x", timeout=3) == plan.Outcome(
            True, "service healthy"
        )
        failed = await grpc_health.probe("127.0.0.1", port, service="", timeout=3)
        assert failed == plan.Outcome(False, 'service unhealthy (responded with "NOT_SERVING")')
    finally:
        await server.stop(0)
    assert asked == [b"\x0a\x01x", b""]
    assert (await grpc_health.probe("127.0.0.1", port, service="", timeout=0.3)).passed is False
