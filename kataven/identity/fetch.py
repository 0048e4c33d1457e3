"""Fetches a small public document over HTTP, with a limit on time and size."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Iterator
from typing import Any

import httpx2

from kataven.identity.issuer_connection import IssuerConnection

MAX_BODY_BYTES = 512 * 1024


class FetchFailed(Exception):
    """Raised if no response arrives in time, its status is not 200, or it is too large. The message is only logged."""


class HttpFetcher:
    """Sends a plain GET: no redirects, no cookies, no compression, and no proxy from the environment.

    Raises OSError if the file of `connection` can't be used.
    """

    def __init__(self, connection: IssuerConnection | None = None) -> None:
        self._options = (connection or IssuerConnection()).client_options()

    def get(self, url: str, *, timeout_seconds: float) -> bytes:
        """The body, at most `MAX_BODY_BYTES`. `timeout_seconds` limits the whole request. Raises FetchFailed."""
        # httpx2's timeouts restart with each byte received, so a server that sends bytes slowly could hold the request
        # for hours. Cancelling the task limits the name lookup, the connection, the headers and the body together.
        loop = asyncio.new_event_loop()
        try:
            return loop.run_until_complete(asyncio.wait_for(_get(url, self._options), timeout_seconds))
        except TimeoutError:
            raise FetchFailed(f"no complete response within {timeout_seconds:.1f} s") from None
        except (httpx2.HTTPError, httpx2.InvalidURL, httpx2.StreamError, OSError) as error:
            raise FetchFailed(_reason(error)) from error
        finally:
            loop.run_until_complete(loop.shutdown_asyncgens())
            # Unlike asyncio.run, this does not wait for a name lookup that hangs in its thread.
            loop.close()


def _reason(error: Exception) -> str:
    for cause in causes(error):
        if isinstance(cause, ssl.SSLCertVerificationError):
            return (
                f"the issuer's certificate is not trusted ({cause.verify_message}); if a private authority issued it, "
                "set KATAVEN_OIDC_CA to the authority's PEM file"
            )
    return f"{type(error).__name__}: {error}"


def causes(error: BaseException) -> Iterator[BaseException]:
    """The exception and those that caused it."""
    found: BaseException | None = error
    while found is not None:
        yield found
        found = found.__cause__ or found.__context__


async def _get(url: str, options: dict[str, Any]) -> bytes:
    headers = {"Accept": "application/json", "Accept-Encoding": "identity"}
    async with (
        httpx2.AsyncClient(timeout=None, **options) as client,  # limited above
        client.stream("GET", url, headers=headers) as response,
    ):
        if response.status_code != httpx2.codes.OK:
            raise FetchFailed(f"status {response.status_code}")
        body = bytearray()
        # Raw, because an unsolicited compressed response could expand to any size in one step.
        async for chunk in response.aiter_raw():
            body += chunk
            if len(body) > MAX_BODY_BYTES:
                raise FetchFailed(f"more than {MAX_BODY_BYTES} bytes")
        return bytes(body)
