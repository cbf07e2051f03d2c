# SPDX-License-Identifier: Apache-2.0
"""Handshakes that are not the plain one, by programs that hide their socket: each is paired by its hello all the same."""
import os
import subprocess

import pytest

import capture
import net as network
from proc import run, wait_for
from web import LIB, PYTHON, certificate

AIO = [PYTHON, os.path.join(LIB, "aio.py")]


@pytest.fixture
def tapped(agentd, net, scratch):
    """An agent beside the clients; of curl, whose BIO is its own."""
    class Tapped:
        path = os.path.join(scratch, "forged.pcapng")
        agent = agentd("-I", "any", "-D", "-w", path, ns=net.client)

        def curl(self, *args):
            done = run(["curl", "-sSk", "--http1.1", "-w", "%{local_port} %{http_version}\\n", *args], ns=net.client,
                       env=self.agent.env())
            return [int(line.split()[0]) for line in done.stdout.decode().splitlines()]

        def shown(self):
            """Balances, stops, and returns {client's port: (request, response)}."""
            counters = self.agent.check_balance()
            assert counters["forged"] == counters["reported"] > 0, self.agent.status()
            self.agent.stop()
            return {ends[0][1]: (f.stream(0), f.stream(1)) for ends, f in capture.flows(self.path).items()}
    return Tapped()


def check(shown, ports, body):
    assert sorted(shown) == sorted(ports) and len(set(ports)) == len(ports)
    for sent, got in shown.values():
        assert sent.startswith(b"GET /file HTTP/1.1\r\n") and got.endswith(b"\r\n\r\n" + body)


@pytest.mark.parametrize("protocols", ["TLSv1.2", "TLSv1.3"])
def test_resumed_sessions(tapped, nginx, scratch, protocols):
    nginx(protocols=protocols, extra="keepalive_requests 1; ssl_session_tickets on;").put("file", b"x" * 3000)
    out = os.path.join(scratch, "out")
    ports = tapped.curl(*[a for i in range(4) for a in ("https://192.0.2.2/file", "-o", out)])
    check(tapped.shown(), ports, b"x" * 3000)


def test_hello_retry_request(tapped, nginx, scratch):
    """The server asks for another group: two ClientHellos with one random, and a ServerHello that has none."""
    nginx(protocols="TLSv1.3", extra="ssl_ecdh_curve secp384r1;").put("file", b"y" * 3000)
    ports = tapped.curl("https://192.0.2.2/file", "-o", os.path.join(scratch, "out"))
    # the second ClientHello stands behind a ChangeCipherSpec (RFC 8446 D.4), and says nothing that the first did not
    wait_for(lambda: tapped.agent.status()["wire"]["hellos"] in (3, 4), why=tapped.agent.status)
    check(tapped.shown(), ports, b"y" * 3000)


def test_ipv6(tapped, nginx, scratch):
    nginx().put("file", b"6" * 3000)
    ports = tapped.curl("https://[2001:db8:1::2]/file", "-o", os.path.join(scratch, "out"))
    check(tapped.shown(), ports, b"6" * 3000)


FAST_OPEN = """
import socket, ssl, sys
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain(*sys.argv[1:])
s = socket.create_server(("192.0.2.2", 443))
s.setsockopt(socket.IPPROTO_TCP, socket.TCP_FASTOPEN, 5)
print("ready", flush=True)
while True:
    c, _ = s.accept()
    with context.wrap_socket(c, server_side=True) as t:
        while b"\\r\\n\\r\\n" not in t.recv(4096):
            pass
        t.sendall(b"HTTP/1.1 200 OK\\r\\nConnection: close\\r\\nContent-Length: 5\\r\\n\\r\\nfast\\n")
        t.recv(4096)
"""


def test_tcp_fast_open(tapped, net, scratch):
    """The ClientHello is in the SYN."""
    for ns in (net.client, net.server):
        ns.sysctl("net/ipv4/tcp_fastopen", 3)
    with subprocess.Popen(net.server.command([PYTHON, "-c", FAST_OPEN, *certificate(scratch)]),
                          stdout=subprocess.PIPE) as server:
        try:
            assert server.stdout.readline() == b"ready\n"
            ports = [p for _ in range(3) for p in tapped.curl("--tcp-fastopen", "https://192.0.2.2/file", "-o",
                                                              os.path.join(scratch, "out"))]
        finally:
            server.kill()
    names, values = [line.split()[1:] for line in run(["grep", "^TcpExt", "/proc/net/netstat"], ns=net.client)
                     .stdout.decode().splitlines()]
    assert int(values[names.index("TCPFastOpenActive")]) > 0, "no SYN carried data"
    check(tapped.shown(), ports, b"fast\n")


BOTH_ENDS = """
import asyncio, ssl, sys
server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
server.load_cert_chain(*sys.argv[1:])
client = ssl.create_default_context()
client.check_hostname, client.verify_mode = False, ssl.CERT_NONE
async def serve(r, w):
    w.write(b"HTTP/1.1 200 OK\\r\\nContent-Length: 3000\\r\\n\\r\\n" + (await r.readuntil(b"\\r\\n\\r\\n"))[:1] * 3000)
    await w.drain()
async def ask(i):
    r, w = await asyncio.open_connection("127.0.0.1", 8443, ssl=client)
    w.write(b"GET /file HTTP/1.1\\r\\nHost: a\\r\\n\\r\\n")
    await r.readuntil(b"\\r\\n\\r\\n")
    await r.readexactly(3000)
    print(w.get_extra_info("sockname")[1])
    await asyncio.sleep(0.2)
    w.close()
async def main():
    await asyncio.start_server(serve, "127.0.0.1", 8443, ssl=server)
    await asyncio.gather(*(ask(i) for i in range(10)))
asyncio.run(main())
"""


def test_both_ends_in_one_process(tapped, net, scratch):
    """Both handles know the same randoms and see the same addresses: the role tells them apart."""
    done = run([PYTHON, "-c", BOTH_ENDS, *certificate(scratch)], ns=net.client, env=tapped.agent.env())
    ports = [int(p) for p in done.stdout.split()]
    assert len(ports) == 10
    counters = tapped.agent.check_balance()
    assert counters["duplicate"] == counters["forged"] == counters["reported"] / 2 > 30000, tapped.agent.status()
    tapped.agent.stop()
    shown = {ends[0][1]: (f.stream(0), f.stream(1)) for ends, f in capture.flows(tapped.path).items()
             if ends[1] == ("127.0.0.1", 8447)}
    check(shown, ports, b"G" * 3000)


def test_nginx_that_proxies_to_itself(agentd, nginx, net, scratch):
    path = os.path.join(scratch, "forged.pcapng")
    agent = agentd("-I", "any", "-D", "-w", path)
    nginx(env=agent.env(), extra="location = /self { proxy_pass https://127.0.0.1:443/file; proxy_ssl_verify off; }").put(
        "file", b"n" * 3000)
    run(["curl", "-sSfk", "--http1.1", "https://192.0.2.2/self", "-o", os.path.join(scratch, "out")], ns=net.client)
    counters = agent.check_balance()
    assert counters["duplicate"] * 2 + (counters["forged"] - counters["duplicate"]) == counters["reported"]
    agent.stop()
    flows = capture.flows(path)
    assert {ends[1] for ends in flows} == {(network.SERVER4, 447), ("127.0.0.1", 447)}
    assert all(f.stream(1).endswith(b"n" * 3000) for f in flows.values()) and len(flows) == 2


def test_restarted_agentd_knows_older_handshakes(agentd, net, scratch, started):
    """The handshake is over, agentd dies, and only to its successor the first byte is said."""
    cert, key = certificate(scratch)
    with subprocess.Popen(net.server.command([*AIO, "server", "--cert", cert, "--key", key]), stdout=subprocess.DEVNULL) as server:
        try:
            wait_for(lambda: run(["bash", "-c", "exec 3<>/dev/tcp/192.0.2.2/443"], ns=net.client, check=False).returncode == 0)
            agent = agentd("-I", "any", "-D", "-w", os.path.join(scratch, "first.pcapng"), ns=net.client)
            gate = os.path.join(scratch, "gate")
            with subprocess.Popen(net.client.command([*AIO, "client", "--host", "192.0.2.2", "--token", "t", "--gate", gate]),
                                  stdout=subprocess.PIPE, env=agent.env(), text=True) as client:
                port = int(client.stdout.readline().split()[1])
                wait_for(lambda: agent.status()["wire"]["hellos"] == 2, why=agent.status)
                agent.kill()
                started.remove(agent)
                path = os.path.join(scratch, "second.pcapng")
                successor = agentd("-I", "any", "-D", "-w", path, ns=net.client, socket=agent.socket)
                with open(gate, "w", encoding="ascii"):
                    pass
                assert client.wait(60) == 0
        finally:
            server.kill()
    counters = successor.check_balance()
    assert counters["forged"] == counters["reported"] > 400, successor.status()
    successor.stop()
    assert list(capture.flows(path)) == [((network.CLIENT4, port), (network.SERVER4, 447))]
