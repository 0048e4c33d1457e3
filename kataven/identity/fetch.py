"""Fetching a small public document over HTTP within a bound of time and of size."""

from __future__ import annotations

import asyncio

import httpx2

MAX_BODY_BYTES = 512 * 1024


class FetchFailed(Exception):
    """Raised when there is no document: no answer in time, not status 200, or too large. Says why, for our log only."""


class HttpFetcher:
    """Fetches with a plain GET: no redirects, no cookies, no compression, and no proxy taken from the environment."""

    def get(self, url: str, *, timeout_seconds: float) -> bytes:
        """The body, at most `MAX_BODY_BYTES`, all of it within `timeout_seconds`. Raises FetchFailed."""
        # httpx2's own timeouts start again with every byte that arrives, so a server that drips bytes could hold us for
        # hours. A cancelled task is the one bound that covers looking the name up, connecting, headers and body.
        loop = asyncio.new_event_loop()
        try:
            return loop.run_until_complete(asyncio.wait_for(_get(url), timeout_seconds))
        except TimeoutError:
            raise FetchFailed(f"no whole answer within {timeout_seconds:.1f} s") from None
        except (httpx2.HTTPError, httpx2.InvalidURL, httpx2.StreamError, OSError) as error:
            raise FetchFailed(f"{type(error).__name__}: {error}") from error
        finally:
            loop.run_until_complete(loop.shutdown_asyncgens())
            # Unlike asyncio.run, this does not wait for a name lookup that hangs in its own thread.
            loop.close()


async def _get(url: str) -> bytes:
    headers = {"Accept": "application/json", "Accept-Encoding": "identity"}
    async with (
        httpx2.AsyncClient(trust_env=False, follow_redirects=False, timeout=None) as client,  # bounded above
        client.stream("GET", url, headers=headers) as response,
    ):
        if response.status_code != httpx2.codes.OK:
            raise FetchFailed(f"status {response.status_code}")
        body = bytearray()
        # Raw, because a compressed answer that nobody asked for can unfold to any size in one step.
        async for chunk in response.aiter_raw():
            body += chunk
            if len(body) > MAX_BODY_BYTES:
                raise FetchFailed(f"more than {MAX_BODY_BYTES} bytes")
        return bytes(body)
