"""A real S3 server on this machine, with a proxy before it that can be slow, fail, and break off."""

import http.client
import os
import threading
import time
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

BUCKET = "experiments"
KEYS = {"AWS_ACCESS_KEY_ID": "nobody", "AWS_SECRET_ACCESS_KEY": "secret", "AWS_DEFAULT_REGION": "us-east-1"}


class Trouble:
    """What the proxy does to the next requests; a function of method and path says what, or nothing."""

    def __init__(self):
        self.decide = lambda *_: None
        self.requests = []  # what was asked for

    def __call__(self, method, path):
        self.requests.append((method, path))
        return self.decide(method, path)


@contextmanager
def s3_server():
    """Address of a bucket that is empty, and the trouble that can be made; the environment names the server."""
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    trouble = Trouble()
    proxy = _proxy(server.get_host_and_port()[1], trouble)
    changed = {**KEYS, "AWS_ENDPOINT_URL": f"http://127.0.0.1:{proxy.server_port}"}
    before = {name: os.environ.get(name) for name in changed}
    os.environ.update(changed)
    try:
        _make_bucket()
        yield f"s3://{BUCKET}", trouble
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
        proxy.shutdown()
        proxy.server_close()
        server.stop()


def _make_bucket():
    import fsspec

    fsspec.filesystem("s3", skip_instance_cache=True).mkdir(BUCKET)


def _proxy(port, trouble):
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _pass_on(self):
            length = int(self.headers.get("Content-Length") or 0)
            kind = trouble(self.command, self.path)
            body = self.rfile.read(length // 2 if kind == "break off" else length)
            if kind == "break off":
                self.close_connection = True
                self.connection.close()
                return
            if isinstance(kind, float):
                time.sleep(kind)
            if isinstance(kind, int):
                self._answer(kind, b"<Error><Code>%s</Code><Message>try later</Message></Error>" % CODES[kind], {})
                return
            there = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
            there.request(self.command, self.path, body=body, headers=dict(self.headers))
            answer = there.getresponse()
            content = answer.read()
            if kind == "lose the answer":
                self.close_connection = True
                self.connection.close()
                return
            self._answer(answer.status, content, dict(answer.getheaders()))
            there.close()

        def _answer(self, status, content, headers):
            self.send_response_only(status)
            for name, value in headers.items():
                if name.lower() not in ("transfer-encoding", "connection", "content-length"):
                    self.send_header(name, value)
            length = len(content)
            if self.command == "HEAD":
                length = next((value for name, value in headers.items() if name.lower() == "content-length"), 0)
            self.send_header("Content-Length", str(length))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(content)

        do_GET = do_PUT = do_POST = do_HEAD = do_DELETE = _pass_on  # noqa: N815

        def log_message(self, *args):
            del args

    class Server(ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, request, client_address):
            """A client that was killed has gone."""

    proxy = Server(("127.0.0.1", 0), Handler)
    threading.Thread(target=proxy.serve_forever, daemon=True).start()
    return proxy


CODES = {500: b"InternalError", 503: b"SlowDown", 403: b"AccessDenied"}
