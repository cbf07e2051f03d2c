# SPDX-License-Identifier: Apache-2.0
"""BoringSSL, mbedTLS, wolfSSL, and a library with no more than LibreSSL's old names: all of their calls, byte-identical
and under the true addresses; who tells neither randoms nor socket is reported by name."""
import contextlib
import os
import shutil
from collections import Counter

import pytest

import capture
import net as network
import tapd
import test_snippets
import web
from proc import Daemon, build_dir, environment, run, wait_for
from services import Service
from stage import Stage
from table import shows
from test_snippets import POOL, PORT, Pair, short, snippet

BOTH = [("server",), ("client",), ("server", "client")]
EARLY = "GET /early HTTP/1.1\r\nHost: snippet.test\r\n\r\n"
CALLS = {
    "boringssl": ["fd", "nonblock", "peek", "implicit", "half", "memory", "sslbio", "clear", "probe", "silly"],
    "mbedtls": ["net", "timeout", "late", "own", "nonblock", "again", "step", "implicit", "half", "renegotiate",
                "reset", "abandon", "debug", "silly"],
    "wolfssl": ["fd", "sendrecv", "writev", "nonblock", "peek", "implicit", "negotiate", "half", "own", "clear",
                "silly"],
    "standin": ["fd", "nonblock", "clear", "probe"],
}
LIGHTTPD = {"mbedtls": "mbedTLS", "wolfssl": "wolfSSL"}
SHOWN = {"boringssl": "BoringSSL", "mbedtls": "mbedTLS", "wolfssl": "wolfSSL"}
BLIND = os.path.join(build_dir(), "tests", "snippets", "other", "blind")


def has(library):
    return pytest.mark.skipif(not os.path.exists(snippet(f"{library}_calls")), reason=f"built without {library}")


LIBRARIES = [pytest.param(library, marks=[has(library)] + [shows("a small client and server", SHOWN[library])
                                                           for _ in range(library in SHOWN)]) for library in CALLS]


@pytest.fixture(autouse=True)
def files(scratch, monkeypatch):
    cert, key = web.certificate(scratch)
    monkeypatch.setenv("SNIP_CERT", cert)
    monkeypatch.setenv("SNIP_KEY", key)


class Runs:
    """Programs of one library, run with the tap and without."""

    def __init__(self, library, tapped, agent, net, scratch):  # pylint: disable=too-many-arguments
        self.name, self.tapped, self.agent, self.net, self.scratch = f"{library}_calls", tapped, agent, net, scratch
        self.said = Counter()
        self.seen = 0

    def pair(self, mode, what, tapped):
        return Pair(self.name, [mode], self.net, os.path.join(self.scratch, f"{mode}-{what}"), tapped, self.agent)

    def reported(self):
        counters = self.agent.check_balance()
        return counters["reported"] - counters["early_rejected"]

    def until_tapped(self, mode):
        """Run it; on a busy machine one end may not get to attach in time, and then all is run again. Returns what is
        printed."""
        plain = self.pair(mode, "plain", ())
        assert plain.outcome["client"][0] == 0 and plain.outcome["server"][0] == 0, (mode, plain.outcome)
        for i in range(8):
            pair = self.pair(mode, i, self.tapped)
            assert pair.outcome == plain.outcome, mode
            said = pair.streams(self.tapped[0])
            size = sum((len(c) + len(s)) * n for (c, s), n in said.items())
            n, odd = divmod(self.reported() - self.seen, size)
            assert odd == 0 and n <= len(self.tapped), (mode, size, self.seen, self.agent.counters())
            self.seen += n * size
            self.said += said if n else Counter()
            if n == len(self.tapped):
                return pair.outcome
        raise AssertionError(f"{mode}: not tapped in 8 attempts: {self.agent.status()}")

    def check(self, path):
        counters = self.agent.check_balance()
        self.agent.stop()
        flows = capture.flows(path)
        assert all(key[1][1] == PORT + 4 for key in flows), flows.keys()
        forged = Counter((flow.stream(0), flow.stream(1)) for flow in flows.values())
        assert short(forged - self.said) == short(self.said - forged) == [], counters


@pytest.fixture
def runs(agentd, net, scratch):
    def start(library, tapped):
        path = os.path.join(scratch, "forged.pcapng")
        agent = agentd("-I", "any", "-D", "-w", path, "--pool-size", POOL)
        return path, Runs(library, tapped, agent, net, scratch)
    return start


@pytest.mark.parametrize("tapped", BOTH, ids="+".join)
@pytest.mark.parametrize("library", LIBRARIES)
def test_calls(library, tapped, runs):
    path, programs = runs(library, tapped)
    for mode in CALLS[library]:
        programs.until_tapped(mode)
    programs.check(path)


@pytest.fixture
def with_libraries(monkeypatch):
    """Let the programs look for libraries in a folder first."""
    def use(folder):
        monkeypatch.setattr(test_snippets, "environment", lambda **more: environment(LD_LIBRARY_PATH=folder, **more))
        plain = tapd.Agentd.env
        monkeypatch.setattr(tapd.Agentd, "env", lambda agent, **more: plain(agent, LD_LIBRARY_PATH=folder, **more))
    return use


@pytest.mark.parametrize("tapped", BOTH, ids="+".join)
def test_handles_that_do_not_tell_their_library(tapped, runs, with_libraries):
    """A layout that nobody knows: the caller's library owns them."""
    with_libraries(BLIND)
    path, programs = runs("standin", tapped)
    for mode in CALLS["standin"]:
        programs.until_tapped(mode)
    programs.check(path)


def test_who_looks_for_a_function_that_its_library_has_not(agentd, net, scratch):
    """It finds ours where it looks at everything, not where it looks at its library; that one does what the classic one
    does (the mode "probe")."""
    agent = agentd("-I", "any", "-w", os.path.join(scratch, "forged.pcapng"))
    command = [snippet("standin_calls"), "client", "127.0.0.1", PORT, "found"]
    assert run(command, ns=net.server).stdout == b"weak 0 default 0 own 0\n"
    assert run(command, ns=net.server, env=agent.env()).stdout == b"weak 1 default 1 own 0\n"


@pytest.mark.parametrize("tapped", BOTH, ids="+".join)
@pytest.mark.parametrize("library,mode", [pytest.param("boringssl", "fd", marks=has("boringssl")),
                                          pytest.param("wolfssl", "own", marks=has("wolfssl"))])
def test_tls_1_2(library, mode, tapped, runs, monkeypatch):
    monkeypatch.setenv("SNIP_TLS", "1.2")
    path, programs = runs(library, tapped)
    programs.until_tapped(mode)
    programs.check(path)


@pytest.mark.parametrize("library", [pytest.param(lib, marks=has(lib)) for lib in ("mbedtls", "wolfssl")])
def test_dtls_is_left_alone(library, runs):
    path, programs = runs(library, ("server", "client"))
    programs.until_tapped("dtls")
    counters = programs.agent.check_balance()
    assert counters["not_tcp"] == counters["reported"] > 0, counters
    programs.agent.stop()
    assert not capture.flows(path)


@has("boringssl")
@pytest.mark.parametrize("tapped", BOTH, ids="+".join)
def test_early_data(tapped, runs):
    """Early data that were rejected were never said; the client says them again."""
    path, programs = runs("boringssl", tapped)
    outcome = programs.until_tapped("early")
    assert [line.split(",")[0] for line in outcome["client"][1].decode().splitlines() if "accepted" in line] == [
        "0: accepted 0", "1: accepted 1", "2: accepted 0", "3: accepted 0"]  # the last ticket is of a session without
    rejected = programs.agent.counters()["early_rejected"]
    assert rejected == (0 if tapped == ("server",) else len(EARLY)), programs.agent.counters()
    programs.check(path)


@pytest.fixture
def silent_mbedtls(scratch, with_libraries):
    """An mbedTLS that says nothing of its randoms, as one that was built without debugging."""
    lines = run(["ldd", snippet("mbedtls_calls")]).stdout.decode().split("\n")
    name, path = next((line.split()[0], line.split()[2]) for line in lines if "libmbedtls" in line)
    folder = os.path.join(scratch, "silent")
    os.makedirs(folder)
    with open(path, "rb") as old, open(os.path.join(folder, name), "wb") as new:
        whole = old.read()
        assert b"client hello, random bytes" in whole
        new.write(whole.replace(b"hello, random bytes", b"hello, whatever it."))
    with_libraries(folder)


@has("mbedtls")
@pytest.mark.parametrize("tapped", BOTH, ids="+".join)
@pytest.mark.usefixtures("silent_mbedtls")
def test_mbedtls_without_randoms(tapped, runs):
    """The socket that the program handed over will do."""
    path, programs = runs("mbedtls", tapped)
    for mode in ("net", "late", "reset", "renegotiate", "again"):
        programs.until_tapped(mode)
    programs.check(path)


@has("mbedtls")
@pytest.mark.usefixtures("silent_mbedtls")
def test_mbedtls_without_anything(runs, scratch, monkeypatch, net, started):  # pylint: disable=too-many-arguments
    """Neither randoms nor a socket: not shown under any address, and reported by name. The program's callback has an
    int that looks like a descriptor."""
    path, programs = runs("mbedtls", ("client",))
    agent = programs.agent
    stay = os.path.join(scratch, "stay")
    monkeypatch.setenv("SNIP_STAY", stay)
    named = []

    def unpaired():
        return [p["members"][0]["exe"] for p in agent.status()["processes"] if p["unpaired"] and p["members"]]

    for i in range(8):  # on a busy machine it may not get to attach in time
        with open(stay, "wb"):
            pass
        ends = [Daemon([snippet("mbedtls_calls"), role, "127.0.0.1", PORT, "own"], os.path.join(scratch, f"{role}{i}"),
                       net.server, env=agent.env() if role == "client" else test_snippets.environment())
                for role in ("server", "client")]
        started.extend(ends)
        with contextlib.suppress(AssertionError):
            named = wait_for(unpaired, 5)
        os.unlink(stay)
        assert [end.process.wait(60) for end in ends] == [0, 0]
        if named:
            break
    counters = agent.check_balance()
    assert counters["unpaired"] == counters["reported"] > 0 and counters["forged"] == 0, counters
    assert len(named) == 1 and named[0].endswith("mbedtls_calls")
    agent.stop()
    assert not capture.flows(path)


class Lighttpd(Service):
    def prepare(self):
        self.folders("www")
        pem = self.path("both.pem")
        with open(pem, "wb") as out:
            for name in (self.cert, self.key):
                with open(name, "rb") as f:
                    out.write(f.read())
        conf = self.write("lighttpd.conf", f"""
server.modules = ("mod_{self.options["module"]}")
server.document-root = "{self.path("www")}"
server.errorlog = "{self.path("error.log")}"
server.port = {self.port}
ssl.engine = "enable"
ssl.pemfile = "{pem}"
""")
        return ["lighttpd", "-D", "-f", conf]

    def put(self, name, content):
        with open(self.path("www", name), "wb") as f:
            f.write(content)


@pytest.mark.skipif(not shutil.which("curl"), reason="no curl")
@pytest.mark.parametrize("http", ["--http1.1", "--http2"])
@pytest.mark.parametrize("module", [pytest.param(m, marks=[
    shows("lighttpd", library), pytest.mark.skipif(not os.path.exists(f"/usr/lib/lighttpd/mod_{m}.so"),
                                                   reason=f"no lighttpd-mod-{m}")]) for m, library in LIGHTTPD.items()])
def test_lighttpd(module, http, agentd, net, scratch, started):  # pylint: disable=too-many-arguments
    s = Stage(agentd, net, scratch, started)

    def fill(server):
        for i in range(3):
            server.put(f"file{i}", web.pattern(300000 * i + 1))
    s.all_ways(Lighttpd, lambda do, host: do(["curl", "-sSk", http, *[f"https://{host}/file{i}" for i in range(3)]]),
               fill=fill, module=module)
    truth = s.check(3)
    assert all(sides[0].startswith(b"GET /file0" if http == "--http1.1" else b"PRI * HTTP/2.0")
               for sides in truth.values())
    assert network.SERVER4 in {key[1][0] for key in truth}
