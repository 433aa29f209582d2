"""What the volumes rely on of a mounter, on the fake and on the kernel."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from fakes.volume_mounter import FakeMounter
from nodeagent.volumes.kernel import KernelMounter, Mounter


@pytest.fixture(params=["fake", "kernel"])
def mounter(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Mounter]:
    if request.param == "fake":
        yield FakeMounter()
        return
    request.getfixturevalue("root")
    real = KernelMounter()
    yield real
    for point in real.under(tmp_path):
        real.unmount(point)


def a_folder(parent: Path, name: str = "a") -> Path:
    path = parent / name
    path.mkdir()
    return path


def test_a_memory_file_system_is_empty_has_its_mode_and_is_listed(mounter: Mounter, tmp_path: Path) -> None:
    path = a_folder(tmp_path, "with space")
    assert not mounter.is_mounted(path)
    mounter.tmpfs(path, mode=0o711, size=1 << 20)
    assert mounter.is_mounted(path)
    assert list(path.iterdir()) == []
    assert path.stat().st_mode & 0o7777 == 0o711
    assert mounter.under(path) == [path]
    assert mounter.under(tmp_path) == [path]


def test_unmounting_takes_the_contents_away_and_may_be_repeated(mounter: Mounter, tmp_path: Path) -> None:
    path = a_folder(tmp_path)
    mounter.tmpfs(path, mode=0o755)
    (path / "secret").write_text("x")
    mounter.unmount(path)
    mounter.unmount(path)
    mounter.unmount(tmp_path / "never there")
    assert list(path.iterdir()) == []
    assert mounter.under(tmp_path) == []


def test_a_file_and_a_folder_can_be_shown_a_second_time(mounter: Mounter, tmp_path: Path) -> None:
    source, shown = a_folder(tmp_path, "source"), a_folder(tmp_path, "shown")
    (source / "file").write_text("content")
    target = tmp_path / "file-target"
    target.touch()
    mounter.bind(str(source), shown)
    mounter.bind(str(source / "file"), target)
    assert (shown / "file").read_text() == "content"
    assert target.read_text() == "content"
    assert sorted(mounter.under(tmp_path)) == sorted([shown, target])


def test_mounts_are_listed_in_the_order_in_which_they_can_be_removed(mounter: Mounter, tmp_path: Path) -> None:
    outer = a_folder(tmp_path)
    mounter.tmpfs(outer, mode=0o755)
    inner = a_folder(outer)
    mounter.tmpfs(inner, mode=0o755)
    assert mounter.under(tmp_path) == [inner, outer]
    assert mounter.under(tmp_path / "a-longer-name") == []


def test_a_missing_folder_is_an_error_that_names_it(mounter: Mounter, tmp_path: Path) -> None:
    with pytest.raises(OSError, match="No such file") as caught:
        mounter.tmpfs(tmp_path / "none", mode=0o755)
    assert str(tmp_path / "none") in str(caught.value)
