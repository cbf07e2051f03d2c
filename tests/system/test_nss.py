# SPDX-License-Identifier: Apache-2.0
"""NSS: real programs and all calls of NSPR, byte-identical and under the true addresses, though it tells no random."""
import itertools
import os
import shutil

import pytest

import capture
import net as network
import web
from proc import Daemon, environment, run, wait_for
from services import Apache, Service
from stage import Stage
from table import shows
from test_snippets import POOL, PORT, Pair, snippet

BOTH = [("server",), ("client",), ("server", "client")]

CURL = [web.PYTHON, os.path.join(web.LIB, "libcurl.py"), "nss"]
NO_CURL = run([*CURL, "-"], check=False).returncode != 0

pytestmark = pytest.mark.skipif(not shutil.which("selfserv"), reason="no libnss3-tools")


def database(folder):
    """A database of NSS with the key and the certificate "server"."""
    path = os.path.join(folder, "nssdb")
    noise = os.path.join(folder, "noise")
    os.makedirs(path)
    with open(noise, "wb") as f:
        f.write(web.pattern(64))
    run(["certutil", "-N", "-d", "sql:" + path, "--empty-password"])
    run(["certutil", "-S", "-d", "sql:" + path, "-n", "server", "-s", "CN=server.example", "-x", "-t", "CTu,Cu,Cu",
         "-k", "ec", "-q", "nistp256", "-z", noise, "-m", "1"])
    return "sql:" + path


def until_tapped(agent, n, attempt):
    """attempt(i) runs @n programs with the tap and returns [(client's bytes, server's bytes)] of their connections. On
    a busy machine one may not get to attach in time: then again. Returns what was said by programs that were tapped."""
    seen, before = [], 0
    for i in range(8):
        said = attempt(i)
        counters = agent.check_balance()
        size = sum(map(len, itertools.chain(*said)))
        reported = counters["reported"] - counters["early_rejected"]
        tapped, odd = divmod(reported - before, size)
        assert odd == 0 and tapped <= n and counters["sendfile"] == 0, (size, before, counters)
        seen += said if tapped else []
        if tapped == n:
            return sorted(seen)
        before = reported
    raise AssertionError(f"not tapped in 8 attempts: {agent.status()}")


def forged(path):
    """The same of what was forged."""
    flows = capture.flows(path)
    assert all(key[1][1] == PORT + 4 for key in flows), flows.keys()
    return sorted((f.stream(0), f.stream(1)) for f in flows.values())


def tstclnt(net, scratch, said, *args, env=None):
    """Say it, and return what the server said."""
    script = os.path.join(scratch, "said")  # of a pipe that has ended it would never see the end
    with open(script, "wb") as f:
        f.write(said)
    return run(["tstclnt", "-h", "127.0.0.1", "-p", PORT, "-o", "-D", "-A", script, *args], ns=net.server, env=env,
               check=False, timeout=30).stdout


def listening(net):
    ports = run(["cat", "/proc/net/tcp", "/proc/net/tcp6"], ns=net.server).stdout.decode()
    return f":{PORT:04X} " in ports


@pytest.fixture
def selfserv(net, scratch, started):
    db = database(scratch)

    def start(*args, env=None):
        server = Daemon(["selfserv", "-d", db, "-n", "server", "-p", PORT, *args],
                        os.path.join(scratch, "selfserv.log"), net.server, env=env)
        started.append(server)
        server.wait_for(lambda: listening(net))
        return server
    return start


@pytest.mark.parametrize("version", ["tls1.2", "tls1.3"])
@pytest.mark.parametrize("size", [1, 16384, 3000000])
def test_tstclnt_and_nginx(version, size, agentd, nginx, net, scratch):
    path = os.path.join(scratch, "forged.pcapng")
    agent = agentd("-I", "any", "-D", "-w", path, "--pool-size", POOL)
    body = web.pattern(size)
    nginx(port=PORT).put("body", body)
    said = b"GET /body HTTP/1.0\r\n\r\n"

    def attempt(_):
        got = tstclnt(net, scratch, said, "-V", f"{version}:{version}", env=agent.env())
        assert got.endswith(body)
        return [(said, got)]
    truth = until_tapped(agent, 1, attempt)
    wait_for(lambda: agent.status()["sessions"]["delivered"] == len(truth), why=agent.status)
    agent.stop()
    assert forged(path) == truth


@pytest.mark.parametrize("tapped", BOTH, ids="+".join)
@pytest.mark.parametrize("version", ["tls1.2", "tls1.3"])
def test_tstclnt_and_selfserv(version, tapped, agentd, selfserv, net, scratch):
    """The server sends a file with PR_TransmitFile()."""
    path = os.path.join(scratch, "forged.pcapng")
    agent = agentd("-I", "any", "-D", "-w", path, "--pool-size", POOL)
    env = {role: agent.env() if role in tapped else environment() for role in ("server", "client")}
    body = web.pattern(200000)
    with open(os.path.join(scratch, "body"), "wb") as f:
        f.write(body)
    said = f"GET /body{scratch}/body HTTP/1.0\r\n\r\n".encode()

    def attempt(_):
        server = selfserv("-V", f"{version}:{version}", env=env["server"])
        got = tstclnt(net, scratch, said, "-V", f"{version}:{version}", env=env["client"])
        server.kill()
        assert got
        return [(said, got)]
    truth = until_tapped(agent, len(tapped), attempt)
    agent.stop()
    assert forged(path) == truth


@shows("libcurl-nss", "NSS")
@pytest.mark.skipif(NO_CURL, reason="no libcurl3-nss")
@pytest.mark.parametrize("http", ["1", "2"])
def test_curl(http, agentd, net, scratch, started):
    """libcurl on NSS, loaded by dlopen() without RTLD_GLOBAL. Against the truth of the wire."""
    s = Stage(agentd, net, scratch, started)

    def fill(server):
        for i in range(3):
            server.put(f"file{i}", web.pattern(100000 * i + 1))
    s.all_ways(Apache, lambda do, host: do([*CURL, http, *[f"https://{host}/file{i}" for i in range(3)]]), fill=fill,
               keys=True)
    truth = s.check(3)
    assert all(sides[0].startswith(b"GET /file0" if http == "1" else b"PRI * HTTP/2.0") for sides in truth.values())


class Selfserv(Service):
    def prepare(self):
        return ["selfserv", "-d", database(self.folder), "-n", "server", "-p", self.port, "-V", "tls1.2:tls1.3"]


@shows("selfserv", "NSS")
def test_selfserv_as_on_the_wire(agentd, net, scratch, started):
    """Its client writes the keys down."""
    s = Stage(agentd, net, scratch, started)
    s.service(Selfserv, True)
    for how in ([], ["--tls-max", "1.2"]):
        got = s.client(False)(["curl", "-sfk", "--http0.9", *how, f"https://{network.SERVER4}/"]).stdout
        assert b"GET / HTTP/1.1" in got  # it says what it was told
    s.check(2)


@shows("tstclnt", "NSS")
def test_tstclnt_as_on_the_wire(agentd, net, scratch, started):
    """Its server writes the keys down."""
    s = Stage(agentd, net, scratch, started)
    server = s.service(Apache, False, keys=True)
    body = web.pattern(200000)
    server.put("file", body)
    script = os.path.join(scratch, "said")
    with open(script, "wb") as f:
        f.write(b"GET /file HTTP/1.0\r\n\r\n")
    for version in ("tls1.2", "tls1.3"):
        got = s.client(True)(["tstclnt", "-h", network.CLIENT4, "-p", 443, "-o", "-D", "-V", f"{version}:{version}",
                              "-A", script]).stdout
        assert got.endswith(body)
    s.check(2)


# What becomes of its bytes; a TLS layer that is told to do nothing says nothing.
CALLS = ["read", "recv", "writev", "file", "nonblock", "accept", "acceptread", "top", "through", "below", "push",
         "half", "callback", "silly", "insecure", "plain"]
UNSEEN = ("insecure", "plain")


@pytest.mark.skipif(not os.path.exists(snippet("nss_calls")), reason="built without libnss3-dev")
@pytest.mark.parametrize("tapped", BOTH, ids="+".join)
@pytest.mark.parametrize("version", ["1.3", "1.2"])
@pytest.mark.parametrize("mode", CALLS)
def test_calls(mode, version, tapped, agentd, net, scratch, monkeypatch):  # pylint: disable=too-many-arguments
    monkeypatch.setenv("SNIP_TLS", version)
    monkeypatch.setenv("SNIP_NSS", database(scratch))
    path = os.path.join(scratch, "forged.pcapng")
    agent = agentd("-I", "any", "-D", "-w", path, "--pool-size", POOL)
    plain = Pair("nss_calls", [mode], net, os.path.join(scratch, "plain"), (), agent)
    assert plain.outcome["client"][0] == 0 and plain.outcome["server"][0] == 0, plain.outcome
    assert b"wrong" not in plain.outcome["client"][1] + plain.outcome["server"][1]

    def attempt(i):
        pair = Pair("nss_calls", [mode], net, os.path.join(scratch, f"tapped{i}"), tapped, agent)
        assert pair.outcome == plain.outcome
        return list(pair.streams(tapped[0]))
    if mode in UNSEEN:
        attempt(0)
        assert agent.check_balance()["reported"] == 0
    truth = [] if mode in UNSEEN else until_tapped(agent, len(tapped), attempt)
    agent.stop()
    assert forged(path) == truth


@pytest.mark.skipif(not os.path.exists(snippet("nss_life")), reason="built without libnss3-dev")
@pytest.mark.parametrize("tapped", BOTH, ids="+".join)
@pytest.mark.parametrize("mode", ["reads", "writes", "buffers", "transmits", "methods", "pops", "duplex", "imported"])
def test_life(mode, tapped, agentd, net, scratch, monkeypatch):  # pylint: disable=too-many-arguments
    """Layers above TLS that change some of the calls; descriptors that are used again, however they were closed."""
    monkeypatch.setenv("SNIP_NSS", database(scratch))
    path = os.path.join(scratch, "forged.pcapng")
    agent = agentd("-I", "any", "-D", "-w", path, "--pool-size", POOL)
    plain = Pair("nss_life", [mode], net, os.path.join(scratch, "plain"), (), agent)
    assert plain.outcome["client"][0] == 0 and plain.outcome["server"][0] == 0, plain.outcome

    def attempt(i):
        pair = Pair("nss_life", [mode], net, os.path.join(scratch, f"tapped{i}"), tapped, agent)
        assert pair.outcome == plain.outcome
        return list(pair.streams(tapped[0]))
    truth = until_tapped(agent, len(tapped), attempt)
    agent.stop()
    assert sorted(forged(path)) == sorted(truth)


@pytest.mark.parametrize("tapped", BOTH, ids="+".join)
def test_early_data(tapped, agentd, selfserv, net, scratch):
    """The first connection brings the ticket, the second early data."""
    path = os.path.join(scratch, "forged.pcapng")
    agent = agentd("-I", "any", "-D", "-w", path, "--pool-size", POOL)
    env = {role: agent.env() if role in tapped else environment() for role in ("server", "client")}
    said = b"GET /early HTTP/1.0\r\n\r\n"

    def attempt(_):
        server = selfserv("-V", "tls1.3:tls1.3", "-u", "-Z", env=env["server"])
        got = tstclnt(net, scratch, said, "-V", "tls1.3:tls1.3", "-u", "-Z", "-L", "2", env=env["client"])
        server.kill()
        assert len(got) % 2 == 0
        return [(said, got[:len(got) // 2]), (said, got[len(got) // 2:])]
    truth = until_tapped(agent, len(tapped), attempt)
    agent.stop()
    assert forged(path) == truth


@pytest.mark.parametrize("tapped", BOTH, ids="+".join)
def test_dtls_is_left_alone(tapped, agentd, net, scratch, started):
    """Recognised and counted, by either end."""
    path = os.path.join(scratch, "forged.pcapng")
    agent = agentd("-I", "any", "-D", "-w", path, "--pool-size", POOL)
    env = {role: agent.env() if role in tapped else environment() for role in ("server", "client")}
    what = ["tstclnt", "-h", "127.0.0.1", "-p", PORT, "-o", "-V", "tls1.2:tls1.2"]
    ends = {"server": [*what, "-P", "server", "-d", database(scratch), "-n", "server"],
            "client": [*what, "-P", "client", "-D"]}
    said = {role: f"from the {role}\n".encode() for role in ends}

    def start(role, i):
        talks = f"(sleep 1; printf 'from the {role}\n'; sleep 30) | exec \"$0\" \"$@\""
        started.append(Daemon(["bash", "-c", talks, *ends[role]], os.path.join(scratch, f"{role}{i}.log"), net.server,
                              env=env[role]))
        return started[-1]

    def attempt(i):
        server = start("server", i)
        server.wait_for(lambda: f":{PORT:04X} " in run(["cat", "/proc/net/udp"], ns=net.server).stdout.decode())
        client = start("client", i)
        wait_for(lambda: said["server"] in client.log() and said["client"] in server.log())
        client.kill()
        server.kill()
        return [(said["client"], said["server"])]
    until_tapped(agent, len(tapped), attempt)
    counters = agent.check_balance()
    agent.stop()
    assert counters["not_tcp"] == counters["reported"] and not forged(path), counters
