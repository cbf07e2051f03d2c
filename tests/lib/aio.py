# SPDX-License-Identifier: Apache-2.0
"""asyncio over TLS: memory BIOs, so that the TLS library never meets the socket.

  aio.py server --cert C --key K [--port 443]   HTTP/1.1: the answer to /TOKEN repeats TOKEN; prints "PEERPORT TOKEN"
  aio.py client --host H [--count N] --token T  N connections at once, for /T-0, /T-1, ...; prints "OWNPORT TOKEN"
                                                --gate FILE: says "connected N", and asks when there is a FILE;
                                                --linger SECONDS: closes so long after the answer
  aio.py proxy  --cert C --key K [--port 3128]  an HTTPS proxy that knows CONNECT; prints "PEERPORT OWNPORT\""""
import argparse
import asyncio
import os
import ssl
import sys


def server_context(options):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(options.cert, options.key)
    return context


def client_context():
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def say(*words):
    print(*words, flush=True)


async def finish(writer):
    try:
        writer.close()
        await writer.wait_closed()
    except (OSError, ssl.SSLError):
        pass


async def serve(reader, writer):
    port = writer.get_extra_info("peername")[1]
    try:
        while True:
            head = await reader.readuntil(b"\r\n\r\n")
            token = head.split(b" ", 2)[1][1:]
            body = (token + b"\n") * 200
            say(port, token.decode())
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: %d\r\n\r\n" % len(body))
            writer.write(body)
            await writer.drain()
    except (asyncio.IncompleteReadError, OSError, ssl.SSLError):
        pass
    await finish(writer)


async def fetch(options, token):
    reader, writer = await asyncio.open_connection(options.host, options.port, ssl=client_context(),
                                                   server_hostname="server.example")
    port = writer.get_extra_info("sockname")[1]
    if options.gate:
        say("connected", port)
        while not os.path.exists(options.gate):
            await asyncio.sleep(0.02)
    writer.write(b"GET /%s HTTP/1.1\r\nHost: server.example\r\nConnection: close\r\n\r\n" % token.encode())
    head = await reader.readuntil(b"\r\n\r\n")
    body = await reader.readexactly((len(token) + 1) * 200)
    assert b" 200 " in head and body == (token.encode() + b"\n") * 200, (head, body)
    say(port, token)
    await asyncio.sleep(options.linger)
    await finish(writer)


async def pipe(reader, writer):
    try:
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    except OSError:
        pass
    await finish(writer)


async def relay(reader, writer):
    head = await reader.readuntil(b"\r\n\r\n")
    host, port = head.split(b" ")[1].decode().rsplit(":", 1)
    there = await asyncio.open_connection(host.strip("[]"), int(port))
    say(writer.get_extra_info("peername")[1], there[1].get_extra_info("sockname")[1])
    writer.write(b"HTTP/1.1 200 Connected\r\n\r\n")
    await writer.drain()
    await asyncio.gather(pipe(reader, there[1]), pipe(there[0], writer))


async def listen(options, handler):
    server = await asyncio.start_server(handler, options.bind.split(","), options.port, ssl=server_context(options),
                                        backlog=512)
    say("ready")
    await server.serve_forever()


async def client(options):
    await asyncio.gather(*(fetch(options, f"{options.token}-{i}") for i in range(options.count)))


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("what", choices=["server", "client", "proxy"])
    parser.add_argument("--token", default="token")
    parser.add_argument("--bind", default="0.0.0.0,::")
    parser.add_argument("--host")
    parser.add_argument("--port", type=int, default=443)
    parser.add_argument("--count", type=int, default=1)
    parser.add_argument("--gate")
    parser.add_argument("--linger", type=float, default=0)
    parser.add_argument("--cert")
    parser.add_argument("--key")
    options = parser.parse_args()
    asyncio.run({"server": lambda: listen(options, serve), "proxy": lambda: listen(options, relay),
                 "client": lambda: client(options)}[options.what]())


if __name__ == "__main__":
    sys.exit(main())
