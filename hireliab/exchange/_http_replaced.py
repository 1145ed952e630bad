"""
Whether requests, urllib3 and http.client are as their authors wrote them.

The short way of a call bypasses their functions. What a tool has replaced (responses, requests-mock, vcrpy,
OpenTelemetry, Sentry) must be asked all the same, so the short way steps aside then.
"""

from __future__ import annotations

import http.client
import types
from typing import Any

import requests
from requests.adapters import HTTPAdapter
from urllib3.connection import HTTPConnection
from urllib3.connectionpool import HTTPConnectionPool

from hireliab.exchange._http_wire import connections_untouched

_Http = http.client.HTTPConnection
_Base = requests.Session


def _places() -> tuple[Any, ...]:
    return (
        _Base.send, _Base.request, _Base.get_adapter, _Base.prepare_request, HTTPAdapter.send, HTTPAdapter.build_response,
        HTTPConnectionPool.urlopen, HTTPConnection.request, HTTPConnection.getresponse,
        _Http.putrequest, _Http.endheaders, _Http.getresponse, _Http.send, _Base.merge_environment_settings,
    )  # fmt: skip


_modules = (
    "requests.sessions", "requests.sessions", "requests.sessions", "requests.sessions", "requests.adapters",
    "requests.adapters", "urllib3.connectionpool", "urllib3.connection", "urllib3.connection",
    "http.client", "http.client", "http.client", "http.client", "requests.sessions",
)  # fmt: skip
_known: tuple[Any, ...] = (None,) * len(_modules)


def untouched() -> bool:
    """Whether requests, urllib3 and http.client are as their authors wrote them."""
    known = _known
    # By identity: what wraps a function (wrapt) may call itself equal to it.
    if (
        _Base.send is known[0]
        and _Base.request is known[1]
        and _Base.get_adapter is known[2]
        and _Base.prepare_request is known[3]
        and HTTPAdapter.send is known[4]
        and HTTPAdapter.build_response is known[5]
        and HTTPConnectionPool.urlopen is known[6]
        and HTTPConnection.request is known[7]
        and HTTPConnection.getresponse is known[8]
        and _Http.putrequest is known[9]
        and _Http.endheaders is known[10]
        and _Http.getresponse is known[11]
        and _Http.send is known[12]
        and _Base.merge_environment_settings is known[13]
    ):
        return connections_untouched()
    return _look_again() and connections_untouched()


def _look_again() -> bool:
    """Remember the functions, if each is its module's own: a tool may have been there before us."""
    global _known
    now = _places()
    for function, module in zip(now, _modules, strict=True):
        # The type, not isinstance: a wrapper may lie about its class. A function's globals are those of its module.
        if type(function) is not types.FunctionType or function.__globals__.get("__name__") != module:
            return False
    _known = now
    return True
