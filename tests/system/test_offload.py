# SPDX-License-Identifier: Apache-2.0
"""Offloads on: what the kernel leaves to a network card, frames of 64 KiB and unfinished checksums, is mirrored as the
card would have sent it."""
import json
import os
import socket
import struct

import pytest

import capture
import net as network
from proc import Daemon, run, wait_for
from web import LIB, PYTHON

TRAFFIC = os.path.join(LIB, "traffic.py")
SIZE = 48 << 20
PORT = 5201
BUFFER = "512M"  # nothing is lost in the kernel, however slow the machine

BAD = "tcp.checksum.status==0 || udp.checksum.status==0 || ip.checksum.status==0 || icmp.checksum.status==0 || " \
    "icmpv6.checksum.status==0 || _ws.malformed"
# what looks like a protocol in random data is none
CHECKED = ("-o", "udp.check_checksum:TRUE", "-d", f"tcp.port=={PORT},data", "-o", "tcp.desegment_tcp_streams:FALSE")


def one_processor(args):
    """Packets that two processors handle at once may overtake each other, in the kernel and so in the mirror."""
    return ["taskset", "-c", min(os.sched_getaffinity(0)), *args]


def iperf3(net, scratch, address, *args):
    """SIZE bytes from client to server, or the other way with -R. Returns how many arrived."""
    server = Daemon(one_processor(["iperf3", "-s", "-1", "--forceflush", "-p", PORT]),
                    os.path.join(scratch, "iperf3.log"), net.server)
    server.wait_log("Server listening")
    done = run(one_processor(["iperf3", "-c", address, "-p", PORT, "-J", "-n", SIZE, "-l", "128K", "-b", "2G", *args]),
               ns=net.client)
    assert server.wait(30) == 0
    # the receiver hangs up as soon as the sender has handed over the last byte, which may then never leave
    received = json.loads(done.stdout)["end"]["sum_received"]["bytes"]
    assert SIZE // 2 < received <= SIZE
    return received


def untagged(frame):
    """(its VLAN tags, the frame without them)."""
    tags = []
    while frame[12:14] in (b"\x81\0", b"\x88\xa8"):
        tags.append(struct.unpack_from("!HH", frame, 12))
        frame = frame[:12] + frame[16:]
    return tuple(tags), frame


def streams(frames):
    """{(src, sport, dst, dport): its bytes}: both checksums of each segment are right, no byte is missing."""
    parts, first, last = {}, {}, {}
    for ts, frame in frames:
        if frame[12:14] == b"\x88\xb5":
            continue
        p = capture.dissect(ts, frame, strict=False)
        if p is None:
            continue
        key = (p.src, p.sport, p.dst, p.dport)
        if p.flags & capture.SYN:
            first[key] = p.seq + 1
        offset = (p.seq - first[key]) & 0xFFFFFFFF
        if p.flags & capture.FIN:
            last[key] = offset + len(p.payload)
        if p.payload:
            parts.setdefault(key, {})[offset] = p.payload
    found = {}
    for key, pieces in parts.items():
        data = bytearray()
        for offset in sorted(pieces):
            assert offset <= len(data), f"{key}: {offset - len(data)} bytes missing at {len(data)}"
            data[offset:offset + len(pieces[offset])] = pieces[offset]
        assert key not in last or last[key] == len(data), f"{key}: {len(data)} bytes, FIN at {last[key]}"
        found[key] = bytes(data)
    return found


def settle(net, agent, path):
    """All that was sent is in the file: a frame that comes last is."""
    run([PYTHON, TRAFFIC, "mark", "eth0", "the very end"], ns=net.client)

    def there():
        with open(path, "rb") as f:
            f.seek(max(0, os.path.getsize(path) - 4096))
            return b"the very end" in f.read()
    wait_for(there, why="the last frame in the file")
    status = agent.status()["capture"]
    agent.stop()
    assert status["kernel_drops"] == status["malformed"] == status["cut_short"] == 0, status
    return status


def check_segments(path, status, mtu):
    # else there was nothing to cut, and nothing is shown
    assert status["frames"] > 2 * status["sent"], status
    assert status["df"] == 0  # segments are no fragments
    limit = 14 + mtu
    out = capture.tshark(path, *CHECKED, "-Y", f"frame.len > {limit} || {BAD} || tcp.analysis.lost_segment || "
                         "tcp.analysis.ack_lost_segment")
    assert out == "", out[:2000]
    good = capture.tshark(path, *CHECKED, "-Y", "tcp.checksum.status==1", "-T", "fields", "-e", "frame.len").split()
    assert len(good) == status["frames"] - 1
    assert max(map(int, good)) == limit


CASES = {
    "received_ipv4": (4, "eth0", 1500, ()),
    "sent_ipv6": (6, "eth0", 1500, ("-R",)),
    "any": (6, "any", 1500, ()),
    "small_mtu": (4, "eth0", 576, ("-R",)),
}


@pytest.mark.parametrize("case", CASES)
def test_large_segments_are_cut_as_a_card_would(agentd, net, scratch, case):
    ver, interface, mtu, args = CASES[case]
    address = network.SERVER4 if ver == 4 else network.SERVER6
    path = os.path.join(scratch, "mirror.pcapng")
    agent = agentd("-i", interface, "-w", path, "-m", mtu, "--buffer-size", BUFFER, "-p",
                   f"ether proto 0x88b5 or tcp port {PORT}")
    received = iperf3(net, scratch, address, *args)
    check_segments(path, settle(net, agent, path), mtu)
    large = [data for data in streams(capture.frames(path)).values() if len(data) > SIZE // 2]
    assert len(large) == 1 and len(large[0]) >= received


# Sends a file; takes what comes into a file: HOST PORT FILE
SEND = """
import socket, sys
with socket.create_connection((sys.argv[1], int(sys.argv[2]))) as s, open(sys.argv[3], "rb") as f:
    s.sendall(f.read())
    s.shutdown(socket.SHUT_WR)
    assert s.recv(1) == b""
"""
TAKE = """
import socket, sys
with socket.create_server((sys.argv[1], int(sys.argv[2]))) as s, open(sys.argv[3], "wb") as f:
    print("listening", flush=True)
    c = s.accept()[0]
    while data := c.recv(1 << 20):
        f.write(data)
"""


def test_every_byte_is_in_its_place(agentd, net, scratch):
    path, sent, taken = (os.path.join(scratch, name) for name in ("mirror.pcapng", "sent", "taken"))
    with open(sent, "wb") as f:
        f.write(os.urandom(8 << 20))
    agent = agentd("-i", "eth0", "-w", path, "-m", 1500, "--buffer-size", BUFFER, "-p",
                   f"ether proto 0x88b5 or tcp port {PORT}")
    server = Daemon(one_processor([PYTHON, "-c", TAKE, network.SERVER4, PORT, taken]), os.path.join(scratch, "take.log"),
                    net.server)
    server.wait_log("listening")
    run(one_processor([PYTHON, "-c", SEND, network.SERVER4, PORT, sent]), ns=net.client)
    assert server.wait(30) == 0
    check_segments(path, settle(net, agent, path), 1500)
    with open(sent, "rb") as f, open(taken, "rb") as g:
        whole = f.read()
        assert g.read() == whole
    found = list(streams(capture.frames(path)).values())
    assert len(found) == 1 and len(found[0]) == len(whole)
    assert found[0] == whole


def test_tags_are_on_every_piece(agentd, net, scratch):
    """Frames of 8 kB and all kinds, out of an interface with an MTU of 9000."""
    path = os.path.join(scratch, "mirror.pcapng")
    for ns in (net.client, net.server):
        network.ip("link", "set", "eth0", "mtu", 9000, ns=ns.name)
    agent = agentd("-i", "eth0", "-w", path, "-m", 1500, "-p", "ether src 02:00:00:00:00:01")
    run([PYTHON, TRAFFIC, "raw", "eth0", 20, 8000], ns=net.client)
    run([PYTHON, TRAFFIC, "mark", "eth0", "the very end"], ns=net.client)
    status = wait_for(lambda: (lambda c: c if c["seen"] == 21 else None)(agent.status()["capture"]))
    agent.stop()
    # ARP and an unknown type cannot be cut
    assert (status["malformed"], status["sent"], status["frames"]) == (4, 17, 16 * 6 + 1), status
    assert status["df"] == 6  # UDP and ICMPv6
    seen = {}
    for ts, whole in capture.frames(path):
        tags, frame = untagged(whole)
        kind = struct.unpack_from("!H", frame, 12)[0]
        assert len(frame) <= 1514
        if kind == 0x88B5:
            continue
        p = capture.dissect(ts, frame, strict=False)
        proto, size = frame[23 if kind == 0x0800 else 20], len(frame) - (34 if kind == 0x0800 else 54)
        if p is None and kind == 0x86DD:
            proto, size = frame[54], size - 8
        seen[tags, kind, proto] = seen.get((tags, kind, proto), 0) + (len(p.payload) if p else size)
    one, high, two, other = ((0x8100, 7),), ((0x8100, 0x6007),), ((0x88A8, 100), (0x8100, 7)), ((0x8100, 8),)
    assert seen == {((), 0x0800, 17): 2 * 8016, ((), 0x0800, 6): 2 * 8008, ((), 0x86DD, 6): 2 * 8008,
                    (one, 0x0800, 17): 2 * 8016, (high, 0x86DD, 6): 2 * 8008, (two, 0x0800, 6): 2 * 8008,
                    (other, 0x0800, 6): 2 * 8008, ((), 0x86DD, 58): 2 * 8008}


# Sends datagrams and pings to itself: HOST PORT COUNT SIZE
ECHO = """
import socket, struct, sys
host, port, count, size = sys.argv[1], *map(int, sys.argv[2:])
family = socket.AF_INET6 if ":" in host else socket.AF_INET
server = socket.socket(family, socket.SOCK_DGRAM)
server.bind((host, port))
client = socket.socket(family, socket.SOCK_DGRAM)
ping = socket.socket(family, socket.SOCK_RAW, 58 if ":" in host else 1)
for i in range(count):
    client.sendto((b"%08d" % i).ljust(size, b"."), (host, port))
    assert len(server.recv(65536)) == size
    body = struct.pack("!HH", 77, i) + b"%08d" % i + b"." * (size - 8)
    kind = 128 if ":" in host else 8
    total = (kind << 8) + sum(struct.unpack("!%dH" % (len(body) // 2), body))
    while total >> 16:
        total = (total & 65535) + (total >> 16)
    ping.sendto(struct.pack("!BBH", kind, 0, 65535 - total) + body, (host, 0))
"""


@pytest.mark.parametrize("ver", (4, 6))
def test_large_datagrams_are_fragmented(agentd, net, scratch, ver):
    """Loopback has an MTU of 64 KiB and computes no checksums: UDP and ping of 20 kB in one frame."""
    path = os.path.join(scratch, "mirror.pcapng")
    agent = agentd("-i", "lo", "-w", path, "-m", 1500, "-p", "udp or icmp or icmp6")
    host = "127.0.0.1" if ver == 4 else "::1"
    run([PYTHON, "-c", ECHO, host, PORT, 20, 20000], ns=net.server)
    wait_for(lambda: agent.status()["capture"]["seen"] >= 60)
    status = agent.status()["capture"]
    agent.stop()
    assert (status["sent"], status["kernel_drops"], status["malformed"]) == (60, 0, 0)
    assert status["frames"] == 60 * 14  # of 1480 bytes behind IPv4's header, 1448 behind IPv6's
    if ver == 6:
        assert status["df"] == 60

    out = capture.tshark(path, *CHECKED, "-Y", f"frame.len > 1514 || {BAD}")
    assert out == "", out[:2000]
    udp = capture.tshark(path, *CHECKED, "-Y", "udp.checksum.status==1", "-T", "fields", "-e", "udp.length").split()
    assert udp == ["20008"] * 20
    echo = "icmp" if ver == 4 else "icmpv6"
    pings = capture.tshark(path, *CHECKED, "-Y", f"{echo}.checksum.status==1", "-T", "fields", "-e",
                           f"{echo}.type").split()
    assert sorted(pings) == sorted((["8", "0"] if ver == 4 else ["128", "129"]) * 20)
    fragments = [f for _, f in capture.frames(path)]
    kind = 0x0800 if ver == 4 else 0x86DD
    assert all(struct.unpack_from("!H", f, 12)[0] == kind for f in fragments)
    source = socket.inet_pton(socket.AF_INET if ver == 4 else socket.AF_INET6, host)
    assert all((f[26:30] if ver == 4 else f[22:38]) == source for f in fragments)


@pytest.mark.parametrize("interface", ["eth0", "any"])
def test_what_nobody_left_open_is_not_completed(agentd, net, scratch, interface):
    """A remote host sends the sum that a kernel leaves for its card: a wrong checksum, and its receiver drops it."""
    path = os.path.join(scratch, "mirror.pcapng")
    agent = agentd("-i", interface, "-w", path, "-p", "tcp port 5003")
    ends = socket.inet_aton("10.9.0.1") + socket.inet_aton("10.9.0.2")
    tcp = struct.pack("!HHIIBBH", 5002, 5003, 1, 0, 0x50, 0x18, 1000)
    body = b"not to be seen as good"
    total = 6 + 20 + len(body) + sum(struct.unpack("!4H", ends))
    ip = struct.pack("!BBHHHBBH", 0x45, 0, 40 + len(body), 1, 0x4000, 64, 6, 0) + ends
    frame = bytes.fromhex("020000000002020000000001") + b"\x08\0" + ip + tcp + \
        struct.pack("!HH", (total & 0xFFFF) + (total >> 16), 0) + body
    script = "import socket, sys; s = socket.socket(socket.AF_PACKET, socket.SOCK_RAW); s.bind(('eth0', 0)); " \
             "s.send(bytes.fromhex(sys.argv[1]))"
    run([PYTHON, "-c", script, frame.hex()], ns=net.client)
    wait_for(lambda: agent.status()["capture"]["sent"] == 1)
    agent.stop()
    assert [f[6:] for _, f in capture.frames(path)] == [frame[6:]]
