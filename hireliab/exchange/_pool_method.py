"""What `execute` says when a client has no method of that name."""

from __future__ import annotations

import difflib
import inspect

from hireliab.errors import ConfigError

_MISSING = object()


def check_name(method: object, *, where: str) -> None:
    """Refuse what cannot be the name of a public method."""
    if not isinstance(method, str) or not method.isidentifier() or method.startswith("_"):
        raise ConfigError(
            f"{where}: execute takes the name of a public method, got {method!r:.80}",
            setting="method",
            value=method,
            allowed="the name of a public method of the client",
        )


def surely_lacks(client: object, method: str) -> bool:
    """
    Whether the client has no such attribute, found without running any of its code: another thread may be using it.

    False when only the client can tell, because its class computes attributes.
    """
    kind = type(client)
    if getattr(kind, "__getattribute__", None) is not object.__getattribute__ or hasattr(kind, "__getattr__"):
        return False
    return inspect.getattr_static(client, method, _MISSING) is _MISSING


def no_method(client: object, method: str, *, where: str) -> ConfigError:
    """The error for a name that the client's class does not have."""
    kind = type(client)
    near = difflib.get_close_matches(method, [name for name in dir(kind) if not name.startswith("_")], n=1)
    hint = f"did you mean {near[0]!r}?" if near else "its class has no name like it"
    return ConfigError(
        f"{where}: the client ({kind.__name__}) has no method {method!r}; {hint}",
        setting="method",
        value=method,
        near_miss=near[0] if near else None,
    )
