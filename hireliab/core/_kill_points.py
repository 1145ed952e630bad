"""
Named places in the code at which a test may kill the process: the labels of the crash campaign.

Inert unless the environment variable HIRELIAB_KILL_AT names one when this module is imported, or a forked test worker
calls `arm`. A call site costs one look at a module attribute::

    if _kill_points.ARMED:
        _kill_points.at("L05")

The variable reads ``LABEL[:HIT][@FILE]``: the process kills itself at that hit (default: the first) of the label, and
every hit of any label before it is appended to the file, one line each. ``@FILE`` alone only counts.
"""

from __future__ import annotations

import os
import signal
import threading

from hireliab.errors import ConfigError

VARIABLE = "HIRELIAB_KILL_AT"

# L25 belongs to an archive, L28 to a lease: hireliab has none of them here.
LABELS = {
    "L01": "before the intent is handed to the journal",
    "L02": "the intent is in the queue, its commit has not begun",
    "L03": "COMMIT returned, whoever waits does not know yet",
    "L04": "the barrier is passed, before the owner is checked",
    "L05": "before the first byte of the order",
    "L06": "in the middle of the request",
    "L07": "the request is sent, no byte of the answer has come",
    "L08": "a part of the answer has come",
    "L09": "the answer is there, not yet classified",
    "L10": "classified, the acknowledgement is not yet handed to the journal",
    "L11": "the acknowledgement is handed to the journal, not committed",
    "L12": "before a read that verifies",
    "L13": "after that read, before the verdict is handed to the journal",
    "L14": "the verdict is in a batch that is being written",
    "L15": "the verdict is committed, before the caller is told",
    "L16": "the event's record is committed, the event is not yet handed to the bus",
    "L17": "the event is handed to the bus, its confirmation is not looked at",
    "L18": "the event is confirmed, not yet marked",
    "L19": "a start has claimed the rows of its predecessor",
    "L20": "after the first look-up that found nothing",
    "L21": "found by a look-up, not yet written down",
    "L22": "the intent of a cancel is durable, nothing is sent",
    "L23": "the cancel is sent",
    "L24": "the cancel is verified, not committed",
    "L26": "in the middle of a checkpoint",
    "L27": "in the middle of a migration of the journal",
}

ARMED: str | None = None

_label = ""
_left = 0
_file: int | None = None
_lock = threading.Lock()  # guards _left


def arm(spec: str | None) -> None:
    """
    Set, or with None clear, what to kill at; for a test worker, before its threads start.

    Args:
        spec: ``LABEL[:HIT][@FILE]``.

    Raises:
        ConfigError: No such label, or a hit that is no positive number.
    """
    global ARMED, _label, _left, _file
    place, _, path = (spec or "").partition("@")
    label, _, hit = place.partition(":")
    if (label and label not in LABELS) or not (hit or "1").isdecimal() or int(hit or "1") < 1:
        raise ConfigError(f"{VARIABLE}: cannot be {spec!r}; LABEL[:HIT][@FILE] with a label of {', '.join(LABELS)}")
    if _file is not None:
        os.close(_file)
    _file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600) if path else None
    _label, _left = label, int(hit or "1")
    ARMED = spec or None


def at(label: str) -> None:
    """Note a hit of the label; die when it is the one that was asked for."""
    global _left
    last = False
    if label == _label:
        with _lock:
            _left -= 1
            last = _left == 0
    if _file is not None:
        os.write(_file, f"{label}\n".encode())
    if last:
        # Windows has no SIGKILL; there SIGTERM ends a process just as abruptly.
        os.kill(os.getpid(), getattr(signal, "SIGKILL", signal.SIGTERM))


arm(os.environ.get(VARIABLE))
