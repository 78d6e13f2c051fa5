"""What all of tests/conformance needs: the built binary on ports of its own, and a table of checks."""

import os
import re
import shutil
import subprocess
import tempfile
import time
import traceback

BINARY = os.path.realpath(os.environ.get("PORTCULLIS_BIN", "target/debug/portcullis"))


class Gateway:
    """The gateway in front of one upstream, everything open to all: plain (HTTP/1.1 and, by prior knowledge, HTTP/2), and TLS."""

    def __init__(self, upstream, more=""):
        # In memory where that can be: how long a disk takes under load is not what is judged.
        self.folder = tempfile.mkdtemp(dir="/dev/shm" if os.path.isdir("/dev/shm") else None)
        self._certificate()
        config = os.path.join(self.folder, "portcullis.toml")
        with open(config, "w", encoding="utf-8") as file:
            file.write(CONFIG.format(upstream=upstream) + more)
        self.log = os.path.join(self.folder, "log")
        with open(self.log, "w", encoding="utf-8") as log:
            self.process = subprocess.Popen([BINARY, "serve", "--config", config], stdout=log, stderr=log)
        self.plain, self.tls = self._ports()

    def _certificate(self):
        subprocess.run(
            ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2"]
            + ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"]
            + ["-keyout", os.path.join(self.folder, "key.pem"), "-out", os.path.join(self.folder, "certificate.pem")],
            check=True,
            capture_output=True,
        )
        os.chmod(os.path.join(self.folder, "key.pem"), 0o600)

    def _ports(self):
        for _ in range(600):
            with open(self.log, encoding="utf-8") as log:
                text = re.sub(r"\x1b\[[0-9;]*m", "", log.read())
            ports = [int(port) for port in re.findall(r"127\.0\.0\.1:(\d+)", "\n".join(
                line for line in text.splitlines() if "listening" in line))]
            if len(ports) >= 2:
                return ports[0], ports[1]
            if self.process.poll() is not None:
                break
            time.sleep(0.05)
        raise SystemExit(f"the gateway did not start:\n{text}")

    def memory(self):
        """Resident now and at most, in KiB."""
        with open(f"/proc/{self.process.pid}/status", encoding="ascii") as status:
            fields = dict(line.split(":", 1) for line in status)
        return int(fields["VmRSS"].split()[0]), int(fields["VmHWM"].split()[0])

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.terminate()
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.process.kill()
        shutil.rmtree(self.folder, ignore_errors=True)


CONFIG = """
[server]
workers = 2
public_url = "https://localhost"
[server.tls]
certificate = "certificate.pem"
key = "key.pem"
[[server.listener]]
address = "127.0.0.1:0"
mode = "plain"
http2 = true
[[server.listener]]
address = "127.0.0.1:0"
mode = "tls"
[admin]
listen = "off"
[[upstream]]
name = "app"
servers = ["http://{upstream}"]
[[route]]
path = "/**"
auth = "none"
expose_everything = true
"""


class Checks:
    """A table of checks, each with the number that its source gives it. What is known to fail says why, and has to fail."""

    def __init__(self, name, known=None):
        self.name, self.known = name, known or {}
        self.passed, self.failed, self.explained = 0, 0, 0

    def check(self, number, what, holds):
        """`holds` raises, or gives a false value, if it does not hold."""
        try:
            problem = None if holds() in (None, True) else "it does not hold"
        except AssertionError as error:
            problem = str(error) or traceback.format_exc(limit=-1).strip().splitlines()[-1]
        except Exception as error:  # whatever a peer does to us is a result
            problem = f"{type(error).__name__}: {error}"
        reason = self.known.get(number)
        if problem is None and reason is None:
            self.passed += 1
            print(f"  ok      {number:<10} {what}")
        elif problem is not None and reason is not None:
            self.explained += 1
            print(f"  known   {number:<10} {what}: {reason}")
        elif problem is None:
            self.failed += 1
            print(f"  FAILED  {number:<10} {what}: it holds, but is listed as known to fail")
        else:
            self.failed += 1
            print(f"  FAILED  {number:<10} {what}: {problem}")

    def end(self):
        """The exit status; what it prints last is what scripts/test and scripts/conformance count."""
        print(f"{self.name}: {self.explained} known to fail, each with its reason above")
        print(f"conformance: {self.passed} passed, {self.failed} failed")
        return 1 if self.failed else 0
