#!/usr/bin/env python3
"""WebSockets through the gateway, case by case as Autobahn's test suite numbers them: tests/conformance/websocket.py

The suite itself runs on Python 2 alone, so its cases are written anew (chapters 1 to 7, 9, 10, 12). Each is held over HTTP/1.1
and, where it fits into the first windows, over HTTP/2 (RFC 8441), with two servers behind the gateway. A mirror sends every byte
back, whatever it is, and a last word when the client is done: what comes has to be that, byte by byte. The server of the
`websockets` library judges: it has to close with the code that RFC 6455 wants, which has to come through.
"""

import asyncio
import base64
import hashlib
import logging
import os
import socket
import struct
import sys
import threading
import zlib

# Of one message; what the library takes by default is less than case 9.3.1 has. It asks when it is imported.
os.environ["WEBSOCKETS_MAX_FRAGMENTS"] = "100000"

import hpack
from websockets.asyncio.server import serve

import http2
from gateway import Checks, Gateway

TEXT, BINARY, CLOSE, PING, PONG = 1, 2, 8, 9, 10
MASK = b"\x12\x34\x56\x78"
WAIT = 20


def frame(opcode, payload=b"", fin=True, rsv=0, mask=MASK):
    head = bytes([(0x80 if fin else 0) | rsv << 4 | opcode])
    size = len(payload)
    bit = 0x80 if mask else 0
    if size < 126:
        head += bytes([bit | size])
    elif size < 65536:
        head += bytes([bit | 126]) + struct.pack(">H", size)
    else:
        head += bytes([bit | 127]) + struct.pack(">Q", size)
    if not mask:
        return head + payload
    pattern = (mask * (size // 4 + 1))[:size]
    masked = int.from_bytes(payload, "big") ^ int.from_bytes(pattern, "big")
    return head + mask + masked.to_bytes(size, "big")


def close(code=1000, reason=b""):
    return frame(CLOSE, struct.pack(">H", code) + reason)


def deflated(payload):
    squeeze = zlib.compressobj(wbits=-15)
    return (squeeze.compress(payload) + squeeze.flush(zlib.Z_SYNC_FLUSH))[:-4]


def cases():
    """Number, what is said, the frames, the close code that has to come back, whether compression is offered."""
    done = close()
    for at, size in enumerate([0, 125, 126, 127, 128, 65535, 65536], 1):
        yield f"1.1.{at}", f"text of {size} bytes", [frame(TEXT, b"*" * size), done], 1000, False
        yield f"1.2.{at}", f"binary of {size} bytes", [frame(BINARY, b"\xfe" * size), done], 1000, False
    for number, size, chop in (("1.1.8", 65536, 997), ("1.2.8", 65536, 997)):
        opcode = TEXT if number.startswith("1.1") else BINARY
        yield number, f"{size} bytes in chops of {chop}", [bytes(piece) for piece in chopped(frame(opcode, b"*" * size), chop)] + [done], 1000, False
    yield "2.1", "ping without payload", [frame(PING), done], 1000, False
    yield "2.2", "ping with payload", [frame(PING, b"Hello, world!"), done], 1000, False
    yield "2.3", "ping with binary payload", [frame(PING, b"\x00\xff\xfe\xfd\xfc\xfb\x00\xff"), done], 1000, False
    yield "2.4", "ping of 125 bytes", [frame(PING, b"\xfe" * 125), done], 1000, False
    yield "2.5", "ping of 126 bytes", [frame(PING, b"\xfe" * 126)], 1002, False
    yield "2.6", "ping byte by byte", list(chopped(frame(PING, b"\xfe" * 125), 1)) + [done], 1000, False
    yield "2.7", "unasked pong", [frame(PONG), done], 1000, False
    yield "2.8", "unasked pong with payload", [frame(PONG, b"x"), done], 1000, False
    yield "2.9", "unasked pong, then ping", [frame(PONG, b"x"), frame(PING, b"y"), done], 1000, False
    yield "2.10", "ten pings", [frame(PING, b"payload-%d" % at) for at in range(10)] + [done], 1000, False
    for rsv in range(1, 8):
        yield f"3.{rsv}", f"reserved bits {rsv}", [frame(TEXT, b"Hello", rsv=rsv)], 1002, False
    for at, opcode in enumerate([3, 4, 5, 6, 7], 1):
        yield f"4.1.{at}", f"reserved opcode {opcode}", [frame(opcode, b"x" * (at - 1))], 1002, False
    for at, opcode in enumerate([11, 12, 13, 14, 15], 1):
        yield f"4.2.{at}", f"reserved control opcode {opcode}", [frame(opcode, b"x" * (at - 1))], 1002, False
    yield "5.1", "fragmented ping", [frame(PING, b"a", fin=False), frame(0, b"b")], 1002, False
    yield "5.2", "fragmented pong", [frame(PONG, b"a", fin=False), frame(0, b"b")], 1002, False
    yield "5.3", "text in two fragments", [frame(TEXT, b"frag", fin=False), frame(0, b"ment"), done], 1000, False
    yield "5.4", "text in two fragments, in one piece", [frame(TEXT, b"frag", fin=False) + frame(0, b"ment"), done], 1000, False
    yield "5.5", "text in two fragments, byte by byte", list(chopped(frame(TEXT, b"frag", fin=False) + frame(0, b"ment"), 1)) + [done], 1000, False
    yield "5.6", "ping between fragments", [frame(TEXT, b"frag", fin=False), frame(PING, b"p"), frame(0, b"ment"), done], 1000, False
    yield "5.9", "continuation of nothing", [frame(0, b"x"), frame(TEXT, b"y")], 1002, False
    yield "5.12", "unfinished continuation of nothing", [frame(0, b"x", fin=False), frame(TEXT, b"y")], 1002, False
    yield "5.15", "text, then continuation of nothing", [frame(TEXT, b"a", fin=False), frame(0, b"b"), frame(0, b"c", fin=False)], 1002, False
    yield "5.18", "two texts begun", [frame(TEXT, b"a", fin=False), frame(TEXT, b"b")], 1002, False
    yield "5.19", "pings between five fragments", [frame(TEXT, b"1", fin=False), frame(0, b"2", fin=False), frame(PING, b"p"),
        frame(0, b"3", fin=False), frame(0, b"4", fin=False), frame(PING, b"q"), frame(0, b"5"), done], 1000, False
    yield "6.1.1", "empty text", [frame(TEXT), done], 1000, False
    yield "6.1.2", "empty fragments", [frame(TEXT, fin=False), frame(0, fin=False), frame(0), done], 1000, False
    greek = "Hello-µ@ßöäüàá-UTF-8!!κόσμε".encode()
    yield "6.2.1", "valid UTF-8", [frame(TEXT, greek), done], 1000, False
    yield "6.2.3", "valid UTF-8, a byte a fragment", [frame(TEXT, greek[:1], fin=False)] + [
        frame(0, greek[at : at + 1], fin=at == len(greek) - 1) for at in range(1, len(greek))] + [done], 1000, False
    for at, bad in enumerate(BAD_UTF8, 1):
        yield f"6.3.{at}", f"invalid UTF-8 {bad.hex()}", [frame(TEXT, b"ok" + bad)], 1007, False
    yield "6.4.1", "invalid UTF-8 in a later fragment", [frame(TEXT, b"ok", fin=False), frame(0, b"\xf4\x90\x80\x80", fin=False), frame(0)], 1007, False
    yield "7.1.1", "close after a message", [frame(TEXT, b"Hello"), close()], 1000, False
    yield "7.1.2", "two closes", [close(), close()], 1000, False
    yield "7.1.3", "ping after close", [close(), frame(PING)], 1000, False
    yield "7.1.4", "text after close", [close(), frame(TEXT, b"x")], 1000, False
    yield "7.1.5", "close between fragments", [frame(TEXT, b"frag", fin=False), close(), frame(0, b"ment")], None, False
    yield "7.1.6", "256 KiB and close", [frame(BINARY, b"x" * 262144), close()], 1000, False
    yield "7.3.1", "close without code", [frame(CLOSE)], 1005, False
    yield "7.3.2", "close of one byte", [frame(CLOSE, b"a")], 1002, False
    yield "7.3.4", "close with reason", [close(1000, b"Hello World!")], 1000, False
    yield "7.3.5", "close with a reason of 123 bytes", [close(1000, b"*" * 123)], 1000, False
    yield "7.3.6", "close with a reason of 124 bytes", [close(1000, b"*" * 124)], 1002, False
    yield "7.5.1", "close with invalid UTF-8", [close(1000, b"\xce\xba\xe1\xbd\xb9\xcf\x83\xce\xbc\xce\xb5\xed\xa0\x80")], 1007, False
    for at, code in enumerate([1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 3000, 3999, 4000, 4999], 1):
        yield f"7.7.{at}", f"close code {code}", [close(code)], code, False
    for at, code in enumerate([0, 999, 1004, 1005, 1006, 1016, 1100, 2000, 2999, 5000, 65535], 1):
        yield f"7.9.{at}", f"invalid close code {code}", [close(code)], 1002, False
    for at, size in enumerate([64, 256, 1024, 4096, 8192, 16384], 1):
        yield f"9.1.{at}", f"text of {size} KiB", [frame(TEXT, b"*" * size * 1024), done], 1000, False
        yield f"9.2.{at}", f"binary of {size} KiB", [frame(BINARY, b"\xfe" * size * 1024), done], 1000, False
    yield "9.3.1", "4 MiB in fragments of 64 bytes", [b"".join(frame(0 if at else TEXT, b"*" * 64, fin=at == 65535) for at in range(65536)), done], 1000, False
    yield "9.5.1", "1 MiB in chops of 64 bytes", list(chopped(frame(TEXT, b"*" * 1048576), 64)) + [done], 1000, False
    yield "9.7.1", "a thousand texts", [frame(TEXT, b"%d" % at) for at in range(1000)] + [done], 1000, False
    yield "10.1.1", "65536 bytes in fragments of 1300", [frame(0 if at else TEXT, b"*" * min(1300, 65536 - at), fin=at + 1300 >= 65536)
        for at in range(0, 65536, 1300)] + [done], 1000, False
    for at, size in enumerate([16, 64, 256, 1024, 4096, 65536, 131072], 1):
        yield f"12.1.{at}", f"compressed text of {size} bytes", [frame(TEXT, deflated(b"ab" * (size // 2)), rsv=4), done], 1000, True
    yield "12.2.1", "compressed, in fragments", [frame(TEXT, deflated(b"ab" * 500)[:5], fin=False, rsv=4), frame(0, deflated(b"ab" * 500)[5:]), done], 1000, True
    yield "12.3.1", "what does not inflate", [frame(TEXT, b"\xff\xff\xff\xff", rsv=4)], None, True
    yield "mask", "a client's frame without mask", [frame(TEXT, b"x", mask=None)], 1002, False
    yield "abort", "the end of the connection within a frame", [frame(TEXT, b"x" * 100)[:50]], None, False


BAD_UTF8 = [bytes.fromhex(text) for text in ("80 bf c0 c1 f5 ff c0af e080af eda080 edbfbf f0808080 f4908080 fe fefeffff ce c3 e28288 f09f92").split() if text]
BAD_UTF8[-4:-1] = [b"\xce(", b"\xc3(", b"\xe2\x82("]


def chopped(data, size):
    return [data[at : at + size] for at in range(0, len(data), size)]


def over_http1(port, pieces, compress):
    """All bytes that come after the handshake."""
    connection = socket.create_connection(("127.0.0.1", port), timeout=WAIT)
    with connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        extension = "sec-websocket-extensions: permessage-deflate; client_no_context_takeover; server_no_context_takeover\r\n"
        connection.sendall((
            "GET /ws HTTP/1.1\r\nhost: localhost\r\nconnection: Upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\n"
            f"sec-websocket-key: {base64.b64encode(os.urandom(16)).decode()}\r\n{extension if compress else ''}\r\n").encode())
        came = b""
        while b"\r\n\r\n" not in came:
            piece = connection.recv(65536)
            assert piece, "no handshake"
            came += piece
        head, came = came.split(b"\r\n\r\n", 1)
        assert head.startswith(b"HTTP/1.1 101 "), head.decode()
        assert (b"permessage-deflate" in head) == compress, "the extension that was agreed on"
        sender = threading.Thread(target=say, args=(connection, pieces), daemon=True)
        sender.start()
        try:
            while piece := connection.recv(65536):
                came += piece
        except ConnectionResetError:
            pass
        sender.join(WAIT)
        return came


def say(connection, pieces):
    try:
        for piece in pieces:
            connection.sendall(piece)
        connection.shutdown(socket.SHUT_WR)
    except OSError:
        pass


def over_http2(port, pieces, compress):
    connection = http2.Connection(port)
    fields = [(":method", "CONNECT"), (":protocol", "websocket"), (":scheme", "http"), (":path", "/ws"), (":authority", "localhost"),
              ("sec-websocket-version", "13")]
    if compress:
        fields.append(("sec-websocket-extensions", "permessage-deflate; client_no_context_takeover; server_no_context_takeover"))
    connection.send(http2.frame(http2.HEADERS, http2.END_HEADERS, 1, hpack.Encoder().encode(fields)))
    head = connection.until(http2.HEADERS)
    status = dict(connection.decoder.decode(head[3]))[":status"]
    assert status == "200", f"answered with {status}"
    for piece in pieces:
        for part in chopped(piece, 16384):
            connection.send(http2.frame(http2.DATA, 0, 1, part))
    connection.send(http2.frame(http2.DATA, http2.END_STREAM, 1))
    came = b""
    while True:
        message = connection.until(http2.DATA, http2.RST_STREAM, http2.GOAWAY)
        if message is None or message[0] != http2.DATA:
            return came
        came += message[3]
        if message[1] & http2.END_STREAM:
            return came


def code_of(came):
    """The code of the close frame at the end, or None."""
    at, code = 0, None
    while at + 2 <= len(came):
        opcode, size = came[at] & 15, came[at + 1] & 127
        at += 2
        if size == 126:
            size, at = struct.unpack(">H", came[at : at + 2])[0], at + 2
        elif size == 127:
            size, at = struct.unpack(">Q", came[at : at + 8])[0], at + 8
        if opcode == CLOSE:
            code = struct.unpack(">H", came[at : at + 2])[0] if size >= 2 else 1005
        at += size
    return code


def echo():
    """A server of the `websockets` library that sends back what comes. Gives its port."""
    ports = []
    started = threading.Event()

    async def answer(socket_):
        async for message in socket_:
            await socket_.send(message)

    async def run():
        async with serve(answer, "127.0.0.1", 0, max_size=None, ping_interval=None, close_timeout=5) as server:
            ports.append(server.sockets[0].getsockname()[1])
            started.set()
            await asyncio.get_running_loop().create_future()

    logging.getLogger("websockets").setLevel(logging.CRITICAL)
    threading.Thread(target=lambda: asyncio.run(run()), daemon=True).start()
    started.wait(10)
    return ports[0]


def mirror():
    """Sends back every byte after the handshake, and b"over" behind the client's last. Gives its port."""
    listener = socket.create_server(("127.0.0.1", 0), backlog=128)

    def serve_one(connection):
        head = b""
        while not head.endswith(b"\r\n\r\n"):
            head += connection.recv(1)
        key = next(line.split(b":")[1].strip() for line in head.split(b"\r\n") if line.lower().startswith(b"sec-websocket-key:"))
        accept = base64.b64encode(hashlib.sha1(key + b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11").digest()).decode()
        extension = "sec-websocket-extensions: permessage-deflate\r\n" if b"permessage-deflate" in head else ""
        connection.sendall((
            "HTTP/1.1 101 Switching Protocols\r\nconnection: Upgrade\r\nupgrade: websocket\r\n"
            f"sec-websocket-accept: {accept}\r\n{extension}\r\n").encode())
        while piece := connection.recv(65536):
            connection.sendall(piece)
        connection.sendall(b"over")

    def guarded(connection):
        with connection:
            try:
                serve_one(connection)
            except OSError:
                pass

    def accept_all():
        while True:
            connection, _ = listener.accept()
            threading.Thread(target=guarded, args=(connection,), daemon=True).start()

    threading.Thread(target=accept_all, daemon=True).start()
    return listener.getsockname()[1]


def main():
    quick = "--quick" in sys.argv[1:]
    checks = Checks("WebSockets")
    with Gateway(f"127.0.0.1:{mirror()}") as mirrored, Gateway(f"127.0.0.1:{echo()}") as judged:
        for number, what, pieces, code, compress in cases():
            said = b"".join(pieces)
            if quick and len(said) > 3_000_000:
                continue

            def same(way):
                came = way(mirrored.plain, pieces, compress)
                assert came == said + b"over", f"{came[:40]!r} ({len(came)}) instead of {said[:40]!r} ({len(said) + 4})"

            def right(way):
                came = code_of(way(judged.plain, pieces, compress))
                assert code is None or came == code, f"closed with {came}, expected {code}"

            ways = [("h1", over_http1)]
            if len(said) < 60_000 and not number.startswith("12.1"):
                ways.append(("h2", over_http2))
            for name, way in ways:
                checks.check(f"{number} {name}", f"{what}: every byte, both ways", lambda: same(way))
                checks.check(f"{number} {name}", f"{what}: closed with {code or 'anything'}", lambda: right(way))
    return checks.end()


if __name__ == "__main__":
    sys.exit(main())
