# SPDX-License-Identifier: Apache-2.0
"""No harm: with the tap a program does what it does without, whatever becomes of agentd."""
import os
import re
import signal
import subprocess
import time

import pytest

import net as network
from compare import assert_no_difference
from proc import compile_c, descriptors, environment, library, run, threads, wait_for
from web import LIB, PYTHON, curl, pattern, python_client, request

HERE = os.path.dirname(os.path.abspath(__file__))


@pytest.fixture
def million(scratch):
    return compile_c(os.path.join(HERE, "million.c"), os.path.join(scratch, "million"), "-lssl", "-lcrypto")


@pytest.fixture(params=["none", "running", "stopped"])
def agent_state(request, agentd, scratch):  # pylint: disable=redefined-outer-name
    """The socket of an agent that is not there, runs, or hangs."""
    if request.param == "none":
        return os.path.join(scratch, "nobody.sock")
    agent = agentd("-I", "any", "-D", "-w", os.path.join(scratch, "out.pcapng"))
    if request.param == "stopped":
        agent.daemon.signal(signal.SIGSTOP)
    return agent.socket


COMMANDS = {
    "openssl version": ["openssl", "version"],
    "curl": ["curl", "-sk", "--http1.1", "https://192.0.2.2/file"],
    "curl refused": ["curl", "-sSk", "https://192.0.2.2:1/"],
    "curl untrusted": ["curl", "-sS", "https://192.0.2.2/"],
    "urllib": [PYTHON, "-c", "import ssl, sys, urllib.request as u; sys.stdout.buffer.write(u.urlopen("
               "'https://192.0.2.2/file', context=ssl._create_unverified_context()).read())"],
    "urllib untrusted": [PYTHON, "-c", "import urllib.request as u; u.urlopen('https://192.0.2.2/file')"],
    "asyncio": [PYTHON, "-c", """if True:
        import asyncio, ssl
        async def main():
            r, w = await asyncio.open_connection('192.0.2.2', 443, ssl=ssl._create_unverified_context())
            w.write(b'GET /file HTTP/1.1\\r\\nHost: a\\r\\nConnection: close\\r\\n\\r\\n')
            print(len((await r.read()).split(b'\\r\\n\\r\\n', 1)[1]))
        asyncio.run(main())"""],
}


@pytest.mark.parametrize("name", COMMANDS)
def test_programs_behave_the_same(name, agent_state, nginx, net):
    nginx().put("file", pattern(300000))
    assert_no_difference(COMMANDS[name], socket=agent_state, ns=net.server,
                         clean=lambda text: re.sub(rb"0x[0-9a-f]+|after [0-9]+ ms|[0-9.]+ seconds", b"", text))


@pytest.mark.parametrize("way", [[], ["socket"]])
def test_errno_and_error_queue(million, way, agent_state, net):
    assert_no_difference([million, "20000", *way], socket=agent_state, ns=net.server)


@pytest.mark.parametrize("way,per_connection", [([], 0), (["socket"], 2)])
def test_no_system_call_is_added(million, agentd, net, scratch, way, per_connection):
    """A million writes and a million reads: what is added is the attach, and two questions for each connection."""
    agent = agentd("-I", "any", "-D", "-w", "/dev/null")
    n = 1000000 if not way else 20000

    def calls(env):
        out = os.path.join(scratch, "strace")
        run(["strace", "-f", "-c", "-S", "name", "-o", out, million, n, *way], ns=net.server, env=env, timeout=600)
        found = {}
        with open(out, encoding="ascii") as f:
            for line in f:
                fields = line.split()
                if len(fields) >= 5 and fields[3].isdigit() and fields[-1] != "total":
                    found[fields[-1]] = int(fields[3])
        return found
    plain, tapped = calls(environment()), calls(agent.env())
    added = {name: tapped.get(name, 0) - plain.get(name, 0) for name in tapped
             if tapped.get(name, 0) > plain.get(name, 0)}
    if way:  # how often these are called depends on how much is there when; the other way is exact
        for name in ("read", "write"):
            added.pop(name, None)
    assert added.pop("getsockname", 0) <= 2 * per_connection
    assert added.pop("getpeername", 0) <= 2 * per_connection
    assert sum(added.values()) < 100, added
    assert agent.counters()["reported"] >= 2 * n


def test_no_thread_and_no_descriptor(agentd, nginx, net, scratch):
    agent = agentd("-I", "any", "-D", "-w", os.path.join(scratch, "out.pcapng"))
    nginx().put("file", pattern(1000))
    name = os.path.join(scratch, "r.request")
    with open(name, "wb") as f:
        f.write(request("/file"))

    def look(env):
        with subprocess.Popen(net.server.command([PYTHON, os.path.join(LIB, "https_client.py"), "--host", "192.0.2.2",
                                                  "--record", os.path.join(scratch, "r"), "--stay", name]),
                              stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=env) as process:
            process.stdout.readline()
            with open(f"/proc/{process.pid}/maps", encoding="utf-8") as f:
                assert (os.path.basename(library()) in f.read()) == ("LD_PRELOAD" in env)
            seen = (threads(process.pid), descriptors(process.pid))
            process.communicate(b"\n", timeout=30)
            assert process.returncode == 0
        return seen
    assert look(agent.env()) == look(environment())
    assert agent.status()["attach"]["attached"] >= 1


def test_attach_to_a_hanging_agent_is_short(agentd, million, net, scratch):
    """At most 20 ms, once in a process, and nothing if the heartbeat is old."""
    agent = agentd("-I", "any", "-D", "-w", os.path.join(scratch, "out.pcapng"))

    def best(env):
        times = []
        for _ in range(7):
            begin = time.monotonic()
            run([million, "1"], ns=net.server, env=env)
            times.append(time.monotonic() - begin)
        return min(times)
    plain = best(environment())
    agent.daemon.signal(signal.SIGSTOP)
    fresh = best(agent.env())
    time.sleep(1.5)
    stale = best(agent.env())
    assert fresh < plain + 0.06 and stale < plain + 0.04, (plain, fresh, stale)


@pytest.fixture
def long_download(nginx, net, scratch):
    """A tapped server sends 40 MiB to a client that reads slowly enough to be disturbed."""
    def start(agent, **options):
        server = nginx(env=agent.env(), **options)
        server.put("big", pattern(40 << 20))
        # pylint: disable=consider-using-with
        process = subprocess.Popen(net.client.command(
            ["curl", "-sk", "--http1.1", "--limit-rate", "20M", "-o", os.path.join(scratch, "big"),
             "https://192.0.2.2/big"]), env=environment())
        return process, server
    return start


def finish_download(process, scratch):
    assert process.wait(60) == 0
    with open(os.path.join(scratch, "big"), "rb") as f:
        assert f.read() == pattern(40 << 20)


def test_agent_is_killed_in_mid_transfer(agentd, long_download, scratch):
    agent = agentd("-I", "any", "-D", "-w", os.path.join(scratch, "out.pcapng"))
    process, server = long_download(agent)
    wait_for(lambda: agent.counters()["acked"] > 1 << 20)
    agent.kill()
    finish_download(process, scratch)
    assert server.stop() == 0


def test_agent_hangs_in_mid_transfer(agentd, long_download, scratch):
    agent = agentd("-I", "any", "-D", "-w", os.path.join(scratch, "out.pcapng"))
    process, server = long_download(agent)
    wait_for(lambda: agent.counters()["acked"] > 1 << 20)
    agent.daemon.signal(signal.SIGSTOP)
    finish_download(process, scratch)
    agent.daemon.signal(signal.SIGCONT)
    agent.check_balance()
    assert server.stop() == 0


def test_killed_agent_is_succeeded(agentd, nginx, net, scratch):
    """The successor adopts the mappings: the library notices nothing; nothing is shown twice; what was lost is
    counted; the connection goes on as a new incarnation."""
    import capture  # pylint: disable=import-outside-toplevel
    first_file, second_file = (os.path.join(scratch, f"{n}.pcapng") for n in ("first", "second"))
    agent = agentd("-I", "any", "-D", "-w", first_file)
    server = nginx(env=agent.env())
    server.put("file", pattern(20000))
    name = os.path.join(scratch, "r.request")
    with open(name, "wb") as f:
        f.write(request("/file"))
    record = os.path.join(scratch, "r")
    with subprocess.Popen(net.client.command([PYTHON, os.path.join(LIB, "https_client.py"), "--host", "192.0.2.2",
                                              "--record", record, *[name] * 400, "--pause", "0.01"]),
                          stdout=subprocess.PIPE, env=environment()) as client:
        wait_for(lambda: agent.counters()["acked"] > 200000)
        agent.kill()
        successor = agentd("-I", "any", "-D", "-w", second_file, socket=agent.socket)
        assert client.wait(60) == 0
    first = next(iter(capture.flows(first_file, must_close=False).values()))
    # The successor answers for everything that its predecessor has not forged.
    size = os.path.getsize(record + ".tx") + os.path.getsize(record + ".rx")
    size -= len(first.stream(0)) + len(first.stream(1))
    wait_for(lambda: successor.counters()["reported"] >= size, why=lambda: f"{size}, {successor.status()}")
    counters = successor.check_balance()
    assert counters["reported"] == size
    successor.stop()
    with open(record + ".rx", "rb") as f:
        truth = f.read()
    second = next(iter(capture.flows(second_file).values()))
    shown = first.stream(1), second.stream(1)
    assert truth.startswith(shown[0]) and truth.endswith(shown[1]), "something else than the stream, or shown twice"
    assert len(shown[0]) + len(shown[1]) <= len(truth)
    assert shown[1].startswith(b"HTTP/1.1 200"), "the next incarnation begins at a message"
    assert first.incarnations[-1].packets[0].seq != second.incarnations[0].packets[0].seq


def test_tapped_server_without_agent(python_server, net, scratch):
    server = python_server(env=environment(tap=True, TLSTAP_SOCKET="/nonexistent/sock"))
    sent, got, port = python_client(scratch, net.client, [request("/bytes/100000"), request("/", b"x" * 100000)])
    assert server.recorded(port) == (sent, got)


def test_garbage_in_the_environment(nginx, net, scratch):
    nginx().put("file", b"hello\n")
    for value in ("", "relative", "/" + "x" * 300, "/dev/null", scratch):
        env = environment(tap=True, TLSTAP_SOCKET=value)
        assert curl(f"https://{network.SERVER4}/file", net.client, scratch)[2] == b"hello\n"
        assert run(["curl", "-sk", "https://192.0.2.2/file"], ns=net.client, env=env).stdout == b"hello\n"

