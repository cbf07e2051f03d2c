# SPDX-License-Identifier: Apache-2.0
"""No silent loss: what cannot be carried is counted to the byte, and the IDS is shown whole messages again."""
import os
import random
import signal
import subprocess
import threading
import time

import pytest

import capture
import net as network
from ids import Suricata
from proc import wait_for
from test_main import check_file, messages, same, start_agent
from web import LIB, PYTHON, pattern, python_client, request


def lossy_run(agentd, nginx, net, scratch, pool="1M"):
    """Requests over one connection while agentd is stopped now and then, with a small pool. Returns the agent,
    its file, and the streams."""
    path = os.path.join(scratch, "forged.pcapng")
    agent = agentd("-I", "any", "-D", "-w", path, "--pool-size", pool, "--rotate", "0")
    server = nginx(env=agent.env())
    requests = []
    for i in range(120):
        server.put(f"file{i}", pattern(100000 + i))
        requests.append(request(f"/file{i}"))
    stop = threading.Event()

    def disturb():
        while not stop.is_set():
            agent.daemon.signal(signal.SIGSTOP)
            time.sleep(0.15)
            agent.daemon.signal(signal.SIGCONT)
            stop.wait(0.1)
    thread = threading.Thread(target=disturb)
    thread.start()
    try:
        sent, got, port = python_client(scratch, net.client, requests, args=["--pause", "0.005"])
    finally:
        stop.set()
        thread.join()
        agent.daemon.signal(signal.SIGCONT)
    return agent, path, sent, got, port


def test_small_pool_and_stopped_drain(agentd, nginx, net, scratch):
    agent, path, sent, got, port = lossy_run(agentd, nginx, net, scratch)
    wait_for(lambda: agent.counters()["reported"] == len(sent + got))
    counters = agent.check_balance()
    agent.stop()
    lost = counters["pool_full"] + counters["stripes_busy"] + counters["resync"]
    assert counters["pool_full"] > 0, "the test lost nothing and shows nothing"
    assert counters["forged"] + lost == counters["reported"] == len(sent + got)
    flow = capture.flows(path)[((network.CLIENT4, port), (network.SERVER4, 447))]
    assert len(flow.incarnations) > 1
    # Each incarnation begins with a request and with its own response; and holds what was said, in order.
    truth = [dict(zip(("request", "response"), pair)) for pair in zip(
        [sent[a:b] for a, b in messages(sent)], [got[a:b] for a, b in messages(got)])]
    for incarnation in flow.incarnations:
        asked, answered = b"".join(incarnation.data[0]), b"".join(incarnation.data[1])
        if not asked:
            assert not answered
            continue
        first = next(i for i, t in enumerate(truth) if asked.startswith(t["request"][:40]) or t["request"].startswith(asked))
        expected = [b"".join(t[k] for t in truth[first:]) for k in ("request", "response")]
        assert expected[0].startswith(asked)
        assert expected[1].startswith(answered), f"incarnation at request {first}: {answered[:200]}"
    # and an IDS pairs every request with its own response
    ids = Suricata(scratch, deep=True).read(path)
    whole = [e["http"] for e in ids.events("http") if e["http"].get("status")]
    assert len(whole) > 5
    for http in whole:
        assert http["status"] == 200
        number = int(http["url"][5:])
        assert http["length"] <= 100000 + number
    full = sum(http["length"] == 100000 + int(http["url"][5:]) for http in whole)
    assert full >= len(whole) - len(flow.incarnations)
    assert not [c for c in ids.complaints() if "STREAM" in c]


@pytest.mark.parametrize("size", [16 << 10, 1 << 20, 100 << 20])
def test_one_write_of_any_size_fits_a_large_pool(agentd, python_server, net, scratch, size):
    agent, path = start_agent(agentd, scratch, "--rotate", "0")
    server = python_server(env=agent.env(), args=["--one-write"])
    sent, got, port = python_client(scratch, net.client, [request(f"/bytes/{size}")], timeout=300)
    wait_for(lambda: agent.counters()["reported"] == len(sent + got))
    counters = agent.check_balance()
    assert counters["forged"] == len(sent + got), counters
    agent.stop()
    assert server.recorded(port) == (sent, got)
    check_file(path, {((network.CLIENT4, port), (network.SERVER4, 447)): (sent, got)}, judge=False)


def test_one_write_larger_than_the_pool_is_counted(agentd, python_server, net, scratch):
    path = os.path.join(scratch, "forged.pcapng")
    agent = agentd("-I", "any", "-D", "-w", path, "--pool-size", "4M")
    python_server(env=agent.env(), args=["--one-write"])
    requests = [request("/bytes/1"), request(f"/bytes/{100 << 20}"), request("/bytes/2"), request("/bytes/3")]
    sent, got, port = python_client(scratch, net.client, requests, timeout=300, args=["--pause", "0.5"])
    wait_for(lambda: agent.counters()["reported"] == len(sent + got))
    counters = agent.check_balance()
    agent.stop()
    assert counters["forged"] + counters["pool_full"] + counters["stripes_busy"] + counters["resync"] == len(sent + got)
    assert counters["pool_full"] > 0
    flow = capture.flows(path)[((network.CLIENT4, port), (network.SERVER4, 447))]
    # the very next request is in the new incarnation, with its own response
    last = flow.incarnations[-1]
    assert b"".join(last.data[0]) == requests[2] + requests[3]
    assert b"".join(last.data[1]).endswith(pattern(3))


@pytest.mark.slow
def test_processes_killed_in_mid_write_by_the_hundred(agentd, python_server, net, scratch):
    """kill -9 at any moment: no corrupt byte, equations exact, and others go on."""
    agent, path = start_agent(agentd, scratch, "--rotate", "0", ns=net.client)
    python_server()
    name = os.path.join(scratch, "r.request")
    with open(name, "wb") as f:
        f.write(request("/x", pattern(200000)))
    rng = random.Random(7)
    records = []

    def one(i):
        record = os.path.join(scratch, f"k{i}")
        with subprocess.Popen(net.client.command(
                [PYTHON, os.path.join(LIB, "https_client.py"), "--host", "192.0.2.2", "--record", record, *[name] * 500]),
                env=agent.env(), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
            wait_for(lambda: os.path.exists(record + ".tx") and os.path.getsize(record + ".tx") > 0)
            time.sleep(rng.random() * 0.05)
            process.kill()
        records.append(record)
    for batch in range(50):
        pair = [threading.Thread(target=one, args=(2 * batch + k,)) for k in (0, 1)]
        for t in pair:
            t.start()
        for t in pair:
            t.join()
    assert len(records) == 100
    counters = agent.check_balance()
    # A kill may come between the TLS call and the client's own record: at most one call of each.
    sizes = [os.path.getsize(r + e) for r in records for e in (".tx", ".rx") if os.path.exists(r + e)]
    assert 0 <= counters["reported"] - sum(sizes) <= 100 * 200200
    # ... and the tap still works
    sent, got, port = python_client(scratch, net.client, [request("/bytes/1000")], env=agent.env())
    wait_for(lambda: agent.counters()["reported"] == counters["reported"] + len(sent + got))
    agent.check_balance()
    agent.stop()
    flows = capture.flows(path)
    flow = flows.pop(((network.CLIENT4, port), (network.SERVER4, 447)))
    assert (flow.stream(0), flow.stream(1)) == (sent, got)
    unit = request("/x", pattern(200000))
    for key, flow in flows.items():
        for incarnation in flow.incarnations:
            stream = b"".join(incarnation.data[0])
            whole = unit * (len(stream) // len(unit) + 1)
            same(stream, whole[:len(stream)], f"{key}")


def test_a_receiver_that_comes_later(agentd, receiverd, nginx, net, scratch):
    """Without a receiver data waits, then goes; a receiver that is restarted sees whole messages again."""
    agent = agentd("-I", "any", "-D", "-t", network.IDS4)
    server = nginx(env=agent.env())
    server.put("file", pattern(1000))
    python_client(scratch, net.client, [request("/file")])
    time.sleep(0.5)
    path = os.path.join(scratch, "received.pcapng")
    receiver = receiverd("-c", "-o", "none", "-w", path)
    wait_for(lambda: agent.counters()["acked"] > 1000)
    agent.check_balance()
    receiver.stop()
    receiver = receiverd("-c", "-o", "none", "-w", path + "2")
    wait_for(lambda: agent.status()["sink"]["state"].startswith("connected"), why=agent.status)
    before = agent.counters()["acked"]
    sent, got, port = python_client(scratch, net.client, [request("/file")])
    wait_for(lambda: agent.counters()["acked"] >= before + len(sent + got))
    agent.check_balance()
    agent.stop()
    receiver.stop()
    assert len(capture.flows(path)) == 1
    flow = capture.flows(path + "2")[((network.CLIENT4, port), (network.SERVER4, 447))]
    assert (flow.stream(0), flow.stream(1)) == (sent, got)


