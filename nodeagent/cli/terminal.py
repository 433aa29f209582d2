"""How the commands speak: colours where there is a terminal, a line per phase with its time, errors with their remedy.

Must not know what the phases are.
"""

import json
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TextIO

from nodeagent.lab import errors, phases

CODES = {"bold": "1", "green": "32", "red": "31", "dim": "2"}
NAME_WIDTH = 42


@dataclass(frozen=True, slots=True, kw_only=True)
class Terminal:
    """Where to write, and whether for a person (text) or a program (JSON, then nothing else goes to `out`)."""

    out: TextIO
    error: TextIO
    as_json: bool = False

    def style(self, text: str, name: str) -> str:
        """The text in a colour, when a terminal shows it."""
        return f"\033[{CODES[name]}m{text}\033[0m" if self.out.isatty() and not self.as_json else text

    def say(self, text: str = "") -> None:
        """A line for a person."""
        if not self.as_json:
            print(text, file=self.out, flush=True)

    def result(self, document: Mapping[str, object]) -> None:
        """The command's outcome for a program."""
        if self.as_json:
            print(json.dumps(document, indent=2), file=self.out, flush=True)

    def fail(self, error: Exception) -> None:
        """An error, and what mends it."""
        hint = error.hint if isinstance(error, errors.LabError) else ""
        if self.as_json:
            self.result({"error": str(error), "hint": hint})
            return
        print(f"error: {error}", file=self.error, flush=True)
        if hint:
            print(f"  try: {hint}", file=self.error, flush=True)

    def recorder(self) -> phases.Phases:
        """A recorder of phases that prints each as it ends."""
        return phases.Phases(ended=self._phase)

    def _phase(self, phase: phases.Phase) -> None:
        done = self.style("ok", "green")
        detail = self.style(f"  {phase.detail}", "dim") if phase.detail else ""
        self.say(f"{done}  {phase.name:<{NAME_WIDTH}} {phase.seconds:6.2f} s{detail}")


def standard(*, as_json: bool) -> Terminal:
    """On this process's own output and error."""
    return Terminal(out=sys.stdout, error=sys.stderr, as_json=as_json)
