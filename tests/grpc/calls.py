#!/usr/bin/env python3
"""gRPC through the gateway, by gRPC's own client and server: tests/grpc/calls.py

Starts the built binary (PORTCULLIS_BIN, or target/debug/portcullis) between them. Every call is first made past the gateway,
which shows that the test is right, and then through it. Needs grpcio.
"""

import os
import queue
import re
import subprocess
import tempfile
import threading
import time
from concurrent import futures

import grpc

BINARY = os.path.realpath(os.environ.get("PORTCULLIS_BIN", "target/debug/portcullis"))

CONFIG = """
[server]
workers = 1
[[server.listener]]
address = "127.0.0.1:0"
http2 = true
[admin]
listen = "off"
[[upstream]]
name = "app"
servers = ["http://127.0.0.1:{port}"]
http = "2"
[[route]]
path = "/t.Calls/**"
auth = "none"
"""


class Server(grpc.GenericRpcHandler):
    """Takes and gives bytes as they are."""

    def __init__(self):
        self.cancelled = threading.Event()

    def service(self, details):
        return {
            "/t.Calls/Reverse": grpc.unary_unary_rpc_method_handler(self.reverse),
            "/t.Calls/Fail": grpc.unary_unary_rpc_method_handler(self.fail),
            "/t.Calls/Quote": grpc.stream_stream_rpc_method_handler(self.quote),
            "/t.Calls/Count": grpc.unary_stream_rpc_method_handler(self.count),
        }.get(details.method)

    def reverse(self, request, context):
        context.set_trailing_metadata((("x-length", str(len(request))),))
        return request[::-1]

    def fail(self, _, context):
        context.abort(grpc.StatusCode.NOT_FOUND, "no such thing")

    def quote(self, requests, _):
        for request in requests:
            yield b"<" + request + b">"

    def count(self, _, context):
        context.add_callback(self.cancelled.set)
        number = 0
        while context.is_active():
            yield b"%d" % number
            number += 1
            time.sleep(0.01)


def unary_with_trailers(channel, _):
    reverse = channel.unary_unary("/t.Calls/Reverse")
    answer, call = reverse.with_call(b"hello", timeout=10)
    assert answer == b"olleh"
    assert dict(call.trailing_metadata())["x-length"] == "5"


def an_error_is_nothing_but_trailers(channel, _):
    try:
        channel.unary_unary("/t.Calls/Fail")(b"", timeout=10)
    except grpc.RpcError as error:
        assert error.code() == grpc.StatusCode.NOT_FOUND, error
        assert error.details() == "no such thing", error
    else:
        raise AssertionError("it failed to fail")


def both_sides_talk_at_once(channel, _):
    said = queue.Queue()
    answers = channel.stream_stream("/t.Calls/Quote")(iter(said.get, None), timeout=20)
    for number in range(100):
        said.put(b"%d" % number)
        assert next(answers) == b"<%d>" % number
    said.put(None)
    assert list(answers) == []
    assert answers.code() == grpc.StatusCode.OK


def a_cancelled_call_ends_at_the_server(channel, server):
    server.cancelled.clear()
    numbers = channel.unary_stream("/t.Calls/Count")(b"", timeout=20)
    for number in range(5):
        assert next(numbers) == b"%d" % number
    numbers.cancel()
    assert server.cancelled.wait(10)


def large_messages(channel, _):
    large = bytes(3_000_000)
    assert channel.unary_unary("/t.Calls/Reverse")(large, timeout=20) == large


def a_thousand_at_once(channel, _):
    reverse = channel.unary_unary("/t.Calls/Reverse")
    calls = [reverse.future(b"x%d" % number, timeout=30) for number in range(1000)]
    for number, call in enumerate(calls):
        assert call.result() == (b"x%d" % number)[::-1]


CALLS = [
    unary_with_trailers,
    an_error_is_nothing_but_trailers,
    both_sides_talk_at_once,
    a_cancelled_call_ends_at_the_server,
    large_messages,
    a_thousand_at_once,
]


def listening_port(gateway):
    for line in gateway.stderr:
        found = re.search(r": listening address=127\.0\.0\.1:(\d+)", line)
        if found:
            # Nobody shall wait for a full pipe.
            threading.Thread(target=gateway.stderr.read, daemon=True).start()
            return int(found.group(1))
    raise SystemExit("the gateway did not start")


def main():
    handler = Server()
    server = grpc.server(futures.ThreadPoolExecutor(32), handlers=[handler])
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    with tempfile.TemporaryDirectory(dir="/dev/shm") as folder:
        config = os.path.join(folder, "portcullis.toml")
        with open(config, "w", encoding="utf-8") as file:
            file.write(CONFIG.format(port=port))
        gateway = subprocess.Popen(
            [BINARY, "serve", "--config", config], stderr=subprocess.PIPE, text=True, cwd=folder
        )
        try:
            ways = [("past the gateway", port), ("through the gateway", listening_port(gateway))]
            for way, port in ways:
                with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
                    for call in CALLS:
                        call(channel, handler)
                        print(f"{way}: {call.__name__}")
        finally:
            gateway.terminate()
            gateway.wait(20)
            server.stop(None)
    print(f"# pass {len(CALLS)}")


if __name__ == "__main__":
    main()
