# SPDX-License-Identifier: Apache-2.0
"""A SOCKS 5 server (RFC 1928, 1929): socks.py PORT. One line on stdout per connection that it made: whither."""
import asyncio
import ipaddress
import socket
import sys

IPV4, NAME, IPV6 = 1, 3, 4
NO_PASSWORD, PASSWORD = 0, 2


async def address(reader):
    kind = (await reader.readexactly(1))[0]
    if kind == NAME:
        host = (await reader.readexactly((await reader.readexactly(1))[0])).decode()
    else:
        host = str(ipaddress.ip_address(await reader.readexactly({IPV4: 4, IPV6: 16}[kind])))
    return host, int.from_bytes(await reader.readexactly(2), "big")


async def greet(reader, writer):
    methods = await reader.readexactly((await reader.readexactly(2))[1])
    method = PASSWORD if PASSWORD in methods else NO_PASSWORD
    writer.write(bytes([5, method]))
    if method == PASSWORD:  # any will do
        await reader.readexactly((await reader.readexactly(2))[1])
        await reader.readexactly((await reader.readexactly(1))[0])
        writer.write(b"\1\0")


async def pump(reader, writer):
    try:
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
        writer.write_eof()
    except OSError:
        writer.close()


async def serve(reader, writer):
    try:
        await greet(reader, writer)
        _, command, _ = await reader.readexactly(3)
        host, port = await address(reader)
        if command != 1:
            return
        far_reader, far_writer = await asyncio.open_connection(host, port)
        writer.write(bytes([5, 0, 0, IPV4]) + socket.inet_aton("0.0.0.0") + bytes(2))
        print(f"connected to {host} {port}", flush=True)
        await asyncio.gather(pump(reader, far_writer), pump(far_reader, writer))
        far_writer.close()
    except (OSError, asyncio.IncompleteReadError):
        pass
    finally:
        writer.close()


async def main():
    async with await asyncio.start_server(serve, "127.0.0.1", int(sys.argv[1])) as server:
        print("ready", flush=True)
        await server.serve_forever()


asyncio.run(main())
