"""The upstream and the proxies, each set up for the same work.

Every proxy takes a public path (`/public/..`), and everything else with a session alone: the token's signature and time are
checked, its session is looked up among 100,000 revoked ones, and the upstream is told who it is in `x-user-id`, which no
client can set. All add `X-Forwarded-For`, as proxies do.
"""

import json
import os
import ssl
import subprocess
import time
import urllib.error
import urllib.request

import machine
import tokens

SMALL = 1024
LARGE = 1 << 30
CONNECTIONS = 8_000
# Of TLS 1.3, the same for all.
CIPHER = "TLS_AES_128_GCM_SHA256"
# The certificates are a run's own.
ANY_CERTIFICATE = ssl._create_unverified_context()


class Site:
    """A program that listens: its process, and the URL of each kind of work that it does."""

    def __init__(self, name, command, core, port, folder, scheme="http", access_log=None, pass_fds=()):
        self.name, self.scheme = name, scheme
        self.log = folder / f"{name}.log"
        self.access_log = access_log or self.log
        with open(self.log, "wb") as output:
            self.process = machine.Process(command, core, output, pass_fds)
        self.port = port
        try:
            machine.wait_until_listening(port, self.process)
        except SystemExit as error:
            raise SystemExit(f"{error}; its last words:\n{self.log.read_text(errors='replace')[-2000:]}") from None

    def url(self, path):
        return f"{self.scheme}://127.0.0.1:{self.port}{path}"

    def logged_requests(self):
        """The lines of the access log so far that are about the paths that are asked for."""
        with open(self.access_log, "rb") as log:
            return sum(b"/small" in line for line in log)

    def close(self):
        self.process.stop()


def upstream(folder):
    """nginx that answers a kilobyte, a gibibyte, or what it was told of the caller."""
    folder.mkdir()
    files = folder / "files"
    files.mkdir()
    with open(files / "large", "wb") as large:
        large.truncate(LARGE)
    port = machine.free_port()
    config = folder / "nginx.conf"
    config.write_text(f"""
        daemon off; worker_processes 1; pid {folder}/pid; error_log {folder}/error.log;
        events {{ worker_connections {CONNECTIONS}; }}
        http {{
            access_log off; keepalive_requests 1000000000; keepalive_timeout 600s; tcp_nodelay on; sendfile on;
            {_scratch(folder)}
            server {{
                listen 127.0.0.1:{port} backlog=4096 reuseport; default_type text/plain;
                location / {{ return 200 "{'x' * SMALL}"; }}
                location = /public/large {{ alias {files}/large; }}
                location = /echo {{ add_header x-seen-user "$http_x_user_id" always; return 200 "ok"; }}
                location = /public/echo {{ add_header x-seen-user "$http_x_user_id" always; return 200 "ok"; }}
            }}
        }}""")
    return Site("upstream", [_nginx(), "-e", f"{folder}/error.log", "-c", str(config)], machine.OTHER_CORE, port, folder)


def nginx(folder, backend, log=False, certificate=None):
    """Plain proxying: nginx has no module for tokens in Debian's base package."""
    folder.mkdir()
    port = machine.free_port()
    config = folder / "nginx.conf"
    fields = "$time_iso8601 $request_method $uri $status $remote_addr $body_bytes_sent $request_time $upstream_response_time"
    access = f"log_format fields '{fields}'; access_log {folder}/access.log fields;" if log else "access_log off;"
    tls = certificate and (
        f"ssl_certificate {certificate.chain}; ssl_certificate_key {certificate.key}; ssl_protocols TLSv1.3;"
        f" ssl_conf_command Ciphersuites {CIPHER};"
    )
    config.write_text(f"""
        daemon off; worker_processes 1; pid {folder}/pid; error_log {folder}/error.log;
        events {{ worker_connections {2 * CONNECTIONS}; }}
        worker_rlimit_nofile {2 * CONNECTIONS};
        http {{
            {access} keepalive_requests 1000000000; keepalive_timeout 600s; tcp_nodelay on;
            {_scratch(folder)}
            upstream backend {{ server 127.0.0.1:{backend.port}; keepalive 64; keepalive_requests 1000000000; }}
            server {{
                listen 127.0.0.1:{port} backlog=4096 reuseport{" ssl http2" if tls else ""};
                {tls or ""}
                location /public/ {{
                    proxy_pass http://backend; proxy_http_version 1.1; proxy_set_header Connection "";
                    proxy_set_header Host $http_host; proxy_set_header X-Forwarded-For $remote_addr;
                    proxy_set_header x-user-id ""; proxy_max_temp_file_size 0;
                }}
            }}
        }}""")
    command = [_nginx(), "-e", f"{folder}/error.log", "-c", str(config)]
    scheme, access_log = "https" if tls else "http", folder / "access.log" if log else None
    return Site("nginx", command, machine.PROXY_CORE, port, folder, scheme, access_log)


def haproxy(folder, backend, checked=None, key=None, log=False, certificate=None):
    """`checked`: the tokens that it checks, if any; `key`: the secret of HS256, or the file with the public key."""
    folder.mkdir()
    port = machine.free_port()
    config = folder / "haproxy.cfg"
    fields = "%T %HM %HP %ST %[var(txn.user)] %ci %B %Tt %Tr"
    access = f'log stdout format raw local0 info\n    log-format "{fields}"' if log else "no log"
    tls = f"ssl crt {certificate.both} alpn h2 ssl-min-ver TLSv1.3 ciphersuites {CIPHER}" if certificate else ""
    config.write_text(f"""
global
    nbthread 1
    maxconn {CONNECTIONS}
defaults
    mode http
    {access}
    timeout connect 5s
    timeout client 600s
    timeout server 600s
    timeout http-keep-alive 600s
    http-reuse always
    option forwardfor
frontend all
    bind 127.0.0.1:{port} backlog 4096 {tls}
    http-request del-header x-user-id
    default_backend servers
    {_session_rules(checked, key) if checked else ""}
backend servers
    server upstream 127.0.0.1:{backend.port} maxconn {CONNECTIONS}
""")
    command = [_haproxy(), "-db", "-f", str(config)]
    return Site("haproxy", command, machine.PROXY_CORE, port, folder, "https" if tls else "http")


def _session_rules(checked, key):
    return f"""http-request allow if {{ path_beg /public/ }}
    http-request set-var(txn.token) req.cook(sAccessToken)
    http-request deny deny_status 401 unless {{ var(txn.token),jwt_verify({checked.algorithm},{key}) 1 }}
    http-request set-var(txn.now) date()
    http-request set-var(txn.exp) var(txn.token),jwt_payload_query('$.exp','int')
    http-request deny deny_status 401 unless {{ var(txn.exp),sub(txn.now) gt 0 }}
    http-request deny deny_status 401 if {{ var(txn.token),jwt_payload_query('$.sid') -m str -f {checked.handles} }}
    http-request set-var(txn.user) var(txn.token),jwt_payload_query('$.sub')
    http-request set-header x-user-id %[var(txn.user)]"""


def portcullis_config(folder, backend_port, port, algorithm, log, certificate=None):
    folder.mkdir(exist_ok=True)
    tls = certificate and f"""
        [server.tls]
        certificate = "{certificate.chain}"
        key = "{certificate.key}"
        minimum_version = "1.3"
        """
    config = folder / "portcullis.toml"
    config.write_text(f"""
        [server]
        listen = "127.0.0.1:{port}"
        workers = 1
        {'public_url = "https://127.0.0.1"' if tls else ""}
        [server.limits]
        connections = {CONNECTIONS}
        keep_alive_timeout = "10m"
        {tls or ""}
        [admin]
        listen = "off"
        [store]
        url = "sqlite:portcullis.db"
        master_key_file = "portcullis.key"
        [session]
        signing_algorithm = "{algorithm}"
        [session.cookies]
        prefix = ""
        [telemetry]
        access_log = {str(log).lower()}
        [[upstream]]
        name = "app"
        servers = ["http://127.0.0.1:{backend_port}"]
        [[login]]
        path = "/login"
        [[route]]
        path = "/public/**"
        auth = "none"
        """)
    return config


def portcullis(program, folder, backend, algorithm, log=False, certificate=None):
    port = machine.free_port()
    config = portcullis_config(folder, backend.port, port, algorithm, log, certificate)
    command, scheme = [program, "serve", "--config", str(config)], "https" if certificate else "http"
    return Site("portcullis", command, machine.PROXY_CORE, port, folder, scheme)


def versions():
    """Of the peers and of the programs that ask."""
    said = {
        "HAProxy": machine.version_of(_haproxy(), "-v"),
        "nginx": machine.version_of(_nginx(), "-v"),
        "wrk": machine.version_of("wrk", "-v"),
        "h2load": machine.version_of("h2load", "--version"),
        "rustc": machine.version_of("rustc", "--version"),
    }
    return {name: f"{name} {_number(text)}" for name, text in said.items()}


def _number(text):
    return next((word for part in text.split() for word in part.split("/") if word[:1].isdigit()), text)


def check_public(site):
    """Without any token it serves what is public, and lets no identity through."""
    status, seen, length = ask(site, "/public/small")
    _expect(site, "a public path", (status, length), (200, SMALL))
    status, seen, _ = ask(site, "/public/echo", spoof="somebody")
    _expect(site, "a public path with a forged identity", (status, seen), (200, ""))


def check_sessions(site, checked):
    """It does the work: who is good is let in and named, who is not is kept out."""
    for spoof in (None, "somebody"):
        status, seen, _ = ask(site, "/echo", checked.good, spoof)
        _expect(site, f"a good token, x-user-id: {spoof}", (status, seen), (200, "user-0"))
    for name, token in [*checked.bad().items(), ("missing", None)]:
        status, _, _ = ask(site, "/echo", token, "user-0")
        _expect(site, f"a token that is {name}", status, 401)


def ask(site, path, token=None, spoof=None):
    """Status, the identity that the upstream saw, and the length of the body."""
    request = urllib.request.Request(site.url(path))
    if token:
        request.add_header("cookie", f"_ga=GA1.1.1; sAccessToken={token}; theme=dark")
    if spoof:
        request.add_header("x-user-id", spoof)
    try:
        with urllib.request.urlopen(request, timeout=10, context=ANY_CERTIFICATE) as answer:
            return answer.status, answer.headers.get("x-seen-user", ""), len(answer.read())
    except urllib.error.HTTPError as error:
        return error.code, "", 0


def _expect(site, what, found, wanted):
    if found != wanted:
        raise SystemExit(f"{site.name} does not do the work: {what} gives {found}, not {wanted}")


def prepare_portcullis(program, mint, folder, backend, algorithm, count, certificate=None):
    """Makes store, keys, tokens and revocations; the gateway has to be started after this."""
    site = portcullis(program, folder, backend, algorithm, certificate=certificate)
    # It listens before it has read its store, and answers after.
    ask(site, "/public/small")
    key = tokens.public_key_pem(site.port) if algorithm == "ES256" and not certificate else None
    site.close()
    return tokens.mint(mint, folder / "portcullis.toml", folder / "tokens", algorithm, count), key


def _scratch(folder):
    kinds = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    return " ".join(f"{kind}_temp_path {folder}/{kind};" for kind in kinds)


def _nginx():
    return machine.program("nginx")


def _haproxy():
    return machine.program("haproxy")


def settle():
    """A moment for what a burst leaves behind."""
    time.sleep(0.3)


def build_gateway(root, profile="release", environment=None):
    """The path of the gateway's binary."""
    return build(root, ["--bin", "portcullis"], profile, environment)["portcullis"]


def build(root, targets, profile="release", environment=None):
    """The paths of programs by their names, built together."""
    command = ["cargo", "build", "--locked", "--profile", profile, *targets, "--message-format=json-render-diagnostics"]
    environment = {**os.environ, **(environment or {})}
    built = subprocess.run(command, cwd=root, env=environment, check=True, stdout=subprocess.PIPE, text=True)
    messages = map(json.loads, built.stdout.splitlines())
    return {message["target"]["name"]: message["executable"] for message in messages if message.get("executable")}
