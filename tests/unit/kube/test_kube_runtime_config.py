"""Configuration documents, durations, files, child processes, logs: the small tools of every daemon."""

import asyncio
import json
import logging
import os
import stat
import sys
import time
from pathlib import Path

import msgspec
import prometheus_client
import pytest

from kube.runtime import config, files, log, metrics, process
from kube.runtime.clock import SystemClock, parse_rfc3339, rfc3339, rfc3339_micro
from kube.runtime.duration import format_duration, parse_duration


class Inner(config.Section):
    port: int = 10250


class Sample(config.Section):
    node_name: str
    cluster_cidr: str = msgspec.field(default="10.244.0.0/16", name="clusterCIDR")
    inner: Inner = Inner()
    addresses: tuple[str, ...] = ()


def written(folder: Path, name: str, text: str) -> Path:
    file = folder / name
    file.write_text(text)
    return file


def sample(body: str) -> str:
    return f"apiVersion: nodeagent/v1\nkind: Sample\n{body}\n"


def test_documents_of_a_folder_are_read_in_name_order_and_keyed_by_kind(tmp_path: Path) -> None:
    written(tmp_path, "20-b.yaml", sample("nodeName: b") + "---\napiVersion: v1\nkind: Other\n")
    written(tmp_path, "10-a.yaml", sample("nodeName: a"))
    written(tmp_path, "readme.txt", "not: [yaml")
    found = config.load(tmp_path)
    assert [doc["nodeName"] for doc in found["Sample"]] == ["a", "b"]
    assert list(found) == ["Sample", "Other"]


def test_drop_ins_merge_field_by_field_and_later_files_win(tmp_path: Path) -> None:
    written(tmp_path, "10.yaml", sample("nodeName: a\nclusterCIDR: 10.1.0.0/16\ninner: {port: 1}\naddresses: [x, y]"))
    written(tmp_path, "20.yaml", sample("nodeName: b\ninner: {}\naddresses: [z]"))
    value = config.one(config.load(tmp_path), "Sample", Sample)
    assert value == Sample(node_name="b", cluster_cidr="10.1.0.0/16", inner=Inner(port=1), addresses=("z",))


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ("nodeName: a\nnodName: b", "Sample: unknown field nodName"),
        ("nodeName: a\ninner: {prot: 1}", "Sample: unknown field inner.prot"),
        ("nodeName: a\ninner: {port: '1'}", "Sample: inner.port: Expected `int`, got `str`"),
        ("nodeName: 7", "Sample: nodeName: Expected `str`, got `int`"),
        ("addresses: []", "Sample: Object missing required field `nodeName`"),
    ],
)
def test_a_wrong_field_is_refused_by_file_name_and_reason(tmp_path: Path, body: str, reason: str) -> None:
    file = written(tmp_path, "c.yaml", sample(body))
    with pytest.raises(config.ConfigError) as caught:
        config.one(config.load(file), "Sample", Sample)
    assert str(caught.value) == f"{file}: {reason}"


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("a: [1", "not YAML"),
        ("- 1", "document 1: want a mapping, found list"),
        ("kind: A", "document 1: apiVersion: required, a string"),
        ("apiVersion: v1\nkind: 7", "document 1: kind: required, a string"),
        ("a: &a [1]\nb: [" + "*a, " * 100 + "*a]", "more than 64 YAML aliases"),
        ("a: " + "x" * (1 << 20), "bytes, more than"),
        ("!!python/object/apply:os.system ['true']", "not YAML"),
    ],
)
def test_what_is_no_configuration_is_refused(tmp_path: Path, text: str, reason: str) -> None:
    file = written(tmp_path, "c.yaml", text)
    with pytest.raises(config.ConfigError, match=r"c\.yaml") as caught:
        config.load(file)
    assert reason in str(caught.value)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(config.ConfigError, match=r"gone\.yaml: No such file"):
        config.load(tmp_path / "gone.yaml")


def test_without_documents_a_kind_has_its_defaults() -> None:
    assert config.one({}, "Inner", Inner) == Inner()


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("1m30s", 90),
        ("100ms", 0.1),
        ("1.5h", 5400),
        ("0", 0),
        ("-10s", -10),
        ("1h0m0.5s", 3600.5),
        (7, 7),
        ("2us", 2e-6),
    ],
)
def test_durations_are_read_as_go_does(text: str | int, seconds: float) -> None:
    assert parse_duration(text) == seconds


@pytest.mark.parametrize("text", ["", "1", "s", "1x", "1m 3s", "--1s", "1m30", True])
def test_a_wrong_duration_is_named(text: str) -> None:
    with pytest.raises(ValueError, match="invalid duration"):
        parse_duration(text)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0s"), (90, "1m30s"), (3600, "1h0m0s"), (0.25, "250ms"), (1.5, "1.5s"), (-60, "-1m0s"), (2e-6, "2µs")],
)
def test_durations_are_printed_as_go_does(seconds: float, text: str) -> None:
    assert format_duration(seconds) == text
    assert parse_duration(text) == seconds


def test_a_file_is_replaced_with_its_mode_and_leaves_nothing_beside(tmp_path: Path) -> None:
    file = tmp_path / "state"
    file.write_text("old")
    files.replace(file, b"new")
    assert file.read_bytes() == b"new"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert os.listdir(tmp_path) == ["state"]


def test_a_replacement_that_fails_keeps_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "state"
    file.write_text("old")

    def full(handle: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        files.replace(file, b"new")
    assert file.read_text() == "old"
    assert os.listdir(tmp_path) == ["state"]


async def test_a_process_gets_its_input_and_gives_its_output() -> None:
    assert await process.run(["/bin/cat"], stdin=b"hello", timeout=5) == b"hello"


async def test_a_process_sees_only_a_small_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOKEN", "secret")
    names = [line.split(b"=")[0] for line in (await process.run(["/usr/bin/env"], timeout=5)).splitlines()]
    assert sorted(names) == [b"LC_ALL", b"PATH"]


async def test_a_failed_process_tells_its_exit_and_its_complaint() -> None:
    with pytest.raises(process.ProcessError, match=r"/bin/sh: exit 3: no table$") as caught:
        await process.run(["/bin/sh", "-c", "echo no table >&2; exit 3"], timeout=5)
    assert (caught.value.returncode, caught.value.stderr) == (3, "no table\n")


async def test_a_process_over_its_deadline_is_killed_with_its_children() -> None:
    start = time.monotonic()
    with pytest.raises(process.ProcessError, match=r"no end within 0\.2 s, killed"):
        await process.run(["/bin/sh", "-c", "sleep 30 & wait"], timeout=0.2)
    assert time.monotonic() - start < 5


async def test_a_cancelled_process_is_killed(tmp_path: Path) -> None:
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.3):
            await process.run(["/bin/sh", "-c", f"echo $$ > {tmp_path}/pid; sleep 30"], timeout=60)
    with pytest.raises(ProcessLookupError):
        os.kill(int((tmp_path / "pid").read_text()), 0)


async def test_a_program_without_absolute_path_or_existence_is_refused() -> None:
    with pytest.raises(ValueError, match="absolute path"):
        await process.run(["nft"], timeout=1)
    with pytest.raises(process.ProcessError, match="cannot be started: No such file"):
        await process.run(["/nowhere/nft"], timeout=1)


def record(message: str, level: int = logging.INFO, **fields: str) -> logging.LogRecord:
    made = logging.LogRecord("kube.test", level, "/a/module.py", 17, message, None, None)
    made.__dict__.update(fields)
    return made


def test_text_lines_are_klogs_with_fields() -> None:
    line = log.TextFormatter().format(record("started", pod="ns/web", uid="u1"))
    assert line[0] == "I"
    assert line.endswith('module.py:17] started pod="ns/web" uid="u1"')


def test_json_lines_are_one_object_each() -> None:
    entry = json.loads(log.JsonFormatter().format(record("two\nlines", logging.WARNING, container="c")))
    assert entry["msg"] == "two\nlines"
    assert (entry["level"], entry["container"], entry["caller"]) == ("warning", "c", "module.py:17")


@pytest.mark.parametrize(
    "secret",
    [
        "Authorization: Bearer abc.def-123",
        "{'Authorization': 'Bearer abc.def-123'}",
        "token eyJhbGciOiJFUzI1NiJ9.eyJpc3MiOiJrdWJlIn0.c2ln-abc.def-123",
        "-----BEGIN EC PRIVATE KEY-----\nabc.def-123\n-----END EC PRIVATE KEY-----",
    ],
)
def test_secrets_are_never_logged(secret: str) -> None:
    for formatter in (log.TextFormatter(), log.JsonFormatter()):
        line = formatter.format(record(f"request failed: {secret}; next"))
        assert "abc.def-123" not in line
        assert "request failed" in line


def test_expected_failures_show_no_stack_and_faults_do() -> None:
    assert not log.is_bug(OSError("gone"))
    assert not log.is_bug(config.ConfigError("x"))
    assert log.is_bug(KeyError("x"))
    assert log.is_bug(ExceptionGroup("g", [OSError("gone"), TypeError("x")]))
    assert log.describe(ExceptionGroup("g", [OSError("gone"), TimeoutError()])) == "gone; TimeoutError"


def test_an_unknown_log_level_is_refused() -> None:
    with pytest.raises(ValueError, match="unknown log level 'loud'"):
        log.setup("loud", json=False)


def test_metrics_are_exposed_per_registry() -> None:
    first, second = metrics.registry(), metrics.registry()
    metrics.build_info(first, version="v1.36.0")
    assert b'kubernetes_build_info{git_version="v1.36.0"} 1.0' in metrics.exposition(first)
    assert metrics.exposition(second) == b""
    assert metrics.exponential_buckets(0.001, 2, 3) == (0.001, 0.002, 0.004)


def test_a_restarted_component_may_register_its_metrics_again() -> None:
    registry = metrics.registry()
    for value in (1, 2):
        prometheus_client.Gauge("rules", "Rules.", registry=registry).set(value)
        prometheus_client.Counter("syncs", "Syncs.", registry=registry).inc(value)
    assert b"\nrules 2.0" in metrics.exposition(registry)
    assert b"\nsyncs_total 2.0" in metrics.exposition(registry)


def test_stored_times_are_utc_in_upstreams_forms() -> None:
    moment = parse_rfc3339("2026-11-23T16:04:05.123456+01:00")
    assert rfc3339(moment) == "2026-11-23T15:04:05Z"
    assert rfc3339_micro(moment) == "2026-11-23T15:04:05.123456Z"
    assert SystemClock().now().tzinfo is not None
    with pytest.raises(ValueError, match="no zone"):
        parse_rfc3339("2026-11-23T15:04:05")


ROOT = Path(__file__).resolve().parents[3]
HEAVY = {"aiohttp", "cryptography", "uvicorn", "grpc", "pyroute2", "fastapi"}


@pytest.mark.parametrize(
    "modules",
    [
        "kube.runtime.supervise, kube.runtime.config, kube.runtime.workqueue, kube.runtime.process, kube.runtime.log",
        "kube.runtime.component, kube.kubeconfig, kube.client.rest, kube.client.informer, kube.client.events",
    ],
)
async def test_light_modules_stay_light(modules: str) -> None:
    code = f"import sys, {modules}; print(*{{name.split('.')[0] for name in sys.modules}})"
    environment = {"PYTHONPATH": str(ROOT)}
    loaded = set((await process.run([sys.executable, "-c", code], timeout=30, env=environment)).decode().split())
    assert not loaded & HEAVY
