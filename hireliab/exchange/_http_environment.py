"""
What a session takes from its environment: proxies, CA bundle and netrc, read once.

requests searches the environment and looks for a netrc file in every call, which costs more than half of the call.
"""

from __future__ import annotations

import os
import urllib.request
from typing import Any
from urllib.parse import urlsplit

from requests.utils import get_netrc_auth, should_bypass_proxies

_MOST = 256  # hosts remembered


class Environment:
    """A snapshot. Safe for threads: its dictionaries are caches, and what they hold is the same for all."""

    def __init__(self) -> None:
        self._proxies = urllib.request.getproxies()
        self._no_proxy = _no_proxy()
        self.ca_bundle = os.environ.get("REQUESTS_CA_BUNDLE") or os.environ.get("CURL_CA_BUNDLE") or None
        self._by_origin: dict[str, dict[str, str]] = {}
        self._logins: dict[str, tuple[str, str] | None] = {}

    def proxies(self, url: str, no_proxy: str | None = None) -> dict[str, str]:
        """
        The environment's proxies, empty where they are not to be used.

        Args:
            url: Where the request goes.
            no_proxy: Instead of the environment's.
        """
        if not self._proxies:
            return {}
        if no_proxy is not None:
            return {} if should_bypass_proxies(url, no_proxy=no_proxy) else dict(self._proxies)
        origin = "/".join(url.split("/", 3)[:3])
        found = self._by_origin.get(origin)
        if found is None:
            # requests puts a list that is given into the environment for a moment; there is no need when it is there.
            known = self._no_proxy if _no_proxy() != self._no_proxy else None
            found = {} if should_bypass_proxies(url, no_proxy=known) else self._proxies
            if len(self._by_origin) >= _MOST:
                self._by_origin.clear()
            self._by_origin[origin] = found
        return dict(found)

    def proxies_for_one(self, url: str, proxies: Any) -> dict[str, str]:
        """The given proxies, and the environment's for the scheme of `url` where it gives none."""
        chosen = dict(proxies or {})
        scheme = urlsplit(url).scheme
        environment = self.proxies(url, chosen.get("no_proxy"))
        proxy = environment.get(scheme, environment.get("all"))
        if proxy:
            chosen.setdefault(scheme, proxy)
        return chosen

    def login(self, url: str) -> tuple[str, str] | None:
        """Name and password that netrc has for the host."""
        try:
            host = urlsplit(url).hostname or ""
        except ValueError:
            return None  # requests will say what is wrong with the URL
        if host not in self._logins:
            if len(self._logins) >= _MOST:
                self._logins.clear()
            self._logins[host] = get_netrc_auth(url)
        return self._logins.get(host)


def _no_proxy() -> str:
    return os.environ.get("no_proxy") or os.environ.get("NO_PROXY") or ""


class WithoutEnvironment:
    """A session as requests' own methods see it when they are to leave the environment alone."""

    trust_env = False

    def __init__(self, session: Any, auth: Any) -> None:
        self._session = session
        self.auth = auth

    def __getattr__(self, name: str) -> Any:
        return getattr(self._session, name)
