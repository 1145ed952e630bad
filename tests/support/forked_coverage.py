"""
Coverage's lock in a forked child.

Its tracer takes one lock of all threads whenever a thread enters a file for the first time. Forked while another thread
holds it, the child would wait for that thread for ever, in the first measured line that it runs: in a hook of ours that
runs after the fork. Importing this module gives every child a new one.
"""

import os
import sys
import threading


def _renew():
    coverage = sys.modules.get("coverage")
    current = coverage.Coverage.current() if coverage else None
    collector = getattr(current, "_collector", None)
    if getattr(collector, "data_lock", None) is not None:
        collector.data_lock = threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew)
