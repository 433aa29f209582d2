"""The command and the agent's start: what is refused before anything runs, and that help costs nothing."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from kube.runtime import route
from nodeagent import __main__ as command

ROOT = Path(__file__).resolve().parents[3]
HEAVY = ("grpc", "aiohttp", "pyroute2", "fastapi", "cryptography", "yaml", "google.protobuf")


def configured(folder: Path, text: str) -> list[str]:
    (folder / "agent.yaml").write_text(f"apiVersion: nodeagent/v1\nkind: AgentConfiguration\n{text}")
    return ["agent", "--config", str(folder)]


def failure(argv: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    assert command.main(argv) == 1
    return capsys.readouterr().err.splitlines()[-1]


def test_help_names_every_command_and_imports_no_heavy_library() -> None:
    probe = (
        "import sys\nfrom nodeagent import __main__\n"
        "try: __main__.main(['--help'])\nexcept SystemExit: pass\n"
        f"print('heavy:', [m for m in {HEAVY!r} if m in sys.modules])"
    )
    printed = subprocess.run([sys.executable, "-c", probe], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert "heavy: []" in printed
    assert {"agent", "lab", "image", "cni", "dns", "server"} <= set(printed.split())


def test_the_agent_must_be_root(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert "must run as root" in failure(configured(tmp_path, ""), capsys)


def test_a_missing_kubeconfig_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    said = failure(configured(tmp_path, f"kubeconfig: {tmp_path}/none\n"), capsys)
    assert said == f"nodeagent: AgentConfiguration.kubeconfig: {tmp_path}/none does not exist"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("nodeIp: 1.2.3.4\n", "nodeIp"),
        ("nodeIP: [\n", "not YAML"),
        ("nodeIP: 7\n", "nodeIP"),
        ("nodeIP: x\n", "nodeIP"),
    ],
)
def test_a_bad_configuration_is_refused_with_file_and_field(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str, said: str
) -> None:
    message = failure(configured(tmp_path, text), capsys)
    assert said in message and str(tmp_path) in message


def test_a_folder_that_is_not_there_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert f"{tmp_path}/none" in failure(["agent", "--config", f"{tmp_path}/none"], capsys)


def test_an_unknown_command_is_a_usage_error() -> None:
    with pytest.raises(SystemExit) as caught:
        command.main(["nonesuch"])
    assert caught.value.code == 2


def test_the_address_of_this_machine_is_that_of_the_route_to_the_server() -> None:
    assert route.source_address("127.0.0.1", 6443) == "127.0.0.1"
    with pytest.raises(OSError, match=r"."):
        route.source_address("no.such.host.invalid", 6443)
