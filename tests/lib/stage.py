# SPDX-License-Identifier: Apache-2.0
"""An agent in the server's namespace, programs on both sides of the wire, and at the end the question: is what was
forged what really went over the wire?"""
import contextlib
import functools
import json
import os
import re
import time

import capture
import net as network
from proc import environment, run, wait_for
from wire import Wire, shifted

FATES = ("unpaired", "unverified", "not_tcp", "denied", "no_room", "died", "resync", "predecessor", "pool_full")
GOAWAY = re.compile(rb"\x00\x00\x08\x07\x00\x00\x00\x00\x00.{8}\Z", re.S)
TLS_PORTS = (443, 444, 636, 8443, 8444, 8445, 8446, 9443)
MOVING = ("pending", "held", "queued", "in_flight", "backlog")


class Stage:
    """@interface   agentd -I
    @watch       (namespace, interface) where tcpdump sees the truth"""

    def __init__(self, agentd, net, scratch, started, *args, interface="any", watch=None, **options):
        self.net, self.scratch, self.started = net, scratch, started
        self.path = os.path.join(scratch, "forged.pcapng")
        self.agent = agentd("-I", interface, "-D", "-w", self.path, "--pool-size", "128M", *args, **options)
        self.wire = Wire(scratch, *(watch or (net.server, "any")))
        started.append(self.wire)
        self.services = 0

    def service(self, kind, tapped, ns=None, keys=False, **options):
        """A tapped one in the server's namespace, or an untapped one in the client's. @keys: it writes its keys down,
        for its clients cannot."""
        self.services += 1
        folder = os.path.join(self.scratch, f"{kind.__name__.lower()}{self.services}")
        os.makedirs(folder)
        env = self.agent.env() if tapped else environment()
        before = self.agent.status()["attach"]["attached"]
        server = kind(folder, ns or (self.net.server if tapped else self.net.client),
                      env=self.wire.client(env) if keys else env, **options)
        self.started.append(server)
        if tapped and server.port in TLS_PORTS:
            meet(self.agent, server, before, self.wire)
        return server

    def client(self, tapped, ns=None, **env):
        """run() for a client: a tapped one in the server's namespace, an untapped one of a tapped server in the
        client's."""
        ns = ns or (self.net.server if tapped else self.net.client)
        env = dict(self.agent.env() if tapped else environment(), **env)
        return functools.partial(run_tapped, self.agent, self.wire, ns, env)

    def all_ways(self, kind, client, fill=None, **options):
        """Tap the server, then the client, then both; client(run, host) is to make some connections.
        fill(server) is called before, for each of the two."""
        server = self.service(kind, True, **options)
        other = self.service(kind, False, **options)
        if fill:
            fill(server)
            fill(other)
        client(self.client(False), network.SERVER4)
        client(self.client(True), network.CLIENT4)
        client(self.client(True), network.SERVER4)
        return server, other

    def check(self, at_least):
        """What was forged is what went over the wire, under its true addresses, once. @at_least so many connections.
        Returns {5-tuple as shown: (client's bytes, server's bytes)}."""
        truth = shifted(self.wire.truth())
        assert len(truth) >= at_least, f"only {len(truth)} connections were seen and decrypted: {list(truth)}"
        check_forged(self.agent, self.path,
                     {key: (sides[0], may_be_unread(key, sides[1])) for key, sides in truth.items()})
        return truth


def meet(agent, server, before, wire):
    """Shake hands with a tapped server, so that it attaches before it is measured: those of its threads that speak TLS
    while the first one attaches are not tapped, and one that could not attach within 20 ms never is.
    @before  how many had attached when it was started"""
    for _ in range(5):
        run(["openssl", "s_client", "-connect", f"127.0.0.1:{server.port}", "-keylogfile", wire.keys], ns=server.ns,
            check=False)
        with contextlib.suppress(AssertionError):
            wait_for(lambda: agent.status()["attach"]["attached"] > before, 2)  # pylint: disable=cell-var-from-loop
            return
        server.stop()
        before = agent.status()["attach"]["attached"]
        server.start()
    raise AssertionError(f"{server} did not attach: {agent.status()}")


def run_tapped(agent, wire, ns, env, command):
    """Run @command, of which one end or both are to be tapped. A process that did not get to attach within 20 ms, which
    happens where a machine is busy, is not tapped: it does not count, and the command is run again."""
    for i in range(8):
        keys = f"{wire.keys}.{i}"
        before = agent.counters()["reported"]
        open(keys, "wb").close()  # pylint: disable=consider-using-with  # NSS writes none
        done = run(command, ns=ns, env=wire.client(env, keys))
        with contextlib.suppress(AssertionError):
            wait_for(lambda: agent.counters()["reported"] > before, 2)  # pylint: disable=cell-var-from-loop
            wire.believe(keys)
            os.unlink(keys)
            return done
        os.unlink(keys)
    raise AssertionError(f"{command} was not tapped in 8 attempts: {agent.status()}")


class Unread(bytes):
    """What a server sent; a client need not have read the last @tail bytes of it."""

    tail = 0


def may_be_unread(key, data):
    """A client that has closed its connection does not read what an HTTP/2 server says to that (GOAWAY)."""
    data = Unread(data)
    if key[1][0] == network.CLIENT4 and GOAWAY.search(data):
        data.tail = len(GOAWAY.search(data)[0])
    return data


def check_forged(agent, path, truth):
    """Ends the agent. @truth  {5-tuple as shown: (client's bytes, server's bytes)}, and nothing else"""
    size = sum(len(s) - getattr(s, "tail", 0) for sides in truth.values() for s in sides)
    counters = wait_enough(agent, size)
    status = "" if counters["acked"] >= size else json.dumps(agent.status())
    agent.check_balance()
    agent.stop()
    flows = capture.flows(path)
    problems = [f"{name} of {what}" for name, what in _differences(flows, truth)]
    problems += [f"{counters[k]} bytes {k}" for k in FATES if counters.get(k)]
    assert not problems, "\n".join([*problems[:40], f"{len(problems)} problems", status[:6000]])


def wait_enough(agent, size, patience=5):
    """Wait until @size bytes have left, or nothing has happened for @patience seconds. Returns the counters."""
    history = []

    def enough():
        c = agent.counters()
        history.append((time.monotonic(), {k: v for k, v in c.items() if k not in ("sweeps", "late")}))
        while history[-1][1] != history[0][1]:
            history.pop(0)
        if c["acked"] >= size and not any(c[k] for k in MOVING):
            return c
        return c if history[-1][0] - history[0][0] > patience else None
    return wait_for(enough, 120, step=0.05)


def _differences(flows, truth):
    for key in sorted(set(flows) - set(truth)):
        yield "a flow that never was", f"{key}: {flows[key].stream(0)[:80]!r} {flows[key].stream(1)[:80]!r}"
    for key, sides in truth.items():
        if key not in flows:
            yield "missing", f"{key}: {sides[0][:80]!r} {sides[1][:80]!r}"
            continue
        for side, name in ((0, "client"), (1, "server")):
            got, true = flows[key].stream(side), sides[side]
            if got != true and got != true[:len(true) - getattr(true, "tail", 0)]:
                at = next((i for i, (a, b) in enumerate(zip(got, true)) if a != b), min(len(got), len(true)))
                yield f"the {name}'s side", (f"{key}: {len(got)} bytes, truth {len(true)}; they part at {at}: "
                                             f"{got[at:at + 40]!r}, truth {true[at:at + 40]!r}")
