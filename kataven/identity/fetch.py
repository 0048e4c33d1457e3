"""Fetches a small public document over HTTP, with a limit on time and size."""

from __future__ import annotations

import asyncio

import httpx2

MAX_BODY_BYTES = 512 * 1024


class FetchFailed(Exception):
    """Raised if no response arrives in time, its status is not 200, or it is too large. The message is only logged."""


class HttpFetcher:
    """Sends a plain GET: no redirects, no cookies, no compression, and no proxy from the environment."""

    def get(self, url: str, *, timeout_seconds: float) -> bytes:
        """The body, at most `MAX_BODY_BYTES`. `timeout_seconds` limits the whole request. Raises FetchFailed."""
        # httpx2's timeouts restart with each byte received, so a server that sends bytes slowly could hold the request
        # for hours. Cancelling the task limits the name lookup, the connection, the headers and the body together.
        loop = asyncio.new_event_loop()
        try:
            return loop.run_until_complete(asyncio.wait_for(_get(url), timeout_seconds))
        except TimeoutError:
            raise FetchFailed(f"no complete response within {timeout_seconds:.1f} s") from None
        except (httpx2.HTTPError, httpx2.InvalidURL, httpx2.StreamError, OSError) as error:
            raise FetchFailed(f"{type(error).__name__}: {error}") from error
        finally:
            loop.run_until_complete(loop.shutdown_asyncgens())
            # Unlike asyncio.run, this does not wait for a name lookup that hangs in its thread.
            loop.close()


async def _get(url: str) -> bytes:
    headers = {"Accept": "application/json", "Accept-Encoding": "identity"}
    async with (
        httpx2.AsyncClient(trust_env=False, follow_redirects=False, timeout=None) as client,  # limited above
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
