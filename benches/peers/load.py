"""What is done to a proxy, and what it cost."""

import json
import pathlib
import re
import socket
import subprocess
import time

import machine
from sites import CIPHER

CLIENTS = 64
IDLE_CLIENTS = 5000
# Of W5: clients, and requests at the same time of each.
SECURE_CLIENTS = 16
SECURE_STREAMS = 4
# Of W6: as many requests per second, by so many clients.
RATE = 2000
RATE_CLIENTS = 20
# Until what an answer needed is given back.
REST = 2

# What browsers send anyway, as in tokens.lua.
BROWSER = [
    "accept: text/html,application/xhtml+xml",
    "accept-language: en-US,en;q=0.9",
    "user-agent: Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/120.0",
    "referer: https://127.0.0.1/overview",
]

_SCRIPT = pathlib.Path(__file__).with_name("tokens.lua")


def closed_loop(site, path, seconds, token_file="-", skip=0, count=0, clients=CLIENTS):
    """Clients that each wait for an answer before they ask again."""
    before = site.process.cpu_seconds()
    said = _run(
        "wrk", "-t1", f"-c{clients}", f"-d{seconds}s", "-s", _SCRIPT, site.url(""),
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
        "requests": requests,
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
    """Memory with 5,000 connections that asked once and wait since, and when they are gone."""
    ask = f"GET {path} HTTP/1.1\r\nhost: 127.0.0.1\r\ncookie: sAccessToken={token}\r\n\r\n".encode()
    # What the first requests bring in is the program's, not theirs.
    _rest(site, ask, 20)
    before = site.process.pss_bytes()
    clients = []
    try:
        for _ in range(IDLE_CLIENTS):
            clients.append(socket.create_connection(("127.0.0.1", site.port)))
            _ask_once(site, clients[-1], ask)
        time.sleep(REST)
        during = site.process.pss_bytes()
    finally:
        for client in clients:
            client.close()
    time.sleep(REST)
    after = site.process.pss_bytes()
    kib = {"before": before / 1024, "during": during / 1024, "after": after / 1024}
    return {**kib, "each": (during - before) / 1024 / IDLE_CLIENTS}


def _rest(site, ask, count):
    for _ in range(count):
        with socket.create_connection(("127.0.0.1", site.port)) as client:
            _ask_once(site, client, ask)


def _ask_once(site, client, ask):
    client.sendall(ask)
    received = client.recv(16384)
    while len(received) < 1024:
        received += client.recv(16384)
    if not received.startswith(b"HTTP/1.1 200"):
        raise SystemExit(f"{site.name} does not answer one of {IDLE_CLIENTS} clients: {received[:200]}")


def multiplexed(site, path, requests, token, folder):
    """Clients that speak HTTP/2 over TLS 1.3 and have four requests under way each."""
    log = folder / "times"
    log.unlink(missing_ok=True)
    headers = [f"--header={line}" for line in BROWSER]
    headers += [f"--header=cookie: _ga=GA1.1.1; sAccessToken={token}; theme=dark", "--header=x-user-id: forged"] if token else []
    before = site.process.cpu_seconds()
    said = _run(
        "h2load", "-t1", f"-c{SECURE_CLIENTS}", f"-m{SECURE_STREAMS}", f"-n{requests}", f"--log-file={log}",
        f"--tls13-ciphers={CIPHER}", *headers, site.url(path),
    )
    after = site.process.cpu_seconds()
    for wanted in ("TLS Protocol: TLSv1.3", f"Cipher: {CIPHER}", "Application protocol: h2", f"status codes: {requests} 2xx"):
        if wanted not in said:
            raise SystemExit(f"{site.name}: h2load does not say {wanted!r}:\n{said}")
    times = sorted(int(line.split("\t")[2]) for line in log.read_text().splitlines())
    user, system = ((after[kind] - before[kind]) * 1e6 / requests for kind in (0, 1))
    return {
        "cpu": user + system,
        "user": user,
        "system": system,
        "rate": float(re.search(r"([\d.]+) req/s", said)[1]),
        "p50": times[len(times) // 2] / 1000,
        "p99": times[len(times) * 99 // 100] / 1000,
    }


def fixed_rate(pace, site, path, seconds, token_file):
    """Latency in microseconds while 2,000 requests come per second, slow answers or not."""
    return json.loads(_run(pace, site.port, path, token_file, RATE_CLIENTS, RATE, seconds))


def _run(program, *arguments):
    command = ["taskset", "-c", machine.OTHER_CORE, program, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{program} has failed: {done.stderr or done.stdout}")
    return done.stdout
