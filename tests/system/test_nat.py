# SPDX-License-Identifier: Apache-2.0
"""Addresses that change on their way: one random, several true 5-tuples. Which one is shown?

(a) -I IFACE: the one seen there; (b) the one that is the process's socket; (c) the wire's, where it shares an end
with that socket; (d) without a socket, one that is a socket of the process's user."""
import os

import pytest

import net as network
from proc import run
from services import Apache, Asyncio, Haproxy
from stage import Stage, check_forged
from web import LIB, PYTHON, Nginx

AIO = [PYTHON, os.path.join(LIB, "aio.py")]
ROUTED = network.IDS4  # behind the server, which is the router then


@pytest.fixture
def stage(agentd, net, scratch, started):
    def start(*args, **options):
        return Stage(agentd, net, scratch, started, *args, **options)
    return start


@pytest.fixture
def rules(scratch):
    def load(ns, text):
        name = os.path.join(scratch, "rules.nft")
        with open(name, "w", encoding="ascii") as f:
            f.write(text)
        run(["nft", "-f", name], ns=ns)
    return load


def fetch(do, host, *ports):
    for port in ports:
        do(["curl", "-sfk", "--http1.1", "-o", "/dev/null", f"https://{host}:{port}/file"])


def linger(do, host, *ports):
    """A socket whose addresses the wire does not show can be looked up only as long as it exists."""
    for port in ports:
        do([*AIO, "client", "--host", host, "--port", port, "--count", "3", "--linger", "0.5"])


# -- on the host itself

def test_servers_behind_redirect(stage, rules, net):
    """The wire shows :10444, the socket says :8444: with and without a descriptor, the client's view is shown."""
    s = stage()
    rules(net.server, """table ip nat {
        chain pre { type nat hook prerouting priority dstnat;
            tcp dport 10444 redirect to :8444
            tcp dport 10445 redirect to :8445
            tcp dport 10446 redirect to :8446
        }
    }""")
    s.service(Nginx, True, port=8444).put("file", b"of nginx\n" * 1000)
    s.service(Asyncio, True, port=8445)
    s.service(Apache, True, port=8446).put("file", b"of apache\n" * 1000)
    fetch(s.client(False), network.SERVER4, 10444, 10446, 10446, 10444)
    linger(s.client(False), network.SERVER4, 10445)
    truth = s.check(7)
    assert {key[1][1] for key in truth} == {10448, 10449, 10450}


def test_clients_behind_snat(stage, rules, net):
    """What leaves the host has another source address and port than the clients' sockets."""
    s = stage(watch=(net.server, "eth0"))
    net.server.address("eth0", "192.0.2.9/24")
    rules(net.server, """table ip nat {
        chain post { type nat hook postrouting priority srcnat;
            oifname "eth0" tcp dport { 443, 8443 } snat to 192.0.2.9:20000-30000
        }
    }""")
    s.service(Apache, False).put("file", b"of apache\n" * 100000)
    s.service(Asyncio, False, port=8443)
    s.client(True)(["curl", "-sfk", "--limit-rate", "500k", "-o", "/dev/null", f"https://{network.CLIENT4}/file"])
    linger(s.client(True), network.CLIENT4, 8443)
    script = ("import http.client, ssl, sys, time; c = http.client.HTTPSConnection(sys.argv[1], "
              "context=ssl._create_unverified_context()); c.request('GET', '/file'); "
              "print(len(c.getresponse().read())); "
              "time.sleep(0.5)")
    assert s.client(True)([PYTHON, "-c", script, network.CLIENT4]).stdout == b"1000000\n"
    truth = s.check(5)
    assert {key[0][0] for key in truth} == {"192.0.2.9"}


# -- a router between client and server

FORWARD = """table ip nat {
    chain pre { type nat hook prerouting priority dstnat;
        iifname "eth0" tcp dport 443 dnat to 198.51.100.2:8443
        iifname "eth0" tcp dport 444 dnat to 198.51.100.2:8444
    }
    chain post { type nat hook postrouting priority srcnat;
        %s
    }
}"""


def route(net, rules, snat=False):
    """client -> server (a router now) -> ids."""
    net.server.sysctl("net/ipv4/ip_forward", 1)
    network.ip("route", "add", "default", "via", network.TUNNEL4, ns=net.ids.name)
    rules(net.server, FORWARD % ('oifname "eth1" masquerade' if snat else ""))


def routed_servers(s, net, tapped=True):
    """Two servers behind the router: with a descriptor and without."""
    s.service(Nginx, tapped, ns=net.ids, port=8443).put("file", b"of nginx\n" * 1000)
    s.service(Asyncio, tapped, ns=net.ids, port=8444)


@pytest.mark.parametrize("snat", [False, True])
@pytest.mark.parametrize("agent", ["beside the servers", "on the router"])
def test_dnat_on_a_router(stage, rules, net, snat, agent):
    """The servers are shown under their own addresses, also where the router's other side was seen first: that is what
    their sockets say, or what their namespace saw."""
    where = {"ns": net.ids} if agent == "beside the servers" else {}
    s = stage(*([] if where else ["--netns", net.ids.name]), watch=(net.ids, "any"), **where)
    route(net, rules, snat)
    routed_servers(s, net)
    do = s.client(False)
    fetch(do, network.SERVER4, 443, 444, 444, 443)
    truth = s.check(4)
    assert {key[1] for key in truth} == {(ROUTED, 8447), (ROUTED, 8448)}
    assert {key[0][0] for key in truth} == {network.TUNNEL4 if snat else network.CLIENT4}


def test_dnat_as_the_interface_saw_it(stage, rules, net):
    """-I eth0: only what was seen there, in the addresses that were seen there."""
    s = stage("--netns", net.ids.name, interface="eth0", watch=(net.server, "eth0"))
    route(net, rules, True)
    routed_servers(s, net)
    do = s.client(False)
    fetch(do, network.SERVER4, 443, 444, 444, 443)
    truth = s.check(4)
    assert {key[1] for key in truth} == {(network.SERVER4, 447), (network.SERVER4, 448)}


def test_client_before_dnat(stage, rules, net):
    """A client in another namespace is shown as it sees itself, whatever a router makes of it later."""
    s = stage("--netns", net.client.name, watch=(net.client, "any"))
    route(net, rules, True)
    routed_servers(s, net, tapped=False)
    do = s.client(True, ns=net.client)
    fetch(do, network.SERVER4, 443, 444)
    do([*AIO, "client", "--host", network.SERVER4, "--port", "444", "--count", "2"])
    truth = s.check(4)
    assert {key[1] for key in truth} == {(network.SERVER4, 447), (network.SERVER4, 448)}


# -- a proxy that passes TLS on

@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize("interface", ["any", "eth0"])
def test_haproxy_with_proxy_protocol(stage, net, version, interface):
    """TLS goes through haproxy to nginx: the socket is the one from haproxy; the wire outside shows the client."""
    s = stage(interface=interface, watch=(net.server, "eth0"))
    s.service(Haproxy, False, ns=net.server, port=443, backend="127.0.0.1:8443", proxy=version)
    server = s.service(Nginx, True, port=9443, extra="listen 8443 ssl proxy_protocol;"
                       "add_header X-Ports \"$proxy_protocol_port $remote_port\" always;")
    server.put("file", b"of nginx\n" * 1000)
    fetch(s.client(False), network.SERVER4, 443, 443, 443)
    truth = s.wire.truth()
    assert len(truth) == 3
    expected = {}
    for (client, there), sides in truth.items():
        outside, inside = sides[1].split(b"X-Ports: ")[1].split(b"\r\n")[0].split()
        assert int(outside) == client[1] and there == (network.SERVER4, 443)
        if interface == "eth0":
            expected[(client, (network.SERVER4, 447))] = sides
        else:
            expected[(("127.0.0.1", int(inside)), ("127.0.0.1", 8447))] = sides
    check_forged(s.agent, s.path, expected)
