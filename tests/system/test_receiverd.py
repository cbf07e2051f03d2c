# SPDX-License-Identifier: Apache-2.0
"""receiverd alone: agents are played by a few lines of Python, the IDS by a packet socket behind a veth pair."""
import contextlib
import ctypes
import json
import os
import signal
import socket
import ssl
import struct
import subprocess
import threading
import time

import pytest

import net as network
from capture import frames
from proc import Daemon, environment, program, run, wait_for

BLOCK = 0x80544C54
HELLO, FLOW, STATISTICS, ACK, HEARTBEAT = range(1, 6)
MACS = bytes.fromhex("061122334456061122334455")
FIN, SYN, RST, PSH, ACKED = 1, 2, 4, 8, 16
PORT = 3005


# --- what an agent sends ---

def block(kind, body, order="<"):
    body += b"\0" * (-len(body) % 4)
    size = struct.pack(order + "I", 12 + len(body))
    return struct.pack(order + "I", kind) + size + body + size


def section(order="<"):
    return block(0x0A0D0D0A, struct.pack(order + "IHHq", 0x1A2B3C4D, 1, 0, -1), order)


def interface(order="<", link=1):
    return block(1, struct.pack(order + "HHIHHB3xHH", link, 0, 0, 9, 1, 9, 0, 0), order)


def packet(frame, order="<", ts=10**18, length=None):
    return block(6, struct.pack(order + "IIIII", 0, ts >> 32, ts & 0xffffffff, len(frame),
                                len(frame) if length is None else length) + frame, order)


def local(kind, *fields, order="<"):
    body = struct.pack(order + "HH", kind, 1)
    for number, value in fields:
        body += struct.pack(order + "HH", number, len(value)) + value + b"\0" * (-len(value) % 4)
    return block(BLOCK, body, order)


def hello(order="<", host=b"an-agent"):
    return local(HELLO, (1, struct.pack(order + "I", 1)), (2, os.urandom(16)), (3, b"1.0"), (4, host), order=order)


def flow(number, port, order="<"):
    ends = struct.pack(order + "B3xHH", 4, port, 447) + bytes([10, 0, 0, 1]) + bytes(12) + bytes([10, 0, 0, 2]) + bytes(12)
    return local(FLOW, (1, struct.pack(order + "Q", number)), (4, ends), order=order)


def checksum(data):
    return 0xffff - (sum(struct.unpack(f"!{len(data) // 2}H", data)) % 0xffff or 0xffff)


def tcp(port, server, flags, seq, ack, data=b""):
    """A frame of the flow 10.0.0.1:PORT -> 10.0.0.2:447."""
    a, b = bytes([10, 0, 0, 1]), bytes([10, 0, 0, 2])
    src, dst, sport, dport = (b, a, 447, port) if server else (a, b, port, 447)
    head = struct.pack("!HHIIBBHHH", sport, dport, seq, ack, 0x50, flags, 40000, 0, 0)
    pseudo = src + dst + struct.pack("!HH", 6, len(head) + len(data)) + head + data + b"\0" * (len(data) % 2)
    head = head[:16] + struct.pack("!H", checksum(pseudo)) + head[18:]
    ip = struct.pack("!BBHHHBBH", 0x45, 0, 40 + len(data), 0, 0x4000, 64, 6, 0) + src + dst
    ip = ip[:10] + struct.pack("!H", checksum(ip)) + ip[12:]
    return MACS + b"\x08\0" + ip + head + data


def handshake(number, port):
    return [flow(number, port)] + [packet(f) for f in (
        tcp(port, False, SYN, 100, 0), tcp(port, True, SYN | ACKED, 900, 101), tcp(port, False, ACKED, 101, 901))]


def plain(number, size):
    return MACS + b"\x88\xb5" + struct.pack("!I", number) + bytes([number & 255]) * (size - 18)


class Agent:
    """A TLS connection to receiverd and what it says back."""

    def __init__(self, ns, address=network.IDS4, tls=True, port=PORT):
        with inside(ns):
            self.socket = socket.create_connection((address, port), 10)
        if tls:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
            self.socket = context.wrap_socket(self.socket)
        self.sent, self.heard, self.locals = 0, b"", []

    def send(self, *parts):
        data = b"".join(parts)
        self.socket.sendall(data)
        self.sent += len(data)
        return self

    def greet(self):
        return self.send(section(), interface(), hello())

    def listen(self, timeout=10):
        """Read until more of its blocks are there, or the end (False)."""
        self.socket.settimeout(timeout)
        data = self.socket.recv(65536)
        self.heard += data
        while len(self.heard) >= 8:
            kind, size = struct.unpack_from("<II", self.heard)
            if len(self.heard) < size:
                break
            body, self.heard = self.heard[8:size - 4], self.heard[size:]
            if kind == BLOCK:
                self.locals.append((struct.unpack_from("<H", body)[0], fields_of(body[4:])))
        return bool(data)

    def wait_block(self, kind, accept=lambda fields: True):
        while True:
            for found, fields in self.locals:
                if found == kind and accept(fields):
                    return fields
            assert self.listen(), f"ended before a block of kind {kind}"

    def wait_acked(self):
        self.wait_block(ACK, lambda f: struct.unpack("<Q", f[1])[0] == self.sent)

    def ended(self, timeout=10):
        """Has receiverd hung up?"""
        try:
            while self.listen(timeout):
                pass
        except socket.timeout:
            return False
        except OSError:
            pass
        return True

    def close(self):
        self.socket.close()


def fields_of(data):
    fields, at = {}, 0
    while at < len(data):
        kind, size = struct.unpack_from("<HH", data, at)
        fields[kind] = data[at + 4:at + 4 + size]
        at += 4 + (size + 3) // 4 * 4
    return fields


@contextlib.contextmanager
def inside(ns):
    """Sockets made here belong to the network namespace @ns."""
    libc = ctypes.CDLL(None, use_errno=True)
    with open("/proc/thread-self/ns/net", "rb") as home, open(f"/run/netns/{ns.name}", "rb") as there:
        assert libc.setns(there.fileno(), 0x40000000) == 0, os.strerror(ctypes.get_errno())
        try:
            yield
        finally:
            assert libc.setns(home.fileno(), 0x40000000) == 0


class Sniffer:
    """What arrives at the other end of the replay interface."""

    def __init__(self, ns, device="sniff0"):
        with inside(ns):
            self.socket = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 16 << 20)
            self.socket.bind((device, 0))

    def take(self, n, timeout=20):
        """The next @n frames, those of the interface's own left out."""
        self.socket.settimeout(timeout)
        got = []
        while len(got) < n:
            frame = self.socket.recv(65536)
            if frame[:12] == MACS:
                got.append(frame)
        return got

    def silent(self, seconds=0.3):
        self.socket.settimeout(seconds)
        try:
            while True:
                frame = self.socket.recv(65536)
                if frame[:12] == MACS:
                    return False
        except socket.timeout:
            return True


@pytest.fixture
def sniffer(net):
    s = Sniffer(net.ids)
    yield s
    s.socket.close()


def holds(status):
    e = status["equation"]
    for unit in ("frames", "bytes"):
        assert e["received"][unit] == sum(e[k][unit] for k in (
            "injected", "policy", "duplicate", "oversize", "inject_error", "queued")), e
    assert e["holds"]
    return e


# --- what goes through ---

@pytest.mark.parametrize("address", [network.IDS4, network.IDS6])
@pytest.mark.parametrize("order", "<>")
def test_frames_come_out_as_they_are(receiverd, net, sniffer, order, address):
    receiver = receiverd("-c", "-o", "dummy0", asan=True)
    agent = Agent(net.server, address)
    agent.send(section(order), interface(order), hello(order))
    said = agent.wait_block(HELLO)
    assert struct.unpack("<I", said[5])[0] == 1500 and len(said[2]) == 16
    sent = [plain(i, 60 + i * 7 % 1454) for i in range(2000)]
    agent.send(*(packet(f, order) for f in sent))
    assert sniffer.take(len(sent)) == sent
    agent.wait_acked()
    status = receiver.status()
    assert holds(status)["injected"]["frames"] == len(sent)
    shown = status["agents"]
    assert len(shown) == 1 and shown[0]["host"] == "an-agent" and shown[0]["version"] == "1.0"
    assert shown[0]["port"] == agent.socket.getsockname()[1]
    assert shown[0]["address"].strip("[]") == agent.socket.getsockname()[0] and not shown[0]["native"]
    agent.close()
    receiver.daemon.wait_log("has ended after 2000 frames")


def test_rate_of_each_agent_is_shown(receiverd, net):
    receiver = receiverd("-c", "-o", "none")
    quiet, busy = Agent(net.server).greet(), Agent(net.server).greet()
    batch = b"".join(packet(plain(i, 1000)) for i in range(50))
    seen = 0
    for _ in range(60):
        busy.send(batch)
        time.sleep(0.05)
        rates = {a["port"]: a["rate_bps"] for a in receiver.status()["agents"]}
        assert rates[quiet.socket.getsockname()[1]] == 0
        seen = max(seen, rates[busy.socket.getsockname()[1]])
    assert 1e6 < seen < 1e8
    text = run([program("receiverd"), "--socket", receiver.socket, "--status"]).stdout.decode()
    assert "Mbit/s" in text and "received" in text and "DOES NOT HOLD" not in text


@pytest.mark.parametrize("kind", ["pcapng", "pcap-us", "pcap-ns", "pcap-swapped"])
def test_native_agents(receiverd, net, sniffer, kind):
    receiver = receiverd("-c", "-o", "dummy0")
    agent = Agent(net.server)
    sent = [plain(i, 100 + i) for i in range(300)]
    if kind == "pcapng":
        agent.send(section(), interface(), *(packet(f) for f in sent))
    else:
        order = ">" if kind == "pcap-swapped" else "<"
        magic = 0xA1B23C4D if kind == "pcap-ns" else 0xA1B2C3D4
        agent.send(struct.pack(order + "IHHIIII", magic, 2, 4, 0, 0, 262144, 1),
                   *(struct.pack(order + "IIII", 1, 2, len(f), len(f)) + f for f in sent))
    assert sniffer.take(len(sent)) == sent
    assert receiver.status()["agents"][0]["native"]
    agent.close()


def test_lengths_and_cut_packets_are_counted(receiverd, net, sniffer):
    receiver = receiverd("-c", "-o", "dummy0", asan=True)
    agent = Agent(net.server).greet()
    sizes = [14, 59, 60, 1514, 1515, 9014, 65549]
    agent.send(*(packet((MACS + b"\x88\xb5" + bytes(s))[:s]) for s in sizes), packet(b""), packet(b"x" * 13),
               packet(plain(1, 100), length=101))
    vlan = MACS + struct.pack("!HHH", 0x8100, 5, 0x88b5)
    agent.send(packet(vlan + bytes(1500)), packet(vlan + bytes(1501)), packet(plain(7, 60)))
    agent.wait_acked()
    got = sniffer.take(6)
    assert [len(f) for f in got[:4]] == sizes[:4] and got[5] == plain(7, 60)
    e = holds(receiver.status())
    assert (e["received"]["frames"], e["injected"]["frames"], e["policy"]["frames"], e["oversize"]["frames"]) == (13, 6, 3, 4)
    agent.close()


@pytest.mark.parametrize("mtu,fits,cut", [(["-m", "1000"], 1014, 1015), ([], 9014, 9015)])
def test_mtu(receiverd, net, sniffer, mtu, fits, cut):
    network.ip("link", "set", "dummy0", "mtu", "9000", ns=net.ids.name)
    network.ip("link", "set", "sniff0", "mtu", "9000", ns=net.ids.name)
    receiver = receiverd("-c", *mtu)
    agent = Agent(net.server).greet()
    assert struct.unpack("<I", agent.wait_block(HELLO)[5])[0] == (1000 if mtu else 1500)
    agent.send(packet(plain(1, fits)), packet(plain(2, cut)), packet(plain(3, 60)))
    assert sniffer.take(2) == [plain(1, fits), plain(3, 60)]
    agent.wait_acked()
    assert holds(receiver.status())["oversize"]["frames"] == 1
    agent.close()


def test_file_holds_what_was_injected(receiverd, net, sniffer, scratch):
    path = os.path.join(scratch, "out.pcapng")
    receiver = receiverd("-c", "-w", path)
    agent = Agent(net.server).greet()
    sent = [plain(i, 60 + i) for i in range(700)]
    agent.send(*(packet(f, ts=10**18 + i) for i, f in enumerate(sent)), packet(bytes(2000)))
    agent.wait_acked()
    agent.close()
    assert sniffer.take(len(sent)) == sent
    receiver.stop()
    assert list(frames(path)) == [(10**18 + i, f) for i, f in enumerate(sent)]
    done = run(["tcpdump", "-r", path, "--count"])
    assert b"700 packets" in done.stdout + done.stderr


def test_none_injects_nothing(receiverd, net, sniffer, scratch):
    path = os.path.join(scratch, "out.pcapng")
    receiver = receiverd("-c", "-o", "none", "-w", path)
    agent = Agent(net.server).greet().send(packet(plain(1, 100)))
    agent.wait_acked()
    wait_for(lambda: [f for _, f in frames(path)] == [plain(1, 100)], 5)
    assert sniffer.silent()
    assert holds(receiver.status())["injected"]["frames"] == 1
    agent.close()


def test_standard_output_that_nobody_reads(net, scratch):
    """A full pipe holds agents back; nothing is lost, and signals are still heard."""
    sock = os.path.join(scratch, "sock")
    with open(os.path.join(scratch, "receiverd.log"), "wb") as log, subprocess.Popen(
            net.ids.command([program("receiverd"), "-c", "-o", "none", "-w", "-", "--state-dir", os.path.join(scratch, "st"),
                             "--socket", sock]), stdout=subprocess.PIPE, stderr=log, env=environment()) as daemon:
        wait_for(lambda: os.path.exists(sock))
        agent = Agent(net.server).greet()
        sent = [plain(i, 1400) for i in range(2000)]
        sender = threading.Thread(target=agent.send, args=[packet(f) for f in sent])
        sender.start()
        status = json.loads(run([program("receiverd"), "--socket", sock, "--status=json"]).stdout)
        wait_for(lambda: json.loads(run([program("receiverd"), "--socket", sock, "--status=json"]).stdout)["busy"])
        holds(status)
        data = b""
        while data.count(MACS) < len(sent):
            data += os.read(daemon.stdout.fileno(), 1 << 20)
        sender.join()
        agent.wait_acked()
        agent.close()
        daemon.send_signal(signal.SIGTERM)
        data += daemon.stdout.read()
        assert daemon.wait(10) == 0
    path = os.path.join(scratch, "out.pcapng")
    with open(path, "wb") as f:
        f.write(data)
    assert [f for _, f in frames(path)] == sent


def test_queue_is_bounded(net, scratch):
    """While nothing can be injected, no more than --queue is taken from agents; later all of it comes."""
    sock = os.path.join(scratch, "sock")

    def status():
        return json.loads(run([program("receiverd"), "--socket", sock, "--status=json"]).stdout)
    with open(os.path.join(scratch, "receiverd.log"), "wb") as log, subprocess.Popen(
            net.ids.command([program("receiverd"), "-c", "-o", "none", "-w", "-", "--state-dir", os.path.join(scratch, "st"),
                             "--socket", sock, "--queue", "1M"]), stdout=subprocess.PIPE, stderr=log, env=environment()) as daemon:
        wait_for(lambda: os.path.exists(sock))
        agents = [Agent(net.server).greet() for _ in range(20)]
        batch = b"".join(packet(plain(i, 1400)) for i in range(200))
        threads = [threading.Thread(target=a.send, args=(batch,)) for a in agents]
        for t in threads:
            t.start()
        held = wait_for(lambda: (lambda h: h if h >= 1 << 20 else None)(status()["held"]))
        time.sleep(0.5)
        assert status()["held"] <= held + 65536 <= (1 << 20) + 2 * 65536
        holds(status())
        data = b""
        while data.count(MACS) < 4000:
            data += os.read(daemon.stdout.fileno(), 1 << 20)
        for t in threads:
            t.join()
        for a in agents:
            a.wait_acked()
            a.close()
        assert status()["held"] == 0 and holds(status())["injected"]["frames"] == 4000
        daemon.send_signal(signal.SIGTERM)
        daemon.stdout.read()
        assert daemon.wait(10) == 0


# --- the end of a session ---

def closing(port, client, server):
    return [tcp(port, False, FIN | ACKED, client, server), tcp(port, True, FIN | ACKED, server, client + 1),
            tcp(port, False, ACKED, client + 1, server + 1)]


def same_segments(got, expected):
    """Equal but for what a receiver may choose: IP identification, window, checksums."""
    def key(f):
        return f[:14] + f[26:34], f[34:48]
    assert [key(f) for f in got] == [key(f) for f in expected]


@pytest.mark.parametrize("how", ["close", "cut", "garbage", "truncated", "term"])
def test_open_flows_are_closed_however_a_session_ends(receiverd, net, sniffer, how):
    receiver = receiverd("-c", asan=True)
    agent = Agent(net.server).greet()
    agent.send(*handshake(1, 4001), packet(tcp(4001, False, ACKED | PSH, 101, 901, b"x" * 50)),
               packet(tcp(4001, True, ACKED | PSH, 901, 151, b"y" * 1000)))
    agent.send(*handshake(2, 4002), *(packet(f) for f in closing(4002, 101, 901)))
    agent.wait_acked()
    sniffer.take(11)
    if how == "close":
        agent.close()
    elif how == "cut":
        agent.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        agent.close()
    elif how == "garbage":
        agent.send(b"\xff" * 100)
        assert agent.ended()
    elif how == "truncated":
        agent.send(packet(plain(1, 200))[:100])
        agent.close()
    else:
        assert receiver.daemon.stop() == 0
    same_segments(sniffer.take(3), closing(4001, 151, 1901))
    assert sniffer.silent()
    if how != "term":
        status = receiver.status()
        holds(status)
        assert status["flows_closed"] == 1 and status["flows"]["open"] == 0 and not status["agents"]


def test_one_owner_per_flow(receiverd, net, sniffer):
    receiver = receiverd("-c")
    one, two = Agent(net.server).greet(), Agent(net.server).greet()
    one.send(*handshake(7, 4001)).wait_acked()
    sniffer.take(3)
    two.send(*handshake(7, 4001)).wait_acked()
    assert sniffer.silent()
    one.close()
    same_segments(sniffer.take(3), closing(4001, 101, 901))
    two.send(*handshake(7, 4001)).wait_acked()
    sniffer.take(3)
    assert holds(receiver.status())["duplicate"]["frames"] == 3
    two.close()


# --- peers that misbehave ---

BAD = {
    "not-a-stream": b"GET / HTTP/1.1\r\n\r\n",
    "no-section": packet(b"x" * 60),
    "oversized": section() + interface() + struct.pack("<II", 6, 0xfffffffc),
    "lengths-differ": section() + block(5, b"1234")[:-4] + b"\x14\0\0\0",
    "not-described": section() + packet(b"x" * 60),
    "flow-without-hello": section() + interface() + flow(1, 4001),
    "hello-twice": section() + interface() + hello() + hello(),
    "malformed-hello": section() + interface() + local(HELLO, (1, b"1")),
    "too-many-interfaces": section() + interface() * 17,
}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_stream_ends_its_own_session_only(receiverd, net, sniffer, name):
    receiver = receiverd("-c", asan=True)
    good = Agent(net.server).greet()
    good.wait_block(HELLO)
    bad = Agent(net.server)
    bad.send(BAD[name])
    assert bad.ended()
    good.send(packet(plain(1, 100)))
    assert sniffer.take(1) == [plain(1, 100)]
    for _ in range(5):
        with contextlib.suppress(OSError):
            Agent(net.server).send(BAD[name]).ended()
    assert receiver.daemon.log().count(b"warning: session") == 1, "one line per address and minute"
    status = receiver.status()
    assert status["connections"]["bad"] == 6 and len(status["agents"]) == 1
    holds(status)
    good.close()


def test_half_handshakes_and_silence_are_cut(receiverd, net, sniffer):
    receiver = receiverd("-c", asan=True)
    start = time.monotonic()
    quiet = [Agent(net.server, tls=False) for _ in range(3)]
    half = Agent(net.server, tls=False)
    half.socket.sendall(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03")
    no_hello = Agent(net.server).send(section())
    noise = Agent(net.server, tls=False)
    noise.socket.sendall(os.urandom(1000))
    assert noise.ended()
    good = Agent(net.server).greet().send(packet(plain(1, 100)))
    assert sniffer.take(1) == [plain(1, 100)]
    assert all(a.ended(15) for a in (*quiet, half, no_hello))
    assert 4 < time.monotonic() - start < 12
    status = receiver.status()
    assert status["connections"]["without_hello"] == 0 and status["connections"]["handshakes_failed"] == 5
    good.send(packet(plain(2, 100)))
    assert sniffer.take(1) == [plain(2, 100)]
    good.close()


def test_silent_agents_stay_until_others_need_the_room(receiverd, net, sniffer):
    """tcpdump sends nothing before its first packet: a native agent on a quiet network is not cut off."""
    receiver = receiverd("-c")
    silent = Agent(net.server)
    quiet = Agent(net.server).send(section(), interface())
    time.sleep(6)
    assert [a["native"] for a in receiver.status()["agents"]] == [True]
    quiet.send(packet(plain(1, 100)))
    assert sniffer.take(1) == [plain(1, 100)]
    many = [Agent(net.server, tls=False) for _ in range(32)]
    assert silent.ended()
    assert receiver.status()["connections"]["refused"] == 0
    for a in (quiet, *many):
        a.close()


def test_connections_without_hello_are_limited(receiverd, net, sniffer):
    receiver = receiverd("-c")
    many = [Agent(net.server, tls=False) for _ in range(60)]
    other = Agent(net.server, network.IDS6).greet().send(packet(plain(1, 100)))  # another address is not affected
    assert sniffer.take(1) == [plain(1, 100)]
    counts = receiver.status()["connections"]
    assert counts["refused"] == 60 - 32 and counts["without_hello"] == 32
    for a in many:
        a.close()
    wait_for(lambda: receiver.status()["connections"]["without_hello"] == 0, 5)
    Agent(net.server).greet().send(packet(plain(2, 100)))
    assert sniffer.take(1) == [plain(2, 100)]
    other.close()


def crowd(receiver, ns, n, others=0):
    """@n native agents that have sent a packet; few at a time, for those that have not are limited."""
    agents = []
    while len(agents) < n:
        agents += [Agent(ns).send(section(), interface(), packet(plain(len(agents), 60))) for _ in range(min(16, n - len(agents)))]
        wait_for(lambda: len(receiver.status()["agents"]) >= len(agents) + others)
    return agents


def test_sessions_from_one_address_are_limited(receiverd, net, sniffer):
    """One address takes a quarter of all sessions, and as many lines of the log as are read."""
    receiver = receiverd("-c")
    many = crowd(receiver, net.server, 256)
    assert len(sniffer.take(256)) == 256
    with pytest.raises(OSError):
        Agent(net.server)
    assert receiver.status()["connections"]["refused"] == 1
    other = Agent(net.server, network.IDS6).greet()
    other.wait_block(HELLO)
    assert receiver.daemon.log().count(b"a native agent") == 20
    many.pop().close()
    wait_for(lambda: receiver.status()["connections"]["open"] == 256, 5)
    Agent(net.server).greet().wait_block(HELLO)
    for a in (other, *many):
        a.close()


def test_native_agents_without_a_packet_make_room(receiverd, net):
    receiver = receiverd("-c", "-o", "none")
    quiet = Agent(net.server).send(section(), interface())
    wait_for(lambda: receiver.status()["agents"], 10)
    many = crowd(receiver, net.server, 255, 1)
    Agent(net.server).greet().wait_block(HELLO)
    assert quiet.ended()
    assert receiver.status()["connections"]["refused"] == 0
    for a in many:
        a.close()


def test_old_tls_is_refused(receiverd, net):
    receiverd("-c", "-o", "none")
    target = f"{network.IDS4}:{PORT}"
    for flag, works in (("-tls1_1", False), ("-tls1_2", True), ("-tls1_3", True)):
        done = run(["openssl", "s_client", "-connect", target, flag, "-cipher", "DEFAULT@SECLEVEL=0"], ns=net.server, check=False)
        assert (b"Cipher is (NONE)" not in done.stdout) == works, flag


# --- the interface ---

def pump(agent, *parts):
    """Send @parts again and again, until the agent is closed."""
    def work():
        with contextlib.suppress(OSError):
            while True:
                agent.send(*parts)
    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    return thread


def test_a_slow_interface_is_shared(receiverd, net):
    """While the interface is what limits, each agent has its turn."""
    run(["tc", "qdisc", "add", "dev", "dummy0", "root", "tbf", "rate", "20mbit", "burst", "20k", "limit", "40k"], ns=net.ids)
    receiver = receiverd("-c", "--queue", "1M")
    agents = [Agent(net.server).greet() for _ in range(3)]
    for agent in agents:
        pump(agent, *(packet(plain(i, 1400)) for i in range(20)))
    time.sleep(1)

    def injected():
        return {a["port"]: a["tally"]["injected"]["frames"] for a in receiver.status()["agents"]}
    before = injected()
    time.sleep(3)
    got = [n - before[port] for port, n in injected().items()]
    assert len(got) == 3 and min(got) > max(got) / 2 > 0, got
    for agent in agents:
        agent.socket.shutdown(socket.SHUT_RDWR)


def test_injecting_goes_on_when_the_files_reader_goes(receiverd, net, scratch):
    pipe = os.path.join(scratch, "pipe")
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    receiver = receiverd("-c", "-w", pipe)
    other, agent = Agent(net.server).greet(), Agent(net.server).greet()
    other.wait_block(HELLO)
    pump(agent, *(packet(plain(i, 1400)) for i in range(20)))
    wait_for(lambda: receiver.status()["busy"], 10)
    receiver.daemon.signal(signal.SIGSTOP)  # so that both are there when it looks again
    os.close(reader)
    other.send(local(HEARTBEAT))
    time.sleep(0.05)
    receiver.daemon.signal(signal.SIGCONT)
    receiver.daemon.wait_log("going on without it")
    before = receiver.status()["equation"]["injected"]["frames"]
    wait_for(lambda: receiver.status()["equation"]["injected"]["frames"] > before + 1000, 5)
    agent.socket.shutdown(socket.SHUT_RDWR)
    other.close()


def test_interface_that_goes_and_comes_back(receiverd, net, sniffer):
    receiver = receiverd("-c")
    agent = Agent(net.server).greet().send(packet(plain(1, 100)))
    assert sniffer.take(1) == [plain(1, 100)]
    network.ip("link", "del", "dummy0", ns=net.ids.name)
    agent.send(*(packet(plain(i, 100)) for i in range(2, 12)))
    receiver.daemon.wait_log("waiting for it")
    e = wait_for(lambda: (lambda x: x if x["queued"]["frames"] else None)(holds(receiver.status())))
    assert e["queued"]["frames"] == 10
    net.ids.quiet_veth("dummy0", "sniff0")
    again = Sniffer(net.ids)
    receiver.daemon.wait_log("interface dummy0 is back")
    agent.send(packet(plain(12, 100)))
    agent.wait_acked()
    assert again.take(1)[0] in (plain(2, 100), plain(12, 100))  # it may have come back before we listened
    assert holds(receiver.status())["injected"]["frames"] == 12
    agent.close()


# --- start and end ---

def refused(net, scratch, *args, ns=None, env=None):
    """It must end at once, with one line. Returns exit code and the line."""
    done = run([program("receiverd"), "--state-dir", os.path.join(scratch, "st"), "--socket", os.path.join(scratch, "s"),
                *args], ns=ns or net.ids, check=False, timeout=10, env=env)
    lines = done.stderr.decode().splitlines()
    assert len(lines) == 1 and not done.stdout, done
    return done.returncode, lines[0]


def test_port_in_use(receiverd, net, scratch):
    receiverd("-c", "-o", "none")
    code, line = refused(net, scratch, "-c", "-o", "none")
    assert code == 1 and "3005" in line and "in use" in line


def test_bad_starts_are_one_line(net, scratch):
    net.ids.quiet_veth("spare0", "spare1")
    network.ip("link", "set", "spare1", "down", ns=net.ids.name)
    for args, code, words in (
            (["-c", "-o", "nosuchif0"], 1, ["nosuchif0"]),
            (["-c", "-o", "eth0"], 1, ["eth0", "address"]),
            (["-c", "-o", "dummy0", "-m", "9000"], 1, ["9000", "dummy0"]),
            (["-c", "-o", "none", "-w", "/nonexistent/f"], 1, ["/nonexistent/f"]),
            (["-c", "-o", "none", "-w", "/dev/full"], 1, ["/dev/full"]),
            (["-c", "-o", "none", "--listen", "192.0.2.250:3005"], 1, ["192.0.2.250:3005"]),
            (["-c", "-o", "none", "--listen", "name.example:3005"], 1, ["name.example"]),
            (["-c", "-o", "none", "--listen", "99999"], 1, ["99999"]),
            (["-o", "none"], 2, ["-c"]),
            (["-c", "--nonsense"], 2, ["nonsense"]),
            (["-c", "--log-level", "loud"], 2, ["--log-level"])):
        got, line = refused(net, scratch, *args)
        assert got == code and all(w in line for w in words), (args, got, line)


def test_status_needs_a_receiver(scratch):
    done = run([program("receiverd"), "--status", "--socket", os.path.join(scratch, "none")], check=False)
    assert done.returncode == 1 and b"no receiverd answers" in done.stderr


def test_control_socket_is_roots(receiverd, net, scratch):
    receiver = receiverd("-c", "-o", "none")
    assert os.stat(receiver.socket).st_mode & 0o777 == 0o600
    os.chmod(receiver.socket, 0o666)
    os.chmod(os.path.dirname(receiver.socket), 0o755)
    done = run(["setpriv", "--reuid", "65534", "--clear-groups", program("receiverd"), "--status", "--socket",
                receiver.socket], check=False)
    assert done.returncode == 1 and b"only root" in done.stderr, done
    with socket.socket(socket.AF_UNIX) as s:
        s.connect(receiver.socket)
        s.sendall(b"x" * 1000)  # no line of that length is read
        with contextlib.suppress(ConnectionResetError):
            assert s.recv(100) == b""
    assert receiver.status()


def test_sigterm_ends_with_zero_and_the_key_is_kept(receiverd, net):
    def certificate():
        return ssl.DER_cert_to_PEM_cert(Agent(net.server).socket.getpeercert(True))
    receiver = receiverd("-c", "-o", "none")
    first = certificate()
    assert receiver.daemon.stop() == 0
    assert not os.path.exists(receiver.socket)
    receiver = receiverd("-c", "-o", "none")
    assert certificate() == first
    receiver.daemon.signal(signal.SIGHUP)
    receiver.daemon.wait_log("reloaded")
    assert certificate() == first


def test_privileges_are_dropped(receiverd):
    receiver = receiverd("-c", "-o", "none")
    with open(f"/proc/{receiver.pid}/status", encoding="ascii") as f:
        status = dict(line.split(":\t", 1) for line in f.read().splitlines() if ":\t" in line)
    assert int(status["CapEff"], 16) & ~(1 << 12 | 1 << 13) == 0 and status["NoNewPrivs"] == "1"
    assert status["Threads"] == "1"


@pytest.mark.slow
def test_many_agents_at_once(receiverd, net, sniffer):
    """What each sends comes out in its own order; the sums agree."""
    receiver = receiverd("-c", asan=True)
    agents = []
    while len(agents) < 40:  # not more at once than one address may have without their hello being read
        agents += [Agent(net.server).greet() for _ in range(10)]
        wait_for(lambda: len(receiver.status()["agents"]) == len(agents))
    for number, agent in enumerate(agents):
        agent.send(*(packet(plain(number * 1000 + i, 200)) for i in range(100)))
    got = [struct.unpack_from("!I", f, 14)[0] for f in sniffer.take(4000)]
    for number in range(40):
        assert [g for g in got if g // 1000 == number] == [number * 1000 + i for i in range(100)]
    assert holds(receiver.status())["injected"]["frames"] == 4000
    for agent in agents:
        agent.close()


def test_tcpdump_and_ncat_are_an_agent(receiverd, net, sniffer, scratch, started):
    """The native agent of the manual, as people type it."""
    receiver = receiverd("-c")
    capture = Daemon(["sh", "-c", f"tcpdump -i replay1 -s0 -U -n -w - 'not port 3005' | ncat --ssl {network.IDS4} 3005"],
                     os.path.join(scratch, "native.log"), net.server)
    started.append(capture)
    wait_for(lambda: receiver.status()["connections"]["without_hello"], 15)
    time.sleep(6)  # longer than others may be silent
    with inside(net.server):
        out = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
        out.bind(("replay0", 0))
    for i in range(20):
        out.send(plain(i, 100))
    assert sniffer.take(20) == [plain(i, 100) for i in range(20)]
    out.close()
