"""What is done to a proxy, and what it cost."""

import json
import pathlib
import socket
import subprocess
import time

import machine

CLIENTS = 64
IDLE_CLIENTS = 5000
# Of W6: as many requests per second, by so many clients.
RATE = 2000
RATE_CLIENTS = 20
# Until what an answer needed is given back.
REST = 2

_SCRIPT = pathlib.Path(__file__).with_name("tokens.lua")


def closed_loop(site, path, seconds, token_file="-", skip=0, count=0):
    """64 clients that each wait for an answer before they ask again."""
    before = site.process.cpu_seconds()
    said = _run(
        "wrk", "-t1", f"-c{CLIENTS}", f"-d{seconds}s", "-s", _SCRIPT, site.url(""),
        "--", token_file, path, skip, count,
    )
    after = site.process.cpu_seconds()
    result = json.loads(said.strip().splitlines()[-1])
    requests = result["requests"]
    if result["failed"] or not requests:
        raise SystemExit(f"{site.name}: {result['failed']} of {requests} requests for {path} failed")
    if count and requests > count and skip:
        raise SystemExit(f"{site.name}: {requests} requests in {seconds} s, but only {count} new tokens: mint more")
    user, system = ((after[kind] - before[kind]) * 1e6 / requests for kind in (0, 1))
    return {
        "cpu": user + system,
        "user": user,
        "system": system,
        "rate": requests * 1e6 / result["micros"],
        "p50": result["p50"] / 1000,
        "p99": result["p99"] / 1000,
    }


def download(site, path, length):
    """One large answer. CPU seconds per GiB."""
    before = site.process.cpu_seconds()
    with socket.create_connection(("127.0.0.1", site.port)) as client:
        client.sendall(f"GET {path} HTTP/1.1\r\nhost: 127.0.0.1\r\nconnection: close\r\n\r\n".encode())
        buffer, received = bytearray(1 << 20), 0
        while count := client.recv_into(buffer):
            received += count
    if received < length:
        raise SystemExit(f"{site.name}: the download ended after {received} of {length} bytes: {bytes(buffer[:300])}")
    after = site.process.cpu_seconds()
    gib = length / (1 << 30)
    user, system = ((after[kind] - before[kind]) / gib for kind in (0, 1))
    return {"cpu": user + system, "user": user, "system": system}


def idle(site, path, token):
    """Memory with 5,000 connections that asked once and wait since."""
    before = site.process.pss_bytes()
    ask = f"GET {path} HTTP/1.1\r\nhost: 127.0.0.1\r\ncookie: sAccessToken={token}\r\n\r\n".encode()
    clients = []
    try:
        for _ in range(IDLE_CLIENTS):
            client = socket.create_connection(("127.0.0.1", site.port))
            clients.append(client)
            client.sendall(ask)
            if not client.recv(16384).startswith(b"HTTP/1.1 200"):
                raise SystemExit(f"{site.name} does not answer one of {IDLE_CLIENTS} clients")
        time.sleep(REST)
        after = site.process.pss_bytes()
    finally:
        for client in clients:
            client.close()
    return {"before": before / 1024, "after": after / 1024, "each": (after - before) / 1024 / IDLE_CLIENTS}


def fixed_rate(site, path, seconds, token, folder):
    """Latency in microseconds while 2,000 requests come per second."""
    log = folder / "latency"
    log.unlink(missing_ok=True)
    header = ["-H", f"cookie: sAccessToken={token}"] if token else []
    _run(
        "h2load", "--h1", "-t1", f"-c{RATE_CLIENTS}", f"--rps={RATE // RATE_CLIENTS}", f"-D{seconds}",
        "--warm-up-time=1", f"--log-file={log}", *header, site.url(path),
    )
    lines = [line.split("\t") for line in log.read_text().splitlines()]
    times = sorted(int(line[2]) for line in lines if line[1] == "200")
    if len(times) != len(lines) or not times:
        raise SystemExit(f"{site.name}: {len(lines) - len(times)} of {len(lines)} requests failed")
    return {"p50": times[len(times) // 2], "p99": times[len(times) * 99 // 100], "rate": len(times) / seconds}


def _run(program, *arguments):
    command = ["taskset", "-c", machine.OTHER_CORE, program, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{program} has failed: {done.stderr or done.stdout}")
    return done.stdout
