# SPDX-License-Identifier: Apache-2.0
"""Traffic for captures: paced datagrams, and frames of every kind straight onto an interface. A program of its own, so
that it can run in a network namespace:

  traffic.py udp HOST PORT COUNT SIZE [PER_SECOND]     datagrams that begin with their number
  traffic.py raw IFACE COUNT [MIN_SIZE]                frames: IPv4, IPv6, VLAN tags, ARP, unknown types
  traffic.py mark IFACE TEXT                           one frame of type 0x88b5 that holds TEXT"""
import socket
import struct
import sys
import time

MARK = 0x88B5
SOURCE, TARGET = bytes.fromhex("020000000001"), bytes.fromhex("020000000002")


def checksum(data):
    data += b"\0" * (len(data) % 2)
    return ~(int.from_bytes(data, "big") % 0xFFFF) & 0xFFFF


def finished(ends, proto, payload):
    """TCP gets its checksum."""
    if proto != 6:
        return payload
    pseudo = ends + struct.pack("!II", len(payload), proto)
    return payload[:16] + struct.pack("!H", checksum(pseudo + payload)) + payload[18:]


def ipv4(proto, payload, number):
    head = struct.pack("!BBHHHBBH4s4s", 0x45, 0, 20 + len(payload), number & 0xFFFF, 0x4000, 64, proto, 0,
                       socket.inet_aton("10.9.0.1"), socket.inet_aton("10.9.0.2"))
    return head[:10] + struct.pack("!H", checksum(head)) + head[12:] + finished(head[12:], proto, payload)


def ipv6(proto, payload):
    ends = [socket.inet_pton(socket.AF_INET6, a) for a in ("fd09::1", "fd09::2")]
    return struct.pack("!IHBB", 6 << 28, len(payload), proto, 64) + ends[0] + ends[1] + \
        finished(ends[0] + ends[1], proto, payload)


def udp(payload, sport=5000, dport=5001):
    return struct.pack("!HHHH", sport, dport, 8 + len(payload), 0) + payload  # no checksum


def tcp(payload, number, sport=5002, dport=5003):
    return struct.pack("!HHIIBBHHH", sport, dport, number, 0, 0x50, 0x18, 1000, 0, 0) + payload


def tagged(tags, kind, payload):
    return b"".join(struct.pack("!HH", *t) for t in tags) + struct.pack("!H", kind) + payload


def frames(count, least=0):
    """@count different frames of ten kinds."""
    for i in range(count):
        body = b"%08d" % i + b"." * max(least, i * 7 % 900)
        kinds = [
            tagged([], 0x0800, ipv4(17, udp(body), i)),
            tagged([], 0x0800, ipv4(6, tcp(body, i), i)),
            tagged([], 0x86DD, ipv6(6, tcp(body, i))),
            tagged([(0x8100, 7)], 0x0800, ipv4(17, udp(body), i)),
            tagged([(0x8100, 0x6007)], 0x86DD, ipv6(6, tcp(body, i))),
            tagged([(0x88A8, 100), (0x8100, 7)], 0x0800, ipv4(6, tcp(body, i), i)),
            tagged([], 0x0806, struct.pack("!HHBBH", 1, 0x0800, 6, 4, 1) + body),
            tagged([], 0x88B6, body),
            tagged([(0x8100, 8)], 0x0800, ipv4(6, tcp(body, i, 8080, 80), i)),
            tagged([], 0x86DD, ipv6(58, body)),
        ]
        yield TARGET + SOURCE + kinds[i % len(kinds)]


def pace(started, done, per_second):
    ahead = started + done / per_second - time.monotonic()
    if ahead > 0:
        time.sleep(ahead)


def main(what, *args):
    if what == "udp":
        host, port, count, size = args[0], int(args[1]), int(args[2]), int(args[3])
        rate = float(args[4]) if len(args) > 4 else 1e9
        out = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_DGRAM)
        started = time.monotonic()
        for i in range(count):
            out.sendto((b"%08d" % i).ljust(size, b"."), (host, port))
            if i % 20 == 19:
                pace(started, i + 1, rate)
        return
    out = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
    out.bind((args[0], 0))
    if what == "mark":
        out.send(TARGET + SOURCE + struct.pack("!H", MARK) + args[1].encode().ljust(46, b"\0"))
        return
    started = time.monotonic()
    for i, frame in enumerate(frames(int(args[1]), int(args[2]) if len(args) > 2 else 0)):
        out.send(frame)
        if i % 20 == 19:
            pace(started, i + 1, 10000)


if __name__ == "__main__":
    main(*sys.argv[1:])
