"""What the host lacks is told before anything is made, with what mends it."""

import os
from pathlib import Path

import pytest

from nodeagent.lab import errors, preflight


def test_missing_programs_are_named_with_their_packages() -> None:
    found = preflight.missing_programs(lambda program: None if program in ("nft", "ctr") else "/usr/bin/it")
    assert [(problem.what, problem.mend) for problem in found] == [
        ("not installed: ctr, nft", "apt-get install --no-install-recommends containerd nftables")
    ]


def test_nothing_is_said_when_nothing_is_missing() -> None:
    assert preflight.missing_programs(lambda program: "/usr/bin/it") == []


def test_without_root_nothing_else_is_looked_at(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(errors.LabError, match="needs root") as caught:
        preflight.check(tmp_path)
    assert caught.value.hint == "run the same with sudo"


def test_a_kernel_without_nftables_is_told_with_its_own_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(preflight, "load_modules", lambda: None)
    answers = {"nft": "Error: Could not process rule: Protocol not supported"}
    monkeypatch.setattr(preflight, "_try_in_namespace", lambda argv: answers.get(argv[0]))
    told = [problem.what for problem in preflight.missing_kernel_parts()]
    assert "the kernel has no nftables (Error: Could not process rule: Protocol not supported)" in told


def test_every_problem_is_told_at_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    one = preflight.Problem(what="no bridge", mend="load it")
    two = preflight.Problem(what="bad directory", mend="choose another")
    monkeypatch.setattr(preflight, "missing_programs", lambda which: [])
    monkeypatch.setattr(preflight, "missing_kernel_parts", lambda: [one])
    monkeypatch.setattr(preflight, "unfit_directory", lambda directory: [two])
    with pytest.raises(errors.LabError, match="no bridge; bad directory") as caught:
        preflight.check(tmp_path)
    assert caught.value.hint == "load it; choose another"


@pytest.mark.parametrize(("kind", "fits"), [("ext2/ext3", True), ("tmpfs", True), ("overlayfs", False), ("nfs", False)])
def test_a_directory_that_cannot_carry_an_overlay_is_refused(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, kind: str, fits: bool
) -> None:
    class Done:
        stdout = kind + "\n"

    monkeypatch.setattr(preflight.subprocess, "run", lambda *a, **k: Done())
    found = preflight.unfit_directory(tmp_path / "not" / "there" / "yet")
    assert (found == []) is fits
    assert all(kind in problem.what for problem in found)
