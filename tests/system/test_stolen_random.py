# SPDX-License-Identifier: Apache-2.0
"""A client random is no secret: who states it, or says it again on the wire, does not get somebody else's pairing."""
import os
import re
import shutil
import socket
import ssl
import struct

import pytest

import capture
import net as network
from proc import Daemon, build_dir, environment, run, wait_for
from services import Asyncio
from stage import Stage, wait_enough
from web import LIB, PYTHON
from wire import shifted

AIO = [PYTHON, os.path.join(LIB, "aio.py")]
LIE = b"GET /forged-by-somebody-else HTTP/1.1\r\nHost: x\r\n\r\n"


class Victim:
    """An asyncio client that has shaken hands, and asks once it is let."""

    def __init__(self, stage, tapped, host):
        self.stage, self.gate = stage, os.path.join(stage.scratch, "gate")
        ns = stage.net.server if tapped else stage.net.client
        self.daemon = Daemon([*AIO, "client", "--host", host, "--gate", self.gate, "--linger", "0.3"],
                             os.path.join(stage.scratch, "victim.log"), ns,
                             env=stage.wire.client(stage.agent.env() if tapped else environment()))
        stage.started.append(self)
        self.daemon.wait_log("connected ")
        with open(stage.wire.keys, encoding="ascii") as f:
            self.random = re.search(r"^CLIENT_HANDSHAKE_TRAFFIC_SECRET ([0-9a-f]{64}) ", f.read(), re.M)[1]

    def go_on(self):
        with open(self.gate, "w", encoding="ascii"):
            pass
        assert self.daemon.wait() == 0

    def stop(self):
        self.daemon.kill()


def test_a_process_states_the_random_of_another_user(agentd, net, scratch, started):
    """Before and after the owner's first data: nothing of it is shown, and the owner's is."""
    s = Stage(agentd, net, scratch, started)
    s.service(Asyncio, False)
    victim = Victim(s, True, network.CLIENT4)
    liar = shutil.copy(os.path.join(build_dir(), "tests", "snippets", "hostile_producer"), scratch)
    env = environment(TLSTAP_SOCKET=s.agent.socket)

    def lie():
        done = run(["setpriv", "--reuid", "12345", "--regid", "12345", "--clear-groups", liar, "random", victim.random],
                   ns=net.server, env=env)
        assert done.stdout == b"attached 1\n"
    lie()
    wait_for(lambda: s.agent.counters()["unverified"] == len(LIE), why=s.agent.status)
    assert s.agent.counters()["forged"] == 0
    victim.go_on()
    wait_for(lambda: s.agent.counters()["forged"] > 0, why=s.agent.status)
    lie()
    wait_for(lambda: s.agent.counters()["unverified"] == 2 * len(LIE), why=s.agent.status)
    only_the_truth(s)


def hello_with(random):
    """A ClientHello with the random of somebody else."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    out = ssl.MemoryBIO()
    try:
        context.wrap_bio(ssl.MemoryBIO(), out, server_hostname="server.example").do_handshake()
    except ssl.SSLWantReadError:
        pass
    hello = out.read()
    return hello[:11] + bytes.fromhex(random) + hello[43:]


SEND_FRAMES = """
import socket, sys
s = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
s.bind(('eth0', 0))
for line in sys.stdin:
    s.send(bytes.fromhex(line.strip()))
"""
SEND_STREAM = """
import socket, sys
hello, n = bytes.fromhex(sys.argv[2]), 3
there = [socket.create_connection((sys.argv[1], 443)) for _ in range(n)]
for s in there:
    s.send(hello)
    assert s.recv(3) == b'\\x16\\x03\\x03'
print('answered', flush=True)
sys.stdin.read()
"""


def frame(macs, source, port, payload):
    """An Ethernet frame with a TCP segment that belongs to no connection."""
    src, dst = socket.inet_aton(source), socket.inet_aton(network.SERVER4)
    tcp = struct.pack("!HHIIBBHHH", port, 443, 1000, 2000, 5 << 4, 0x18, 1000, 0, 0) + payload
    pseudo = src + dst + struct.pack("!HH", 6, len(tcp))
    tcp = tcp[:16] + struct.pack("!H", 0xffff - capture.checksum(pseudo + tcp)) + tcp[18:]
    ip = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(tcp), 0, 0, 64, 6, 0) + src + dst
    ip = ip[:10] + struct.pack("!H", 0xffff - capture.checksum(ip)) + ip[12:]
    return macs + b"\x08\x00" + ip + tcp


def mac(ns):
    return bytes.fromhex(re.search(r"link/ether ([0-9a-f:]+)", network.ip("link", "show", "eth0", ns=ns.name)
                                   .stdout.decode())[1].replace(":", ""))


@pytest.mark.parametrize("how", ["packets", "connections"])
def test_a_hello_with_the_random_of_somebody_else(agentd, net, scratch, started, how):
    """The handshake is over, the first data are not there yet; then others say the same hello: in packets that belong
    to no connection, or on connections of their own to the same server."""
    s = Stage(agentd, net, scratch, started, watch=(net.server, "eth0"))
    s.service(Asyncio, True)
    victim = Victim(s, False, network.SERVER4)
    hello = hello_with(victim.random)
    before = s.agent.status()["wire"]["hellos"]
    if how == "packets":
        macs = mac(net.server) + mac(net.client)
        lines = "".join(frame(macs, source, 6000 + i, hello).hex() + "\n" for i in range(10)
                        for source in (network.CLIENT4, "192.0.2.77"))
        name = os.path.join(scratch, "frames")
        with open(name, "w", encoding="ascii") as f:
            f.write(lines)
        with open(name, encoding="ascii") as f:
            run([PYTHON, "-c", SEND_FRAMES], ns=net.client, stdin=f)
    else:
        read, write = os.pipe()
        others = Daemon([PYTHON, "-c", SEND_STREAM, network.SERVER4, hello.hex()], os.path.join(scratch, "others.log"),
                        net.client, stdin=read)
        os.close(read)
        others.wait_log("answered")
    wait_for(lambda: s.agent.status()["wire"]["hellos"] >= before + (20 if how == "packets" else 6), why=s.agent.status)
    victim.go_on()
    if how == "connections":
        os.close(write)
        others.wait()
    only_the_truth(s, lies=0)


def only_the_truth(s, lies=2):
    truth = shifted(s.wire.truth())
    assert len(truth) == 1
    counters = wait_enough(s.agent, sum(len(side) for side in next(iter(truth.values()))))
    s.agent.check_balance()
    s.agent.stop()
    flows = capture.flows(s.path)
    assert {key: (flow.stream(0), flow.stream(1)) for key, flow in flows.items()} == truth, counters
    assert (counters["unverified"], counters["unpaired"]) == (lies * len(LIE), 0)
