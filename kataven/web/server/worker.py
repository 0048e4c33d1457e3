"""gunicorn's threaded worker, changed so that no request thread waits for a client.

The main thread receives the head, and a body of up to 64 KiB, of all connections concurrently. A thread gets a request
when it has arrived completely, so that it is occupied only while the application runs. Larger bodies are read by
threads of a second, smaller pool, with a deadline. The main thread sends the part of a response that the client has not
read yet. If there is none, the thread makes the connection idle itself.

    HEAD → BODY → IN_THREAD → RESPONSE → IDLE → HEAD …, or LINGER → closed

The rest is gunicorn's `gthread`. `tests/web/server/test_gthread.py` tests the internals that this module relies on. For
the reasons, see docs/decisions/0073-request-threads-do-not-wait-for-slow-clients.md.
"""

from __future__ import annotations

import errno
import logging
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping
from concurrent import futures
from selectors import EVENT_READ, EVENT_WRITE
from typing import Any

from gunicorn.config import Config
from gunicorn.http import wsgi
from gunicorn.http.errors import NoMoreData
from gunicorn.workers.gthread import STOP_KEEPALIVE_LINGER, ThreadWorker

from kataven.web.server import error_responses
from kataven.web.server.arrival import Progress
from kataven.web.server.connection import ClientConnection, Phase, SlowReader
from kataven.web.server.errors import SlowBody
from kataven.web.server.logger import ERRORS
from kataven.web.server.plain_head import PlainHeads
from kataven.web.server.request_threads import Lane, QueueLimits, RequestThreads
from kataven.web.server.response import RequestBody, Response
from kataven.web.server.timeouts import (
    BODY_BYTES,
    BUFFERED_BYTES,
    LINGER_BYTES,
    LINGER_SECONDS,
    BodyClock,
    SocketTimeouts,
)

log = logging.getLogger("kataven.server")

_HEAD_READ = 16 * 1024
_BODY_READ = BODY_BYTES + 1024
_SWEEP_SECONDS = 0.5
_NOTICE_SECONDS = 0.5
_OUT_OF_RESOURCES = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)
_CLIENT_GONE = (errno.EAGAIN, errno.EWOULDBLOCK, errno.ECONNABORTED)


class BufferingWorker(ThreadWorker):  # type: ignore[misc]  # gunicorn has no annotations
    """gunicorn's `worker_class`."""

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self.alive: bool
        self.bulk: futures.ThreadPoolExecutor
        self.refused: Counter[str] = Counter()
        self.on_refusal: Callable[[str], None] = self._count
        self.set_timeouts(SocketTimeouts())
        self.queue_limits = QueueLimits()
        self.lanes: Mapping[Lane, tuple[bytes, ...]] = {}
        """What the first bytes of a lane's requests are, such as `GET /healthz`: see `RequestThreads`."""
        self._plain_heads = PlainHeads(self.cfg)
        # Looking a setting up in gunicorn's configuration takes half a microsecond.
        self._keepalive: int = self.cfg.keepalive
        self._pre_request, self._post_request = self.cfg.pre_request, self.cfg.post_request
        self._waiting: dict[ClientConnection, None] = {}
        """Connections with a deadline, oldest first."""
        self._buffered = 0
        self._next_sweep = 0.0
        self._next_notice = 0.0
        self._names: dict[int, Any] = {}
        self._idle_lock = threading.Lock()
        """Held while a connection enters or leaves `keepalived_conns`, with its registration at the poller."""

    @classmethod
    def check_config(cls, cfg: Config, log: Any) -> None:
        """Reject gunicorn settings that this worker doesn't support. Raises ValueError."""
        super().check_config(cfg, log)
        if cfg.is_ssl:
            raise ValueError(
                "certfile, keyfile: must be unset; this server supports HTTP/1.1 only, so terminate TLS at the proxy"
            )
        if cfg.proxy_protocol != "off":
            raise ValueError("proxy_protocol: must be off; the client's address is read from X-Forwarded-For")

    def set_timeouts(self, timeouts: SocketTimeouts) -> None:
        """Call it before `run`."""
        self.timeouts = timeouts
        self.worker_connections = timeouts.connections
        self.max_keepalived = timeouts.connections - self.cfg.threads

    def init_process(self) -> None:
        # Threads are created on demand: without large bodies, this pool has none.
        self.bulk = futures.ThreadPoolExecutor(max(2, self.cfg.threads // 2), "bulk")
        super().init_process()

    def get_thread_pool(self) -> RequestThreads[ClientConnection]:
        """Called after the fork."""
        return RequestThreads(self.cfg.threads, self.queue_limits, self._serve, self._shed)

    def handle_quit(self, sig: Any, frame: Any) -> None:
        self.bulk.shutdown(wait=False)
        super().handle_quit(sig, frame)

    def run(self) -> None:
        try:
            super().run()
        finally:
            self.bulk.shutdown(wait=False)
            for conn in self._waiting:
                conn.sock.close()

    def notify(self) -> None:
        """Tell the master that this worker runs, at most twice per second. gunicorn does it after every event."""
        now = time.monotonic()
        if now >= self._next_notice:
            self._next_notice = now + _NOTICE_SECONDS
            super().notify()

    def wait_for_and_dispatch_events(self, timeout: float) -> None:
        for key, events in self.poller.select(timeout):
            conn = key.data
            if not isinstance(conn, ClientConnection):  # a listener, or the queue of the request threads
                key.data(key.fileobj)
            elif conn.phase is Phase.IN_THREAD:
                self._leave_to_thread(conn)
            # An earlier event of the same round may have changed what is awaited, or closed this connection.
            elif events & conn.registered:
                self._call_back(conn)

    def _call_back(self, conn: ClientConnection) -> None:
        try:
            conn.callback(conn)
        except Exception:
            # No client may be able to stop the worker.
            log.exception("connection handling failed")
            self._close(conn)

    def _leave_to_thread(self, conn: ClientConnection) -> None:
        """The client sends more while a thread has the connection: don't report it again until that thread is done."""
        with self._idle_lock:
            if conn.phase is Phase.IN_THREAD:
                self._unregister(conn)

    # Receiving, in the main thread.

    def accept(self, listener: Any) -> None:
        try:
            sock, client = listener.accept()
        except OSError as error:
            if error.errno in _OUT_OF_RESOURCES:
                self._free_capacity()
                self.set_accept_enabled(False)  # until the next round of the loop
            elif error.errno not in _CLIENT_GONE:
                raise
            return
        self.nr_conns += 1
        if self.nr_conns >= self.worker_connections:
            self._free_capacity()
        name = self._names.get(listener.fileno())
        if name is None:
            name = self._names[listener.fileno()] = listener.getsockname()
        conn = ClientConnection(sock, client, name, self.cfg, self.timeouts)
        self._waiting[conn] = None
        self._receive(conn)  # the request has often arrived already: then the poller never has to watch this connection

    def on_client_socket_readable(self, conn: ClientConnection, client: Any = None) -> None:
        """Called when an idle connection becomes readable."""
        with self._idle_lock:
            self.keepalived_conns.remove(conn)
        conn.phase, conn.deadline = Phase.HEAD, time.monotonic() + self.timeouts.head_seconds
        self._waiting[conn] = None
        self._receive(conn)

    def _receive(self, conn: ClientConnection) -> None:
        try:
            data = conn.sock.recv(_HEAD_READ if conn.phase is Phase.HEAD else _BODY_READ)
        except BlockingIOError:
            self._listen(conn, self._receive)
        except OSError:
            self._close(conn)
        else:
            if data:
                self._add(conn, data)
            elif conn.phase is Phase.BODY:  # the client half-closed too early, and may still read the error response
                self._hand_over(conn, whole=True)
            else:
                self._close(conn)

    def _add(self, conn: ClientConnection, data: bytes) -> None:
        progress = conn.arrival.add(data)
        if progress is Progress.WHOLE:
            self._hand_over(conn, whole=True)
        elif progress is Progress.LARGE:
            self._hand_over(conn, whole=False)
        elif progress is Progress.HEAD_TOO_LARGE:
            self._refuse(conn, "headers_too_large", "headers_too_large")
        else:
            conn.buffered += len(data)
            self._buffered += len(data)
            self._wait_for_more(conn)

    def _wait_for_more(self, conn: ClientConnection) -> None:
        if conn.arrival.head_end:
            if conn.clock is None:
                conn.phase, conn.clock = Phase.BODY, BodyClock(self.timeouts, time.monotonic())
                if conn.arrival.continues:
                    conn.continued = True
                    try:
                        conn.sock.send(b"HTTP/1.1 100 Continue\r\n\r\n")
                    except OSError:
                        self._close(conn)
                        return
            conn.clock.received = conn.arrival.body_received
            conn.deadline = conn.clock.deadline
        self._listen(conn, self._receive)
        if self._buffered > BUFFERED_BYTES:
            self._free_capacity()

    def _hand_over(self, conn: ClientConnection, *, whole: bool) -> None:
        # It remains registered with the poller: the next request of most clients arrives after this one is done. If a
        # thread reads the rest of a body, an event for that must not be taken for the next request.
        if not whole:
            self._unregister(conn)
        self._stop_waiting(conn)
        conn.clock = None
        start = conn.arrival.buffer
        conn.lane = next((lane for lane, starts in self.lanes.items() if start.startswith(starts)), Lane.NORMAL)
        conn.hand_over(whole)
        self.enqueue_req(conn)

    def enqueue_req(self, conn: ClientConnection) -> None:
        if conn.whole:
            self.tpool.submit(conn, conn.lane)
        else:
            self.bulk.submit(self._serve_large, conn, time.monotonic())

    # Processing, in a thread of a pool.

    def _serve(self, conn: ClientConnection) -> None:
        """Process one request. Then make the connection idle, or let the main thread do what remains. Waking the main
        thread for each request would cost a tenth of a small request."""
        try:
            conn.keep = self.handle(conn)
        except (Exception, SystemExit):
            log.exception("request ended without a response")
            conn.keep = False
        if self.alive and conn.keep and conn.is_finished():
            self._set_idle(conn)
        else:
            self.method_queue.defer(self._respond, conn)

    def _serve_large(self, conn: ClientConnection, since: float) -> None:
        """The same for a request that waits for a thread since `since`, at most as long as a body may take. Without
        this bound, a connection would have no deadline while it is queued."""
        if time.monotonic() - since > self.timeouts.body_seconds:
            self._shed(conn)
        else:
            self._serve(conn)

    def _shed(self, conn: ClientConnection) -> None:
        """Called in any thread: the request waited for too long."""
        self.method_queue.defer(self._refuse, conn, "overloaded", "unavailable")

    def handle(self, conn: ClientConnection) -> bool:
        """Process one request. Returns whether the connection can be reused."""
        request = None
        if not conn.whole:
            conn.start_clock()
        try:
            received = conn.take_received()
            plain = self._plain_heads.parse(received, conn) if conn.whole else None
            if plain is not None:
                return self._handle(*plain, Response(plain[0], conn, self.cfg))
            request = conn.parse(received)
            if not request:
                return False
            return self.handle_request(request, conn)
        except (StopIteration, NoMoreData):
            return False
        except SlowReader:
            self.on_refusal("slow_reader")
        except OSError as error:
            if error.errno not in (errno.EPIPE, errno.ECONNRESET, errno.ENOTCONN):
                log.exception("socket error")
        except Exception as error:
            self.handle_error(request, conn, conn.client, error)
        return False

    def handle_request(self, req: Any, conn: ClientConnection) -> bool:
        """Process a request that gunicorn parsed, with this package's body and response classes."""
        if conn.continued:
            req._expected_100_continue = False
        response, environ = wsgi.create(req, conn, conn.client, conn.server, self.cfg, response_class=Response)
        environ["wsgi.multithread"] = True
        environ["wsgi.input"] = RequestBody(req)
        environ["wsgi.errors"] = ERRORS
        # sendfile would block on the client, and `Response` sends nothing before the head.
        del environ["wsgi.file_wrapper"], environ["wsgi.early_hints"]
        return self._handle(req, environ, response)

    def _handle(self, req: Any, environ: dict[str, Any], response: Response) -> bool:
        """The same as gthread's `handle_request`."""
        try:
            self._pre_request(self, req)
            self.nr += 1
            if self.nr >= self.max_requests:
                if self.alive:
                    self.log.info("Autorestarting worker after current request.")
                    self.alive = False
                response.force_close()
            if not self.alive or not self._keepalive or len(self.keepalived_conns) >= self.max_keepalived:
                response.force_close()
            parts = self.wsgi(environ, response.start_response)
            try:
                for part in parts:
                    response.write(part)
                response.close()
            finally:
                if hasattr(parts, "close"):
                    parts.close()
            return not response.should_close()
        except OSError:
            raise
        except (Exception, SystemExit):
            if response.headers_sent:
                # After a partial response, the connection can only be closed.
                log.exception("response could not be completed")
                return False
            raise
        finally:
            try:
                self._post_request(self, req, environ, response)
            except Exception:
                log.exception("post_request failed")

    def handle_error(self, req: Any, client: ClientConnection, addr: Any, exc: BaseException) -> None:
        """Send an error response for a request that gunicorn's parser or the application rejected. It repeats no part
        of the request: the parser's messages quote their input, which may be a key."""
        code, request_id = error_responses.code_of(exc), error_responses.new_request_id()
        peer = addr[0] if isinstance(addr, tuple) else "unix"
        if code == "internal_error":
            log.error("unforeseen", exc_info=exc, extra={"request_id": request_id, "peer": peer})
        else:
            named = {"code": code, "why": type(exc).__name__, "request_id": request_id, "peer": peer}
            log.warning("request refused", extra=named)
            self.on_refusal("slow_body" if isinstance(exc, SlowBody) else "malformed")
        try:
            client.sendall(error_responses.error_response(code, request_id))
        except OSError:
            return

    # After the response, in the main thread.

    def _respond(self, conn: ClientConnection) -> None:
        conn.phase = Phase.RESPONSE
        self._send_rest(conn)

    def _send_rest(self, conn: ClientConnection) -> None:
        try:
            done = conn.flush()
        except OSError:
            self._close(conn)
            return
        if done:
            self._stop_waiting(conn)
            self._finish(conn)
        else:
            conn.deadline = time.monotonic() + self.timeouts.body_seconds  # for the next part of the response
            self._waiting[conn] = None
            self._listen(conn, self._send_rest, EVENT_WRITE)

    def _finish(self, conn: ClientConnection) -> None:
        if not conn.keep:
            self._linger(conn)
            return
        behind = conn.take_back()
        if behind:  # pipelined, and already read: the poller will not report it
            conn.phase, conn.deadline = Phase.HEAD, time.monotonic() + self.timeouts.head_seconds
            self._waiting[conn] = None
            self._add(conn, behind)
            return
        self._set_idle(conn)

    def _set_idle(self, conn: ClientConnection) -> None:
        """Called in any thread. From here on, the main thread owns the connection."""
        with self._idle_lock:
            conn.timeout = time.monotonic() + (self._keepalive if self.alive else STOP_KEEPALIVE_LINGER)
            self.keepalived_conns.append(conn)
            self._listen(conn, self.on_client_socket_readable)
            conn.phase = Phase.IDLE  # last: the poller may report it now, and the main thread decides by its phase

    def _linger(self, conn: ClientConnection) -> None:
        """Shut down the sending side, and discard input for a moment. gthread blocks its main thread for this."""
        try:
            conn.sock.shutdown(socket.SHUT_WR)
        except OSError:
            self._close(conn)
            return
        conn.phase, conn.deadline = Phase.LINGER, time.monotonic() + LINGER_SECONDS
        self._waiting[conn] = None
        self._drop_input(conn)

    def _drop_input(self, conn: ClientConnection) -> None:
        try:
            data = conn.sock.recv(_BODY_READ)
        except BlockingIOError:
            self._listen(conn, self._drop_input)
            return
        except OSError:
            data = b""
        conn.dropped += len(data)
        if not data or conn.dropped > LINGER_BYTES:
            self._close(conn)
        else:
            self._listen(conn, self._drop_input)

    # Deadlines and capacity, in the main thread.

    def murder_keepalived(self, force: bool = False) -> None:
        now = time.monotonic()
        while self.keepalived_conns and (force or self.keepalived_conns[0].timeout <= now):
            self._close(self._oldest_idle())

    def _cap_keepalive(self, deadline: float) -> None:
        with self._idle_lock:  # `alive` is false now, so connections that become idle later have a short timeout
            super()._cap_keepalive(deadline)

    def murder_pending(self) -> None:
        """Close connections past their deadline. gunicorn calls it after every round of its loop."""
        now = time.monotonic()
        if now < self._next_sweep:
            return
        self._next_sweep = now + _SWEEP_SECONDS
        self.tpool.shed_overdue()  # while all threads are occupied
        for conn in list(self._waiting):
            if not self.alive and conn.phase is Phase.HEAD and not conn.arrival.buffer:
                conn.deadline = min(conn.deadline, now + STOP_KEEPALIVE_LINGER)
            if conn.deadline <= now:
                self._expire(conn)

    def _expire(self, conn: ClientConnection) -> None:
        if conn.phase is Phase.HEAD and conn.arrival.buffer:
            self._refuse(conn, "slow_head", "request_timeout")
        elif conn.phase is Phase.HEAD:
            self._refuse(conn, "silent", None)
        elif conn.phase is Phase.BODY:
            self._refuse(conn, "slow_body", "request_timeout")
        else:
            self._refuse(conn, "slow_reader" if conn.phase is Phase.RESPONSE else None, None)

    def _free_capacity(self) -> None:
        """Close the connection that has been incomplete for longest: a well-behaved client's request completes within
        milliseconds, and is almost never the oldest of a thousand."""
        conn = next(iter(self._waiting), None)
        if conn is not None:
            self._refuse(conn, "crowded" if conn.phase is not Phase.LINGER else None, None)
        elif self.keepalived_conns:
            self._close(self._oldest_idle())

    def _oldest_idle(self) -> ClientConnection:
        with self._idle_lock:  # until it is registered
            conn: ClientConnection = self.keepalived_conns.popleft()
        return conn

    def _refuse(self, conn: ClientConnection, reason: str | None, code: str | None) -> None:
        if reason is not None:
            self.on_refusal(reason)
        if code is None:
            self._close(conn)
            return
        self._forget(conn)
        try:
            conn.sock.send(error_responses.error_response(code, error_responses.new_request_id()))
        except OSError:
            self._close(conn)
        else:
            self._linger(conn)

    def _listen(
        self, conn: ClientConnection, callback: Callable[[ClientConnection], None], event: int = EVENT_READ
    ) -> None:
        """Call `callback` when the poller reports `event`. Replaces the connection's previous callback."""
        conn.callback = callback
        if conn.registered == event:
            return
        if conn.registered:
            self.poller.modify(conn.sock, event, conn)
        else:
            self.poller.register(conn.sock, event, conn)
        conn.registered = event

    def _forget(self, conn: ClientConnection) -> None:
        """Remove the connection from the poller and from the deadlines."""
        self._unregister(conn)
        self._stop_waiting(conn)

    def _unregister(self, conn: ClientConnection) -> None:
        if conn.registered:
            self.poller.unregister(conn.sock)
            conn.registered = 0

    def _stop_waiting(self, conn: ClientConnection) -> None:
        self._waiting.pop(conn, None)
        self._buffered -= conn.buffered
        conn.buffered = 0

    def _close(self, conn: ClientConnection) -> None:
        self._forget(conn)
        conn.phase = Phase.CLOSED
        self.nr_conns -= 1
        conn.sock.close()

    def _count(self, reason: str) -> None:
        self.refused[reason] += 1
