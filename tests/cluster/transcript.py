"""Transcripts: kubectl sessions with what they must print, kept as text and replayed word for word.

A transcript is a file of steps. A step is a line `$ WORDS` (what kubectl is given), the lines it must print, lines
`! TEXT` for what it must print on stderr, and `exit N` when that is not 0. Variants of the first line:

    $ WORDS <<NAME      the file `NAME` beside the transcript is its standard input
    $ WORDS <<'TEXT'    TEXT itself is (with \\n for a new line)
    until WORDS         asked again until it prints this (30 s)
    hidden WORDS        must succeed; what it prints does not matter

Runs of blanks count as one. `{age}`, `{ip}`, ... stand for what differs from run to run; `{lines}` alone on a line for
any number of lines. Pure, but for `Runner`, which is given.
"""

import re
import shlex
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

UNTIL_SECONDS = 40.0
PLACEHOLDERS = {
    "age": r"(\d+d)?(\d+h)?(\d+m)?(\d+s)?|<invalid>",
    "ip": r"\d+\.\d+\.\d+\.\d+",
    "node": r"node-\d+",
    "nodeip": r"192\.168\.77\.\d+",
    "hash": r"[a-z0-9]{6,10}",
    "id": r"[a-z0-9]{5}",
    "hex": r"[0-9a-f]{64}",
    "uid": r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}",
    "n": r"\d+",
    "time": r"[A-Z][a-z]{2}, \d\d [A-Z][a-z]{2} \d{4} \d\d:\d\d:\d\d [+-]\d{4}",
    "stamp": r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ",
    "word": r"\S+",
    "any": r".*",
    "version": r"v1\.36\.\d+\+nodeagent\.\S+",
}


@dataclass(frozen=True, slots=True)
class Answer:
    """What a command printed and how it ended."""

    out: str
    err: str
    code: int


Runner = Callable[[Sequence[str], str], Answer]


@dataclass(slots=True)
class Step:
    """One command and what it must do."""

    number: int
    words: str
    mode: str = "$"
    stdin: str = ""
    out: list[str] = field(default_factory=list)
    err: list[str] = field(default_factory=list)
    code: int = 0


def parse(text: str, *, folder: Path, values: Mapping[str, str]) -> list[Step]:
    """The steps of a transcript, with `values` put in. Raises ValueError at a line that belongs to no step."""
    steps: list[Step] = []
    for number, raw in enumerate(text.splitlines(), 1):
        line = raw.rstrip()
        for name, value in values.items():
            line = line.replace("{" + name + "}", value)
        if not line or line.startswith("#"):
            continue
        mode, _, words = line.partition(" ")
        if mode in ("$", "until", "hidden") and words:
            steps.append(_step(number, mode, words, folder=folder))
        elif not steps:
            raise ValueError(f"line {number} belongs to no command: {line}")
        elif mode == "!":
            steps[-1].err.append(words)
        elif re.fullmatch(r"exit \d+", line):
            steps[-1].code = int(words)
        else:
            steps[-1].out.append(line)
    return steps


def _step(number: int, mode: str, words: str, *, folder: Path) -> Step:
    command, found, source = words.partition(" <<")
    stdin = ""
    if found:
        quoted = source.startswith("'")
        stdin = source.strip("'").replace("\\n", "\n") if quoted else (folder / source).read_text()
    return Step(number=number, words=command, mode=mode, stdin=stdin)


def pattern(expected: str) -> re.Pattern[str]:
    """A line with placeholders as a regular expression over text whose blanks are squeezed."""
    parts = re.split(r"\{([a-z]+)\}", squeeze(expected))
    pieces = [re.escape(part) if place % 2 == 0 else f"(?:{PLACEHOLDERS[part]})" for place, part in enumerate(parts)]
    return re.compile("".join(pieces))


def squeeze(line: str) -> str:
    """The line with each run of blanks as one blank, none at the ends."""
    return " ".join(line.split())


def matches(expected: Sequence[str], actual: Sequence[str]) -> bool:
    """Whether the lines are those expected; `{lines}` may stand for any number of them."""
    if not expected:
        return not actual
    if expected[0] == "{lines}":
        return any(matches(expected[1:], actual[skip:]) for skip in range(len(actual) + 1))
    return bool(actual) and bool(pattern(expected[0]).fullmatch(actual[0])) and matches(expected[1:], actual[1:])


def visible(text: str) -> list[str]:
    """The lines that hold something, squeezed."""
    return [line for raw in text.splitlines() if (line := squeeze(raw))]


def problem(step: Step, answer: Answer) -> str:
    """What is wrong with the answer, empty when nothing is."""
    found = []
    if answer.code != step.code:
        found.append(f"exit code {answer.code} instead of {step.code}")
    if step.mode != "hidden":
        for name, expected, actual in (("output", step.out, answer.out), ("stderr", step.err, answer.err)):
            if not matches([squeeze(line) for line in expected], visible(actual)):
                found.append(f"{name} differs\n  expected:\n{_block(expected)}\n  actual:\n{_block(visible(actual))}")
    elif answer.code != step.code:
        found.append(answer.err)
    return "; ".join(found)


def _block(lines: Sequence[str]) -> str:
    return "\n".join(f"    {line}" for line in lines) or "    (nothing)"


def play(steps: Sequence[Step], run: Runner) -> None:
    """Replay the steps; AssertionError with the first step that does something else."""
    for step in steps:
        argv = shlex.split(step.words)
        deadline = time.monotonic() + UNTIL_SECONDS
        while wrong := problem(step, run(argv, step.stdin)):
            if step.mode != "until" or time.monotonic() > deadline:
                raise AssertionError(f"line {step.number}: kubectl {step.words}: {wrong}")
            time.sleep(0.2)
