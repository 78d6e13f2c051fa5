#!/usr/bin/env python3
"""What the gateway sends upstream, judged by h11: tests/conformance/upstream_bytes.py

A recorder stands in for the application and gives every byte of a connection to h11, which refuses what RFC 9112 does not
allow. What it reads has to be the request that the client sent, and the only one. The same requests come over HTTP/1.1 and
HTTP/2, so that what one writes for the other is judged too.
"""

import socket
import sys
import threading

import h11
import hpack

import http2
from gateway import Checks, Gateway


class Recorder:
    """Answers what h11 takes, and keeps it; keeps what h11 says of the rest."""

    def __init__(self):
        self.listener = socket.create_server(("127.0.0.1", 0), backlog=128)
        self.port = self.listener.getsockname()[1]
        self.lock, self.requests, self.faults = threading.Lock(), [], []
        threading.Thread(target=self._accept, daemon=True).start()

    def take(self):
        with self.lock:
            requests, faults = self.requests, self.faults
            self.requests, self.faults = [], []
            return requests, faults

    def _accept(self):
        while True:
            connection, _ = self.listener.accept()
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection):
        judge = h11.Connection(h11.SERVER)
        with connection:
            try:
                while self._exchange(connection, judge):
                    judge.start_next_cycle()
            except h11.RemoteProtocolError as fault:
                with self.lock:
                    self.faults.append(str(fault))
            except OSError:
                pass

    def _exchange(self, connection, judge):
        head, body = None, b""
        while True:
            event = judge.next_event()
            if event is h11.NEED_DATA:
                judge.receive_data(connection.recv(65536))
            elif isinstance(event, h11.Request):
                head = event
            elif isinstance(event, h11.Data):
                body += bytes(event.data)
            elif isinstance(event, h11.EndOfMessage):
                break
            else:
                return False
        with self.lock:
            self.requests.append((head.method.decode(), head.target.decode(), dict(head.headers), body, dict(event.headers)))
        content = b"" if head.method == b"HEAD" else b"ok"
        for part in (h11.Response(status_code=200, headers=[("content-length", "2")]), h11.Data(data=content), h11.EndOfMessage()):
            connection.sendall(judge.send(part))
        return True


# Method, target, headers, body (a list of pieces is sent in chunks), trailers.
REQUESTS = [
    ("GET", "/", [], b"", []),
    ("HEAD", "/", [], b"", []),
    ("OPTIONS", "/", [], b"", []),
    ("DELETE", "/thing", [], b"", []),
    ("GET", "/a/b;c=d/%C3%A4?x=%20&y=[1]", [], b"", []),
    ("GET", "/?", [], b"", []),
    ("GET", "/" + "x" * 4000, [], b"", []),
    ("GET", "/body-of-a-get", [], b"hello", []),
    ("POST", "/", [], b"", []),
    ("POST", "/", [], b"hello", []),
    ("PUT", "/", [], b"x" * 300_000, []),
    ("POST", "/", [], [b"he", b"llo"], []),
    ("POST", "/", [], [b""], []),
    ("POST", "/", [("te", "trailers"), ("trailer", "x-sum")], [b"hello"], [("x-sum", "5")]),
    ("PATCH", "/", [("content-type", "text/plain")], b"0\r\n\r\nGET /inner HTTP/1.1\r\n\r\n", []),
    ("POST", "/", [], [b"0\r\n\r\n", b"GET /inner HTTP/1.1\r\nhost: x\r\n\r\n"], []),
    ("GET", "/", [("cookie", "a=b; c=d"), ("accept", "*/*"), ("x-empty", "")], b"", []),
    ("GET", "/", [("x-twice", "1"), ("x-twice", "2"), ("x-odd", "!#$%&'*+-.^_`|~ \t\xe4")], b"", []),
    ("GET", "/", [("x-forwarded-for", "1.2.3.4"), ("forwarded", "for=1.2.3.4"), ("x-user-id", "evil"), ("via", "1.1 x")], b"", []),
    ("GET", "/", [("accept-encoding", "gzip"), ("range", "bytes=0-1"), ("if-none-match", '"x"')], b"", []),
]
FIRST_ONLY = [
    ("GET", "/", [("connection", "close, x-hop"), ("x-hop", "1"), ("keep-alive", "5"), ("proxy-authorization", "x")], b"", []),
    ("POST", "/", [("expect", "100-continue")], b"hello", []),
    ("GET", "/", [("upgrade", "h2c"), ("connection", "upgrade, http2-settings"), ("http2-settings", "AAMAAABk")], b"", []),
]


def over_http1(port, method, target, headers, body, trailers):
    lines = [f"{method} {target} HTTP/1.1", "host: localhost"] + [f"{name}: {value}" for name, value in headers]
    if isinstance(body, list):
        lines.append("transfer-encoding: chunked")
        content = b"".join(b"%x\r\n%s\r\n" % (len(piece), piece) for piece in body if piece) + b"0\r\n"
        content += "".join(f"{name}: {value}\r\n" for name, value in trailers).encode() + b"\r\n"
    else:
        content = body
        if body or method in ("POST", "PUT", "PATCH"):
            lines.append(f"content-length: {len(body)}")
    with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
        connection.sendall(("\r\n".join(lines) + "\r\n\r\n").encode("latin-1") + content)
        answer = b""
        while b"\r\n\r\n" not in answer or answer.startswith(b"HTTP/1.1 100"):
            piece = connection.recv(65536)
            assert piece, "no answer"
            answer += piece
            answer = answer.split(b"\r\n\r\n", 1)[1] if answer.startswith(b"HTTP/1.1 100") and b"\r\n\r\n" in answer else answer
        return int(answer.split(b" ")[1])


def over_http2(port, method, target, headers, body, trailers):
    connection = http2.Connection(port)
    pieces = body if isinstance(body, list) else [body[at : at + 16384] for at in range(0, len(body), 16384)]
    pieces = [piece for piece in pieces if piece]
    length = [("content-length", str(len(body)))] if not isinstance(body, list) and body else []
    block = hpack.Encoder().encode(
        [(b":method", method.encode()), (b":scheme", b"http"), (b":path", target.encode()), (b":authority", b"localhost")]
        + [(name.encode(), value.encode("latin-1")) for name, value in list(headers) + length])
    ends = not pieces and not trailers
    connection.send(http2.frame(http2.HEADERS, http2.END_HEADERS | (http2.END_STREAM if ends else 0), 1, block))
    room = 65535
    for at, piece in enumerate(pieces):
        while room < len(piece):
            update = connection.until(http2.WINDOW_UPDATE)
            room += int.from_bytes(update[3], "big") if update[2] == 1 else 0
        room -= len(piece)
        last = at == len(pieces) - 1 and not trailers
        connection.send(http2.frame(http2.DATA, http2.END_STREAM if last else 0, 1, piece))
    if trailers:
        connection.send(http2.frame(http2.HEADERS, http2.WHOLE, 1, hpack.Encoder().encode(trailers)))
    return connection.answer()[0]


def judged(recorder, send, port, case):
    method, target, headers, body, trailers = case
    recorder.take()
    status = send(port, *case)
    assert status == 200, f"answered with {status}"
    requests, faults = recorder.take()
    assert not faults, f"h11 says: {faults[0]}"
    assert len(requests) == 1, f"{len(requests)} requests arrived"
    got_method, got_target, got_headers, got_body, got_trailers = requests[0]
    assert (got_method, got_target) == (method, target), f"{got_method} {got_target} arrived"
    expected = b"".join(body) if isinstance(body, list) else body
    assert got_body == expected, f"a body of {len(got_body)} bytes arrived instead of {len(expected)}"
    assert {name.decode(): value.decode() for name, value in got_trailers.items()} == dict(trailers), "other trailers arrived"
    assert got_headers[b"x-forwarded-for"] == b"127.0.0.1", "it is somebody else's request"
    hops = {b"keep-alive", b"proxy-authorization", b"x-hop", b"x-user-id", b"http2-settings", b"upgrade"} & set(got_headers)
    assert not hops, f"{hops} went on"
    return True


def main():
    checks, recorder = Checks("bytes sent upstream"), Recorder()
    with Gateway(f"127.0.0.1:{recorder.port}") as gateway:
        for version, send, cases in (("1", over_http1, REQUESTS + FIRST_ONLY), ("2", over_http2, REQUESTS)):
            for at, case in enumerate(cases):
                what = f"{case[0]} {case[1][:30]} {case[2]} {str(case[3])[:30]}"[:90]
                checks.check(f"h{version}/{at + 1}", what, lambda: judged(recorder, send, gateway.plain, case))
    return checks.end()


if __name__ == "__main__":
    sys.exit(main())
