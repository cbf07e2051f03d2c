# SPDX-License-Identifier: Apache-2.0
"""An HTTPS client that sends the requests in files over one connection, and keeps what it wrote and read.

Prints its own port. --nonblocking: a socket that says WANT_READ and WANT_WRITE. --threads: one thread writes,
another reads. --fork: a child goes on after the first request. --stay: wait for a line on stdin before the end.
--pause: seconds before each request. --linger: seconds after the last response."""
import argparse
import os
import re
import select
import socket
import ssl
import sys
import threading
import time


class Client:
    def __init__(self, options):
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        if options.tls:
            context.minimum_version = context.maximum_version = getattr(ssl.TLSVersion, options.tls)
        sock = socket.create_connection((options.host, options.port), timeout=60)
        self.port = sock.getsockname()[1]
        self.tls = context.wrap_socket(sock, server_hostname="server.example")
        self.write_size = options.write_size
        # OpenSSL allows one call at a time on a connection, and Python 3.11 does not see to it.
        self.lock = threading.Lock()
        if options.nonblocking or options.threads:
            self.tls.setblocking(False)
        # pylint: disable=consider-using-with
        self.tx = open(options.record + ".tx", "wb", buffering=0)
        self.rx = open(options.record + ".rx", "wb", buffering=0)
        self.buffer = b""

    def patiently(self, call, *args):
        while True:
            try:
                with self.lock:
                    return call(*args)
            except ssl.SSLWantReadError:
                select.select([self.tls], [], [], 60)
            except ssl.SSLWantWriteError:
                select.select([], [self.tls], [], 60)

    def send(self, data):
        view = memoryview(data)
        step = self.write_size or len(data)
        while view:
            n = self.patiently(self.tls.send, view[:step])
            self.tx.write(view[:n])
            view = view[n:]

    def more(self):
        data = self.patiently(self.tls.recv, 65536)
        self.rx.write(data)
        self.buffer += data
        if not data:
            raise EOFError

    def response(self, method):
        while b"\r\n\r\n" not in self.buffer:
            self.more()
        head, self.buffer = self.buffer.split(b"\r\n\r\n", 1)
        length = re.search(rb"\r\nContent-Length: *([0-9]+)", head, re.I)
        left = int(length.group(1)) if length and method != b"HEAD" else 0
        while left:
            n = min(left, len(self.buffer))
            left, self.buffer = left - n, self.buffer[n:]
            if left:
                self.more()


def read(name):
    with open(name, "rb") as f:
        return f.read()


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--host", required=True)
    parser.add_argument("--port", type=int, default=443)
    parser.add_argument("--record", required=True)
    parser.add_argument("--tls", choices=["TLSv1_2", "TLSv1_3"])
    parser.add_argument("--write-size", type=int)
    parser.add_argument("--nonblocking", action="store_true")
    parser.add_argument("--threads", action="store_true")
    parser.add_argument("--fork", action="store_true")
    parser.add_argument("--stay", action="store_true")
    parser.add_argument("--pause", type=float, default=0)
    parser.add_argument("--linger", type=float, default=0)
    parser.add_argument("request", nargs="+")
    options = parser.parse_args()
    client = Client(options)
    requests = [read(n) for n in options.request]

    if options.threads:
        writer = threading.Thread(target=lambda: [client.send(r) for r in requests])
        writer.start()
        for r in requests:
            client.response(r.split(b" ", 1)[0])
        writer.join()
    else:
        for i, r in enumerate(requests):
            if i == 1 and options.fork and (pid := os.fork()):
                os.waitpid(pid, 0)
                print(client.port, flush=True)
                os._exit(0)
            time.sleep(options.pause)
            client.send(r)
            client.response(r.split(b" ", 1)[0])
    time.sleep(options.linger)
    if options.stay:
        print(client.port, flush=True)
        sys.stdin.readline()
    try:
        client.tls.setblocking(True)
        client.tls.settimeout(10)
        client.tls.unwrap().close()
    except OSError:
        pass
    print(client.port, flush=True)


if __name__ == "__main__":
    main()
