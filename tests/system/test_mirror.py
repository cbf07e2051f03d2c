# SPDX-License-Identifier: Apache-2.0
"""The plain mirror: the packets of an interface as tcpdump sees them, none of tlstap's own, whatever becomes of the
interface."""
import itertools
import json
import os
import re
import signal
import struct
import subprocess
import time
from collections import Counter

import pytest

import capture
import net as network
from proc import Daemon, environment, program, run, wait_for
from web import LIB, PYTHON, curl, pattern

TRAFFIC = os.path.join(LIB, "traffic.py")
MARK = 0x88B5
SINK_PORT = 9000


def traffic(ns, *args, **more):
    return run([PYTHON, TRAFFIC, *args], ns=ns, **more)


def plain(net):
    """No offloads between client and server: what is sent is what a wire would carry."""
    for ns in (net.client, net.server):
        run(["ethtool", "-K", "eth0", "tx", "off", "tso", "off", "gso", "off", "gro", "off"], ns=ns)


class Tcpdump:
    def __init__(self, scratch, ns, interface, expression="", name="tcpdump", options=()):
        self.path = os.path.join(scratch, name + ".pcap")
        self.daemon = Daemon(["tcpdump", "-Z", "root", "-n", "-i", interface, "-U", "-B", "65536",
                              "--time-stamp-precision=nano", *options, "-w", self.path,
                              *([expression] if expression else [])], os.path.join(scratch, name + ".log"), ns)
        self.daemon.wait_log("listening on")

    def stop(self):
        self.daemon.stop()
        assert b"\n0 packets dropped by kernel" in self.daemon.log(), self.daemon.log()
        return list(capture.frames(self.path))


def mark(ns, text, *paths, interface="eth0"):
    """Put a frame with @text onto the wire and wait until it is in the files."""
    traffic(ns, "mark", interface, text)
    for path in paths:
        wait_for(lambda p=path: text.encode() in tail(p), why=f"{text} in {path}")


def tail(path, size=1 << 16):
    with open(path, "rb") as f:
        f.seek(max(0, os.path.getsize(path) - size))
        return f.read()


def between(frames, first, last):
    """The frames between those that mark() made."""
    at = {text: next(i for i, (_, f) in enumerate(frames) if text.encode() in f) for text in (first, last)}
    return frames[at[first] + 1:at[last]]


def load(net, nginx_port, scratch):
    """TLS, UDP of both versions, fragments, and frames of all kinds; paced."""
    for name in ("small", "large"):
        curl(f"https://{network.SERVER4}:{nginx_port}/{name}", net.client, scratch, port=nginx_port)
        curl(f"https://[{network.SERVER6}]:{nginx_port}/{name}", net.client, scratch, port=nginx_port)
    traffic(net.client, "udp", network.SERVER4, SINK_PORT, 1000, 300, 5000)
    traffic(net.client, "udp", network.SERVER6, SINK_PORT, 1000, 1000, 5000)
    traffic(net.client, "udp", network.SERVER4, SINK_PORT, 50, 4000, 500)
    traffic(net.client, "raw", "eth0", 500)
    traffic(net.server, "raw", "eth0", 500)


def explain(got, expected):
    """What one has and the other has not."""
    got, expected = Counter(got), Counter(expected)
    more, less = got - expected, expected - got
    return f"{sum(more.values())} too many {[f[:60].hex() for f in list(more)[:3]]}, " \
           f"{sum(less.values())} missing {[f[:60].hex() for f in list(less)[:3]]}"


def by_sender(frames):
    """Each sender's frames in their order: those of two directions may overtake each other in a capture."""
    lists, times = {}, {}
    for ts, frame in frames:
        lists.setdefault(frame[6:12], []).append(frame)
        times.setdefault(frame[6:12], []).append(ts)
    return lists, times


NEIGHBOURS = 64  # frames: what one processor sends at a time


def compare_with_tcpdump(agentd, net, scratch, start_load, expression=None):
    """Returns the frames that both have seen."""
    plain(net)
    path = os.path.join(scratch, "mirror.pcapng")
    marks = f"ether proto {MARK}"
    # in front: behind the word vlan, all offsets are those behind a tag
    args = ["-p", f"{marks} or ({expression})"] if expression else []
    agent = agentd("-i", "eth0", "-w", path, *args)
    dump = Tcpdump(scratch, net.server, "eth0", args[1] if args else "")
    mark(net.client, "the beginning", path, dump.path)
    start_load()
    mark(net.client, "the very end", path, dump.path)
    expected = between(dump.stop(), "the beginning", "the very end")
    status = agent.status()["capture"]
    agent.stop()
    got = between(list(capture.frames(path)), "the beginning", "the very end")
    assert status["kernel_drops"] == 0
    assert status["seen"] == status["sent"] == status["frames"]
    lists, times = by_sender(got)
    expected_lists, expected_times = by_sender(expected)
    assert {mac: Counter(f) for mac, f in lists.items()} == {
        mac: Counter(f) for mac, f in expected_lists.items()}, explain([f for _, f in got], [f for _, f in expected])
    # two processors that send at once may reach the one capture and the other in another order: neighbours, no more
    for mac, frames in lists.items():
        place = {frame: i for i, frame in enumerate(expected_lists[mac])}
        once = Counter(frames)
        far = [i for i, frame in enumerate(frames) if once[frame] == 1 and abs(place[frame] - i) > NEIGHBOURS]
        assert not far, f"{len(far)} frames of {len(frames)} are out of order"
    # the kernel may look at the clock once for each capture
    assert all(abs(a - b) < 50_000_000 for mac, ts in times.items()
               for a, b in zip(sorted(ts), sorted(expected_times[mac])))
    return [frame for _, frame in got]


# -- the same packets

def test_same_packets_as_tcpdump(agentd, nginx, net, scratch):
    server = nginx()
    server.put("small", pattern(1000))
    server.put("large", pattern(3 << 20))
    got = compare_with_tcpdump(agentd, net, scratch, lambda: load(net, 443, scratch))
    assert len(got) > 5000
    kinds = Counter(struct.unpack_from("!H", frame, 12)[0] for frame in got)
    assert set(kinds) >= {0x0800, 0x86DD, 0x8100, 0x0806, 0x88B6, 0x88A8}


@pytest.mark.parametrize("expression", [
    "vlan",
    "vlan 7 and ip6",
    "ip6",
    "not ip6 and not arp",
    f"udp portrange {SINK_PORT - 10}-{SINK_PORT + 10}",
    "portrange 5002-5003 or (vlan 8 and tcp port 8080)",
    f"src host {network.SERVER6} and tcp[tcpflags] & tcp-push != 0 or ip[6:2] & 0x1fff != 0",
])
def test_filters_mean_what_they_mean_to_tcpdump(agentd, nginx, net, scratch, expression):
    server = nginx()
    server.put("small", pattern(1000))
    server.put("large", pattern(100000))
    got = compare_with_tcpdump(agentd, net, scratch, lambda: load(net, 443, scratch), expression)
    assert got


def test_any_sees_what_tcpdump_sees_on_any(agentd, nginx, net, scratch):
    """Cooked packets lack the receiver's address; all behind it is the same, VLAN tags too."""
    plain(net)
    server = nginx()
    server.put("small", pattern(1000))
    server.put("large", pattern(100000))
    path = os.path.join(scratch, "mirror.pcapng")
    agent = agentd("-i", "any", "-w", path)
    # LINUX_SLL keeps the tags that libpcap forgets with LINUX_SLL2
    dump = Tcpdump(scratch, net.server, "any", options=["-y", "LINUX_SLL"])
    mark(net.client, "the beginning", path, dump.path)
    load(net, 443, scratch)
    traffic(net.server, "raw", "lo", 300)
    mark(net.client, "the very end", path, dump.path)
    cooked = between(dump.stop(), "the beginning", "the very end")
    agent.stop()
    got = between(list(capture.frames(path)), "the beginning", "the very end")
    expected = Counter((frame[6:12] if frame[4:6] == b"\0\6" else bytes(6)) + frame[14:] for _, frame in cooked)
    assert all(frame[:6] == bytes(6) for _, frame in got)
    got = Counter(frame[6:] for _, frame in got)
    assert got == expected, explain(got.elements(), expected.elements())
    assert sum(got.values()) > 3000


# -- nothing of our own

def settled_seen(agent, quiet_s=1.5):
    """Wait until the agent sees no more packets; it must not go on for ever. Returns its counters."""
    end = time.monotonic() + 30
    while True:
        before = agent.status()["capture"]
        time.sleep(quiet_s)
        after = agent.status()["capture"]
        # heartbeats of the tunnel are its own traffic: seen, never sent
        if after["sent"] == before["sent"]:
            return after
        assert time.monotonic() < end and after["sent"] < 50000, f"packets without end: {before} {after}"


def numbers(frames):
    """How often the datagrams of traffic() are there, by number. (ICMP errors quote them.)"""
    found = Counter()
    for _, frame in frames:
        match = re.search(rb"(\d{8})\.{100}", frame)
        if match and frame[12:14] == b"\x08\0" and frame[23] == 17:
            found[int(match.group(1))] += 1
    return found


def datagrams(path):
    return numbers(capture.frames(path))


@pytest.mark.parametrize("listen,host", [
    ("3005", "127.0.0.1"), ("4005", "[::1]:4005"), ("127.0.0.1:3005", "localhost"), ("5005", f"{network.TUNNEL4}:5005"),
])
def test_no_loop_with_a_receiver_on_the_same_host(agentd, receiverd, net, scratch, listen, host):
    receiverd("-c", "-o", "replay0", "--listen", listen, ns=net.server)
    seen = Tcpdump(scratch, net.server, "replay1", "udp or tcp")
    agent = agentd("-i", "any", "-t", host)
    agent.daemon.wait_log("connected to")
    traffic(net.client, "udp", network.SERVER4, SINK_PORT, 500, 500, 2000)
    counters = settled_seen(agent)
    assert counters["own"] > 0
    assert counters["replayed"] >= 500  # both ends of the replay interface's pair
    assert 500 <= counters["sent"] < 1500, counters
    agent.stop()
    replayed = seen.stop()
    assert numbers(replayed) == Counter(range(500))
    assert len(replayed) < 1500


def test_no_loop_to_a_remote_receiver(agentd, receiverd, net, scratch):
    path = os.path.join(scratch, "received.pcapng")
    receiver = receiverd("-c", "-o", "none", "-w", path, ns=net.ids)
    agent = agentd("-i", "any", "-t", network.IDS6)
    agent.daemon.wait_log("connected to")
    traffic(net.client, "udp", network.SERVER4, SINK_PORT, 500, 500, 2000)
    counters = settled_seen(agent)
    assert counters["own"] > 10 and counters["sent"] < 1500
    # a new tunnel is ours from its first packet on
    receiver.stop()
    second = receiverd("-c", "-o", "none", "-w", path + "2", ns=net.ids)
    wait_for(lambda: "connected" in agent.daemon.log().decode().split("lost the receiver")[-1])
    traffic(net.client, "udp", network.SERVER4, SINK_PORT, 500, 500, 2000)
    counters = settled_seen(agent)
    assert counters["sent"] < 3000
    agent.stop()
    second.stop()
    assert datagrams(path) == Counter(range(500))
    assert datagrams(path + "2") == Counter(range(500))
    for name in (path, path + "2"):
        ports = {struct.unpack_from("!HH", f, 54) for _, f in capture.frames(name)
                 if f[12:14] == b"\x86\xdd" and f[20] == 6}
        # between tunnels the refusals of the receiver's host are nobody's tunnel any more, but told all the same
        assert not [p for p in ports if 3005 in p], ports


@pytest.mark.parametrize("chain,rule", [
    ("output", f"ip daddr 198.51.100.77 tcp dport 4000 dnat to {network.IDS4}:3005"),
    ("postrouting", "ip protocol tcp oifname eth1 snat to 198.51.100.78"),
])
def test_no_loop_where_the_host_changes_addresses(agentd, receiverd, net, scratch, chain, rule):
    """As a Kubernetes service or a masquerading host does: what is on the wire are not the socket's addresses."""
    hook = {"output": "type nat hook output priority -100", "postrouting": "type nat hook postrouting priority 100"}
    run(["nft", f"table ip t {{\nchain c {{\n{hook[chain]}\n{rule}\n}}\n}}\n"], ns=net.server)
    net.server.address("eth1", "198.51.100.78/24")
    path = os.path.join(scratch, "received.pcapng")
    receiverd("-c", "-o", "none", "-w", path, ns=net.ids)
    agent = agentd("-i", "any", "-t", "198.51.100.77:4000" if chain == "output" else network.IDS4)
    agent.daemon.wait_log("connected to")
    traffic(net.client, "udp", network.SERVER4, SINK_PORT, 500, 500, 2000)
    counters = settled_seen(agent)
    assert counters["own"] > 10 and 500 <= counters["sent"] < 1500, counters
    agent.stop()
    wait_for(lambda: datagrams(path) == Counter(range(500)))
    assert not [f for _, f in capture.frames(path) if f[12:14] == b"\x08\0" and f[23] == 6]


def test_two_agents_do_not_mirror_each_other(agentd, receiverd, net, scratch):
    path = os.path.join(scratch, "received.pcapng")
    receiverd("-c", "-o", "none", "-w", path, ns=net.ids)
    agents = []
    for i in range(2):
        folder = os.path.join(scratch, f"agent{i}")
        os.mkdir(folder)
        agents.append(agentd("-i", "any", "-t", (network.IDS4, network.IDS6)[i], socket=os.path.join(folder, "sock")))
    for agent in agents:
        agent.daemon.wait_log("connected to")
    traffic(net.client, "udp", network.SERVER4, SINK_PORT, 500, 500, 2000)
    for agent in agents:
        counters = settled_seen(agent)
        assert counters["own"] > 0 and 500 <= counters["sent"] < 1500, counters
    for agent in agents:
        agent.stop()
    wait_for(lambda: datagrams(path) == Counter({i: 2 for i in range(500)}))


@pytest.mark.parametrize("tapped", [False, True])
def test_no_loop_through_an_interface(agentd, nginx, net, scratch, tapped):
    """-i any -o X, and -I any -o X: cleartext and packets on X once."""
    seen = Tcpdump(scratch, net.server, "replay1")
    agent = agentd("-I" if tapped else "-i", "any", "-o", "replay0")
    server = nginx(env=agent.env())
    server.put("file", pattern(50000))
    curl(f"https://{network.SERVER4}/file", net.client, scratch)
    traffic(net.client, "udp", network.SERVER4, SINK_PORT, 300, 500, 2000)
    counters = settled_seen(agent)
    assert 300 <= counters["sent"] < 1500, counters
    assert counters["replayed"] >= 2 * 300
    if tapped:
        wait_for(lambda: agent.counters()["forged"] > 50000)
        agent.check_balance()
    agent.stop()
    replayed = seen.stop()
    assert numbers(replayed) == Counter(range(300))
    forged = [f for _, f in replayed if f[:6] == capture.DMAC and f[6:12] == capture.SMAC]
    clear = b"".join(p.payload for p in (capture.dissect(0, f) for f in forged) if p)
    assert clear.count(pattern(50000)[:1000]) == tapped
    # the encrypted packets are there too, and not again among the forged ones
    assert [f for _, f in replayed if f[12:14] == b"\x08\0" and f[23] == 6 and b"\x01\xbb" in (f[34:36], f[36:38])]


def bridge_of(ns, name, *ports):
    network.ip("link", "add", name, "type", "bridge", ns=ns.name)
    for port in ports:
        network.ip("link", "set", port, "master", name, ns=ns.name)
    for device in (*ports, name):
        ns.sysctl(f"net/ipv6/conf/{device}/disable_ipv6", 1)
        network.ip("link", "set", device, "up", ns=ns.name)


def a_bridge_itself(ns):
    bridge_of(ns, "br0", "replay0")
    return "br0"


def behind_the_pair_a_bridge(ns):
    ns.quiet_veth("more0", "more1")
    bridge_of(ns, "br0", "replay1", "more0")
    return "replay0"


def above_another(ns):
    network.ip("link", "add", "link", "replay0", "name", "above0", "type", "macvlan", "mode", "passthru", ns=ns.name)
    ns.sysctl("net/ipv6/conf/above0/disable_ipv6", 1)
    network.ip("link", "set", "above0", "up", ns=ns.name)
    return "above0"


@pytest.mark.parametrize("make", [a_bridge_itself, behind_the_pair_a_bridge, above_another])
def test_no_loop_through_what_is_joined_to_an_interface(agentd, net, make):
    """The captured frames keep their addresses: they are ours on each interface that they pass."""
    output = make(net.server)
    agent = agentd("-i", "any", "-o", output)
    traffic(net.client, "udp", network.SERVER4, SINK_PORT, 300, 500, 2000)
    counters = settled_seen(agent)
    assert 300 <= counters["sent"] < 1500 and counters["replayed"] >= 2 * 300, counters


@pytest.mark.parametrize("make", [a_bridge_itself, behind_the_pair_a_bridge, above_another])
def test_what_is_joined_to_the_captured_interface_is_refused(net, make):
    output, captured = make(net.server), {"a_bridge_itself": "replay0", "behind_the_pair_a_bridge": "more1",
                                          "above_another": "replay0"}[make.__name__]
    one_line(["-i", captured, "-o", output], output, captured, "captured again", ns=net.server)


def test_a_tunnel_as_output_needs_a_filter(agentd, net):
    network.ip("link", "add", "vx0", "type", "vxlan", "id", 5, "local", network.TUNNEL4, "remote", network.IDS4, "dstport",
               4789, "dev", "eth1", ns=net.server.name)
    net.server.sysctl("net/ipv6/conf/vx0/disable_ipv6", 1)
    network.ip("link", "set", "vx0", "up", ns=net.server.name)
    one_line(["-i", "any", "-o", "vx0"], "vx0", "-p", "captured and replayed again", ns=net.server)
    agent = agentd("-i", "any", "-o", "vx0", "-p", "not udp port 4789")
    traffic(net.client, "udp", network.SERVER4, SINK_PORT, 300, 500, 2000)
    assert 300 <= settled_seen(agent)["sent"] < 1500


def test_no_loop_where_the_tunnel_is_in_another_one(agentd, receiverd, net, scratch):
    """VXLAN to the receiver: the outer packets are nobody's connection."""
    for ns, here, there, inner in ((net.server, network.TUNNEL4, network.IDS4, "203.0.113.1/24"),
                                   (net.ids, network.IDS4, network.TUNNEL4, "203.0.113.2/24")):
        network.ip("link", "add", "vx0", "type", "vxlan", "id", 5, "local", here, "remote", there, "dstport", 4789,
                   "dev", "eth1" if ns is net.server else "eth0", ns=ns.name)
        ns.address("vx0", inner)
    path = os.path.join(scratch, "received.pcapng")
    receiverd("-c", "-o", "none", "-w", path, ns=net.ids)
    agent = agentd("-i", "any", "-t", "203.0.113.2")
    agent.daemon.wait_log("connected to")
    traffic(net.client, "udp", network.SERVER4, SINK_PORT, 300, 500, 2000)
    counters = settled_seen(agent)
    assert counters["own"] > 10 and 300 <= counters["sent"] < 1500, counters
    agent.stop()
    wait_for(lambda: datagrams(path) == Counter(range(300)))


def test_what_nobody_takes_at_the_end_is_told(net, scratch):
    """The reader of -w - sleeps, and SIGTERM comes: what waits in the kernel is lost, and counted."""
    socket = os.path.join(scratch, "sock")
    with open(os.path.join(scratch, "agentd.log"), "wb") as log:
        agent = subprocess.Popen(net.server.command([program("agentd"), "--socket", socket, "-i", "eth0", "-w", "-", "-p",
                                                     f"udp port {SINK_PORT}"]), stdout=subprocess.PIPE, stderr=log,
                                 env=environment())
    try:
        wait_for(lambda: run([program("agentd"), "--socket", socket, "--status=json"], check=False).returncode == 0)
        traffic(net.client, "udp", network.SERVER4, SINK_PORT, 3000, 1000, 20000)
        counters = wait_for(lambda: (lambda c: c if c["waiting"] else None)(json.loads(
            run([program("agentd"), "--socket", socket, "--status=json"]).stdout)["capture"]))
        agent.send_signal(signal.SIGTERM)
        assert agent.wait(30) == 0
        with open(os.path.join(scratch, "agentd.log"), encoding="utf-8") as log:
            lost = re.search(r" (\d+) packets that were captured are lost", log.read())
        assert lost and int(lost.group(1)) + counters["sent"] == 3000
    finally:
        agent.kill()
        agent.wait()
        agent.stdout.close()


def test_cleartext_and_packets_are_in_one_order(agentd, nginx, net, scratch):
    """-I: the forged frames of a connection stand where its encrypted ones do, and time goes forward in the stream."""
    path = os.path.join(scratch, "mirror.pcapng")
    agent = agentd("-I", "any", "-w", path)
    server = nginx(env=agent.env())
    count = 10
    for i in range(count):
        server.put(f"file{i}", pattern(20000))
        curl(f"https://{network.SERVER4}/file{i}", net.client, scratch)
        time.sleep(0.3)
    wait_for(lambda: b"GET /file9 " in tail(path))
    agent.check_balance()
    agent.stop()
    frames = list(capture.frames(path))
    latest = itertools.accumulate((ts for ts, _ in frames), max)
    behind = max(newest - ts for newest, (ts, _) in zip(latest, frames))
    assert behind < 500_000_000  # a batch of the kernel's, on a machine that is busy
    syns = [i for i, (_, f) in enumerate(frames) if f[12:14] == b"\x08\0" and f[23] == 6 and f[36:38] == b"\x01\xbb"
            and f[47] == 2][-count:]  # the first is of whoever looked whether nginx is there
    gets = [next(i for i, (_, f) in enumerate(frames) if f"GET /file{n} ".encode() in f) for n in range(count)]
    for n in range(count):
        # by their places, only within a block of the kernel's: captured packets come 10 ms late, forged ones at once
        assert n == 0 or syns[n - 1] < gets[n], (syns, gets)
        assert n == count - 1 or gets[n] < syns[n + 1], (syns, gets)
        assert 0 <= frames[gets[n]][0] - frames[syns[n]][0] < 2_000_000_000


# -- nobody else hides as one of ours

@pytest.mark.parametrize("interface", ["eth0", "any"])
def test_our_address_hides_nobody(agentd, net, scratch, interface):
    """A host, or a container, that gives itself the MAC address of forged frames."""
    network.ip("link", "set", "eth0", "address", "06:11:22:33:44:55", ns=net.client.name)
    path = os.path.join(scratch, "mirror.pcapng")
    agent = agentd("-i", interface, "-w", path)
    traffic(net.client, "udp", network.SERVER4, SINK_PORT, 100, 500, 2000)
    counters = settled_seen(agent)
    agent.stop()
    assert counters["replayed"] == 0
    assert datagrams(path) == Counter(range(100))


def test_our_port_hides_nobody(agentd, receiverd, net, scratch):
    """A receiver listens here: who connects from its port, or to that port of another address, is seen."""
    receiverd("-c", "-o", "none", "--listen", "3005", "--listen", f"{network.TUNNEL4}:4005", ns=net.server)
    path = os.path.join(scratch, "mirror.pcapng")
    agent = agentd("-i", "eth0", "-w", path)
    script = """if True:
        import socket, sys
        for sport, dport in ((3005, 8000), (0, 4005), (0, 3005)):
            s = socket.socket()
            s.bind(("", sport))
            print(s.connect_ex((sys.argv[1], dport)))
    """
    assert run([PYTHON, "-c", script, network.SERVER4], ns=net.client).stdout.split() == [b"111", b"111", b"0"]
    counters = settled_seen(agent)
    agent.stop()
    assert counters["own"] > 0
    ports = {frozenset(struct.unpack_from("!HH", f, 34)) for _, f in capture.frames(path)
             if f[12:14] == b"\x08\0" and f[23] == 6}
    assert frozenset((3005, 8000)) in ports and sum(4005 in pair for pair in ports) == 1, ports
    assert len(ports) == 2


# -- interfaces and permissions

def one_line(args, *words, ns=None, **more):
    done = run([program("agentd"), "--socket", "/tmp/tlstap-none/sock", *args], ns=ns, check=False, timeout=30, **more)
    text = done.stderr.decode()
    assert done.returncode > 0 and text.count("\n") == 1, text
    for word in words:
        assert word in text, text


@pytest.mark.parametrize("args,words", [
    (["-i", "nosuch0"], ["nosuch0", "no such interface"]),
    (["-i", "eth0", "-p", "tcp prot 80"], ["syntax error", 'at character 5 near "prot"']),
    (["-i", "eth0", "-p", "host 10.0.0.1 and (tcp port 80 or"], ["syntax error", "near its end"]),
    (["-i", "eth0", "-p", "net 10.1.2.3/8"], ["non-network bits", 'near "10.1.2.3/8"']),
    (["-i", "any", "-p", "vlan 7"], ["VLAN", "name an interface"]),
    (["-i", "eth0", "-p", "tcp\nport x"], ['near "x"', '"tcp port x"']),
])
def test_what_cannot_be_captured_is_one_line(net, scratch, args, words):
    one_line([*args, "-w", os.path.join(scratch, "none")], *words, ns=net.server)


def test_interface_that_is_down_is_one_line(net, scratch):
    network.ip("link", "set", "eth1", "down", ns=net.server.name)
    one_line(["-i", "eth1", "-w", os.path.join(scratch, "none")], "eth1", "down", ns=net.server)


def test_without_permission_it_is_one_line(net, scratch):
    folder = os.path.join(scratch, "nobody")
    os.mkdir(folder)
    os.chmod(folder, 0o777)
    path = run(["find", os.path.dirname(program("agentd")), "-name", "agentd", "-type", "f"]).stdout.decode().split()[0]
    copy = os.path.join(folder, "agentd")
    run(["cp", path, copy])
    done = run(["setpriv", "--reuid", "65534", "--clear-groups", "--inh-caps", "-all", "--bounding-set", "-all", copy,
                "--socket", os.path.join(folder, "sock"), "-i", "eth0", "-w", os.path.join(folder, "out")],
               ns=net.server, check=False, timeout=30)
    lines = done.stderr.decode().splitlines()
    assert done.returncode > 0 and lines
    assert "no permission to capture" in lines[-1] and "root" in lines[-1]
    assert len(lines) <= 2  # besides, that others are not told of this agent


def test_interface_goes_and_comes(agentd, net, scratch):
    """Down and up, renamed, removed and made anew: while agentd has no capability left."""
    path = os.path.join(scratch, "mirror.pcapng")
    server = net.server.name
    network.ip("link", "add", "in0", "type", "veth", "peer", "name", "in1", ns=server)
    for device in ("in0", "in1"):
        network.ip("link", "set", device, "up", ns=server)
    agent = agentd("-i", "in1", "-w", path)
    with open(f"/proc/{agent.pid}/status", encoding="ascii") as f:
        assert re.search(r"CapEff:\s0+\n", f.read())

    def through(text, device="in0"):
        traffic(net.server, "mark", device, text)
        wait_for(lambda: text.encode() in tail(path), timeout=10, why=text)
    through("at first")
    network.ip("link", "set", "in1", "down", ns=server)
    agent.daemon.wait_log("interface in1 is down; waiting for it")
    assert "in1, which is down" in show(agent)
    network.ip("link", "set", "in1", "up", ns=server)
    agent.daemon.wait_log("interface in1 is back")
    through("up again")
    network.ip("link", "set", "in1", "down", ns=server)
    network.ip("link", "set", "in1", "name", "new1", ns=server)
    network.ip("link", "set", "new1", "up", ns=server)
    agent.daemon.wait_log("interface in1 is called new1 now")
    through("renamed")
    network.ip("link", "del", "new1", ns=server)
    agent.daemon.wait_log("interface new1 is gone; waiting for it")
    network.ip("link", "add", "in0", "type", "veth", "peer", "name", "in1", ns=server)
    for device in ("in0", "in1"):
        network.ip("link", "set", device, "up", ns=server)
    agent.daemon.wait_log("interface new1 is called in1 now")
    through("made anew")
    counters = agent.status()["capture"]
    assert counters["away"] >= 2
    agent.stop()
    for text in ("at first", "up again", "renamed", "made anew"):
        assert sum(text.encode() in f for _, f in capture.frames(path)) == 1


def show(agent):
    return run([program("agentd"), "--socket", agent.socket, "--status"]).stdout.decode()


def test_the_end_is_not_lost(agentd, net, scratch):
    """SIGTERM under load: all that was seen before is in the file, and the file is whole."""
    path = os.path.join(scratch, "mirror.pcapng")
    agent = agentd("-i", "eth0", "-w", path, "-p", f"udp port {SINK_PORT}")
    sender = subprocess.Popen(
        net.client.command([PYTHON, TRAFFIC, "udp", network.SERVER4, SINK_PORT, 100000, 200, 5000]), env=environment())
    try:
        wait_for(lambda: agent.status()["capture"]["sent"] > 2000)
        told = time.time_ns()
        agent.stop()
    finally:
        sender.kill()
        sender.wait()
    frames = list(capture.frames(path))
    numbers = [int(re.search(rb"(\d{8})\.", f).group(1)) for _, f in frames]
    assert numbers == list(range(len(numbers)))
    # the kernel gives its blocks away every 10 ms
    assert frames[-1][0] > told - 30_000_000
    assert os.path.getsize(path) == sum(-(-len(f) // 4) * 4 + 32 for _, f in frames) + head_of(path)


def head_of(path):
    """Bytes before the first packet's block."""
    with open(path, "rb") as f:
        data = f.read(4096)
    at = 0
    while struct.unpack_from("<I", data, at)[0] != 6:
        at += struct.unpack_from("<I", data, at + 4)[0]
    return at


def test_what_finds_the_ring_full_is_counted(net, scratch):
    """The reader of -w - stops: then packets wait in the kernel, and what finds no room there is counted."""
    socket = os.path.join(scratch, "sock")
    with open(os.path.join(scratch, "agentd.log"), "wb") as log:
        command = [program("agentd"), "--socket", socket, "-i", "eth0", "-w", "-", "--buffer-size", "1M",
                   "-p", f"udp port {SINK_PORT}"]
        agent = subprocess.Popen(net.server.command(command), stdout=subprocess.PIPE, stderr=log, env=environment())
    reader = None

    def counters():
        done = run([program("agentd"), "--socket", socket, "--status=json"], check=False)
        return json.loads(done.stdout)["capture"] if done.returncode == 0 else None
    try:
        wait_for(counters)
        traffic(net.client, "udp", network.SERVER4, SINK_PORT, 8000, 1000)
        full = wait_for(lambda: (lambda c: c if c["kernel_drops"] > 0 else None)(counters()))
        assert full["seen"] < 4000
        path = os.path.join(scratch, "read.pcapng")
        with open(path, "wb") as out:
            reader = subprocess.Popen(["cat"], stdin=agent.stdout, stdout=out)
        wait_for(lambda: (lambda c: c["seen"] + c["kernel_drops"] == 8000)(counters()), why=lambda: str(counters()))
        end = counters()
        agent.send_signal(signal.SIGTERM)
        assert agent.wait(30) == 0
        agent.stdout.close()
        assert reader.wait(30) == 0
        numbers = [int(re.search(rb"(\d{8})\.", f).group(1)) for _, f in capture.frames(path)]
        assert len(numbers) == end["sent"] == 8000 - end["kernel_drops"]
        assert numbers == sorted(set(numbers))
    finally:
        for process in filter(None, (agent, reader)):
            process.kill()
            process.wait()


def test_the_receiver_is_told_what_the_agents_kernel_dropped(agentd, receiverd, net, scratch):
    """The agent is stopped under load, with a small ring; its statistics, every ten seconds, say what is missing."""
    receiver = receiverd("-c", "-o", "none", "-w", os.path.join(scratch, "received.pcapng"), ns=net.ids)
    agent = agentd("-i", "eth0", "-t", network.IDS6, "--buffer-size", "1M", "-p", f"udp port {SINK_PORT}")
    agent.daemon.wait_log("connected to")
    os.kill(agent.pid, signal.SIGSTOP)
    try:
        traffic(net.client, "udp", network.SERVER4, SINK_PORT, 8000, 1000)
    finally:
        os.kill(agent.pid, signal.SIGCONT)
    wait_for(lambda: agent.status()["capture"]["seen"] + agent.status()["capture"]["kernel_drops"] == 8000,
             why=agent.status)
    mine = agent.status()["capture"]
    assert mine["kernel_drops"] > 0
    wait_for(lambda: receiver.status()["agents"][0].get("agent", {}).get("captured") == mine["seen"], timeout=60,
             why=receiver.status)
    told = receiver.status()["agents"][0]["agent"]
    assert told["capture_drops"] == mine["kernel_drops"] and told["hello_drops"] == 0
