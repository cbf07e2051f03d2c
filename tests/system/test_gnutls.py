# SPDX-License-Identifier: Apache-2.0
"""GnuTLS: real programs and all of its calls, byte-identical and under the true addresses. And programs that confine
themselves, with either library."""
import os
import shutil
from collections import Counter

import pytest

import capture
import web
from proc import Daemon, build_dir, environment, run
from test_snippets import POOL, PORT, Pair, short

BOTH = [("server",), ("client",), ("server", "client")]

pytestmark = pytest.mark.skipif(not os.path.exists(os.path.join(build_dir(), "tests", "snippets", "gnutls_calls")),
                                reason="built without libgnutls28-dev")


def only_flow(path, port=PORT):
    (key, flow), = capture.flows(path).items()
    assert key[1][1] == port + 4, key
    return flow


@pytest.mark.parametrize("protocols", ["TLSv1.2", "TLSv1.3"])
@pytest.mark.parametrize("size", [0, 1, 16384, 3000000])
def test_wget(protocols, size, agentd, nginx, net, scratch):
    path = os.path.join(scratch, "forged.pcapng")
    agent = agentd("-I", "any", "-D", "-w", path, "--pool-size", POOL)
    body = web.pattern(size)
    nginx(protocols=protocols, port=PORT).put("body", body)
    out = os.path.join(scratch, "out")
    run(["wget", "-q", "--no-check-certificate", "-O", out, f"https://127.0.0.1:{PORT}/body"], ns=net.server,
        env=agent.env())
    with open(out, "rb") as f:
        assert f.read() == body
    counters = agent.check_balance()
    agent.stop()
    flow = only_flow(path)
    assert flow.stream(0).startswith(b"GET /body HTTP/1.1\r\n") and flow.stream(0).endswith(b"\r\n\r\n"), counters
    head, _, forged = flow.stream(1).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200 OK") and forged == body, counters


@pytest.mark.skipif(not shutil.which("gnutls-serv"), reason="no gnutls-bin")
@pytest.mark.parametrize("tapped", BOTH, ids="+".join)
@pytest.mark.parametrize("version", ["1.2", "1.3"])
def test_gnutls_cli_and_serv(version, tapped, agentd, net, scratch, started):
    """gnutls-serv echoes lines."""
    path = os.path.join(scratch, "forged.pcapng")
    agent = agentd("-I", "any", "-D", "-w", path, "--pool-size", POOL)
    cert, key = web.certificate(scratch)
    env = {role: agent.env() if role in tapped else environment() for role in ("server", "client")}
    priority = f"NORMAL:-VERS-ALL:+VERS-TLS{version}"
    server = Daemon(["gnutls-serv", "--echo", "-p", PORT, "--x509certfile", cert, "--x509keyfile", key, "--quiet",
                     "--priority", priority], os.path.join(scratch, "serv.log"), net.server, env=env["server"])
    started.append(server)
    server.wait_for(lambda: f":{PORT:04X} " in open_ports(net))
    said = b"".join(b"line %d\n" % i for i in range(100))
    script = os.path.join(scratch, "script")
    with open(script, "wb") as f:
        f.write(said)
    done = run(["bash", "-c", f"(cat {script}; sleep 2) | "
                f"gnutls-cli --no-ca-verification --priority {priority} -p {PORT} 127.0.0.1"],
               ns=net.server, env=env["client"], check=False)
    assert b"line 99" in done.stdout, done
    counters = agent.check_balance()
    server.kill()
    agent.stop()
    flow = only_flow(path)
    assert flow.stream(0) == flow.stream(1) == said, counters


def open_ports(net):
    return run(["cat", "/proc/net/tcp", "/proc/net/tcp6"], ns=net.server).stdout.decode()


def lines(name, verb):
    return b"".join(b"%s %s %d\n" % (name, verb, i) for i in range(50))


EARLY = "GET /early HTTP/1.1\r\nHost: snippet.test\r\n\r\n"
EVERYTHING, HOLES = "forged", "holes"
CALLS = [("send", "1.3", EVERYTHING), ("send", "1.2", EVERYTHING), ("send2", "1.3", EVERYTHING),
         ("range", "1.3", EVERYTHING), ("range", "1.2", EVERYTHING), ("cork", "1.3", EVERYTHING),
         ("corknb", "1.3", EVERYTHING), ("file", "1.3", EVERYTHING), ("again", "1.3", EVERYTHING),
         ("nothing", "1.3", HOLES), ("push", "1.3", EVERYTHING), ("duplex", "1.3", EVERYTHING),
         ("renegotiate", "1.2", EVERYTHING), ("silly", "1.3", EVERYTHING)]


@pytest.mark.parametrize("tapped", BOTH, ids="+".join)
@pytest.mark.parametrize("mode,version,fate", CALLS)
def test_calls(mode, version, fate, tapped, agentd, net, scratch, monkeypatch):  # pylint: disable=too-many-arguments
    monkeypatch.setenv("SNIP_TLS", version)
    path = os.path.join(scratch, "forged.pcapng")
    agent = agentd("-I", "any", "-D", "-w", path, "--pool-size", POOL)
    plain = Pair("gnutls_calls", [mode], net, os.path.join(scratch, "plain"), (), agent)
    assert plain.outcome["client"][0] == 0 and plain.outcome["server"][0] == 0, plain.outcome
    pair = Pair("gnutls_calls", [mode], net, os.path.join(scratch, "tapped"), tapped, agent)
    assert pair.outcome == plain.outcome
    counters = agent.check_balance()
    agent.stop()
    said = pair.streams(tapped[0])
    size = sum((len(c) + len(s)) * n for (c, s), n in said.items())
    assert counters["reported"] == size * len(tapped), counters
    if fate == EVERYTHING:
        forged = Counter((flow.stream(0), flow.stream(1)) for flow in capture.flows(path).values())
        assert short(forged - said) == short(said - forged) == [], counters
    else:
        assert counters["sendfile"] > 0, "no call had to be repeated"


@pytest.mark.parametrize("tapped", BOTH, ids="+".join)
def test_early_data(tapped, agentd, net, scratch):
    """Early data that were rejected were never said; the client says them again."""
    path = os.path.join(scratch, "forged.pcapng")
    agent = agentd("-I", "any", "-D", "-w", path, "--pool-size", POOL)
    pair = Pair("gnutls_early", [], net, os.path.join(scratch, "tapped"), tapped, agent)
    assert pair.outcome["client"][0] == 0 and pair.outcome["server"][0] == 0, pair.outcome
    assert [line for line in pair.outcome["client"][1].decode().splitlines() if "taken" in line] == [
        "0: taken 0, resumed 0", "1: taken 1, resumed 1", "2: taken 0, resumed 1", "3: taken 1, resumed 1"]
    counters = agent.check_balance()
    agent.stop()
    assert counters["early_rejected"] == (len(EARLY) if "client" in tapped else 0), counters
    forged = Counter((flow.stream(0), flow.stream(1)) for flow in capture.flows(path).values())
    said = pair.streams(tapped[0])
    assert short(forged - said) == short(said - forged) == [], counters


@pytest.mark.parametrize("tapped", BOTH, ids="+".join)
def test_both_libraries_in_one_process(tapped, agentd, net, scratch):
    path = os.path.join(scratch, "forged.pcapng")
    agent = agentd("-I", "any", "-D", "-w", path, "--pool-size", POOL)
    pair = Pair("gnutls_mixed", ["50"], net, os.path.join(scratch, "tapped"), tapped, agent)
    assert pair.outcome["client"][0] == 0 and pair.outcome["server"][0] == 0, pair.outcome
    agent.check_balance()
    agent.stop()
    forged = Counter((flow.stream(0), flow.stream(1)) for flow in capture.flows(path).values())
    assert forged == Counter((lines(name, b"asks"), lines(name, b"answers")) for name in (b"openssl", b"gnutls"))


@pytest.mark.parametrize("tapped", BOTH, ids="+".join)
def test_confined_program_states_no_address(tapped, agentd, net, scratch):
    """It would be killed for asking: the program itself proves that."""
    path = os.path.join(scratch, "forged.pcapng")
    agent = agentd("-I", "any", "-D", "-w", path, "--pool-size", POOL)
    plain = Pair("confined", [], net, os.path.join(scratch, "plain"), (), agent)
    assert plain.outcome["client"][0] == 0 and plain.outcome["server"][0] == 0, plain.outcome
    tapped_env = agent.env
    agent.env = lambda **more: tapped_env(TLSTAP_CONFINED=1, **more)
    pair = Pair("confined", [], net, os.path.join(scratch, "tapped"), tapped, agent)
    assert pair.outcome == plain.outcome
    counters = agent.check_balance()
    agent.stop()
    assert counters["reported"] == 200000 * len(tapped), counters
    (said, times), = pair.streams(tapped[0]).items()
    assert times == 1 and [(f.stream(0), f.stream(1)) for f in capture.flows(path).values()] == [said]


@pytest.mark.parametrize("tapped", BOTH, ids="+".join)
def test_two_libgnutls_in_one_process(tapped, agentd, net, scratch):
    """Each by dlopen with RTLD_LOCAL, one under another name; sessions go to the one that made them."""
    path = os.path.join(scratch, "forged.pcapng")
    agent = agentd("-I", "any", "-D", "-w", path, "--pool-size", POOL)
    plain = Pair("twolibs", ["50", "gnutls"], net, os.path.join(scratch, "plain"), (), agent)
    pair = Pair("twolibs", ["50", "gnutls"], net, os.path.join(scratch, "two"), tapped, agent)
    assert [pair.outcome[r][0] for r in ("client", "server")] == [0, 0], pair.outcome
    assert {r: sorted(pair.outcome[r][1].splitlines()) for r in pair.outcome} == \
        {r: sorted(plain.outcome[r][1].splitlines()) for r in plain.outcome}
    assert b"libraries 2" in pair.outcome["client"][1] and pair.outcome["client"][1].count(b"rounds: 0") == 2
    agent.check_balance()
    agent.stop()
    flows = {key[1][1]: f for key, f in capture.flows(path).items()}
    assert sorted(flows) == [PORT + 4, PORT + 5]
    for port, name in ((PORT + 4, b"A"), (PORT + 5, b"B")):
        for side, verb in enumerate((b"asks", b"answers")):
            stream = flows[port].stream(side)
            # a thread that makes its first calls while the other one attaches passes through
            assert lines(name, verb).endswith(stream) and stream.count(b"\n") > 40
