"""TLS and HTTP/2: a certificate for all, and the check that each does the work over them."""

import re
import subprocess

import machine


class Certificate:
    """A P-256 certificate of the run's own."""

    def __init__(self, folder):
        folder.mkdir()
        self.chain, self.key, self.both = folder / "certificate.pem", folder / "key.pem", folder / "both.pem"
        subprocess.run(
            ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2",
             "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1",
             "-keyout", self.key, "-out", self.chain],
            check=True, capture_output=True,
        )
        self.both.write_text(self.chain.read_text() + self.key.read_text())
        for file in (self.key, self.both):
            file.chmod(0o600)


def check_public(site):
    _expect(site, "a public path", ask(site, "/public/echo", spoof="somebody"), (200, ""))


def check_sessions(site, checked):
    for spoof in (None, "somebody"):
        _expect(site, f"a good token, x-user-id: {spoof}", ask(site, "/echo", checked.good, spoof), (200, "user-0"))
    for name, token in [*checked.bad().items(), ("missing", None)]:
        status, _ = ask(site, "/echo", token, "user-0")
        _expect(site, f"a token that is {name}", status, 401)


def ask(site, path, token=None, spoof=None):
    """Status, and the identity that the upstream saw, over HTTP/2 (nghttp offers nothing else)."""
    headers = [f"--header=cookie: _ga=GA1.1.1; sAccessToken={token}; theme=dark"] if token else []
    headers += [f"--header=x-user-id: {spoof}"] if spoof else []
    said = subprocess.run(
        [machine.program("nghttp"), "-v", "--no-dep", *headers, site.url(path)],
        capture_output=True, text=True, check=False, timeout=20,
    ).stdout
    said = re.sub(r"\x1b\[[0-9;]*m", "", said)
    if "The negotiated protocol: h2" not in said:
        raise SystemExit(f"{site.name} does not speak HTTP/2: {said[:500]}")
    received = dict(re.findall(r"recv \(stream_id=\d+\) (:?[^:\s]+): (.*)", said))
    return int(received.get(":status", 0)), received.get("x-seen-user", "")


def _expect(site, what, found, wanted):
    if found != wanted:
        raise SystemExit(f"{site.name} does not do the work over HTTP/2: {what} gives {found}, not {wanted}")
