# SPDX-License-Identifier: Apache-2.0
"""Reads pcapng and pcap files, and holds the forged packets to the rules: MACs, checksums, sequence numbers.

Written apart from the code under test, from RFC 791, 1071, 8200, 9293 and draft-ietf-opsawg-pcapng."""
import ipaddress
import struct
import subprocess
from collections import namedtuple

SMAC, DMAC = bytes.fromhex("061122334455"), bytes.fromhex("061122334456")
FIN, SYN, RST, PSH, ACK = 1, 2, 4, 8, 16

Packet = namedtuple("Packet", "ts ver src dst sport dport seq ack flags window options payload frame")


def pcapng_frames(data):
    """(timestamp in ns, frame) of each enhanced packet block; other blocks are stepped over."""
    order, divisor, at = "<", [], 0
    while at + 12 <= len(data):
        kind = struct.unpack_from("<I", data, at)[0]
        if kind == 0x0A0D0D0A:
            order = "<" if data[at + 8:at + 12] == b"\x4d\x3c\x2b\x1a" else ">"
            divisor = []
        kind, size = struct.unpack_from(order + "II", data, at)
        assert size >= 12 and size % 4 == 0, f"block of {size} bytes at {at}"
        if at + size > len(data):
            break  # still being written
        assert struct.unpack_from(order + "I", data, at + size - 4)[0] == size, f"lengths of the block at {at} differ"
        if kind == 1:
            divisor.append(_resolution(data[at + 16:at + size - 4], order))
        elif kind == 6:
            iface, high, low, caplen, length = struct.unpack_from(order + "IIIII", data, at + 8)
            assert caplen == length, f"a cut packet at {at}"
            yield ((high << 32 | low) * 10**9 // divisor[iface], data[at + 28:at + 28 + caplen])
        at += size


def _resolution(options, order):
    at = 0
    while at + 4 <= len(options):
        code, size = struct.unpack_from(order + "HH", options, at)
        if code == 9:
            value = options[at + 4]
            return 2**(value & 127) if value & 128 else 10**value
        if code == 0:
            break
        at += 4 + (size + 3) // 4 * 4
    return 10**6


def pcap_frames(data):
    order = "<" if data[:4] in (b"\xd4\xc3\xb2\xa1", b"\x4d\x3c\xb2\xa1") else ">"
    nano = data[:4] in (b"\x4d\x3c\xb2\xa1", b"\xa1\xb2\x3c\x4d")
    at = 24
    while at + 16 <= len(data):
        sec, sub, caplen, length = struct.unpack_from(order + "IIII", data, at)
        assert caplen == length
        yield (sec * 10**9 + sub * (1 if nano else 1000), data[at + 16:at + 16 + caplen])
        at += 16 + caplen


def frames(path):
    with open(path, "rb") as f:
        data = f.read()
    return pcapng_frames(data) if data[:4] == b"\x0a\x0d\x0d\x0a" else pcap_frames(data)


def checksum(data):
    if len(data) % 2:
        data += b"\0"
    # The sum of 16-bit words modulo 0xffff is the number modulo 0xffff.
    total = int.from_bytes(data, "big") % 0xffff
    return total


def dissect(ts, frame, strict=True):
    """A Packet, or None if it is no TCP. @strict: also what only forged packets have."""
    if strict:
        assert frame[:6] == DMAC and frame[6:12] == SMAC, f"MACs {frame[:12].hex()}"
    kind = struct.unpack_from("!H", frame, 12)[0]
    l3 = frame[14:]
    if kind == 0x0800 and l3[9] == 6:
        head, total = (l3[0] & 15) * 4, struct.unpack_from("!H", l3, 2)[0]
        assert not strict or total == len(l3), f"IP length {total}, frame has {len(l3)}"
        assert checksum(l3[:head]) == 0, "IP checksum"
        src, dst = l3[12:16], l3[16:20]
        tcp = l3[head:total]
        pseudo = src + dst + struct.pack("!HH", 6, len(tcp))
    elif kind == 0x86DD and l3[6] == 6:
        size = struct.unpack_from("!H", l3, 4)[0]
        assert not strict or size + 40 == len(l3), f"IPv6 length {size}, frame has {len(l3) - 40}"
        src, dst = l3[8:24], l3[24:40]
        tcp = l3[40:40 + size]
        pseudo = src + dst + struct.pack("!II", len(tcp), 6)
    else:
        assert not strict, f"not TCP: {frame[:64].hex()}"
        return None
    assert checksum(pseudo + tcp) == 0, "TCP checksum"
    sport, dport, seq, ack, off, flags, window = struct.unpack_from("!HHIIBBH", tcp)
    head = (off >> 4) * 4
    return Packet(ts, 4 if len(src) == 4 else 6, str(ipaddress.ip_address(src)), str(ipaddress.ip_address(dst)),
                  sport, dport, seq, ack, flags, window, tcp[20:head], tcp[head:], frame)


class Incarnation:
    """One forged TCP conversation from SYN to the last ACK. feed() checks each packet as an IDS would."""

    def __init__(self, syn):
        assert syn.flags == SYN and not syn.payload, "a flow begins with SYN"
        self.client = (syn.src, syn.sport)
        self.server = (syn.dst, syn.dport)
        self.data = {0: [], 1: []}           # payload by side: 0 client, 1 server
        self.next = {0: syn.seq + 1 & 0xffffffff, 1: None}
        self.acked = {0: None, 1: None}      # what the other side has acknowledged
        self.fin = {0: False, 1: False}
        self.packets = [syn]
        self.bytes = {0: 0, 1: 0}

    def closed(self):
        return self.fin[0] and self.fin[1] and self.acked == self.next

    def feed(self, p):
        side = 0 if (p.src, p.sport) == self.client else 1
        n = len(self.packets)
        self.packets.append(p)
        assert not p.flags & RST, "a RST in a forged flow"
        assert p.ts >= self.packets[-2].ts, "time runs backwards"
        if n == 1:
            assert side == 1 and p.flags == SYN | ACK and p.ack == self.next[0], "the second packet is SYN-ACK"
            self.next[1] = p.seq + 1 & 0xffffffff
            self.acked[0] = p.ack
            return
        assert not p.flags & SYN and p.flags & ACK, "after the handshake each packet has ACK alone"
        if n in (2, 3):
            assert side == n - 2 and not p.payload and p.flags == ACK, "a handshake has four packets"
        assert p.seq == self.next[side], f"sequence number {p.seq} of side {side}, expected {self.next[side]}: " \
            f"{'overlap' if p.seq - self.next[side] & 0x80000000 else 'gap'}"
        other = 1 - side
        assert p.ack - self.next[other] & 0xffffffff == 0 or p.ack - self.next[other] & 0x80000000, \
            "acknowledges what was not sent"
        self.acked[other] = p.ack
        if p.payload:
            assert not self.fin[side], "data after FIN"
            self.data[side].append(p.payload)
            self.bytes[side] += len(p.payload)
            self.next[side] = p.seq + len(p.payload) & 0xffffffff
        if p.flags & FIN:
            self.fin[side] = True
            self.next[side] = self.next[side] + 1 & 0xffffffff


class Flow:
    """The incarnations of one 5-tuple, in order."""

    def __init__(self):
        self.incarnations = []

    @property
    def client(self):
        return self.incarnations[0].client

    @property
    def server(self):
        return self.incarnations[0].server

    def stream(self, side):
        return b"".join(b"".join(i.data[side]) for i in self.incarnations)


def flows(source, must_close=True):
    """Flows by ((client, port), (server, port)), each packet checked. @source: a path, or (ts, frame) pairs."""
    found = {}
    pairs = frames(source) if isinstance(source, str) else source
    for ts, frame in pairs:
        p = dissect(ts, frame)
        if p.flags & SYN and not p.flags & ACK:
            flow = found.setdefault(((p.src, p.sport), (p.dst, p.dport)), Flow())
            if flow.incarnations:
                last = flow.incarnations[-1]
                assert last.closed(), "a new SYN before the old incarnation was closed"
                assert last.packets[0].seq != p.seq, "the same ISN twice"
            flow.incarnations.append(Incarnation(p))
            continue
        flow = found.get(((p.src, p.sport), (p.dst, p.dport))) or found.get(((p.dst, p.dport), (p.src, p.sport)))
        assert flow, f"a packet of {p.src}:{p.sport} > {p.dst}:{p.dport} before its SYN"
        flow.incarnations[-1].feed(p)
    if must_close:
        for key, flow in found.items():
            assert flow.incarnations[-1].closed(), f"{key} was not closed by FIN, FIN, ACK"
    return found


def tshark(path, *args, timeout=300):
    done = subprocess.run(["tshark", "-n", "-r", path, "-o", "tcp.check_checksum:TRUE", "-o", "ip.check_checksum:TRUE",
                           *args], capture_output=True, timeout=timeout, check=False)
    assert done.returncode == 0, done.stderr.decode(errors="replace")
    return done.stdout.decode(errors="replace")


def tshark_streams(path):
    """{(client, port, server, port): (client's bytes, server's bytes)} as tshark reassembles them, the
    incarnations of one 5-tuple one after the other: a judge that is not ours."""
    ends = {}
    out = tshark(path, "-Y", "tcp.flags.syn==1 && tcp.flags.ack==0", "-T", "fields", "-e", "tcp.stream", "-e", "ip.src",
                 "-e", "ipv6.src", "-e", "tcp.srcport", "-e", "ip.dst", "-e", "ipv6.dst", "-e", "tcp.dstport")
    for line in out.splitlines():
        stream, s4, s6, sport, d4, d6, dport = line.split("\t")
        ends[int(stream)] = (s4 or s6, int(sport), d4 or d6, int(dport))
    result = {}
    for stream in sorted(ends):
        sides = ([], [])
        lines = tshark(path, "-q", "-z", f"follow,tcp,raw,{stream}").splitlines()
        for line in lines:
            text = line.strip()
            if text and all(c in "0123456789abcdef" for c in text):
                sides[1 if line.startswith("\t") else 0].append(bytes.fromhex(text))
        # node 0 is who sent first: with no data from the client first, the sides may be the other way round
        node0 = next((line.split(" ", 2)[2] for line in lines if line.startswith("Node 0:")), "")
        port = node0.rsplit(":", 1)[-1].strip()
        if port == str(ends[stream][3]) and port != str(ends[stream][1]):
            sides = (sides[1], sides[0])
        old = result.get(ends[stream], (b"", b""))
        result[ends[stream]] = (old[0] + b"".join(sides[0]), old[1] + b"".join(sides[1]))
    return result


def tshark_complaints(path):
    """What tshark thinks is wrong with the TCP of a capture: one line per packet. The fourth packet of a handshake
    and the echoes are ACKs without data on purpose (window updates to tshark)."""
    return tshark(path, "-Y", "tcp.analysis.lost_segment || tcp.analysis.ack_lost_segment || "
                  "tcp.analysis.out_of_order || tcp.analysis.retransmission || tcp.analysis.window_full || "
                  "tcp.analysis.zero_window || tcp.checksum.status==0 || "
                  "ip.checksum.status==0 || _ws.malformed")
