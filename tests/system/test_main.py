# SPDX-License-Identifier: Apache-2.0
"""The main walk: an HTTPS request becomes packets that an IDS understands, byte for byte."""
import os
import re
import subprocess
import threading

import pytest

import capture
import net as network
from ids import OUR_SIDS, Suricata
from proc import run, wait_for
from web import PYTHON, certificate, curl, pattern, python_client, request  # noqa: F401

KIB, MIB = 1024, 1 << 20
POOL = "128M"
SERVER = {4: network.SERVER4, 6: network.SERVER6}
CLIENT = {4: network.CLIENT4, 6: network.CLIENT6}
URL = {4: f"https://{network.SERVER4}", 6: f"https://[{network.SERVER6}]"}


def start_agent(agentd, scratch, *args, **more):
    path = os.path.join(scratch, "forged.pcapng")
    return agentd("-I", "any", "-D", "-w", path, "--pool-size", POOL, *args, **more), path


def finish(agent, size):
    """Wait for @size bytes in the forged packets, check the equations, end the agent."""
    agent.wait_forged(size)
    counters = agent.check_balance()
    agent.stop()
    assert counters["forged"] == size, counters
    return counters


def check_file(path, expected, judge=True):
    """The forged packets are those of @expected: {((client, port), (server, port)): (its bytes, server's bytes)},
    and nothing else. @judge: tshark must think so too."""
    flows = capture.flows(path)
    assert set(flows) == set(expected)
    for key, streams in expected.items():
        for side in (0, 1):
            same(flows[key].stream(side), streams[side], f"{key} side {side}")
    if judge:
        seen = capture.tshark_streams(path)
        for (client, server), streams in expected.items():
            assert seen[client + server] == streams
        assert not capture.tshark_complaints(path)
    return flows


def same(got, expected, what):
    """Equal, or say where they part: nobody wants to read 64 MiB of an assertion."""
    if got == expected:
        return
    at = next((i for i, (a, b) in enumerate(zip(got, expected)) if a != b), min(len(got), len(expected)))
    raise AssertionError(f"{what}: {len(got)} bytes, expected {len(expected)}; they part at {at}: "
                         f"{got[at:at + 40]!r}, expected {expected[at:at + 40]!r}")


def one_flow_of(path, version, tapped_port=443):
    """The key of the only flow in the file: its client's port is not known beforehand."""
    flows = capture.flows(path)
    assert len(flows) == 1, list(flows)
    key = next(iter(flows))
    assert key[0][0] == CLIENT[version] and key[1] == (SERVER[version], tapped_port + 4)
    return key


# -- a tapped server: curl -> nginx

@pytest.mark.parametrize("tls", ["1.2", "1.3"])
@pytest.mark.parametrize("version", [4, 6])
@pytest.mark.parametrize("size", [1, 16 * KIB, MIB])
def test_curl_download(agentd, nginx, net, scratch, tls, version, size):
    agent, path = start_agent(agentd, scratch)
    server = nginx(env=agent.env(), protocols=f"TLSv{tls}")
    server.put("file", pattern(size))
    sent, head, body = curl(URL[version] + "/file", net.client, scratch)
    assert body == pattern(size)
    finish(agent, len(sent + head + body))
    check_file(path, {one_flow_of(path, version): (sent, head + body)})


@pytest.mark.parametrize("tls", ["1.2", "1.3"])
@pytest.mark.parametrize("size", [1, 16 * KIB, MIB])
def test_curl_upload(agentd, nginx, net, scratch, tls, size):
    agent, path = start_agent(agentd, scratch)
    nginx(env=agent.env(), protocols=f"TLSv{tls}")
    upload = os.path.join(scratch, "upload")
    with open(upload, "wb") as f:
        f.write(pattern(size))
    sent, head, body = curl(URL[4] + "/upload", net.client, scratch, "--data-binary", "@" + upload)
    sent += pattern(size)
    finish(agent, len(sent + head + body))
    check_file(path, {one_flow_of(path, 4): (sent, head + body)})


@pytest.mark.slow
@pytest.mark.parametrize("tls", ["1.2", "1.3"])
def test_64_mib_both_ways(agentd, nginx, net, scratch, tls):
    agent, path = start_agent(agentd, scratch)
    server = nginx(env=agent.env(), protocols=f"TLSv{tls}")
    big = pattern(64 * MIB)
    server.put("file", big)
    sent, head, body = curl(URL[4] + "/file", net.client, scratch)
    assert body == big
    with open(os.path.join(scratch, "upload"), "wb") as f:
        f.write(big)
    sent2, head2, body2 = curl(URL[4] + "/upload", net.client, scratch, "--data-binary", "@" + os.path.join(scratch, "upload"))
    finish(agent, len(sent + head + body + sent2 + head2 + body2) + len(big))
    flows = sorted(capture.flows(path).values(), key=lambda f: f.incarnations[0].packets[0].ts)
    assert len(flows) == 2
    same(flows[0].stream(0), sent, "request")
    same(flows[0].stream(1), head + body, "response")
    same(flows[1].stream(0), sent2 + big, "upload")
    same(flows[1].stream(1), head2 + body2, "its response")


def test_keep_alive(agentd, nginx, net, scratch):
    """Many requests on one connection: one 5-tuple; no packet lacks its MACs, checksums, place."""
    agent, path = start_agent(agentd, scratch)
    server = nginx(env=agent.env())
    for i in range(10):
        server.put(f"file{i}", pattern(1000 * (i + 1)))
    requests = [request(f"/file{i}") for i in range(10)] + [request("/upload", b"body"), request("/nothing"),
                                                              request("/missing"), request("/file1", method="HEAD")]
    sent, got, port = python_client(scratch, net.client, requests)
    finish(agent, len(sent + got))
    key = ((network.CLIENT4, port), (network.SERVER4, 447))
    flows = check_file(path, {key: (sent, got)})
    assert len(flows[key].incarnations) == 1


def test_rotation_shows_everything_below_the_depth_of_an_ids(agentd, nginx, net, scratch):
    agent, path = start_agent(agentd, scratch, "--rotate", "300000")
    server = nginx(env=agent.env())
    server.put("file", pattern(100000))
    sent, got, port = python_client(scratch, net.client, [request("/file")] * 30)
    finish(agent, len(sent + got))
    key = ((network.CLIENT4, port), (network.SERVER4, 447))
    incarnations = check_file(path, {key: (sent, got)})[key].incarnations
    assert len(incarnations) >= 7
    for i in incarnations:
        assert i.bytes[1] < 300000 + 110000
        assert b"".join(i.data[0]).startswith(b"GET ") and b"".join(i.data[1]).startswith(b"HTTP/1.1 200")
    ids = Suricata(scratch).read(path)
    http = ids.events("http")
    assert len(http) == 30 and all(e["http"]["status"] == 200 and e["http"]["length"] == 100000 for e in http)
    assert not ids.complaints()


# -- a tapped client

@pytest.mark.parametrize("version", [4, 6])
@pytest.mark.parametrize("options", [[], ["--nonblocking"], ["--threads"], ["--fork"], ["--tls", "TLSv1_2"],
                                     ["--write-size", "1"]])
def test_python_client(agentd, nginx, net, scratch, version, options):
    """_ssl.so is loaded RTLD_LOCAL and calls the _ex functions; WANT_READ, WANT_WRITE, two threads, a child."""
    agent, path = start_agent(agentd, scratch, ns=net.client)
    server = nginx()
    size = 3000 if "--write-size" in options else 300000
    server.put("file", pattern(size))
    requests = [request("/file"), request("/upload", pattern(size)), request("/file")]
    sent, got, port = python_client(scratch, net.client, requests, host=SERVER[version], env=agent.env(), args=options)
    finish(agent, len(sent + got))
    flows = check_file(path, {((CLIENT[version], port), (SERVER[version], 447)): (sent, got)})
    assert_causal(flows)


def messages(stream):
    """(begin, end) of each HTTP message with a Content-Length or no body in @stream."""
    at, found = 0, []
    while at < len(stream):
        head = stream.index(b"\r\n\r\n", at) + 4
        length = re.search(rb"\r\nContent-Length: *([0-9]+)", stream[at:head], re.I)
        found.append((at, head + (int(length.group(1)) if length else 0)))
        at = found[-1][1]
    return found


def assert_causal(flows):
    """No response begins before its request has ended."""
    for flow in flows.values():
        requests, responses = messages(flow.stream(0)), messages(flow.stream(1))
        at = [0, 0]
        for incarnation in flow.incarnations:
            for p in incarnation.packets:
                at[(p.src, p.sport) != flow.client] += len(p.payload)
                asked = sum(end <= at[0] for _, end in requests)
                answered = sum(begin < at[1] for begin, _ in responses)
                assert answered <= asked, f"response {answered} when {asked} requests were there"


@pytest.mark.slow
def test_64_mib_from_a_tapped_client(agentd, nginx, net, scratch):
    agent, path = start_agent(agentd, scratch, ns=net.client)
    server = nginx()
    server.put("file", pattern(64 * MIB))
    sent, got, port = python_client(scratch, net.client, [request("/file"), request("/upload", pattern(64 * MIB))],
                                    env=agent.env())
    finish(agent, len(sent + got))
    check_file(path, {((network.CLIENT4, port), (network.SERVER4, 447)): (sent, got)}, judge=False)


def test_urllib(agentd, nginx, net, scratch):
    agent, path = start_agent(agentd, scratch, ns=net.client)
    server = nginx()
    server.put("file", pattern(5000))
    # A client's socket is proven while it exists: this one lives as long as an answer from further away takes.
    script = ("import ssl, sys, time, urllib.request as u; c = ssl._create_unverified_context();"
              "r = u.urlopen('https://192.0.2.2/file', context=c); time.sleep(0.2); sys.stdout.buffer.write(r.read())")
    plain = run([PYTHON, "-c", script], ns=net.client)
    tapped = run([PYTHON, "-c", script], ns=net.client, env=agent.env())
    assert (tapped.stdout, tapped.stderr) == (plain.stdout, plain.stderr) == (pattern(5000), b"")
    wait_for(lambda: agent.counters()["acked"] > 5000)
    agent.check_balance()
    agent.stop()
    flows = capture.flows(path)
    assert len(flows) == 1
    stream = next(iter(flows.values()))
    assert stream.stream(0).startswith(b"GET /file HTTP/1.1\r\n") and stream.stream(1).endswith(pattern(5000))


# -- both ends tapped by one agent

@pytest.mark.parametrize("version", [4, 6])
def test_both_ends_tapped_are_one_flow(agentd, python_server, net, scratch, version):
    agent, path = start_agent(agentd, scratch)
    server = python_server(env=agent.env())
    requests = [request("/bytes/200000"), request("/x", pattern(200000)), request("/bytes/1")]
    sent, got, port = python_client(scratch, net.server, requests, host=SERVER[version], env=agent.env())
    assert server.recorded(port) == (sent, got)
    agent.wait_forged(len(sent + got))
    counters = agent.check_balance()
    agent.stop()
    assert counters["forged"] == len(sent + got)
    assert counters["reported"] == 2 * len(sent + got) and counters["duplicate"] == len(sent + got)
    flows = check_file(path, {((SERVER[version], port), (SERVER[version], 447)): (sent, got)})
    assert_causal(flows)


# -- other programs

def test_openssl_s_client_and_s_server(agentd, net, scratch, started):
    agent, path = start_agent(agentd, scratch)
    cert, key = certificate(scratch)
    out = os.path.join(scratch, "s_server.out")
    with open(out, "wb") as f:
        # pylint: disable=consider-using-with
        server = subprocess.Popen(net.server.command(["openssl", "s_server", "-accept", "443", "-quiet", "-naccept", "1",
                                                      "-cert", cert, "-key", key]),
                                  stdin=subprocess.PIPE, stdout=f, stderr=subprocess.DEVNULL, env=agent.env())
    started.append(Popened(server))
    wait_for(lambda: b":443" in run(["ss", "-Hltn"], ns=net.server).stdout)
    # pylint: disable=consider-using-with
    client = subprocess.Popen(net.server.command(["openssl", "s_client", "-connect", "192.0.2.2:443", "-quiet"]),
                              stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=agent.env())
    started.append(Popened(client))
    client.stdin.write(b"hello server\n")
    client.stdin.flush()
    wait_for(lambda: os.path.getsize(out) == 13)
    server.stdin.write(b"hello client\n")
    server.stdin.flush()
    assert client.stdout.readline() == b"hello client\n"
    finish(agent, 26)
    client.kill()
    flows = capture.flows(path)
    assert len(flows) == 1
    flow = next(iter(flows.values()))
    assert (flow.stream(0), flow.stream(1)) == (b"hello server\n", b"hello client\n")


class Popened:
    def __init__(self, process):
        self.process = process

    def stop(self):
        self.process.kill()
        self.process.wait(30)


def test_threaded_server_with_many_connections(agentd, python_server, net, scratch):
    agent, path = start_agent(agentd, scratch)
    server = python_server(env=agent.env())
    many_clients(net, scratch, 8)
    size = sum(len(x) for port in server.ports() for x in server.recorded(port))
    finish(agent, size)
    check_file(path, {((network.CLIENT4, port), (network.SERVER4, 447)): server.recorded(port)
                      for port in server.ports()}, judge=False)


def many_clients(net, scratch, n, requests=None, options=()):
    """@n clients at once. Returns [(sent, got, port)]."""
    results, errors = [], []

    def one(i):
        try:
            results.append(python_client(scratch, net.client,
                                         requests or [request(f"/bytes/{i * 1000 + k}") for k in range(20)],
                                         name=f"client{i}", args=options))
        except Exception as error:  # pylint: disable=broad-except
            errors.append(error)
    threads = [threading.Thread(target=one, args=(i,)) for i in range(n)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert not errors, errors[0]
    return results


def test_server_that_forks_for_each_connection(agentd, python_server, net, scratch):
    agent, path = start_agent(agentd, scratch)
    server = python_server(env=agent.env(), args=["--fork"])
    many_clients(net, scratch, 4)
    size = sum(len(x) for port in server.ports() for x in server.recorded(port))
    finish(agent, size)
    check_file(path, {((network.CLIENT4, port), (network.SERVER4, 447)): server.recorded(port)
                      for port in server.ports()}, judge=False)


def test_nginx_workers_and_reload_under_load(agentd, nginx, net, scratch):
    agent, path = start_agent(agentd, scratch)
    server = nginx(env=agent.env(), workers=3)
    server.put("file", pattern(20000))
    stop = threading.Event()

    def reload():
        while not stop.wait(0.5):
            server.reload()
    reloader = threading.Thread(target=reload)
    reloader.start()
    try:
        results = []
        for _ in range(6):
            results += many_clients(net, scratch, 4, [request("/file", close=True)])
    finally:
        stop.set()
        reloader.join()
    finish(agent, sum(len(sent + got) for sent, got, _ in results))
    check_file(path, {((network.CLIENT4, port), (network.SERVER4, 447)): (sent, got) for sent, got, port in results},
               judge=False)


def test_port_shift_and_port_map(agentd, python_server, net, scratch):
    agent, path = start_agent(agentd, scratch, "--port-shift", "100", "--port-map", "444=53,445=1883")
    for port in (443, 444, 445):
        server = python_server(env=agent.env(), port=port)
        python_client(scratch, net.client, [request("/")], port=port)
        server.stop()
    wait_for(lambda: agent.counters()["acked"] >= 3 * 100)
    agent.check_balance()
    agent.stop()
    assert sorted(key[1][1] for key in capture.flows(path)) == [53, 543, 1883]


def test_mtu(agentd, nginx, net, scratch):
    agent, path = start_agent(agentd, scratch, "-m", "9000")
    server = nginx(env=agent.env())
    server.put("file", pattern(200000))
    sent, head, body = curl(URL[4] + "/file", net.client, scratch)
    finish(agent, len(sent + head + body))
    check_file(path, {one_flow_of(path, 4): (sent, head + body)})
    assert max(len(frame) for _, frame in capture.frames(path)) == 9014


# -- the IDS

SECRETS = {"uri": b"/secret-uri", "request": b"a secret-request body", "response": b"a secret-response body\n"}


def secret_requests(server):
    server.put("secret-uri", SECRETS["response"])
    return [request("/secret-uri"), request("/upload", SECRETS["request"])]


def check_ids(ids):
    assert OUR_SIDS <= ids.sids()
    http = {e["http"]["url"]: e for e in ids.events("http")}
    event = http["/secret-uri"]
    assert event["http"]["hostname"] == "server.example" and event["http"]["status"] == 200
    assert (event["src_ip"], event["dest_ip"], event["dest_port"]) == (network.CLIENT4, network.SERVER4, 447)
    assert http["/upload"]["http"]["http_method"] == "POST"
    assert not ids.complaints()


def test_suricata_reads_the_file(agentd, nginx, net, scratch):
    agent, path = start_agent(agentd, scratch)
    sent, got, _ = python_client(scratch, net.client, secret_requests(nginx(env=agent.env())))
    finish(agent, len(sent + got))
    check_ids(Suricata(scratch).read(path))


def test_suricata_behind_an_interface(agentd, nginx, net, scratch, started):
    """agentd -o: no receiver; the sensor listens at the other end of the wire."""
    ids = Suricata(scratch)
    started.append(ids.listen("replay1", net.server))
    agent = agentd("-I", "any", "-D", "-o", "replay0")
    python_client(scratch, net.client, secret_requests(nginx(env=agent.env())))
    ids.wait_for_sids(OUR_SIDS)
    agent.check_balance()
    ids.stop()
    check_ids(ids)


@pytest.mark.parametrize("address", [network.IDS4, f"[{network.IDS6}]", f"{network.IDS4}:3005"])
def test_suricata_behind_a_tunnel(agentd, receiverd, nginx, net, scratch, started, address):
    """The whole way: curl -> nginx | agentd -> receiverd -> interface -> Suricata. Sanitizers watch."""
    ids = Suricata(scratch)
    started.append(ids.listen("sniff0", net.ids))
    receiver = receiverd("-c", "-o", "dummy0", asan=True)
    agent = agentd("-I", "any", "-D", "-t", address, asan=True)
    server = nginx(env=agent.env())
    secret_requests(server)
    sent, head, body = curl("https://server.example/secret-uri", net.client, scratch, "--resolve",
                            f"server.example:443:{network.SERVER4}")
    assert body == SECRETS["response"]
    curl("https://server.example/upload", net.client, scratch, "--resolve", f"server.example:443:{network.SERVER4}",
         "--data-binary", SECRETS["request"].decode())
    ids.wait_for_sids(OUR_SIDS)
    agent.wait_forged(len(sent + head + body) + len(SECRETS["request"]))
    agent.check_balance()
    agent.stop()
    receiver.stop()
    ids.stop()
    check_ids(ids)


def test_every_body_is_seen_with_a_deeper_stream(agentd, nginx, net, scratch):
    agent, path = start_agent(agentd, scratch)
    server = nginx(env=agent.env())
    server.put("big", pattern(5 * MIB) + b"secret-response")
    sent, got, _ = python_client(scratch, net.client, [request("/big"), request("/big")])
    finish(agent, len(sent + got))
    ids = Suricata(scratch, deep=True).read(path)
    http = ids.events("http")
    assert [e["http"]["length"] for e in http] == [5 * MIB + 15] * 2
    assert 9000002 in ids.sids() and not ids.complaints()
