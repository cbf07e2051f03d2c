# SPDX-License-Identifier: Apache-2.0
"""Web servers and clients of the system tests: certificates, nginx, curl, our own Python pair, openssl s_*."""
import hashlib
import os
import re
import subprocess
import sys

from proc import Daemon, run

LIB = os.path.dirname(os.path.abspath(__file__))
PYTHON = "/usr/bin/python3"


def pattern(size, seed=b"tlstap"):
    """@size bytes that no other place of the same body repeats within a record, the same in every run."""
    block = b"".join(hashlib.sha256(seed + i.to_bytes(4, "big")).digest() for i in range(2048))
    whole, rest = divmod(size, len(block))
    return b"".join(i.to_bytes(4, "big") + block[4:] for i in range(whole)) + block[:rest]


def certificate(folder, name="server.example"):
    """Make a self-signed certificate. Returns (certificate, key)."""
    cert, key = os.path.join(folder, name + ".crt"), os.path.join(folder, name + ".key")
    if not os.path.exists(cert):
        subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
                        "-keyout", key, "-out", cert, "-days", "30", "-subj", f"/CN={name}", "-addext",
                        f"subjectAltName=DNS:{name},IP:192.0.2.2,IP:2001:db8:1::2"], check=True, capture_output=True)
        os.chmod(key, 0o644)
    return cert, key


class Nginx:
    """nginx with TLS on one port: files below /, uploads to /upload (the whole body is read), /status/N."""

    def __init__(self, folder, ns, port=443, workers=1, tap=False, protocols="TLSv1.2 TLSv1.3", extra="", env=None,
                 http2=False):
        self.folder, self.ns, self.port = folder, ns, port
        self.root = os.path.join(folder, "www")
        os.makedirs(self.root, exist_ok=True)
        os.chmod(folder, 0o755)
        cert, key = certificate(folder)
        self.conf = os.path.join(folder, "nginx.conf")
        self.error_log = os.path.join(folder, "nginx-error.log")
        preserved = "".join(f"env {name};\n" for name in ("LD_PRELOAD", "TLSTAP_SOCKET", "ASAN_OPTIONS"))
        with open(self.conf, "w", encoding="ascii") as f:
            f.write(f"""daemon off;
{preserved}user root;
worker_processes {workers};
worker_shutdown_timeout 20s;
error_log {self.error_log} warn;
pid {folder}/nginx.pid;
events {{ worker_connections 1024; }}
http {{
	access_log off;
	default_type text/plain;
	client_body_temp_path {folder}/body;
	proxy_temp_path {folder}/proxy;
	fastcgi_temp_path {folder}/fastcgi;
	uwsgi_temp_path {folder}/uwsgi;
	scgi_temp_path {folder}/scgi;
	client_max_body_size 0;
	keepalive_requests 100000;
	server {{
		listen {port} ssl{" http2" if http2 else ""};
		listen [::]:{port} ssl{" http2" if http2 else ""};
		server_name server.example;
		ssl_certificate {cert};
		ssl_certificate_key {key};
		ssl_protocols {protocols};
		root {self.root};
		location = /upload {{ proxy_pass http://unix:{folder}/sink.sock:/; }}
		location = /nothing {{ return 204; }}
		location /missing {{ return 404 "not here\\n"; }}
		{extra}
	}}
	server {{
		listen unix:{folder}/sink.sock;
		location / {{ return 200 "taken\\n"; }}
	}}
}}
""")
        self.env, self.tap = env, tap
        self.daemon = None
        self.start()

    def start(self):
        self.daemon = Daemon(["nginx", "-c", self.conf, "-p", self.folder], os.path.join(self.folder, "nginx.log"), self.ns,
                             env=self.env, tap=self.tap)
        self.daemon.wait_for(lambda: os.path.exists(os.path.join(self.folder, "nginx.pid")) and self._answers())

    def _answers(self):
        return run(["bash", "-c", f"exec 3<>/dev/tcp/127.0.0.1/{self.port}"], ns=self.ns, check=False).returncode == 0

    def put(self, name, content):
        with open(os.path.join(self.root, name), "wb") as f:
            f.write(content)

    def reload(self):
        self.daemon.signal(1)

    def workers(self):
        with open(f"/proc/{self.daemon.pid}/task/{self.daemon.pid}/children", encoding="ascii") as f:
            return [int(p) for p in f.read().split()]

    def stop(self):
        # nsenter execs: the pid is nginx' own
        return self.daemon.stop()


def curl(url, ns, folder, *args, tap=False, timeout=180, host="server.example", check=True, port=443):
    """Run curl. Returns (request heads, response heads, body): what went over the connection, but for
    request bodies, which the caller knows."""
    head, body = os.path.join(folder, "curl.head"), os.path.join(folder, "curl.body")
    for name in (head, body):
        if os.path.exists(name):
            os.unlink(name)
    done = run(["curl", "-sv", "--http1.1", "-k", "-D", head, "-o", body, "-H", "Expect:", "--connect-timeout", "20",
                *args, url], ns=ns, tap=tap, timeout=timeout, check=check)
    lines = re.findall(rb"^> (.*?)\r?\n", done.stderr, re.M)
    request = b"\r\n".join(lines) + b"\r\n" if lines else b""
    return request, _read(head), _read(body)


def _read(name):
    if not os.path.exists(name):
        return b""
    with open(name, "rb") as f:
        return f.read()


class PythonServer:
    """tests/lib/https_server.py: one thread per connection, each connection's cleartext kept in files."""

    def __init__(self, folder, ns, port=443, tap=False, env=None, args=(), host="::"):
        cert, key = certificate(folder)
        self.record = os.path.join(folder, "server")
        self.daemon = Daemon([PYTHON, os.path.join(LIB, "https_server.py"), "--cert", cert, "--key", key, "--port", port,
                              "--host", host, "--record", self.record, *args],
                             os.path.join(folder, "https_server.log"), ns, tap=tap, env=env)
        self.daemon.wait_log("ready\n")

    def recorded(self, client_port):
        """(what the server read, what it wrote) on the connection from @client_port"""
        return _read(f"{self.record}.{client_port}.rx"), _read(f"{self.record}.{client_port}.tx")

    def ports(self):
        folder, base = os.path.split(self.record)
        return sorted(int(n.split(".")[1]) for n in os.listdir(folder) if n.startswith(base + ".") and n.endswith(".rx"))

    def stop(self):
        return self.daemon.stop()


def python_client(folder, ns, requests, host="192.0.2.2", port=443, tap=False, env=None, args=(), timeout=180,
                  name="client"):
    """tests/lib/https_client.py: send @requests (bytes each) over one connection.
    Returns (written, read, own port): the cleartext as the program saw it."""
    names = []
    for i, request in enumerate(requests):
        names.append(os.path.join(folder, f"{name}.{i}.request"))
        with open(names[-1], "wb") as f:
            f.write(request)
    record = os.path.join(folder, name)
    done = run([PYTHON, os.path.join(LIB, "https_client.py"), "--host", host, "--port", port, "--record", record, *args,
                *names], ns=ns, tap=tap, env=env, timeout=timeout)
    for n in names:
        os.unlink(n)
    return _read(record + ".tx"), _read(record + ".rx"), int(done.stdout.split()[-1])


def request(path, body=None, host="server.example", method=None, close=False, headers=()):
    """One HTTP/1.1 request as bytes."""
    lines = [f"{method or ('GET' if body is None else 'POST')} {path} HTTP/1.1", f"Host: {host}", "User-Agent: tests"]
    lines += [f"Content-Length: {len(body)}"] if body is not None else []
    lines += ["Connection: close"] if close else []
    return ("\r\n".join([*lines, *headers]) + "\r\n\r\n").encode() + (body or b"")


if __name__ == "__main__":
    sys.exit("a module, not a program")
