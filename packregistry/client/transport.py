"""Requests to one registry: where it is, how it is trusted, what it is told, and how long it is waited for.

- **Address.** `https` where no scheme is given. Where the registry is this machine, or `insecure` is wanted, and what
  answers does not speak TLS, it is `http`: the vendor's `--insecure` means both.
- **Trust.** The system's certificates and `ca`; with `insecure`, any.
- **Credentials** go to the registry's own origin only. A download may be redirected anywhere but from TLS to plain
  HTTP, and goes there without them; anything else is not followed to another origin.
- **Waiting.** There is no limit to how long a transfer takes, only to how long nothing arrives. A registry that is
  busy (429) is asked again after the time it names.
- **Proxies** are those of the environment (`HTTPS_PROXY`, `NO_PROXY`), never for this machine.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import ssl
import urllib.request
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import aiohttp
from yarl import URL

from packregistry import __version__
from packregistry.client import answers
from packregistry.credentials import Credentials, Server
from packregistry.failures import ClientError, NotARegistryError, UnreachableError, UntrustedCertificateError

Progress = Callable[[int, int], None]
"""Told how many bytes of how many are through."""
Body = Callable[[], AsyncIterator[bytes]]
"""Makes the body of a request, from its beginning, as often as it is asked to."""

ANSWER_MAX = 64 * 1024 * 1024
CONNECT_SECONDS = 15.0
STALL_SECONDS = 60.0
# A push is answered once a large archive has been read and checked.
PUSH_SECONDS = 600.0
ATTEMPTS = 5
WAIT_MAX = 60.0
_REDIRECTS = {301, 302, 303, 307, 308}
_REDIRECTS_MAX = 5
# What OpenSSL, over its versions, makes of an answer in plain HTTP.
_PLAIN = {"WRONG_VERSION_NUMBER", "HTTP_REQUEST", "RECORD_LAYER_FAILURE", "UNSUPPORTED_PROTOCOL"}


class Transport:
    """The connections to one registry, open while its context is.

    Args:
        server: where.
        credentials: who asks.
        ca: a file with certificates to trust besides the system's, if it exists.
        insecure: whether any certificate, or none, will do.
        pause: waits for a number of seconds.
    """

    def __init__(
        self,
        server: Server,
        credentials: Credentials | None,
        *,
        ca: Path | None = None,
        insecure: bool = False,
        pause: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self.server = server
        self.pause = pause
        self._ca = ca
        self._insecure = insecure
        self._authorization = credentials.authorization if credentials else None
        self._may_be_plain = not server.scheme and (insecure or server.is_loopback)
        self._origin = URL(f"{server.scheme or 'https'}://{server.name}")
        self._finding = asyncio.Lock()

    async def __aenter__(self) -> Self:
        """Open it; nothing is sent yet."""
        trust = await asyncio.to_thread(trusted, self._ca, insecure=self._insecure)
        self._http = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(ssl=trust, keepalive_timeout=5),
            headers={"User-Agent": f"packregistry/{__version__}", "Accept-Encoding": "identity"},
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_SECONDS, sock_read=STALL_SECONDS),
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,
            requote_redirect_url=False,
        )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Close all connections."""
        await self._http.close()

    async def json(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, str] | None = None,
        content: Any = None,
        headers: Mapping[str, str] | None = None,
        body: Body | None = None,
    ) -> Any:
        """The document a request is answered with. `content` is sent as JSON, `body` as it is."""
        data, _ = await self.fetch(method, path, query=query, content=content, headers=headers, body=body)
        return answers.document(data, self.server.name)

    async def fetch(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, str] | None = None,
        content: Any = None,
        headers: Mapping[str, str] | None = None,
        body: Body | None = None,
    ) -> tuple[bytes, Mapping[str, str]]:
        """The body and headers of the answer, whose status is a good one. Raises `RegistryError` and `ClientError`."""
        options: dict[str, Any] = {"headers": dict(headers or {})}
        if content is not None:
            options["json"] = content
        if body is not None:
            options["timeout"] = aiohttp.ClientTimeout(sock_connect=CONNECT_SECONDS, sock_read=PUSH_SECONDS)
            # The registry says whether it wants the body before it is sent: wrong credentials cost no upload.
            options["expect100"] = True
        for attempt in range(1, ATTEMPTS + 1):
            url = (await self._base()).with_path(path, encoded=True).with_query(query or None)
            if body is not None:
                options["data"] = body()
            async with self._request(method, url, options, follow_out=False) as response:
                data = await self._read(response)
                if response.status == 429 and attempt < ATTEMPTS:
                    wait = retry_after(response.headers.get("Retry-After", ""))
                elif response.status >= 400:
                    raise answers.refusal(response.status, response.reason or "", data, self.server.name)
                else:
                    return data, response.headers
            await self.pause(wait)
        raise AssertionError("the last attempt returns or raises")

    @contextlib.asynccontextmanager
    async def download(self, path: str, headers: Mapping[str, str]) -> AsyncIterator[aiohttp.ClientResponse]:
        """An answer with status 200 or 206 (or 416), whose body is still to be read."""
        url = (await self._base()).with_path(path, encoded=True)
        async with self._request("GET", url, {"headers": dict(headers)}, follow_out=True) as response:
            if response.status >= 400 and response.status != 416:
                data = await self._read(response)
                raise answers.refusal(response.status, response.reason or "", data, self.server.name)
            with self._failures():
                yield response

    @contextlib.asynccontextmanager
    async def _request(
        self, method: str, url: URL, options: Mapping[str, Any], *, follow_out: bool
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """The answer to a request, after redirects."""
        home = url.origin()
        for _ in range(_REDIRECTS_MAX + 1):
            headers = dict(options["headers"])
            if self._authorization and url.origin() == home:
                headers["Authorization"] = self._authorization
            arguments = {**options, **_proxied(url, headers), "allow_redirects": False}
            with self._failures():
                response = await self._http.request(method, url, **arguments)
            async with response:
                if response.status not in _REDIRECTS or "Location" not in response.headers:
                    yield response
                    return
                url = self._redirected(method, url, response.headers["Location"], home if not follow_out else None)
        raise NotARegistryError(f"{self.server.name} redirects without end")

    def _redirected(self, method: str, url: URL, location: str, home: URL | None) -> URL:
        """Where a redirect leads, or `NotARegistryError` where it is not followed: out of `home`, or out of TLS."""
        shown = answers.clean(location[:200])
        try:
            target = url.join(URL(location))
            origin = target.origin()
        except ValueError as error:
            raise NotARegistryError(f"{self.server.name} redirects to {shown}, which is no address") from error
        if method != "GET" or (home is not None and origin != home):
            remedy = f"if that is your registry, use {origin} as its address"
            raise NotARegistryError(f"{self.server.name} redirects to {shown}", remedy=remedy)
        if target.scheme not in {"http", "https"} or (url.scheme == "https" and target.scheme == "http"):
            raise NotARegistryError(f"{self.server.name} redirects from TLS to {shown}, which is not followed")
        return target

    async def _read(self, response: aiohttp.ClientResponse) -> bytes:
        parts = []
        size = 0
        with self._failures():
            async for chunk in response.content.iter_any():
                parts.append(chunk)
                size += len(chunk)
                if size > ANSWER_MAX:
                    raise NotARegistryError(f"{self.server.name} answers without end")
        return b"".join(parts)

    async def _base(self) -> URL:
        """The registry's origin. The first time, where it may speak plain HTTP, it is found out whether it does."""
        async with self._finding:
            if self._may_be_plain:
                try:
                    async with self._http.get(
                        self._origin / "health", allow_redirects=False, **_proxied(self._origin, {})
                    ):
                        pass
                except aiohttp.ClientConnectorSSLError as error:
                    if _answers_plainly(error):
                        self._origin = self._origin.with_scheme("http")
                except (aiohttp.ClientError, TimeoutError):
                    # Whatever it is, the request itself meets it, and says so.
                    pass
                self._may_be_plain = False
        return self._origin

    @contextlib.contextmanager
    def _failures(self) -> Iterator[None]:
        """What aiohttp raises, as what a user can do something about."""
        name = self.server.name
        try:
            yield
        except aiohttp.ClientConnectorCertificateError as error:
            raise self._untrusted(error) from error
        except aiohttp.ClientConnectorSSLError as error:
            if _answers_plainly(error):
                remedy = f"write http://{name} if that is meant; passwords are readable on the way then"
                raise UnreachableError(f"{name} does not speak TLS", remedy=remedy) from error
            raise UnreachableError(f"{name} breaks off the TLS handshake: {_reason(error)}") from error
        except (aiohttp.ClientProxyConnectionError, aiohttp.ClientHttpProxyError) as error:
            remedy = "check HTTPS_PROXY, HTTP_PROXY and NO_PROXY"
            raise UnreachableError(f"the proxy does not lead to {name}: {_reason(error)}", remedy=remedy) from error
        except aiohttp.ClientConnectorError as error:
            remedy = "check the address and that the registry runs"
            raise UnreachableError(f"{name} cannot be reached: {_reason(error)}", remedy=remedy) from error
        except (aiohttp.ServerTimeoutError, TimeoutError) as error:
            raise UnreachableError(f"{name} does not answer", remedy="try again later") from error
        except (aiohttp.InvalidURL, aiohttp.ClientResponseError) as error:
            raise NotARegistryError(f"{name} does not answer in HTTP: {answers.clean(str(error))}") from error
        except (aiohttp.ClientError, ConnectionError) as error:
            reason = answers.clean(str(error)) or type(error).__name__
            raise UnreachableError(f"the connection to {name} broke off: {reason}", remedy="try again") from error

    def _untrusted(self, error: aiohttp.ClientConnectorCertificateError) -> UntrustedCertificateError:
        reason = getattr(error.certificate_error, "verify_message", "") or str(error.certificate_error)
        place = f"put the CA's certificate at {self._ca}, or " if self._ca else ""
        return UntrustedCertificateError(
            f"the certificate of {self.server.name} is not trusted: {answers.clean(reason)}",
            remedy=f"{place}skip the check with --insecure",
        )


def trusted(ca: Path | None, *, insecure: bool) -> ssl.SSLContext:
    """What certificates are trusted: the system's and those in `ca`, if it is there. Raises `ClientError`."""
    context = ssl.create_default_context()
    if insecure:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    elif ca is not None and ca.exists():
        try:
            context.load_verify_locations(ca)
        except (OSError, ssl.SSLError) as error:
            reason = "it is not a PEM certificate" if isinstance(error, ssl.SSLError) else error.strerror
            raise ClientError(f"{ca} cannot be used: {reason}", remedy="put the CA's certificate there") from error
    return context


def retry_after(text: str) -> float:
    """How many seconds to wait, of what `Retry-After` says; a second where it says nothing that can be used."""
    seconds = float(text) if text.isascii() and text.isdecimal() and len(text) < 9 else 1.0
    return min(seconds, WAIT_MAX)


def _proxied(url: URL, headers: Mapping[str, str]) -> dict[str, Any]:
    """The arguments of a request that has these headers, with the proxy for `url` where there is one."""
    host = url.host or ""
    proxy = urllib.request.getproxies().get(url.scheme)
    if not proxy or Server(f"[{host}]" if ":" in host else host).is_loopback or urllib.request.proxy_bypass(host):
        return {"headers": headers}
    address = URL(proxy if "://" in proxy else f"http://{proxy}")
    login = {}
    if address.user:
        login["Proxy-Authorization"] = aiohttp.encode_basic_auth(address.user, address.password or "")
    arguments = {"proxy": address.with_user(None), "headers": headers}
    # Through TLS the proxy sees the request that opens the tunnel, without TLS the request itself.
    if url.scheme == "https":
        return {**arguments, "proxy_headers": login}
    return {**arguments, "headers": {**headers, **login}}


def _answers_plainly(error: aiohttp.ClientConnectorSSLError) -> bool:
    return getattr(error.os_error, "reason", None) in _PLAIN


def _reason(error: aiohttp.ClientError) -> str:
    cause = getattr(error, "os_error", None)
    if not isinstance(cause, OSError):
        return answers.clean(str(error))
    if cause.errno and cause.errno > 0 and not isinstance(cause, ssl.SSLError):
        return os.strerror(cause.errno)
    return answers.clean(str(cause.strerror or cause))
