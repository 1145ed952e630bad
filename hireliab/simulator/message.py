"""HTTP requests and replies as values, and the parsing of parameters. No sockets."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from email.parser import BytesParser
from email.policy import HTTP
from functools import cached_property
from urllib.parse import parse_qsl, unquote

_ENCODE = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode
JSON = "application/json"
HTML = "text/html; charset=utf-8"


class BadBodyError(ValueError):
    """The body does not parse as what its Content-Type says."""


@dataclass
class Request:
    """One request, as raw as it came; `target` and `body` are what a signature covers."""

    method: str
    target: str
    headers: Mapping[str, str] = field(default_factory=dict)
    """Lower-case names."""
    body: bytes = b""
    ip: str = "127.0.0.1"
    received_mono: int = 0

    @cached_property
    def path(self) -> str:
        """Decoded path without the query."""
        return unquote(self.target.partition("?")[0])

    @cached_property
    def query(self) -> dict[str, str]:
        """Query parameters; the last of equal names wins."""
        return dict(parse_qsl(self.target.partition("?")[2], keep_blank_values=True))

    @cached_property
    def form(self) -> dict[str, object]:
        """
        Body parameters of a JSON object, a urlencoded form or a multipart form.

        Raises:
            BadBodyError: Ill-formed, or JSON that is no object.
        """
        if not self.body:
            return {}
        kind = self.headers.get("content-type", JSON).partition(";")[0].strip().lower()
        if kind == "application/x-www-form-urlencoded":
            return dict(parse_qsl(self.body.decode("utf-8", "replace"), keep_blank_values=True))
        if kind == "multipart/form-data":
            return _multipart(self.headers["content-type"], self.body)
        return _json_object(self.body)

    @property
    def form_or_list(self) -> list[Mapping[str, object]]:
        """
        A JSON body that is one object or a list of objects, as a list.

        Raises:
            BadBodyError: Anything else.
        """
        if not self.body.lstrip().startswith(b"["):
            return [self.form]
        rows = _json(self.body)
        if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
            raise BadBodyError("JSON parse error: objects are expected")
        return rows

    @property
    def is_json(self) -> bool:
        """Whether the body claims to be JSON."""
        return self.headers.get("content-type", "").partition(";")[0].strip().lower() == JSON


@dataclass(frozen=True)
class Reply:
    """One answer."""

    status: int
    body: bytes
    content_type: str = JSON
    headers: tuple[tuple[str, str], ...] = ()
    code: str | None = None
    """`code` or `error` of the body, for the truth file."""


class Refused(Exception):  # noqa: N818 - an answer, not a fault
    """Ends the handling of a request with this reply."""

    def __init__(self, reply: Reply) -> None:
        super().__init__(reply.code)
        self.reply = reply


def answer(body: Mapping[str, object], status: int = 200, headers: tuple[tuple[str, str], ...] = ()) -> Reply:
    """A JSON reply."""
    code = body.get("code") or body.get("error")
    text = _ENCODE(body).encode()
    return Reply(status, text, headers=headers, code=code if isinstance(code, str) else None)


def failed(code: str, message: str, status: int = 200, **more: object) -> Reply:
    """The API's usual refusal."""
    return answer({"status": "failed", "code": code, "message": message, **more}, status)


def refuse(code: str, message: str, status: int = 200) -> Refused:
    """The API's usual refusal, to be raised."""
    return Refused(failed(code, message, status))


def page(status: int, title: str) -> Reply:
    """An HTML page, as proxies in front of the exchange send them."""
    text = (
        f"<html>\r\n<head><title>{status} {title}</title></head>\r\n<body>\r\n"
        f"<center><h1>{status} {title}</h1></center>\r\n<hr><center>nginx</center>\r\n"
        "</body>\r\n</html>\r\n"
    )
    return Reply(status, text.encode(), HTML)


def _json(body: bytes) -> object:
    try:
        return json.loads(body, parse_float=Decimal, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        raise BadBodyError(f"JSON parse error: {error}") from error


def _json_object(body: bytes) -> dict[str, object]:
    value = _json(body)
    if not isinstance(value, dict):
        raise BadBodyError("JSON parse error: an object is expected")
    return value


def _no_constant(name: str) -> object:
    raise BadBodyError(f"JSON parse error: {name} is no number")


def _multipart(content_type: str, body: bytes) -> dict[str, object]:
    head = f"Content-Type: {content_type}\r\n\r\n".encode()
    message = BytesParser(policy=HTTP).parsebytes(head + body)
    if not message.is_multipart():
        raise BadBodyError("Multipart form parse error")
    fields: dict[str, object] = {}
    for part in message.iter_parts():
        name = part.get_param("name", header="content-disposition")
        content = part.get_payload(decode=True)
        if isinstance(name, str) and isinstance(content, bytes):
            fields[name] = content.decode("utf-8", "replace")
    return fields
