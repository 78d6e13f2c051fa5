#!/usr/bin/env python3
"""What tools that others wrote say of the gateway: h2load and nghttp (nghttp2), slowhttptest: tests/conformance/tools.py [--quick]

With --quick without slowhttptest, which takes a minute.
"""

import os
import re
import subprocess
import sys
import tempfile
import time
import urllib.request

import http2
from gateway import Checks, Gateway

# Short, so that a run is.
LIMITS = """
[server.limits]
head_timeout = "3s"
body_timeout = "3s"
write_timeout = "3s"
keep_alive_timeout = "5s"
"""


def run(*command, limit=120):
    done = subprocess.run(command, capture_output=True, text=True, timeout=limit, check=False)
    return re.sub(r"\x1b\[[0-9;]*m", "", done.stdout + done.stderr)


def load(url, requests, *more):
    """All requests of h2load have to succeed, with 2xx."""

    def holds():
        said = run("h2load", "-n", str(requests), "-c", "20", *more, url)
        found = re.search(r"requests: (\d+) total, \d+ started, \d+ done, (\d+) succeeded, (\d+) failed, (\d+) errored", said)
        assert found, said[-300:]
        assert found.groups() == (str(requests), str(requests), "0", "0"), found.group(0)
        codes = re.search(r"status codes: (\d+) 2xx", said)
        assert codes and int(codes.group(1)) == requests, said[-300:]

    return holds


def fetched(url, *more, expected):
    """nghttp shows what has to be in its log of frames."""

    def holds():
        said = run("nghttp", "-v", *more, url, limit=30)
        for text in expected:
            assert re.search(text, said), f"no {text!r} in {said[-400:]!r}"

    return holds


def outlasted(url, *mode):
    """Every slow connection of slowhttptest is closed, and others are answered meanwhile."""

    def holds():
        with tempfile.TemporaryDirectory() as folder:
            prefix = os.path.join(folder, "slow")
            said = run("slowhttptest", *mode, "-c", "200", "-r", "200", "-l", "25", "-p", "3", "-g", "-o", prefix, "-u", url, limit=60)
            ended = re.findall(r"Exit status:\s*(.+)", said)
            assert ended and "No open connections left" in ended[-1], f"it ended with {ended or said[-300:]}"
            with open(prefix + ".csv", encoding="utf-8") as table:
                available = [line.split(",")[-1].strip() for line in table.read().splitlines()[1:]]
            # The last lines are written when nothing is tested any more.
            assert available and available.count("0") <= 1, f"not available at times: {available}"

    return holds


def sockets(port):
    """How many connections the system holds for whoever listens there, of which some bytes may still have to be sent."""
    with open("/proc/net/tcp", encoding="ascii") as table:
        rows = [line.split() for line in table.readlines()[1:]]
    gone = ("06", "0A")  # TIME_WAIT, LISTEN
    return sum(int(row[1].split(":")[1], 16) == port and row[3] not in gone for row in rows)


def cut_off(port, count, limit):
    """So many clients that hardly read are there, nearly all at once, and are gone for the gateway in time; it answers others
    meanwhile. What slowhttptest itself says is no help: it looks at a connection again only when it can read from it at its own
    pace, and calls those connected that were reset long ago."""

    def holds():
        slow = ["-X", "-w", "512", "-y", "1024", "-n", "5", "-z", "16", "-k", "1", "-c", str(count), "-r", str(count), "-l", str(limit)]
        command = ["slowhttptest", *slow, "-u", f"http://127.0.0.1:{port}/large"]
        started, most = time.monotonic(), 0
        with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
            try:
                while (left := sockets(port)) or most < count * 9 // 10:
                    most = max(most, left)
                    assert process.poll() is None, f"{left} connections are left of {most}"
                    with urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=3) as answer:
                        assert answer.status == 200, f"another client is answered with {answer.status}"
                    time.sleep(0.1)
                assert time.monotonic() - started < limit, "it took too long"
            finally:
                process.kill()

    return holds


def main():
    checks, quick = Checks("tools"), "--quick" in sys.argv[1:]
    app = http2.application()
    with tempfile.NamedTemporaryFile() as body:
        body.write(b"x" * 100_000)
        body.flush()
        with Gateway(f"127.0.0.1:{app}") as gateway:
            plain, tls = f"http://127.0.0.1:{gateway.plain}", f"https://127.0.0.1:{gateway.tls}"
            for name, url in (("h2c", plain), ("h2", tls)):
                checks.check(f"h2load {name}", "requests, 10 at a time on 20 connections", load(url + "/", 4000, "-m", "10"))
                # More at once than the upstream may have connections and requests that wait is answered with 503, as documented.
                checks.check(f"h2load {name}", "100 at a time on 5 connections", load(url + "/", 4000, "-m", "100", "-c", "5"))
                checks.check(f"h2load {name}", "uploads of 100 KB", load(url + "/echo", 200, "-m", "5", "-d", body.name))
                checks.check(f"h2load {name}", "windows of 1 KiB", load(url + "/echo", 100, "-m", "5", "-w", "10", "-W", "10", "-d", body.name))
                checks.check(f"nghttp {name}", "GET", fetched(url + "/", expected=[":status: 200", r"recv DATA frame <length=5", "END_STREAM"]))
                checks.check(f"nghttp {name}", "upload with trailers", fetched(
                    url + "/echo", "-d", body.name, "--trailer", "x-sum: 1", expected=[":status: 200"]))
                checks.check(f"nghttp {name}", "padding", fetched(url + "/echo", "-d", body.name, "-b", "200", expected=[":status: 200"]))
                checks.check(f"nghttp {name}", "ten of one URL", fetched(url + "/", "-m", "10", expected=[r"stream_id=2[0-9]|stream_id=1[79]"]))
            checks.check("h2load h1", "HTTP/1.1 on 20 connections", load(plain + "/", 4000, "--h1"))
            checks.check("h2load h1 tls", "HTTP/1.1 on 20 connections", load(tls + "/", 2000, "--h1"))
        if not quick:
            with Gateway(f"127.0.0.1:{app}", LIMITS) as gateway:
                plain = f"http://127.0.0.1:{gateway.plain}"
                checks.check("slow -H", "200 slow heads", outlasted(plain + "/", "-H", "-i", "1"))
                checks.check("slow -B", "200 slow bodies", outlasted(plain + "/echo", "-B", "-i", "4", "-s", "8192"))
                checks.check("slow -X", "200 slow readers", cut_off(gateway.plain, 200, 30))
    return checks.end()


if __name__ == "__main__":
    sys.exit(main())
