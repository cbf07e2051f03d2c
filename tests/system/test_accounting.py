# SPDX-License-Identifier: Apache-2.0
"""The books of a real agentd: every byte that programs say they wrote or read is found again, by what became of it,
whatever happened to agentd or to them."""
import os
import re
import signal
import threading
import time

import pytest

import capture
import net as network
from proc import build_dir, run, wait_for
from web import pattern, python_client, request

MIB = 1 << 20


def start(agentd, scratch, *args, **more):
    path = os.path.join(scratch, more.pop("name", "forged.pcapng"))
    return agentd("-I", "any", "-D", "-w", path, *args, **more), path


def in_background(function, *args, **more):
    """Call it in a thread. Returns join(), which gives its result."""
    result, error = [], []

    def call():
        try:
            result.append(function(*args, **more))
        except BaseException as e:  # pylint: disable=broad-except
            error.append(e)
    thread = threading.Thread(target=call)
    thread.start()

    def join():
        thread.join()
        if error:
            raise error[0]
        return result[0]
    return join


def size_of(name):
    return os.path.getsize(name) if os.path.exists(name) else 0


def settled(agent, reported, families=None):
    """At rest everything is decided, to the byte."""
    counters = agent.check_balance()
    assert counters["reported"] == reported, f"programs said {reported}: {counters}"
    if families is not None:
        wait_for(lambda: len(agent.status()["processes"]) == families, why=agent.status)
        assert agent.check_balance()["reported"] == reported
    return counters


@pytest.mark.parametrize("tapped", ["server", "both"])
def test_agentd_is_stopped_while_megabytes_are_written(agentd, python_server, net, scratch, tapped):
    agent, path = start(agentd, scratch, "--pool-size", "256K")
    server = python_server(env=agent.env())
    requests = [request(f"/bytes/{4 * MIB + i}") for i in range(8)] + [request("/x", pattern(2 * MIB))] * 4
    record = os.path.join(scratch, "client.rx")
    join = in_background(python_client, scratch, net.server if tapped == "both" else net.client, requests,
                         env=agent.env() if tapped == "both" else None)
    wait_for(lambda: size_of(record) > 0)
    agent.daemon.signal(signal.SIGSTOP)
    try:
        sent, got, port = join()
    finally:
        agent.daemon.signal(signal.SIGCONT)
    assert server.recorded(port) == (sent, got)
    said = len(sent + got)
    counters = settled(agent, 2 * said if tapped == "both" else said, 1)
    assert counters["pool_full"] > 8 * MIB, "the pool lost little: the test shows nothing"
    # the tap still works, and nothing is lost any more
    again = request("/bytes/20000")
    sent2, got2, _ = python_client(scratch, net.client, [again], name="again")
    after = settled(agent, counters["reported"] + len(sent2 + got2))
    assert after["forged"] == counters["forged"] + len(sent2 + got2)
    agent.stop()
    payload = sum(len(s) for f in capture.flows(path).values() for s in (f.stream(0), f.stream(1)))
    assert payload == after["forged"]


def test_stopped_for_a_moment_and_large_pool_loses_nothing(agentd, python_server, net, scratch):
    agent, path = start(agentd, scratch, "--pool-size", "128M", "--rotate", "0")
    python_server(env=agent.env())
    record = os.path.join(scratch, "client.rx")
    join = in_background(python_client, scratch, net.client, [request(f"/bytes/{MIB + i}") for i in range(30)])
    wait_for(lambda: size_of(record) > 0)
    agent.daemon.signal(signal.SIGSTOP)
    try:
        sent, got, port = join()
    finally:
        agent.daemon.signal(signal.SIGCONT)
    counters = settled(agent, len(sent + got), 1)
    assert counters["forged"] == len(sent + got), counters
    agent.stop()
    flow = capture.flows(path)[((network.CLIENT4, port), (network.SERVER4, 447))]
    assert flow.stream(0) == sent and flow.stream(1) == got


@pytest.mark.slow
@pytest.mark.parametrize("pool", ["256K", "64M"])
def test_children_killed_in_mid_write_by_the_hundred(agentd, net, scratch, started, pool):
    """Children of one process, killed at any moment: the family's books are closed, and then it is gone."""
    program = os.path.join(build_dir(), "tests", "snippets", "killed")
    if not os.path.exists(program):
        pytest.fail("the snippets were not built")
    agent, _ = start(agentd, scratch, "--pool-size", pool)
    del started  # stops the agent
    server = in_background(run, [program, "server", "127.0.0.1", "8443", "240", "6"], ns=net.server, timeout=200)
    client = run([program, "client", "127.0.0.1", "8443", "240", "6"], ns=net.server, env=agent.env(), timeout=200)
    server()
    assert re.search(rb"[1-9][0-9][0-9] killed, [0-9]+ ended", client.stdout), client.stdout
    wait_for(lambda: not agent.status()["processes"], why=agent.status)
    counters = agent.check_balance()
    assert counters["pending"] == 0 and counters["reported"] > 10 * MIB, counters
    assert agent.status()["attach"]["corrupt"] == 0


def http_pairs(path):
    """[(request URI, bytes of its response)] as tshark pairs them."""
    out = run(["tshark", "-r", path, "-d", "tcp.port==447,http", "-o", "tcp.desegment_tcp_streams:TRUE",
               "-Y", "http.response", "-T", "fields", "-e", "http.response_for.uri", "-e", "http.content_length_header"],
              timeout=120, check=False).stdout.decode()  # the file of a killed agentd may end within a block
    return [line.split("\t") for line in out.splitlines()]


def requests_in(path):
    """The numbers of the requests that stand in the forged packets, in order."""
    return [int(n) for f in capture.flows(path, False).values()
            for n in re.findall(rb"GET /file([0-9]+) HTTP", f.stream(0))]


def payload_of(path):
    return sum(len(f.stream(side)) for f in capture.flows(path, False).values() for side in (0, 1))


@pytest.mark.slow
@pytest.mark.parametrize("down", [0, 0.3])
def test_agentd_killed_and_restarted_in_mid_transfer(agentd, nginx, net, scratch, started, down):
    """Nothing twice; each later request has its own response; what was lost on the way is counted."""
    agent, first = start(agentd, scratch, "--pool-size", "16M", name="first.pcapng")
    server = nginx(env=agent.env())
    count = 300
    requests = []
    for i in range(count):
        server.put(f"file{i}", pattern(20000 + i))
        requests.append(request(f"/file{i}"))
    record = os.path.join(scratch, "client.rx")
    join = in_background(python_client, scratch, net.client, requests, args=["--pause", "0.005"])
    wait_for(lambda: size_of(record) > 30 * 20000)
    agent.kill()
    started.remove(agent)
    time.sleep(down)
    successor, second = start(agentd, scratch, "--pool-size", "16M", name="second.pcapng", socket=agent.socket)
    sent, got, port = join()
    said = len(sent + got)
    counters = successor.check_balance()
    successor.stop()
    assert counters["reported"] > 0
    # what the first one had shown is not shown again
    seen = requests_in(first) + requests_in(second)
    assert len(seen) == len(set(seen)) and seen == sorted(seen)
    assert len(requests_in(first)) > 10 and len(requests_in(second)) > count // 2
    assert seen[-1] == count - 1
    # every response is that of its request
    for path in (first, second):
        for uri, length in http_pairs(path):
            number = int(re.search(r"file([0-9]+)$", uri).group(1))
            assert int(length) == 20000 + number, f"{uri} got a response of {length} bytes"
    assert len(http_pairs(second)) >= len(requests_in(second)) - 1
    # every byte is in one of the two files, or the successor says why not
    reasons = sum(counters[k] for k in ("predecessor", "pool_full", "stripes_busy", "resync"))
    missing = said - payload_of(first) - payload_of(second)
    assert 0 <= missing <= reasons, f"{missing} of {said} bytes are missing: {counters}"
    for path in (first, second):
        flow = capture.flows(path, False)[((network.CLIENT4, port), (network.SERVER4, 447))]
        for incarnation in flow.incarnations:  # a piece of what was said, whole and in its place
            for side, stream in ((0, sent), (1, got)):
                assert b"".join(incarnation.data[side]) in stream
