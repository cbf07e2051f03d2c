# SPDX-License-Identifier: Apache-2.0
"""Programs in other network namespaces, as containers are: --netns NAME, PID, all.

Two pairs of namespaces use the same addresses: client 10.0.0.2, server 10.0.0.1. Nothing of one pair is shown as
the other's."""
import functools
import os
import re

import pytest

import capture
import net as network
from proc import Daemon, environment, program, run, wait_for
from services import Asyncio
from stage import check_forged, meet, run_tapped
from web import LIB, PYTHON, Nginx
from wire import Wire, shifted

AIO = [PYTHON, os.path.join(LIB, "aio.py")]
HOST, GUEST = "10.0.0.1", "10.0.0.2"


class Pair:
    """A server's and a client's namespace, and what happens there."""

    def __init__(self, folder, number, started):
        self.folder, self.number, self.started = folder, number, started
        self.server, self.client = network.Namespace(f"srv{number}"), network.Namespace(f"cli{number}")
        network.veth(self.server, "eth0", self.client, "eth0")
        self.server.address("eth0", HOST + "/24")
        self.client.address("eth0", GUEST + "/24")
        # The addresses are the same, but no two connections have the same ports: else no test could tell them apart.
        for ns in (self.server, self.client):
            ns.sysctl("net/ipv4/ip_local_port_range", f"'{30000 + 3000 * number} {32999 + 3000 * number}'")
        self.wire = Wire(folder, self.client)
        started.append(self.wire)

    def serve(self, agent):
        """nginx and asyncio, tapped, in the server's namespace; asyncio, not tapped, in the client's."""
        self.agent = agent
        for kind, ns, port, env in ((Nginx, self.server, 443, agent.env()), (Asyncio, self.server, 8443, agent.env()),
                                    (Asyncio, self.client, 9443, None)):
            folder = os.path.join(self.folder, f"{kind.__name__}{port}")
            os.makedirs(folder)
            before = agent.status()["attach"]["attached"]
            server = kind(folder, ns, port=port, env=env)
            self.started.append(server)
            if env:
                meet(agent, server, before, self.wire)
            if kind is Nginx:
                server.put("file", b"of pair %d\n" % self.number * 3000)
                self.nginx = server

    def run(self, ns, tapped):
        return functools.partial(run_tapped, self.agent, self.wire, ns, self.agent.env() if tapped else environment())

    def talk(self):
        """With and without descriptor, from either side: 11 connections."""
        token = ["--token", f"pair{self.number}"]
        self.run(self.client, False)(["curl", "-sfk", "-o", "/dev/null", f"https://{HOST}/file"])
        self.run(self.client, False)([*AIO, "client", "--host", HOST, "--port", "8443", "--count", "5", *token])
        for _ in range(2):
            self.run(self.server, True)(["curl", "-sfk", "-o", "/dev/null", f"https://{GUEST}:9443/pair{self.number}"])
        self.run(self.server, True)([*AIO, "client", "--host", GUEST, "--port", "9443", "--count", "3", *token])

    def delete(self):
        self.server.delete()
        self.client.delete()


@pytest.fixture
def pairs(scratch, started):
    made = [Pair(os.path.join(scratch, f"pair{i}"), i, started) for i in (1, 2)]
    yield made
    for pair in made:
        pair.delete()


@pytest.mark.parametrize("how", ["name", "pid", "all"])
def test_same_addresses_in_two_namespaces(agentd, pairs, scratch, started, net, how):
    path = os.path.join(scratch, "forged.pcapng")
    options = ["--netns", "all"] if how == "all" else []
    for pair in pairs:
        if how == "name":
            options += ["--netns", pair.server.name]
        elif how == "pid":
            process = Daemon(["sleep", "600"], os.path.join(scratch, "sleep.log"), pair.server)
            started.append(process)
            options += ["--netns", process.pid]
    agent = agentd("-I", "any", "-D", "-w", path, "--pool-size", "128M", *options, ns=net.ids)
    for pair in pairs:
        pair.serve(agent)
    for pair in pairs:
        pair.talk()
    truth = {}
    for pair in pairs:
        there = shifted(pair.wire.truth())
        assert len(there) == 11 and not set(there) & set(truth)
        assert all(b"pair%d" % (3 - pair.number) not in side for sides in there.values() for side in sides)
        truth.update(there)
    check_forged(agent, path, truth)


def test_a_process_of_another_namespace_without_netns(agentd, pairs, scratch, net):
    """Nobody asked to see its namespace: counted, not guessed."""
    agent = agentd("-I", "any", "-D", "-w", os.path.join(scratch, "forged.pcapng"), ns=net.ids)
    pairs[0].serve(agent)
    pairs[0].talk()
    counters = agent.check_balance()
    assert counters["forged"] == 0
    assert counters["reported"] == counters["unverified"] + counters["unpaired"] > 10000
    agent.stop()
    assert not capture.flows(os.path.join(scratch, "forged.pcapng"))


@pytest.mark.parametrize("name", ["nosuch", "4194304", "../../proc/self/ns/net", ""])
def test_unknown_namespace(scratch, net, name):
    done = run([program("agentd"), "--socket", os.path.join(scratch, "sock"), "-I", "any", "-D", "-w",
                os.path.join(scratch, "out.pcapng"), "--netns", name], ns=net.server, check=False)
    assert done.returncode not in (0, None) and done.returncode > 0
    lines = (done.stdout + done.stderr).decode().splitlines()
    assert len(lines) == 1 and "netns" in lines[0] or "namespace" in lines[0], lines
    assert name in lines[0], lines


@pytest.mark.parametrize("how", ["name", "all"])
def test_a_deleted_namespace_is_not_kept_alive(agentd, pairs, scratch, net, how):
    """When the kernel frees a namespace, its devices go with it, and so does the other end of its cable."""
    pair, other = pairs
    options = [a for p in pairs for a in ("--netns", p.server.name)] if how == "name" else ["--netns", "all"]
    agent = agentd("-I", "any", "-D", "-w", os.path.join(scratch, "forged.pcapng"), *options, ns=net.ids)
    pair.serve(agent)
    pair.talk()
    pair.wire.stop()

    def devices():
        return re.findall(r"^[0-9]+: (\w+)", network.ip("-o", "link", ns=pair.client.name).stdout.decode(), re.M)
    assert "eth0" in devices()
    pair.server.delete()
    wait_for(lambda: "eth0" not in devices(), timeout=40, why=lambda: f"{devices()}: the namespace is still there")
    # and the agent goes on with the other one
    before = agent.wait_quiet()["forged"]
    other.serve(agent)
    other.talk()
    size = sum(len(side) for sides in other.wire.truth().values() for side in sides)
    wait_for(lambda: agent.counters()["acked"] == before + size, why=agent.status)
    agent.check_balance()
