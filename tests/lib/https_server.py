# SPDX-License-Identifier: Apache-2.0
"""A threaded HTTPS server that keeps the cleartext of each connection: PREFIX.CLIENTPORT.rx and .tx.

  GET /bytes/N   N bytes       POST anything   "got N"       GET anything else   "hello"

--one-write: a whole response in one SSL_write. --fork: a child process for each connection."""
import argparse
import os
import re
import socket
import ssl
import sys
import threading

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from web import pattern  # noqa: E402 pylint: disable=wrong-import-position


class Connection:
    def __init__(self, tls, prefix, port, one_write):
        self.tls = tls
        self.one_write = one_write
        # pylint: disable=consider-using-with
        self.rx = open(f"{prefix}.{port}.rx", "wb", buffering=0) if prefix else None
        self.tx = open(f"{prefix}.{port}.tx", "wb", buffering=0) if prefix else None
        self.buffer = b""

    def more(self):
        data = self.tls.recv(65536)
        if self.rx:
            self.rx.write(data)
        self.buffer += data
        return bool(data)

    def send(self, data):
        if self.tx:
            self.tx.write(data)
        self.tls.sendall(data)

    def request(self):
        """Read one request; its body is counted, not kept. Returns (method, path, body length) or None."""
        while b"\r\n\r\n" not in self.buffer:
            if not self.more():
                return None
        head, self.buffer = self.buffer.split(b"\r\n\r\n", 1)
        method, path, _ = head.split(b"\r\n")[0].decode().split(" ")
        length = re.search(rb"\r\nContent-Length: *([0-9]+)", head, re.I)
        length = left = int(length.group(1)) if length else 0
        while True:
            n = min(left, len(self.buffer))
            left, self.buffer = left - n, self.buffer[n:]
            if not left:
                return method, path, length
            if not self.more():
                return None

    def serve(self):
        while (request := self.request()) is not None:
            method, path, length = request
            if path.startswith("/bytes/"):
                body = pattern(int(path.split("/")[2]))
            elif method == "POST":
                body = f"got {length}\n".encode()
            else:
                body = b"hello\n"
            head = f"HTTP/1.1 200 OK\r\nServer: tests\r\nContent-Type: text/plain\r\nContent-Length: {len(body)}\r\n\r\n"
            if self.one_write:
                self.send(head.encode() + body)
                continue
            self.send(head.encode())
            for at in range(0, len(body), 1 << 20):
                self.send(body[at:at + (1 << 20)])


def handle(sock, address, context, options):
    try:
        with context.wrap_socket(sock, server_side=True) as tls:
            Connection(tls, options.record, address[1], options.one_write).serve()
    except (OSError, ValueError) as error:
        print("connection:", error, flush=True)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--cert", required=True)
    parser.add_argument("--key", required=True)
    parser.add_argument("--host", default="::")
    parser.add_argument("--port", type=int, default=443)
    parser.add_argument("--record")
    parser.add_argument("--one-write", action="store_true")
    parser.add_argument("--fork", action="store_true")
    options = parser.parse_args()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(options.cert, options.key)
    family = socket.AF_INET6 if ":" in options.host else socket.AF_INET
    listener = socket.create_server((options.host, options.port), family=family, backlog=128,
                                    dualstack_ipv6=options.host == "::")
    print("ready", flush=True)
    while True:
        sock, address = listener.accept()
        if options.fork:
            if os.fork() == 0:
                listener.close()
                handle(sock, address, context, options)
                os._exit(0)
            sock.close()
            continue
        threading.Thread(target=handle, args=(sock, address, context, options), daemon=True).start()


if __name__ == "__main__":
    main()
