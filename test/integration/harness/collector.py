"""An OTLP/HTTP receiver that decodes with the official definitions (opentelemetry-proto), and can be made to misbehave."""

import gzip
import http.server
import threading

from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (ExportMetricsServiceRequest,
                                                                          ExportMetricsServiceResponse)
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (ExportTraceServiceRequest,
                                                                      ExportTraceServiceResponse)
from opentelemetry.proto.trace.v1 import trace_pb2

from .ports import lease_port
from .wait import wait_until

KINDS = {"/v1/traces": (ExportTraceServiceRequest, ExportTraceServiceResponse),
         "/v1/metrics": (ExportMetricsServiceRequest, ExportMetricsServiceResponse)}


def plain(attributes):
    """Attributes as a dict."""
    return {a.key: getattr(a.value, a.value.WhichOneof("value")) for a in attributes}


class Span:
    def __init__(self, span, resource):
        self.raw = span
        self.resource = resource
        self.name, self.kind = span.name, trace_pb2.Span.SpanKind.Name(span.kind).removeprefix("SPAN_KIND_")
        self.trace, self.id, self.parent = span.trace_id.hex(), span.span_id.hex(), span.parent_span_id.hex()
        self.attributes = plain(span.attributes)
        self.events = {e.name: plain(e.attributes) for e in span.events}
        self.start, self.end = span.start_time_unix_nano, span.end_time_unix_nano

    def __getitem__(self, key):
        return self.attributes[key]


class Collector:
    """
    answer(path, headers, message) may return (status, headers, body) in place of the usual answer; `held` makes every
    request wait until it is set.
    """

    def __init__(self, answer=None):
        self.lease = lease_port()
        self.port = self.lease.port
        self.answer = answer
        self.held = threading.Event()
        self.held.set()
        self.lock = threading.Lock()
        self.requests = []  # (path, headers, message): all that came, taken or not
        self.taken = []     # those that were taken
        self.server = None
        self.start()

    @property
    def url(self):
        return f"http://127.0.0.1:{self.port}"

    def start(self):
        collector = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self):  # noqa: N802
                collector.take(self)

            def log_message(self, *arguments):
                pass

        class Server(http.server.ThreadingHTTPServer):
            daemon_threads = True
            allow_reuse_address = True

        self.server = Server(("127.0.0.1", self.port), Handler)
        threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True).start()

    def stop(self):
        """Nobody listens any more."""
        if self.server:
            self.server.shutdown()
            self.server.server_close()
            self.server = None

    def close(self):
        self.held.set()
        self.stop()
        self.lease.release()

    def take(self, handler):
        body = handler.rfile.read(int(handler.headers["Content-Length"]))
        if handler.headers.get("Content-Encoding") == "gzip":
            body = gzip.decompress(body)
        request, response = KINDS[handler.path]
        message = request.FromString(body)
        with self.lock:
            self.requests.append((handler.path, handler.headers, message))
        self.held.wait()
        special = self.answer(handler.path, handler.headers, message) if self.answer else None
        status, headers, out = special or (200, {}, response().SerializeToString())
        if status == 200:
            with self.lock:
                self.taken.append((handler.path, handler.headers, message))
        try:
            handler.send_response(status)
            for name, value in headers.items():
                handler.send_header(name, value)
            handler.send_header("Content-Type", "application/x-protobuf")
            handler.send_header("Content-Length", str(len(out)))
            handler.end_headers()
            handler.wfile.write(out)
        except OSError:
            pass  # who asked is gone

    # -- what has come

    def _of(self, path):
        with self.lock:
            return [message for p, _, message in self.taken if p == path]

    def count(self, path):
        with self.lock:
            return sum(p == path for p, _, _ in self.requests)

    def spans(self):
        return [Span(span, plain(resource.resource.attributes)) for message in self._of("/v1/traces")
                for resource in message.resource_spans for scope in resource.scope_spans for span in scope.spans]

    def requests_named(self, name):
        """The proxy's own spans of requests with this name."""
        return [span for span in self.spans() if span.kind == "SERVER" and span.name == name]

    def children(self, span):
        return [s for s in self.spans() if s.parent == span.id]

    def wait_request(self, name, count=1):
        """So many, with their children: a message has all spans of a request."""
        found = wait_until(lambda: (lambda all_: len(all_) >= count and all_)(self.requests_named(name)), 20,
                           lambda: f"{name!r} is not among {sorted({s.name for s in self.spans()})}")
        return found[0] if count == 1 else found

    def metrics(self):
        """name -> metric of the last message."""
        messages = self._of("/v1/metrics")
        return {m.name: m for r in messages[-1].resource_metrics for s in r.scope_metrics
                for m in s.metrics} if messages else {}
