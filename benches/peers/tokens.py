"""The sessions of a run: tokens that are good, revoked, expired and altered, and what each proxy needs to judge them."""

import base64
import hashlib
import hmac
import json
import os
import sqlite3
import subprocess
import time
import urllib.request

REVOKED = 100_000


class Tokens:
    """What `mint` made for one gateway, and what a peer verifies it with."""

    def __init__(self, folder, algorithm):
        self.algorithm = algorithm
        self.path = folder / "tokens"
        self.handles = folder / "revoked-handles"
        with open(self.path, encoding="ascii") as file:
            self.good = file.readline().strip()
        self.revoked = (folder / "revoked-token").read_text()
        self.expired = (folder / "expired-token").read_text()

    def bad(self):
        """By name, tokens that nobody may take."""
        header, payload, signature = self.good.split(".")
        claims = json.loads(decode(payload))
        claims["sub"] = "somebody-else"
        other = encode(json.dumps(claims).encode())
        none = encode(b'{"alg":"none","typ":"JWT"}')
        return {
            "revoked": self.revoked,
            "expired": self.expired,
            "altered": f"{header}.{other}.{signature}",
            "unsigned": f"{none}.{payload}.",
        }


def mint(program, config, folder, algorithm, count):
    """Tokens signed with the keys of the gateway with this configuration; its revoked sessions are in its store then."""
    folder.mkdir()
    subprocess.run([program, config, str(count), str(REVOKED), folder], check=True)
    tokens = Tokens(folder, algorithm)
    with open(tokens.handles, encoding="ascii") as file:
        revoke(config.parent / "portcullis.db", [decode(line.strip()) for line in file])
    return tokens


def revoke(database, handles):
    """Puts handles into the revocation log, as one transaction of a gateway would."""
    with sqlite3.connect(database) as store:
        (sequence,) = store.execute("SELECT sequence + 1 FROM revocation_head").fetchone()
        mark, expires = os.urandom(8), int((time.time() + 7200) * 1000)
        store.executemany(
            "INSERT INTO revocation (sequence, handle, reason, expires, mark) VALUES (?, ?, 'logout', ?, ?)",
            ((sequence, handle, expires, mark) for handle in handles),
        )
        store.execute("UPDATE revocation_head SET sequence = ?", (sequence,))


def signed_by_secret(tokens, folder, secret):
    """The same tokens of HS256 with another secret, which a peer can be told: a gateway's own never leaves it."""
    folder.mkdir()

    def again(token):
        message = token.rpartition(".")[0]
        return f"{message}.{encode(hmac.digest(secret.encode(), message.encode(), hashlib.sha256))}"

    with open(tokens.path, encoding="ascii") as before, open(folder / "tokens", "w", encoding="ascii") as after:
        after.writelines(again(line.strip()) + "\n" for line in before)
    (folder / "revoked-token").write_text(again(tokens.revoked))
    (folder / "expired-token").write_text(again(tokens.expired))
    (folder / "revoked-handles").write_bytes(tokens.handles.read_bytes())
    return Tokens(folder, tokens.algorithm)


def public_key_pem(port):
    """The gateway's public key of ES256, as PEM."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/.well-known/jwks.json") as answer:
        key = json.load(answer)["keys"][0]
    # RFC 5480: an elliptic curve key on prime256v1, uncompressed.
    prefix = bytes.fromhex("3059301306072a8648ce3d020106082a8648ce3d03010703420004")
    der = base64.encodebytes(prefix + decode(key["x"]) + decode(key["y"])).decode()
    return f"-----BEGIN PUBLIC KEY-----\n{der}-----END PUBLIC KEY-----\n"


def encode(data):
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def decode(text):
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
