"""A host in memory: files as a dictionary, commands as a list, answers as scripted."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from nodeagent.install.errors import InstallError


class FakeHost:
    """`answers`: command line -> output; an InstallError as an answer is raised."""

    def __init__(self, answers: Mapping[str, str | InstallError] | None = None) -> None:
        self.files: dict[Path, bytes] = {}
        self.modes: dict[Path, int] = {}
        self.links: dict[Path, Path] = {}
        self.ran: list[str] = []
        self._answers = dict(answers or {})

    def read(self, path: Path) -> bytes | None:
        return self.files.get(path)

    def write(self, path: Path, content: bytes, *, mode: int) -> None:
        self.files[path], self.modes[path] = content, mode

    def remove(self, path: Path) -> None:
        for each in [each for each in self.files if each == path or path in each.parents]:
            del self.files[each]
        self.links.pop(path, None)

    def link(self, path: Path, target: Path) -> None:
        self.links[path] = target

    def run(self, argv: Sequence[str], *, check: bool = True, seconds: float = 120.0) -> str:
        line = " ".join(argv)
        self.ran.append(line)
        answer = self._answers.get(line, "")
        if isinstance(answer, InstallError):
            if check:
                raise answer
            return ""
        return answer
