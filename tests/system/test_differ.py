# SPDX-License-Identifier: Apache-2.0
"""The same pseudo-random TLS calls, sane and silly, without and with the tap: results, errno, error queues and buffers are
equal, call by call."""
import os
import re

import pytest

from proc import ROOT, build_dir, environment, run, wait_for
from tapd import AGENT_EQUATIONS, unbalanced

SEEDS, CALLS = 200, 300
# In OpenSSL 3.3 and later; SSL_connect, SSL_accept, SSL_shutdown, SSL_clear, SSL_free are logged by number.
NOT_LOGGED = {"SSL_write_ex2"}
NUMBERS = {"SSL_shutdown": 0, "SSL_clear": 1, "SSL_free": 2, "SSL_connect": 5, "SSL_accept": 6}


def log(env, net, first=1):
    command = [os.path.join(build_dir(), "tests", "snippets", "differ"), first, SEEDS, CALLS]
    return run(command, ns=net.server, env=env, timeout=300).stdout.decode()


def first_difference(plain, tapped):
    for number, (a, b) in enumerate(zip(plain.splitlines(), tapped.splitlines())):
        if a != b:
            seed = plain.splitlines()[:number]
            return [line for line in seed if line.startswith("seed")][-1:], number, a, b
    return None if len(plain) == len(tapped) else ("length", len(plain), len(tapped))


def hooked():
    """The hooks on OpenSSL's functions, from the table of them."""
    with open(os.path.join(ROOT, "libtlstap", "hooks.h"), encoding="ascii") as f:
        text = f.read()
    tables = re.findall(r"^#define (?:OPENSSL|BIO)_HOOKS\(HOOK\)((?:.*\\\n)+.*)", text, re.M)
    names = set(re.findall(r"HOOK\([^,]+, (\w+),", "".join(tables))) - NOT_LOGGED
    assert {"SSL_read", "BIO_write_ex"} < names
    return names


@pytest.fixture
def plain(net):
    return log(environment(), net)


def test_sequence_is_what_it_claims(plain, net):
    """It says the same twice, calls all that is hooked, and most of it both succeeds and fails."""
    assert first_difference(plain, log(environment(), net)) is None
    for name in hooked():
        line = f"^{NUMBERS[name]} handle = " if name in NUMBERS else f"^{name} = "
        results = {int(r) > 0 for r in re.findall(line + r"(-?\d+) ", plain, re.M)}
        assert results, name
        if name not in NUMBERS and name not in ("SSL_sendfile", "SSL_read_early_data", "SSL_write_early_data"):
            assert results == {True, False}, name
    assert len(re.findall(r"^deadly \d: signal 11$", plain, re.M)) > 20
    assert len(re.findall(r"^seed \d+: exit 0$", plain, re.M)) > SEEDS * 3 / 4


def test_no_agent(plain, net):
    assert first_difference(plain, log(environment(tap=True, TLSTAP_SOCKET="/nonexistent"), net)) is None


def test_agent(plain, agentd, net, scratch):
    agent = agentd("-I", "any", "-D", "-w", os.path.join(scratch, "forged.pcapng"))
    assert first_difference(plain, log(agent.env(), net)) is None
    # hundreds of connections that nothing on the wire explains: they are held for a while
    counters = wait_for(lambda: not agent.counters()["pending"] and agent.counters())
    assert not unbalanced(counters, AGENT_EQUATIONS)
    assert counters["reported"] > SEEDS * 10000 and counters["not_tcp"] > 0, counters
