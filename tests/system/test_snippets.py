# SPDX-License-Identifier: Apache-2.0
"""Small programs that do to a tap what real ones do to it: they behave as without it, and what they said is forged."""
import glob
import os
import subprocess
from collections import Counter

import pytest

import capture
from proc import build_dir, environment, run, wait_for

ADDRESS, PORT = "127.0.0.1", 8443
POOL = "256M"
KEPT_OUTPUT = 100000

# name, arguments, what becomes of its bytes
EVERYTHING, EARLY, INNER, NOT_TCP = "forged", "early", "inner", "not_tcp"
PROGRAMS = [
    ("sizes", ["1", "16384", "1048576"], EVERYTHING),
    ("sizes", ["104857600"], EVERYTHING),
    ("nonblock", [], EVERYTHING),
    ("nonblock", ["4194304", "1"], EVERYTHING),
    ("duplex", [], EVERYTHING),
    ("forker", ["fork"], EVERYTHING),
    ("forker", ["clone"], EVERYTHING),
    ("forker", ["own"], EVERYTHING),
    ("reuse", ["60"], EVERYTHING),
    ("early", [], EARLY),
    ("sendfile", [], EVERYTHING),
    ("halfclose", [], EVERYTHING),
    ("membio", [], EVERYTHING),
    ("longjmp", [], EVERYTHING),
    ("coroutines", [], EVERYTHING),
    ("sslbio", ["plain"], EVERYTHING),
    ("sslbio", ["ex"], EVERYTHING),
    ("sslbio", ["buffer"], EVERYTHING),
    ("sslbio", ["below"], EVERYTHING),
    ("sslbio", ["implicit"], EVERYTHING),
    ("sslbio", ["mixed"], EVERYTHING),
    ("sslbio", ["nested"], INNER),
    *(("sslbio", [how], EVERYTHING) for how in ("watched", "bytes", "popped", "swapped", "reset")),
    *(("openssl_calls", [how], EVERYTHING) for how in ("keyupdate", "posthandshake", "renegotiate", "newfd", "dup", "upref",
                                                       "clear", "moved", "resume")),
    ("openssl_calls", ["dtls"], NOT_TCP),
    ("smallstack", [], None),  # does not record what it says
    ("cancel", ["10"], None),
]


def snippet(name):
    return os.path.join(build_dir(), "tests", "snippets", name)


class Pair:
    """A server and a client of one program, each tapped or not."""

    def __init__(self, name, args, net, folder, tapped, agent):
        self.folder = folder
        os.makedirs(folder)
        self.done = {}
        envs = {role: agent.env(SNIP_SAVE=folder) if role in tapped else environment(SNIP_SAVE=folder)
                for role in ("server", "client")}
        command = net.server.command([snippet(name), "server", ADDRESS, PORT, *args])
        with subprocess.Popen(command, env=envs["server"], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT) as server:
            try:
                client = run([snippet(name), "client", ADDRESS, PORT, *args], ns=net.server, env=envs["client"],
                             check=False, timeout=100)
                out = server.communicate(timeout=60)[0]
            finally:
                server.kill()
        self.outcome = {"client": (client.returncode, client.stdout[:KEPT_OUTPUT], client.stderr[:KEPT_OUTPUT]),
                        "server": (server.returncode, out[:KEPT_OUTPUT])}

    def streams(self, role):
        """How often each (client's bytes, server's bytes) was said, as @role recorded it."""
        said = []
        for tx in glob.glob(os.path.join(self.folder, role + ".*.tx")):
            with open(tx, "rb") as f, open(tx[:-2] + "rx", "rb") as g:
                pair = (f.read(), g.read())
            said.append(pair if role == "client" else pair[::-1])
        return Counter(pair for pair in said if any(pair))


def short(counter):
    return [(n, len(c), len(s), c[:40], s[:40]) for (c, s), n in counter.items()]


@pytest.mark.parametrize("tapped", [("server",), ("client",), ("server", "client")], ids="+".join)
@pytest.mark.parametrize("name,args,fate", PROGRAMS, ids=lambda v: "_".join(v) if isinstance(v, list) else str(v))
def test_snippet(name, args, fate, tapped, agentd, net, scratch):  # pylint: disable=too-many-arguments
    path = os.path.join(scratch, "forged.pcapng")
    agent = agentd("-I", "any", "-D", "-w", path, "--pool-size", POOL)
    plain = Pair(name, args, net, os.path.join(scratch, "plain"), (), agent)
    assert plain.outcome["client"][0] == 0 and plain.outcome["server"][0] == 0, plain.outcome
    pair = Pair(name, args, net, os.path.join(scratch, "tapped"), tapped, agent)
    assert pair.outcome == plain.outcome
    counters = agent.check_balance()
    agent.stop()
    flows = capture.flows(path)
    if fate == EVERYTHING:
        said = pair.streams(tapped[0])
        forged = Counter((flow.stream(0), flow.stream(1)) for flow in flows.values())
        assert short(forged - said) == short(said - forged) == [], counters
    elif fate == NOT_TCP:
        (said, times), = pair.streams(tapped[0]).items()
        assert times == 1 and not flows and counters["not_tcp"] == len(tapped) * sum(map(len, said)), counters
    elif fate == INNER:  # what it said went through another session, which is shown, too
        (inner, times), = pair.streams(tapped[0]).items()
        assert times == 1 and [(f.stream(0), f.stream(1)) for f in flows.values()].count(inner) == 1, counters
        assert len(flows) == 2
    elif fate == EARLY:
        check_early(pair, tapped, flows, counters)
    else:
        assert flows and counters["forged"] > 0, counters


def check_early(pair, tapped, flows, counters):
    """Early data that were rejected were never said: the client sends them again, and they are seen once."""
    requests = sum(flow.stream(0).count(b"GET /early ") for flow in flows.values())
    assert requests == 2, counters
    assert sum(flow.stream(1).count(b"\r\n\r\nearly\n") for flow in flows.values()) == 1
    if tapped == ("server",):
        assert Counter((f.stream(0), f.stream(1)) for f in flows.values()) == pair.streams("server")
    else:
        assert counters["early_rejected"] == len("GET /early HTTP/1.1\r\nHost: snippet.test\r\n\r\n"), counters


def test_two_libraries_in_one_process(agentd, net, scratch):
    path = os.path.join(scratch, "forged.pcapng")
    agent = agentd("-I", "any", "-D", "-w", path, "--pool-size", POOL)
    for tapped in ((), ("server",), ("client",)):
        pair = Pair("twolibs", ["50"], net, os.path.join(scratch, "-".join(("two",) + tapped)), tapped, agent)
        assert [pair.outcome[r][0] for r in ("client", "server")] == [0, 0], pair.outcome
        assert b"libraries 2" in pair.outcome["client"][1]
    agent.check_balance()
    agent.stop()
    for name, port in (("A", PORT), ("B", PORT + 1)):
        mine = [f for key, f in capture.flows(path).items() if key[1][1] == port + 4]
        assert len(mine) == 2
        for flow in mine:
            assert flow.stream(0) == b"".join(b"%s asks %d\n" % (name.encode(), i) for i in range(50))
            assert flow.stream(1) == b"".join(b"%s answers %d\n" % (name.encode(), i) for i in range(50))


def test_program_without_tls_keeps_nothing_of_us(agentd, net, scratch):
    agent = agentd("-I", "any", "-D", "-w", os.path.join(scratch, "forged.pcapng"))
    plain = run([snippet("plain_tcp")], ns=net.server, env=environment())
    tapped = run([snippet("plain_tcp")], ns=net.server, env=agent.env())
    assert (tapped.stdout, tapped.stderr) == (plain.stdout, plain.stderr)


@pytest.mark.parametrize("how", ["records", "headers", "socket", "address"])
def test_hostile_producer_ends_only_its_own_session(how, agentd, net, scratch):
    path = os.path.join(scratch, "forged.pcapng")
    agent = agentd("-I", "any", "-D", "-w", path, asan=True)
    liar = snippet("hostile_producer")
    args = ["127.0.0.1", "22", "127.0.0.1", "4444"] if how == "address" else ["4"]
    done = run([liar, how, *args], ns=net.server, env=agent.env(), timeout=60)
    if how != "socket":
        assert int(done.stdout.split()[1]) >= 1, done.stdout
    if how == "address":
        assert agent.wait_quiet()["unverified"] > 0
    # an honest program is served as ever, once the liar's memory is given back
    wait_for(lambda: not agent.status()["processes"])
    for attempt in range(3):  # it lives for a moment only, and agentd may still be giving memory back just then
        pair = Pair("halfclose", [], net, os.path.join(scratch, f"after{attempt}"), ("server",), agent)
        assert pair.outcome["server"][0] == 0
        if agent.wait_quiet()["forged"] > 0:
            break
    (said, times), = pair.streams("server").items()
    agent.stop()
    assert times == 1 and [(f.stream(0), f.stream(1)) for f in capture.flows(path).values()] == [said]
