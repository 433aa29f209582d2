"""Log lines as administrators of Kubernetes know them: klog text, or JSON when asked.

Owns format, redaction and the rule when a stack trace is shown. Knows no component.
"""

import json as jsonlib
import logging
import os
import re
import sys
import threading
from datetime import UTC, datetime

_FIELDS = ("pod", "namespace", "uid", "container", "node")
_LETTERS = {"DEBUG": "I", "INFO": "I", "WARNING": "W", "ERROR": "E", "CRITICAL": "F"}
_SECRETS = re.compile(
    r"(?i)(authorization['\"]?\s*[:=]\s*['\"]?)(?:bearer|basic)?\s*[^\s'\",]+"
    r"|(bearer\s+)[\w.~+/=-]+"
    r"|()eyJ[\w-]{8,}\.[\w-]{8,}\.[\w-]*"
    r"|()-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(?:-----END [A-Z ]*PRIVATE KEY-----|$)",
    re.DOTALL,
)
_BUGS = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    ImportError,
    LookupError,
    NameError,
    RuntimeError,
    TypeError,
    UnicodeError,
)


def setup(level: str = "info", *, json: bool = False) -> None:
    """Send every logger to standard error; `level` is debug, info, warning or error (ValueError otherwise)."""
    number = logging.getLevelNamesMapping().get(level.upper())
    if number is None:
        raise ValueError(f"unknown log level {level!r}: want debug, info, warning or error")
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter() if json else TextFormatter())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(number)
    for noisy in ("asyncio", "aiohttp.access", "uvicorn.access", "grpc"):
        logging.getLogger(noisy).setLevel(max(number, logging.WARNING))


def failure(logger: logging.Logger, what: str, error: BaseException, *, level: int = logging.WARNING) -> None:
    """Log a failure in one line; the stack is shown only for what looks like a fault in our own code."""
    if is_bug(error):
        logger.error("%s: %s", what, describe(error), exc_info=error)
    else:
        logger.log(level, "%s: %s", what, describe(error))


def is_bug(error: BaseException) -> bool:
    """Whether an exception is rather a programming error than something the world did."""
    if isinstance(error, BaseExceptionGroup):
        return any(is_bug(inner) for inner in error.exceptions)
    return isinstance(error, _BUGS) and type(error).__module__ == "builtins"


def describe(error: BaseException) -> str:
    """An exception in words, never empty; groups are flattened."""
    if isinstance(error, BaseExceptionGroup):
        return "; ".join(describe(inner) for inner in error.exceptions)
    text = str(error)
    name = type(error).__name__
    if not text:
        return name
    return f"{name}: {text}" if is_bug(error) else text


def redact(text: str) -> str:
    """The text without bearer tokens, Authorization headers, JWTs and private keys."""
    return _SECRETS.sub(lambda match: f"{match[1] or match[2] or ''}[redacted]", text)


class TextFormatter(logging.Formatter):
    """`I1123 15:04:05.123456    4242 module.py:17] message key="value"`"""

    def format(self, record: logging.LogRecord) -> str:
        moment = datetime.fromtimestamp(record.created, UTC)
        head = (
            f"{_LETTERS.get(record.levelname, 'I')}{moment:%m%d %H:%M:%S.%f} {os.getpid():7d} "
            f"{record.filename}:{record.lineno}] "
        )
        fields = "".join(f' {name}="{value}"' for name, value in _fields(record).items())
        text = head + record.getMessage() + fields
        if record.exc_info:
            text += "\n" + self.formatException(record.exc_info)
        return redact(text)


class JsonFormatter(logging.Formatter):
    """One JSON object a line: ts, level, logger, msg, the fields given as `extra`, and err with the stack."""

    def format(self, record: logging.LogRecord) -> str:
        entry = {
            "ts": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="microseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "caller": f"{record.filename}:{record.lineno}",
            "msg": redact(record.getMessage()),
            **_fields(record),
        }
        if record.exc_info:
            entry["err"] = redact(self.formatException(record.exc_info))
        if threading.current_thread() is not threading.main_thread():
            entry["thread"] = record.threadName or ""
        return jsonlib.dumps(entry, ensure_ascii=False, default=str)


def _fields(record: logging.LogRecord) -> dict[str, str]:
    return {name: str(value) for name in _FIELDS if (value := record.__dict__.get(name)) is not None}
