# SPDX-License-Identifier: Apache-2.0
"""-H and tlstap doctor: of the sessions on the wire, exactly those that were tapped are counted as seen in the clear,
and the programs whose sessions were not are named, with the reason."""
import concurrent.futures
import json
import os
import subprocess
import time

import pytest

import capture
import net as network
from proc import compile_c, environment, program, run, wait_for
from web import PYTHON, pattern, python_client, request  # noqa: F401

HERE = os.path.dirname(os.path.abspath(__file__))
NETS = "192.0.2.0/24,2001:db8:1::/64"
SLOW = ("--limit-rate", "400k")  # 200000 bytes take some 0.3 s


def start_agent(agentd, net, scratch, *args, ns=None, **more):
    return agentd("-I", "any", "-D", "-w", os.path.join(scratch, "forged.pcapng"), *args, ns=ns or net.client, **more)


def curl(net, env, host, port=443, *args, address=network.SERVER4):
    done = run(["curl", "-sk", "--http1.1", "--resolve", f"{host}:{port}:{address}", "-o", "/dev/null", "-w",
                "%{http_code}", *args, f"https://{host}:{port}/file"], ns=net.client, env=env)
    assert set(done.stdout.split(b"200")) == {b""}, done.stdout


def servers(agent):
    """{(address, port, SNI): (seen, delivered, missed)}"""
    return {(s["address"], s["port"], s["sni"]): (s["seen"], s["delivered"], s["missed"])
            for s in agent.status()["effectiveness"]["servers"]}


def settled(agent, expected):
    """Wait until every session is settled, then compare."""
    wait_for(lambda: agent.status()["effectiveness"]["open"] == 0 and
             sum(s[0] for s in servers(agent).values()) >= sum(s[0] for s in expected.values()), 60,
             why=lambda: f"{servers(agent)}, expected {expected}")
    # What was missed may have been delivered late; what was not must not be
    wait_for(lambda: servers(agent) == expected, 30,
             why=lambda: f"{servers(agent)}, expected {expected}; {json.dumps(agent.status())[:3000]}")
    time.sleep(1.2)
    assert servers(agent) == expected
    e, s = agent.status()["effectiveness"], agent.status()["sessions"]
    assert [e["seen"], e["delivered"], e["missed"]] == [sum(x) for x in zip(*expected.values())]
    assert s["seen"] == s["delivered"] + s["missed"] + s["open"]
    assert s["missed"] == s["named"] + s["unnamed"] + s["elsewhere"]
    return e


def doctor(agent):
    """(exit code, what it says)"""
    done = run([program("tlstap"), "doctor", "--socket", agent.socket], check=False)
    return done.returncode, done.stdout.decode()


def wait_named(agent, *what):
    """Wait until the doctor says all of @what in one paragraph about one kind of program."""
    def named():
        code, text = doctor(agent)
        paragraphs = text.replace("\n  ", " ").splitlines()
        return code == 1 and any(all(w in p for w in what) for p in paragraphs)
    wait_for(named, 40, 0.3, why=lambda: f"{what} in {doctor(agent)}")


# -- how many of how many

def shown(agent, scratch, host):
    """How many connections of @host are in the forged packets."""
    agent.wait_quiet()
    flows = capture.flows(os.path.join(scratch, "forged.pcapng"), must_close=False)
    return sum(f.stream(0).count(b"\r\nHost: " + host.encode() + b"\r\n") for f in flows.values())


def test_mix_of_tapped_and_untapped_clients(agentd, nginx, net, scratch):
    """What was forged is the truth that the numbers must tell. On a machine that is too busy to attach a process or to
    look at its socket in time that is less than was tapped: then once more, with other names."""
    agent = start_agent(agentd, net, scratch, "-H", NETS)
    nginx().put("file", pattern(200000))
    plain, tapped = environment(), agent.env()

    def one(i, turn):
        # A client's socket is proven while it exists: these live as long as an answer from further away takes.
        curl(net, tapped if i % 5 < 3 else plain, f"{'ba'[i % 2]}{turn}.example", 443, *SLOW)
    expected = {}
    for turn in range(5):
        with concurrent.futures.ThreadPoolExecutor(5) as pool:
            list(pool.map(lambda i: one(i, turn), range(50)))  # pylint: disable=cell-var-from-loop
        names = f"a{turn}.example", f"b{turn}.example"
        wait_for(lambda: agent.status()["sessions"]["open"] == 0, 30)
        n = [shown(agent, scratch, name) for name in names]
        for name, k in zip(names, n):
            expected[network.SERVER4, 443, name] = (25, k, 25 - k)
        e = settled(agent, expected)
        assert n[0] <= 15 and n[1] <= 15
        if n == [15, 15]:
            break
    else:
        pytest.fail(f"never 30 of 30 in the clear: {json.dumps(agent.status())[:3000]}")
    if turn == 0:
        assert (e["seen"], e["delivered"], e["missed"]) == (50, 30, 20)
    assert e["nets"] == NETS.split(",")
    text = run([program("agentd"), "--socket", agent.socket, "--status"]).stdout.decode()
    assert (f"effectiveness for 192.0.2.0/24, 2001:db8:1::/64: {e['seen']} sessions seen, {e['delivered']} in the "
            "clear; last minute: ") in text
    assert f"443 to {network.SERVER4} (a{turn}.example): 25 sessions seen, 15 in the clear; last minute: " in text


def test_servers_that_are_tapped_and_not(agentd, nginx, net, scratch):
    """Agent at the servers; IPv4 and IPv6; many requests and a resumed session."""
    agent = start_agent(agentd, net, scratch, "-H", NETS, ns=net.server)
    tapped, dark = nginx(env=agent.env()), nginx(port=8443)
    for server in (tapped, dark):
        server.put("file", pattern(100))
    for i in range(10):
        curl(net, environment(), "a.example", address=(network.SERVER4, f"[{network.SERVER6}]")[i % 2])
        curl(net, environment(), "a.example", 8443)
    # one session, twenty requests
    curl(net, environment(), "keep.example", 443, *["https://keep.example/file", "-o", "/dev/null"] * 19)
    ticket = os.path.join(scratch, "ticket")
    for option in ("-sess_out", "-sess_in"):  # two sessions: resumption is a handshake
        run(["sh", "-c", f"(printf 'GET /file HTTP/1.1\\r\\nHost: x\\r\\nConnection: close\\r\\n\\r\\n'; sleep 0.5) |"
                         f" openssl s_client -quiet -servername resumed.example {option} {ticket}"
                         f" -connect {network.SERVER4}:443"], ns=net.client)
    settled(agent, {
        (network.SERVER4, 443, "a.example"): (5, 5, 0), (network.SERVER6, 443, "a.example"): (5, 5, 0),
        (network.SERVER4, 8443, "a.example"): (10, 0, 10), (network.SERVER4, 443, "keep.example"): (1, 1, 0),
        (network.SERVER4, 443, "resumed.example"): (2, 2, 0)})
    text = run([program("agentd"), "--socket", agent.socket, "--status"]).stdout.decode()
    assert f"8443 to {network.SERVER4} (a.example): 10 sessions seen, 0 in the clear" in text


def test_both_ends_here_are_one_session(agentd, python_server, net, scratch):
    agent = start_agent(agentd, net, scratch, "-H", "192.0.2.2/32", ns=net.server)
    python_server(env=agent.env())
    for i in range(5):
        python_client(scratch, net.server, [request("/bytes/100")], env=agent.env(), name=f"both{i}")
        python_client(scratch, net.server, [request("/bytes/100")], name=f"one{i}")
    settled(agent, {(network.SERVER4, 443, "server.example"): (10, 10, 0)})
    code, text = doctor(agent)
    assert code == 0 and text.startswith("Nothing is missed: of 10 TLS sessions on the wire, 10 were"), text


def test_only_these_networks(agentd, nginx, net, scratch):
    agent = start_agent(agentd, net, scratch, "-H", "2001:db8:1::2", ns=net.server)
    nginx(env=agent.env()).put("file", b"x")
    curl(net, environment(), "a.example")
    curl(net, environment(), "a.example", address=f"[{network.SERVER6}]")
    settled(agent, {(network.SERVER6, 443, "a.example"): (1, 1, 0)})
    assert agent.status()["sessions"]["seen"] == 2


@pytest.mark.slow
def test_many_at_once(agentd, nginx, net, scratch):
    """Exact under load, too: 8 clients at once, 400 sessions with a tapped server, 200 with one that is not."""
    agent = start_agent(agentd, net, scratch, "-H", NETS, ns=net.server)
    for server in (nginx(workers=2, env=agent.env()), nginx(port=8443)):
        server.put("file", pattern(1000))
    command = ("seq $N | xargs -P 8 -n 1 sh -c 'curl -sk --http1.1 --resolve a.example:$PORT:192.0.2.2 -o /dev/null"
               " -w %{http_code}. https://a.example:$PORT/file'")

    def many(n, port):
        done = run(["sh", "-c", command], ns=net.client, env=environment(N=n, PORT=port), timeout=300)
        assert sorted(done.stdout.split(b".")) == [b""] + [b"200"] * n
    many(400, 443)
    many(200, 8443)
    settled(agent, {(network.SERVER4, 443, "a.example"): (400, 400, 0),
                    (network.SERVER4, 8443, "a.example"): (200, 0, 200)})


def test_bad_networks_are_refused(net, scratch):
    for nets, why in (("10.0.0/8", '"10.0.0/8" is no network'), ("10.1.2.3/8", "is 10.0.0.0/8 meant?"),
                      ("10.0.0.0/8,x", '"x" is no network'), ("2001:db8::/200", "is no network")):
        done = run([program("agentd"), "--socket", os.path.join(scratch, "sock"), "-I", "any", "-D", "-w",
                    os.path.join(scratch, "out"), "-H", nets], ns=net.client, check=False)
        assert done.returncode != 0 and done.stderr.count(b"\n") == 1 and why in done.stderr.decode(), done.stderr


# -- whose they are

class Held:
    """A program that speaks TLS after go() and stays until stop()."""

    def __init__(self, command, ns, env):
        # pylint: disable=consider-using-with
        self.process = subprocess.Popen(ns.command(command), stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=env)

    def go(self):
        self.process.stdin.write(b"\n")
        self.process.stdin.flush()
        assert self.process.stdout.readline() == b"up\n"
        return self

    def stop(self):
        self.process.kill()
        self.process.wait(30)
        self.process.stdin.close()
        self.process.stdout.close()


PYTHON_CLIENT = """
import socket, ssl, sys
sys.stdin.readline()
c = ssl._create_unverified_context()
s = c.wrap_socket(socket.create_connection(("192.0.2.2", 443)), server_hostname="api.example")
s.send(b"GET /file HTTP/1.1\\r\\nHost: x\\r\\n\\r\\n")
print("up", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def held(net, started):
    def start(command, env, ns=None):
        thing = Held(command, ns or net.client, env)
        started.append(thing)
        return thing
    return start


def tls_client(scratch, name, *options):
    try:
        return compile_c(os.path.join(HERE, "tls_client.c"), os.path.join(scratch, name), *options, "-lssl", "-lcrypto",
                         "-ldl")
    except AssertionError as error:
        return pytest.skip(f"cannot be built here: {str(error)[-200:]}")


def test_doctor_names_who_is_not_tapped(agentd, nginx, net, scratch, held):
    agent = start_agent(agentd, net, scratch)
    nginx().put("file", b"x")
    code, text = doctor(agent)
    assert code == 0 and text.startswith("Nothing is missed: of 0 TLS sessions"), text
    python = held([PYTHON, "-c", PYTHON_CLIENT], environment()).go()
    exe = os.path.realpath(PYTHON)
    wait_named(agent, f"{exe} as TLS client, user 0, last seen as process {python.process.pid}: 1 session,",
               "-> 192.0.2.2:443 (api.example)", "libtlstap is not loaded into it", "tlstap run")
    (kind,) = [k for k in agent.status()["coverage"] if k["exe"] == exe]
    assert (kind["uid"], kind["pid"], kind["role"], kind["why"], kind["sessions"], kind["sni"]) == \
        (0, python.process.pid, "client", "not_loaded", 1, "api.example")


def test_doctor_names_a_server(agentd, nginx, net, scratch):
    agent = start_agent(agentd, net, scratch, ns=net.server)
    nginx().put("file", pattern(200000))
    for _ in range(10):
        curl(net, environment(), "a.example", 443, *SLOW)
    # the first ones may be over before anybody looked
    wait_named(agent, "/nginx as TLS server, user 0, ", " more like ", "libtlstap is not loaded")
    wait_for(lambda: agent.status()["sessions"]["open"] == 0)
    s = agent.status()["sessions"]
    assert s["missed"] == s["named"] + s["unnamed"] == 10 and s["elsewhere"] == 0
    (kind,) = agent.status()["coverage"]
    assert kind["sessions"] + kind["like"] == s["named"]


def test_doctor_names_short_clients(agentd, nginx, net, scratch):
    agent = start_agent(agentd, net, scratch)
    nginx().put("file", pattern(1000))

    def found():
        curl(net, environment(), "short.example")
        return any(k["exe"].endswith("/curl") and k["why"] == "not_loaded" for k in agent.status()["coverage"])
    wait_for(found, 60, 0.1, why=lambda: doctor(agent))


def test_doctor_names_static_tls(agentd, nginx, net, scratch, held):
    client = tls_client(scratch, "static", "-static")
    agent = start_agent(agentd, net, scratch)
    nginx()
    held([client, network.SERVER4, "443"], agent.env()).go()
    wait_named(agent, f"{client} as TLS client", "its TLS library cannot be interposed")


@pytest.mark.parametrize("options,why", [
    (["-DPAST"], "has not attached: it calls its TLS library past the tap"),
    (["-DPAST", "-Wl,--no-as-needed"], "agentd got no cleartext of it: it calls its TLS library past the tap"),
])
def test_doctor_names_calls_past_the_tap(agentd, nginx, net, scratch, held, options, why):
    """The first has not met agentd either: no TLS library is there when the program starts."""
    past = tls_client(scratch, "past", *options)
    if "-Wl,--no-as-needed" not in options:
        assert b"libssl" not in run(["ldd", past]).stdout
    agent = start_agent(agentd, net, scratch)
    nginx()
    for _ in range(5):  # on a busy machine a process may give up attaching
        held([past, network.SERVER4, "443"], agent.env()).go()
    wait_named(agent, f"{past} as TLS client", why)


def test_doctor_names_what_was_there_before_agentd(agentd, nginx, net, scratch, held):
    client = tls_client(scratch, "before")
    socket = os.path.join(scratch, "agentd", "sock")
    before = held([client, network.SERVER4, "443"], environment(tap=True, TLSTAP_SOCKET=socket))
    wait_for(lambda: b"libtlstap" in run(["cat", f"/proc/{before.process.pid}/maps"]).stdout)
    time.sleep(0.1)
    agent = start_agent(agentd, net, scratch, socket=socket)
    nginx()
    before.go()
    wait_named(agent, f"{client} as TLS client", "it was started before agentd", "restart it")


def test_doctor_escapes_names(agentd, nginx, net, scratch, held):
    client = tls_client(scratch, "plain")
    odd = os.path.join(scratch, 'a"b\n\033[31m')
    os.rename(client, odd)
    agent = start_agent(agentd, net, scratch)
    nginx()
    held([odd, network.SERVER4, "443"], environment()).go()
    wait_named(agent, 'a"b\\x0a\\x1b[31m as TLS client', "libtlstap is not loaded")
    assert any(k["exe"].endswith('a"b\\x0a\\x1b[31m') for k in agent.status()["coverage"])


def test_doctor_without_agentd(scratch):
    done = run([program("tlstap"), "doctor", "--socket", os.path.join(scratch, "sock")], check=False)
    assert (done.returncode, done.stdout, done.stderr.count(b"\n")) == (2, b"", 1)


@pytest.mark.parametrize("args", [["--json"], ["--socket"], ["--nix"]])
def test_doctor_refuses_what_it_does_not_know(args):
    done = run([program("tlstap"), "doctor", *args], check=False)
    assert (done.returncode, done.stdout) == (125, b"")
    assert done.stderr.decode() == f"tlstap: {args[0]}: no such option, or a value is missing (see tlstap --help)\n"
