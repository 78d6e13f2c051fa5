#!/usr/bin/env python3
"""HTTP/2 of the public listener against RFC 9113, RFC 7541 and RFC 8441, by section: tests/conformance/http2.py

The checks are those that h2spec has for a server, written anew: h2spec itself is a Go program that no package registry of Debian,
Python or npm has. Frames are made by hand or by hyperframe, header blocks by hpack, so that what no library sends can be sent.
"""

import socket
import struct
import sys
import threading

import hpack

from gateway import Checks, Gateway

DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS, PUSH_PROMISE, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = range(10)
END_STREAM, END_HEADERS, PADDED, PRIORITIZED, ACK = 0x1, 0x4, 0x8, 0x20, 0x1
NO_ERROR, PROTOCOL, INTERNAL, FLOW_CONTROL, TIMEOUT, CLOSED, FRAME_SIZE, REFUSED, CANCEL, COMPRESSION = range(10)
# "A generic error code can always be used in place of more specific error codes" (RFC 9113 section 5.4).
GENERIC = (PROTOCOL, INTERNAL)
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
WAIT = 5


def frame(kind, flags, stream, payload=b"", length=None):
    size = len(payload) if length is None else length
    return struct.pack(">I", size)[1:] + bytes([kind, flags]) + struct.pack(">I", stream) + payload


def request(path="/", more=(), method="GET", replace=None):
    """The fields of a request; `replace` takes the place of all pseudo-header fields."""
    pseudo = [(":method", method), (":scheme", "http"), (":path", path), (":authority", "localhost")]
    return hpack.Encoder().encode((pseudo if replace is None else list(replace)) + list(more), huffman=False)


class Connection:
    """A connection with its preface sent, unless `begin` says otherwise."""

    def __init__(self, port, settings=b"", begin=True):
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=WAIT)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.decoder = hpack.Decoder()
        self.bytes = b""
        if begin:
            self.send(PREFACE + frame(SETTINGS, 0, 0, settings))

    def send(self, *frames):
        try:
            self.socket.sendall(b"".join(frames))
        except OSError:
            pass  # it may have been closed already, which is what is looked at

    def _exactly(self, count):
        while len(self.bytes) < count:
            piece = self.socket.recv(65536)
            if not piece:
                raise EOFError
            self.bytes += piece
        taken, self.bytes = self.bytes[:count], self.bytes[count:]
        return taken

    def next(self):
        """Kind, flags, stream, payload; None at the end of the connection."""
        try:
            head = self._exactly(9)
            size = int.from_bytes(head[:3], "big")
            return head[3], head[4], int.from_bytes(head[5:9], "big") & 0x7FFFFFFF, self._exactly(size)
        except (EOFError, ConnectionError):
            return None

    def until(self, *kinds):
        while True:
            came = self.next()
            if came is None or came[0] in kinds:
                return came

    def answer(self, stream=1):
        """Status and body of an answer."""
        status, body = None, b""
        while True:
            came = self.next()
            assert came is not None, "the connection ended before the answer"
            kind, flags, of, payload = came
            if kind == GOAWAY:
                raise AssertionError(f"GOAWAY with error {error_of(came)} instead of an answer")
            if of != stream:
                continue
            assert kind != RST_STREAM, f"RST_STREAM with error {error_of(came)} instead of an answer"
            if kind == HEADERS:
                status = status or int(dict(self.decoder.decode(payload))[":status"])
            elif kind == DATA:
                body += payload
            if kind in (HEADERS, DATA) and flags & END_STREAM:
                return status, body

    def is_alive(self):
        self.send(frame(PING, 0, 0, b"aliveyes"))
        while True:
            came = self.next()
            assert came is not None, "the connection ended"
            assert came[0] != GOAWAY, f"GOAWAY with error {error_of(came)}"
            if came[0] == PING and came[1] & ACK and came[3] == b"aliveyes":
                return True

    def connection_error(self, *errors):
        """GOAWAY with one of these errors, or just the end, which RFC 9113 section 5.4.1 allows too."""
        came = self.until(GOAWAY)
        if came is not None:
            assert error_of(came) in errors + GENERIC, f"GOAWAY with error {error_of(came)}, expected {errors}"
        while came is not None:
            came = self.next()
        return True

    def stream_error(self, *errors, stream=1):
        """RST_STREAM with one of these errors, or a connection error: any stream error may be treated as one."""
        while True:
            came = self.next()
            if came is None:
                return True
            if came[0] == GOAWAY and error_of(came) != NO_ERROR:
                assert error_of(came) in errors + GENERIC, f"GOAWAY with error {error_of(came)}, expected {errors}"
                return True
            if came[0] == RST_STREAM and came[2] == stream:
                assert error_of(came) in errors + GENERIC, f"RST_STREAM with error {error_of(came)}, expected {errors}"
                return True
            if came[0] == HEADERS and came[2] == stream:
                status = int(dict(self.decoder.decode(came[3]))[":status"])
                assert 400 <= status < 500, f"answered with {status}"
                return True


def error_of(came):
    at = 4 if came[0] == GOAWAY else 0
    return int.from_bytes(came[3][at : at + 4], "big")


def setting(number, value):
    return struct.pack(">HI", number, value)


WHOLE = END_HEADERS | END_STREAM


def table(port):
    """Number, what is checked, check."""

    def answered(*frames, stream=1, settings=b""):
        def holds():
            connection = Connection(port, settings)
            connection.send(*frames)
            status, _ = connection.answer(stream)
            assert status == 200, f"answered with {status}"

        return holds

    def kills(*frames, errors=(PROTOCOL,), settings=b""):
        def holds():
            connection = Connection(port, settings)
            connection.send(*frames)
            return connection.connection_error(*errors)

        return holds

    def resets(*frames, errors=(PROTOCOL,), stream=1):
        def holds():
            connection = Connection(port)
            connection.send(*frames)
            return connection.stream_error(*errors, stream=stream)

        return holds

    def lives(*frames):
        def holds():
            connection = Connection(port)
            connection.send(*frames)
            return connection.is_alive()

        return holds

    get = frame(HEADERS, WHOLE, 1, request())
    post = frame(HEADERS, END_HEADERS, 1, request(method="POST"))

    # 3.4 preface
    yield "3.4/1", "the preface is answered with SETTINGS", lambda: Connection(port).next()[0] == SETTINGS

    def broken_preface():
        connection = Connection(port, begin=False)
        connection.send(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\rX" + frame(SETTINGS, 0, 0))
        return connection.connection_error(PROTOCOL)

    yield "3.4/2", "a broken preface ends the connection", broken_preface

    def no_settings():
        connection = Connection(port, begin=False)
        connection.send(PREFACE, get)
        return connection.connection_error(PROTOCOL)

    yield "3.4/3", "the first frame has to be SETTINGS", no_settings
    # 4.1 and 4.2 frames
    yield "4.1/1", "frames of an unknown kind are ignored", lives(frame(0xBB, 0, 0, b"x" * 8))
    yield "4.1/2", "undefined flags are ignored", lives(frame(PING, 0x16, 0, b"8 bytes!"))
    yield "4.1/3", "the reserved bit of a stream is ignored", lives(frame(PING, 0, 0x80000000, b"8 bytes!"))
    yield "4.2/1", "a DATA frame of 2^14 bytes is taken", answered(post, frame(DATA, END_STREAM, 1, b"x" * 16384))
    yield "4.2/2", "a longer DATA frame is an error", resets(post, frame(DATA, END_STREAM, 1, b"x" * 16385), errors=(FRAME_SIZE,))
    yield "4.2/3", "a HEADERS frame that is too long ends the connection", kills(
        frame(HEADERS, WHOLE, 1, request(more=[("x", "y" * 16384)])), errors=(FRAME_SIZE,))
    # 4.3 header blocks
    yield "4.3/1", "a block that cannot be decompressed ends the connection", kills(
        frame(HEADERS, WHOLE, 1, b"\xff" * 12), errors=(COMPRESSION,))
    yield "4.3/2", "a PRIORITY frame within a block ends the connection", kills(
        frame(HEADERS, END_STREAM, 1, request()), frame(PRIORITY, 0, 1, b"\0\0\0\0\x0f"), frame(CONTINUATION, END_HEADERS, 1))
    yield "4.3/3", "a block of another stream within a block ends the connection", kills(
        frame(HEADERS, END_STREAM, 1, request()), frame(HEADERS, WHOLE, 3, request()))
    # 5.1 states
    yield "5.1/1", "DATA on an idle stream ends the connection", kills(frame(DATA, END_STREAM, 1, b"x"))
    yield "5.1/2", "RST_STREAM on an idle stream ends the connection", kills(frame(RST_STREAM, 0, 1, struct.pack(">I", CANCEL)))
    yield "5.1/3", "WINDOW_UPDATE on an idle stream ends the connection", kills(frame(WINDOW_UPDATE, 0, 1, struct.pack(">I", 100)))
    yield "5.1/4", "CONTINUATION on an idle stream ends the connection", kills(frame(CONTINUATION, END_HEADERS, 1, request()))
    yield "5.1/5", "DATA on a half-closed stream is an error", half_closed(port, DATA)
    yield "5.1/6", "HEADERS on a half-closed stream is an error", half_closed(port, HEADERS)
    yield "5.1/7", "CONTINUATION after the end of a block ends the connection", kills(
        get, frame(CONTINUATION, END_HEADERS, 1, request()), errors=(PROTOCOL, CLOSED))
    for at, (kind, name) in enumerate([(DATA, "DATA"), (HEADERS, "HEADERS")]):
        yield f"5.1/{8 + at}", f"{name} after RST_STREAM is an error", closed(port, kind)
    yield "5.1.1/1", "an even stream from a client ends the connection", kills(frame(HEADERS, WHOLE, 2, request()))
    yield "5.1.1/2", "a stream below one that was used ends the connection", kills(
        frame(HEADERS, WHOLE, 5, request()), frame(HEADERS, WHOLE, 3, request()), errors=(PROTOCOL, CLOSED))
    yield "5.1.2/1", "more streams than SETTINGS_MAX_CONCURRENT_STREAMS are refused", lambda: too_many(port)
    # 5.3 and 5.5
    yield "5.3.1/1", "HEADERS that depend on their own stream are taken: priorities are deprecated (RFC 9113 5.3.2)", answered(
        frame(HEADERS, WHOLE | PRIORITIZED, 1, b"\0\0\0\x03\xff" + request()))
    yield "5.5/1", "unknown frames of a stream are ignored", answered(post, frame(0xEE, 0, 1, b"x"), frame(DATA, END_STREAM, 1, b"x"))
    yield "5.5/2", "an unknown frame within a block ends the connection", kills(
        frame(HEADERS, END_STREAM, 1, request()), frame(0xEE, 0, 1, b"x"), frame(CONTINUATION, END_HEADERS, 1))
    # 6.1 DATA
    yield "6.1/1", "DATA on stream 0 ends the connection", kills(frame(DATA, END_STREAM, 0, b"x"))
    yield "6.1/2", "DATA on a stream that the client has ended is an error", half_closed(port, DATA)
    yield "6.1/3", "padding longer than its frame ends the connection", kills(post, frame(DATA, END_STREAM | PADDED, 1, b"\x06abcde"))
    yield "6.1/4", "padding is not content", lambda: padded(port)
    # 6.2 HEADERS
    yield "6.2/1", "HEADERS and CONTINUATION make one block", lambda: in_pieces(port)
    yield "6.2/2", "HEADERS on stream 0 end the connection", kills(frame(HEADERS, WHOLE, 0, request()))
    yield "6.2/3", "padding longer than its frame ends the connection", kills(
        frame(HEADERS, WHOLE | PADDED, 1, b"\xff" + request()))
    # 6.3 PRIORITY
    yield "6.3/1", "PRIORITY on stream 0 ends the connection", kills(frame(PRIORITY, 0, 0, b"\0\0\0\0\x0f"))
    yield "6.3/2", "PRIORITY of another length is an error", resets(
        post, frame(PRIORITY, 0, 1, b"\0\0\0\0"), errors=(FRAME_SIZE,))
    yield "6.3/3", "PRIORITY on an idle stream is taken", lives(frame(PRIORITY, 0, 7, b"\0\0\0\0\x0f"))
    # 6.4 RST_STREAM
    yield "6.4/1", "RST_STREAM on stream 0 ends the connection", kills(frame(RST_STREAM, 0, 0, b"\0\0\0\x08"))
    yield "6.4/2", "RST_STREAM of another length ends the connection", kills(post, frame(RST_STREAM, 0, 1, b"\0\0\0"), errors=(FRAME_SIZE,))
    # 6.5 SETTINGS
    yield "6.5/1", "an acknowledgement with content ends the connection", kills(frame(SETTINGS, ACK, 0, b"\0"), errors=(FRAME_SIZE,))
    yield "6.5/2", "SETTINGS on a stream end the connection", kills(frame(SETTINGS, 0, 1, setting(3, 100)))
    yield "6.5/3", "SETTINGS of another length end the connection", kills(frame(SETTINGS, 0, 0, b"\0\3\0"), errors=(FRAME_SIZE,))
    yield "6.5.2/1", "ENABLE_PUSH other than 0 or 1 ends the connection", kills(frame(SETTINGS, 0, 0, setting(2, 2)))
    yield "6.5.2/2", "a window above 2^31-1 ends the connection", kills(frame(SETTINGS, 0, 0, setting(4, 1 << 31)), errors=(FLOW_CONTROL,))
    yield "6.5.2/3", "a frame size below 2^14 ends the connection", kills(frame(SETTINGS, 0, 0, setting(5, 16383)))
    yield "6.5.2/4", "a frame size above 2^24-1 ends the connection", kills(frame(SETTINGS, 0, 0, setting(5, 1 << 24)))
    yield "6.5.2/5", "unknown settings are ignored", lives(frame(SETTINGS, 0, 0, setting(0xFF, 1)))
    yield "6.5.3/1", "the last of several values counts", lambda: last_window(port)
    yield "6.5.3/2", "SETTINGS are acknowledged", lambda: acknowledged(port)
    # 6.6, 6.7, 6.8
    yield "6.6/1", "PUSH_PROMISE from a client ends the connection", kills(
        post, frame(PUSH_PROMISE, END_HEADERS, 1, struct.pack(">I", 2) + request()))
    yield "6.7/1", "PING is answered", lives()
    yield "6.7/2", "the answer to a PING is not answered", lambda: silent_to_ack(port)
    yield "6.7/3", "PING on a stream ends the connection", kills(frame(PING, 0, 1, b"8 bytes!"))
    yield "6.7/4", "PING of another length ends the connection", kills(frame(PING, 0, 0, b"6bytes"), errors=(FRAME_SIZE,))
    yield "6.8/1", "GOAWAY on a stream ends the connection", kills(frame(GOAWAY, 0, 1, b"\0" * 8))
    # 6.9 WINDOW_UPDATE
    yield "6.9/1", "an increment of 0 ends the connection", kills(frame(WINDOW_UPDATE, 0, 0, b"\0\0\0\0"))
    yield "6.9/2", "an increment of 0 on a stream is an error", resets(post, frame(WINDOW_UPDATE, 0, 1, b"\0\0\0\0"))
    yield "6.9/3", "WINDOW_UPDATE of another length ends the connection", kills(frame(WINDOW_UPDATE, 0, 0, b"\0\0\1"), errors=(FRAME_SIZE,))
    yield "6.9.1/1", "no more DATA than the window has room for", lambda: within_window(port)
    yield "6.9.1/2", "a window of the connection above 2^31-1 ends it", kills(
        frame(WINDOW_UPDATE, 0, 0, b"\x7f\xff\xff\xff"), frame(WINDOW_UPDATE, 0, 0, b"\x7f\xff\xff\xff"), errors=(FLOW_CONTROL,))
    yield "6.9.1/3", "a window of a stream above 2^31-1 is an error", resets(
        post, frame(WINDOW_UPDATE, 0, 1, b"\x7f\xff\xff\xff"), frame(WINDOW_UPDATE, 0, 1, b"\x7f\xff\xff\xff"), errors=(FLOW_CONTROL,))
    yield "6.9.2/1", "SETTINGS change the windows of open streams", lambda: window_grows(port)
    # 6.10 CONTINUATION
    yield "6.10/1", "several CONTINUATION frames make one block", lambda: in_pieces(port, 5)
    yield "6.10/2", "a block that is interrupted ends the connection", kills(
        frame(HEADERS, END_STREAM, 1, request()), frame(DATA, END_STREAM, 1, b"x"))
    yield "6.10/3", "CONTINUATION on stream 0 ends the connection", kills(
        frame(HEADERS, END_STREAM, 1, request()), frame(CONTINUATION, END_HEADERS, 0))
    yield "6.10/4", "CONTINUATION after a whole block ends the connection", kills(
        post, frame(CONTINUATION, END_HEADERS, 1, request()))
    # 8.1, 8.2, 8.3 messages
    yield "8.1/1", "a second block without END_STREAM is an error", resets(post, frame(HEADERS, END_HEADERS, 1, hpack.Encoder().encode([("x", "y")])))
    yield "8.1/2", "trailers are taken", answered(post, frame(DATA, 0, 1, b"x"), frame(HEADERS, WHOLE, 1, hpack.Encoder().encode([("x-sum", "1")])))
    yield "8.1/3", "pseudo-header fields among trailers are an error", resets(
        post, frame(DATA, 0, 1, b"x"), frame(HEADERS, WHOLE, 1, hpack.Encoder().encode([(":method", "GET")])))
    for at, (what, more, replace) in enumerate(MALFORMED):
        yield f"8.2-3/{at + 1}", what, resets(frame(HEADERS, WHOLE, 1, request(more=more, replace=replace)))
    yield "8.1.1/1", "DATA that is shorter than Content-Length is an error", resets(
        frame(HEADERS, END_HEADERS, 1, request(method="POST", more=[("content-length", "2")])), frame(DATA, END_STREAM, 1, b"x"))
    yield "8.1.1/2", "DATA that is longer than Content-Length is an error", resets(
        frame(HEADERS, END_HEADERS, 1, request(method="POST", more=[("content-length", "1")])), frame(DATA, END_STREAM, 1, b"xy"))
    # RFC 7541, RFC 8441
    yield "7541 4.2", "a table size above what was agreed ends the connection", kills(
        frame(HEADERS, WHOLE, 1, b"\x3f\xff\xff\x7f" + request()), errors=(COMPRESSION,))
    yield "7541 5.2", "Huffman padding longer than 7 bits ends the connection", kills(
        frame(HEADERS, WHOLE, 1, request() + b"\x00\x85\xf2\xb2\x4a\x84\xff\x84\x49\x50\x9f\xff"), errors=(COMPRESSION,))
    yield "7541 6.1", "index 0 ends the connection", kills(frame(HEADERS, WHOLE, 1, request() + b"\x80"), errors=(COMPRESSION,))
    yield "7541 6.3", "an unknown index ends the connection", kills(frame(HEADERS, WHOLE, 1, request() + b"\xff\x20"), errors=(COMPRESSION,))
    yield "8441 3", "extended CONNECT is offered", lambda: offers_connect(port)
    yield "8441 4", "extended CONNECT without its path is an error", resets(frame(HEADERS, END_HEADERS, 1, request(
        replace=[(":method", "CONNECT"), (":protocol", "websocket"), (":authority", "localhost")])))


def pseudo(*names):
    values = {":method": "GET", ":scheme": "http", ":path": "/", ":authority": "localhost"}
    return [(name, values[name]) for name in names]


ALL = (":method", ":scheme", ":path", ":authority")
MALFORMED = [
    ("a name in upper case is an error", [("X-Upper", "y")], None),
    ("an unknown pseudo-header field is an error", [], pseudo(*ALL) + [(":test", "y")]),
    ("a pseudo-header field of answers is an error", [], pseudo(*ALL) + [(":status", "200")]),
    ("a pseudo-header field behind others is an error", [("x", "y"), (":path", "/")], pseudo(":method", ":scheme", ":authority")),
    ("Connection is an error", [("connection", "keep-alive")], None),
    ("Proxy-Connection is an error", [("proxy-connection", "keep-alive")], None),
    ("Keep-Alive is an error", [("keep-alive", "5")], None),
    ("Transfer-Encoding is an error", [("transfer-encoding", "chunked")], None),
    ("Upgrade is an error", [("upgrade", "h2c")], None),
    ("TE other than trailers is an error", [("te", "gzip")], None),
    ("an empty :path is an error", [], pseudo(":method", ":scheme", ":authority") + [(":path", "")]),
    ("no :method is an error", [], pseudo(":scheme", ":path", ":authority")),
    ("no :scheme is an error", [], pseudo(":method", ":path", ":authority")),
    ("no :path is an error", [], pseudo(":method", ":scheme", ":authority")),
    ("two :method are an error", [], pseudo(":method", *ALL)),
    ("two :scheme are an error", [], pseudo(":scheme", *ALL)),
    ("two :path are an error", [], pseudo(":path", *ALL)),
    ("two :authority are an error", [], pseudo(":authority", *ALL)),
    ("a line feed in a value is an error", [("x", "a\nb")], None),
    ("a zero byte in a value is an error", [("x", "a\0b")], None),
    ("a space in a name is an error", [("x y", "z")], None),
    (":authority and Host that differ are an error", [("host", "elsewhere")], None),
]


def half_closed(port, kind):
    def holds():
        connection = Connection(port)
        again = frame(DATA, END_STREAM, 1, b"x") if kind == DATA else frame(HEADERS, WHOLE, 1, request())
        connection.send(frame(HEADERS, WHOLE, 1, request("/wait")), again)
        return connection.stream_error(CLOSED, PROTOCOL)

    return holds


def closed(port, kind):
    """What was on its way when a stream was reset may be ignored; what is said anew may not be served."""

    def holds():
        connection = Connection(port)
        again = frame(DATA, END_STREAM, 1, b"x") if kind == DATA else frame(HEADERS, WHOLE, 1, request())
        connection.send(frame(HEADERS, END_HEADERS, 1, request("/wait", method="POST")))
        connection.send(frame(RST_STREAM, 0, 1, struct.pack(">I", CANCEL)), again, frame(PING, 0, 0, b"a marker"))
        while True:
            came = connection.next()
            if came is None or came[0] in (GOAWAY, RST_STREAM) or (came[0] == PING and came[1] & ACK):
                return True
            assert came[0] != HEADERS, "it was answered"

    return holds


def too_many(port):
    connection = Connection(port)
    most = None
    came = connection.until(SETTINGS)
    for at in range(0, len(came[3]), 6):
        number, value = struct.unpack(">HI", came[3][at : at + 6])
        most = value if number == 3 else most
    assert most, "no SETTINGS_MAX_CONCURRENT_STREAMS"
    streams = range(1, 2 * (most + 1), 2)
    connection.send(*[frame(HEADERS, END_HEADERS, stream, request("/wait", method="POST")) for stream in streams])
    return connection.stream_error(REFUSED, PROTOCOL, stream=2 * most + 1)


def padded(port):
    connection = Connection(port)
    connection.send(
        frame(HEADERS, END_HEADERS, 1, request("/echo", method="POST")), frame(DATA, END_STREAM | PADDED, 1, b"\x03abc\0\0\0"))
    return connection.answer() == (200, b"abc")


def in_pieces(port, count=1):
    block = request(more=[("x-long", "y" * 100)])
    size = len(block) // (count + 1)
    pieces = [block[at * size : (at + 1) * size] for at in range(count)] + [block[count * size :]]
    connection = Connection(port)
    connection.send(frame(HEADERS, END_STREAM, 1, pieces[0]))
    for piece in pieces[1:-1]:
        connection.send(frame(CONTINUATION, 0, 1, piece))
    connection.send(frame(CONTINUATION, END_HEADERS, 1, pieces[-1]))
    return connection.answer()[0] == 200


def last_window(port):
    connection = Connection(port, setting(4, 100) + setting(4, 1))
    connection.send(frame(HEADERS, WHOLE, 1, request("/hello")))
    return len(connection.until(DATA)[3]) == 1


def acknowledged(port):
    connection = Connection(port)
    while True:
        came = connection.until(SETTINGS)
        assert came is not None, "the connection ended"
        if came[1] & ACK:
            return came[3] == b""


def silent_to_ack(port):
    connection = Connection(port)
    connection.send(frame(PING, ACK, 0, b"an  ack!"), frame(PING, 0, 0, b"question"))
    return connection.until(PING)[3] == b"question"


def within_window(port):
    connection = Connection(port, setting(4, 1))
    connection.send(frame(HEADERS, WHOLE, 1, request("/hello")))
    assert len(connection.until(DATA)[3]) == 1, "more than the window"
    connection.send(frame(WINDOW_UPDATE, 0, 1, struct.pack(">I", 2)))
    return len(connection.until(DATA)[3]) == 2


def window_grows(port):
    connection = Connection(port, setting(4, 0))
    connection.send(frame(HEADERS, WHOLE, 1, request("/hello")))
    connection.until(HEADERS)
    connection.send(frame(SETTINGS, 0, 0, setting(4, 1)))
    return len(connection.until(DATA)[3]) == 1


def offers_connect(port):
    payload = Connection(port).until(SETTINGS)[3]
    return any(payload[at : at + 6] == setting(8, 1) for at in range(0, len(payload), 6))


def application():
    """Answers every request; keeps /wait waiting; sends back what /echo gets, and 20 MB for /large. Gives its port."""
    listener = socket.create_server(("127.0.0.1", 0), backlog=512)
    large = b"x" * 20_000_000

    def serve(connection):
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        stream = connection.makefile("rb")
        while line := stream.readline():
            path = line.split(b" ")[1]
            length, chunked = 0, False
            while (header := stream.readline()) not in (b"\r\n", b""):
                name, _, value = header.partition(b":")
                length = int(value) if name.lower() == b"content-length" else length
                chunked = chunked or (name.lower() == b"transfer-encoding")
            if path == b"/wait":
                stream.read()
                return
            body = stream.read(length)
            while chunked and (size := int(stream.readline().split(b";")[0] or b"0", 16)):
                body += stream.read(size)
                stream.readline()
            while chunked and stream.readline() not in (b"\r\n", b""):
                pass
            answer = body if path == b"/echo" else large if path == b"/large" else b"hello"
            connection.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % len(answer))
            connection.sendall(answer)

    def accept():
        while True:
            connection, _ = listener.accept()
            threading.Thread(target=guarded, args=(connection,), daemon=True).start()

    def guarded(connection):
        with connection:
            try:
                serve(connection)
            except (OSError, ValueError, IndexError):
                pass

    threading.Thread(target=accept, daemon=True).start()
    return listener.getsockname()[1]


# What fails, by number, and why that is right or has to be borne.
KNOWN = {
    "3.4/3": "the h2 crate begins with the settings that RFC 9113 gives as defaults; nothing is served otherwise by it",
    "8.1/3": "the h2 crate drops them, so that they reach nobody; the rest of the request is served",
}


def main():
    checks = Checks("HTTP/2", KNOWN)
    with Gateway(f"127.0.0.1:{application()}") as gateway:
        for number, what, holds in table(gateway.plain):
            checks.check(number, what, holds)
        status = Connection(gateway.plain)
        status.send(frame(HEADERS, WHOLE, 1, request()))
        checks.check("end", "it still answers", lambda: status.answer()[0] == 200)
    return checks.end()


if __name__ == "__main__":
    sys.exit(main())
