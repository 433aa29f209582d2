"""Questions asked under another name, as the `rewrite name` lines of a Corefile say. PURE.

Only the name asked for changes; the answer is given under the name of the client's question.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass

from proxy.dns import wire

EXACT, PREFIX, SUFFIX, SUBSTRING, REGEX = "exact", "prefix", "suffix", "substring", "regex"
KINDS = (EXACT, PREFIX, SUFFIX, SUBSTRING, REGEX)
MAX_PATTERN = 256


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule: names in lower case with the final dot. A regular expression's groups stand as {1}, {2}..."""

    kind: str
    match: str
    to: str
    pattern: re.Pattern[str]

    def apply(self, name: str) -> str | None:
        """The new name, or None when the rule does not fit."""
        found = self.pattern.search(name)
        if found is None:
            return None
        if self.kind == REGEX:
            return re.sub(r"\{(\d+)\}", lambda place: _group(found, int(place[1])), self.to)
        if self.kind == SUBSTRING:
            return name.replace(self.match, self.to)
        return name[: found.start()] + self.to + name[found.end() :]


def rule(text: str) -> Rule:
    """A rule out of `[exact|prefix|suffix|substring|regex] FROM TO`. ValueError says what is wrong."""
    words = text.split()
    kind = words.pop(0) if words and words[0] in KINDS else EXACT
    if len(words) != 2:
        raise ValueError(f"{text!r}: want [{'|'.join(KINDS)}] FROM TO")
    match, to = words[0], words[1].lower()
    if len(match) > MAX_PATTERN:
        raise ValueError(f"{text!r}: a pattern of more than {MAX_PATTERN} characters")
    if kind == REGEX:
        try:
            return Rule(kind, match, _rooted(to), re.compile(match, re.IGNORECASE))
        except re.error as error:
            raise ValueError(f"{text!r}: {error}") from None
    match = match.lower()
    if kind in (EXACT, SUFFIX):
        match, to = _rooted(match), _rooted(to)
    escaped = re.escape(match)
    shapes = {EXACT: rf"\A{escaped}\Z", PREFIX: rf"\A{escaped}", SUFFIX: rf"{escaped}\Z", SUBSTRING: escaped}
    return Rule(kind, match, to, re.compile(shapes[kind]))


def rewritten(rules: Iterable[Rule], name: bytes) -> bytes:
    """The name by the first rule that fits, in wire format; a result that is no name leaves it as it was."""
    text = wire.decode_name(name)
    for each in rules:
        new = each.apply(text)
        if new is not None:
            try:
                return wire.encode_name(new)
            except ValueError:
                return name
    return name


def _rooted(name: str) -> str:
    return name if name.endswith(".") else name + "."


def _group(found: re.Match[str], number: int) -> str:
    return (found[number] or "") if number <= (found.re.groups or 0) else ""
