"""Protects a local page: refuses requests that other sites send through the user's browser."""

import ipaddress
import re
import socket
from typing import Any

_LOOPBACK = ("localhost", "127.0.0.1", "::1")
_EVERY_ADDRESS = ("0.0.0.0", "::")


class LocalOnly:
    """ASGI middleware: refuses requests from other sites, and bodies that are too large.

    A page on a loopback address has no password, so any web site could use it through the user's
    browser: by sending a request (which carries the site's `Origin`), or by pointing its own name
    at 127.0.0.1 (DNS rebinding, where `Host` is that name).

    Args:
        app: ASGI application.
        host: Address that the page is served at. `Host` must be a name of the loopback address
            or this. With `"0.0.0.0"`, bare IP addresses and the machine's own name are also
            accepted.
        largest: Largest body of a request in bytes.

    Source: https://asgi.readthedocs.io/en/latest/specs/www.html
    """

    def __init__(self, app: Any, host: str, largest: int) -> None:
        self.app, self.host, self.largest = app, host, largest

    async def __call__(self, scope: dict[str, Any], receive: Any, send: Any) -> None:
        if scope["type"] not in ("http", "websocket"):
            await self.app(scope, receive, send)
            return
        headers = {
            name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]
        }
        refusal = self.refuse(headers)
        if refusal is None:
            await self.app(scope, receive, send)
        elif scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008})
        else:
            status, message = refusal
            content = [(b"content-type", b"text/plain; charset=utf-8"), (b"connection", b"close")]
            await send({"type": "http.response.start", "status": status, "headers": content})
            await send({"type": "http.response.body", "body": message.encode()})

    def refuse(self, headers: dict[str, str]) -> tuple[int, str] | None:
        """Returns why a request is refused, as an HTTP status and a message, or `None`.

        Args:
            headers: Values by lower-case names.
        """
        host, origin = headers.get("host", ""), headers.get("origin")
        if not self._is_known(_without_port(host)):
            return 403, (
                f"This page only answers to {', '.join(self._names())}. Received: Host {host!r}. "
                "For other names, serve it with `keras-spd demo --web --host NAME`."
            )
        if origin is not None and origin.lower() not in (f"http://{host}", f"https://{host}"):
            return 403, f"Requests from other sites are refused. Received: Origin {origin!r}."
        length = headers.get("content-length", "0")
        if "transfer-encoding" in headers or not length.isdecimal():
            return 411, "Send the length of the body as Content-Length."
        if int(length) > self.largest:
            return 413, (
                f"Uploads are limited to {self.largest / 1e6:.0f} MB. Received: "
                f"{int(length) / 1e6:.0f} MB. For large images, use `keras-spd predict --tile`."
            )
        return None

    def _names(self) -> tuple[str, ...]:
        if self.host in _EVERY_ADDRESS:
            return (*_LOOPBACK, socket.gethostname().lower())
        return tuple(dict.fromkeys((*_LOOPBACK, self.host.lower())))

    def _is_known(self, name: str) -> bool:
        return name in self._names() or (self.host in _EVERY_ADDRESS and _is_address(name))


def _without_port(host: str) -> str:
    """Returns the name or address in a `Host` header: `"[::1]:7860"` has `"::1"`."""
    parts = re.fullmatch(r"(?:\[([^\[\]]*)\]|([^\[\]:]*))(?::\d+)?", host)
    return (parts[1] or parts[2] or "").lower() if parts else ""


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True
