# SPDX-License-Identifier: Apache-2.0
"""BoringSSL, mbedTLS, wolfSSL, and a library with no more than LibreSSL's names: all of their calls, byte-identical and
under the true addresses; who tells neither randoms nor socket is reported by name."""
import os
from collections import Counter

import pytest

import capture
import web
from test_snippets import POOL, PORT, Pair, short, snippet

BOTH = [("server",), ("client",), ("server", "client")]
EARLY = "GET /early HTTP/1.1\r\nHost: snippet.test\r\n\r\n"
CALLS = {
    "boringssl": ["fd", "nonblock", "peek", "implicit", "half", "memory", "sslbio", "clear", "probe", "silly"],
    "mbedtls": ["net", "timeout", "late", "own", "nonblock", "step", "implicit", "half", "renegotiate", "reset",
                "abandon", "silly"],
    "wolfssl": ["fd", "sendrecv", "writev", "nonblock", "peek", "implicit", "negotiate", "half", "own", "clear",
                "silly"],
}


def has(library):
    return pytest.mark.skipif(not os.path.exists(snippet(f"{library}_calls")), reason=f"built without {library}")


@pytest.fixture(autouse=True)
def files(scratch, monkeypatch):
    cert, key = web.certificate(scratch)
    monkeypatch.setenv("SNIP_CERT", cert)
    monkeypatch.setenv("SNIP_KEY", key)


def until_tapped(agent, name, mode, net, folder, tapped, plain):  # pylint: disable=too-many-arguments
    """Run it with the tap; on a busy machine one end may not get to attach in time, and then all is run again. Returns
    what was said by runs in which somebody was tapped."""
    seen, before = Counter(), 0
    for i in range(8):
        pair = Pair(name, [mode], net, f"{folder}{i}", tapped, agent)
        assert pair.outcome == plain.outcome
        counters = agent.check_balance()
        said = pair.streams(tapped[0])
        size = sum((len(c) + len(s)) * n for (c, s), n in said.items())
        n, odd = divmod(counters["reported"] - counters["early_rejected"] - before, size)
        assert odd == 0 and n <= len(tapped), (size, before, counters)
        seen += said if n else Counter()
        if n == len(tapped):
            return seen
        before = counters["reported"] - counters["early_rejected"]
    raise AssertionError(f"not tapped in 8 attempts: {agent.status()}")


@pytest.mark.parametrize("tapped", BOTH, ids="+".join)
@pytest.mark.parametrize("library,mode", [pytest.param(lib, mode, marks=has(lib)) for lib, modes in CALLS.items()
                                          for mode in modes])
def test_calls(library, mode, tapped, agentd, net, scratch):
    path = os.path.join(scratch, "forged.pcapng")
    agent = agentd("-I", "any", "-D", "-w", path, "--pool-size", POOL)
    name = f"{library}_calls"
    plain = Pair(name, [mode], net, os.path.join(scratch, "plain"), (), agent)
    assert plain.outcome["client"][0] == 0 and plain.outcome["server"][0] == 0, plain.outcome
    said = until_tapped(agent, name, mode, net, os.path.join(scratch, "tapped"), tapped, plain)
    counters = agent.check_balance()
    agent.stop()
    flows = capture.flows(path)
    assert all(key[1][1] == PORT + 4 for key in flows), flows.keys()
    forged = Counter((flow.stream(0), flow.stream(1)) for flow in flows.values())
    assert short(forged - said) == short(said - forged) == [], counters
