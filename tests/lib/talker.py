# SPDX-License-Identifier: Apache-2.0
"""A TLS client that does what its standard input says, one line after the other, and answers with a line each:

  open NAME       connects; its own port
  get NAME PATH   one request; bytes written and read
  close NAME
  fork NAME PATH  a forked child connects, makes one request and ends; as for get, and its port
  become UID      gives up its user
  end CODE        ends at once
"""
import os
import socket
import ssl
import sys


def connect(host, port):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context.wrap_socket(socket.create_connection((host, port)), server_hostname="server.example")


def get(tls, path):
    request = f"GET {path} HTTP/1.1\r\nHost: server.example\r\n\r\n".encode()
    tls.sendall(request)
    got = b""
    while b"\r\n\r\n" not in got:
        got += tls.recv(65536)
    head, _, body = got.partition(b"\r\n\r\n")
    length = next(int(line.split(b":")[1]) for line in head.lower().split(b"\r\n") if line.startswith(b"content-length"))
    while len(body) < length:
        piece = tls.recv(65536)
        body += piece
        got += piece
    return len(request), len(got)


def child(host, port, path):
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        tls = connect(host, port)
        os.write(write, " ".join(map(str, (*get(tls, path), tls.getsockname()[1]))).encode())
        tls.close()
        os._exit(0)
    os.close(write)
    said = os.read(read, 100).decode()
    os.close(read)
    os.waitpid(pid, 0)
    return said


def main():
    host, port = sys.argv[1], int(sys.argv[2])
    open_ones = {}
    for line in sys.stdin:
        what, name, *rest = line.split()
        answer = "ok"
        if what == "open":
            open_ones[name] = connect(host, port)
            answer = str(open_ones[name].getsockname()[1])
        elif what == "get":
            answer = " ".join(map(str, get(open_ones[name], rest[0])))
        elif what == "close":
            open_ones.pop(name).close()
        elif what == "fork":
            answer = child(host, port, rest[0])
        elif what == "become":
            os.setuid(int(name))
        elif what == "end":
            print(answer, flush=True)
            os._exit(int(name))
        print(answer, flush=True)


if __name__ == "__main__":
    main()
