# SPDX-License-Identifier: Apache-2.0
"""Storms: programs that do to a tap what is hardest on it (tests/snippets/storm_*.c), STORM_SECONDS (1) each.

None dies or hangs, each says with the tap what it says without, agentd was told of every byte that passed TLS, and its
books balance. tests/storms runs them for minutes, also with a libtlstap built with sanitizers (STORM_LIBRARY)."""
import os
import re
import struct
import subprocess

import pytest

from proc import build_dir, compile_c, environment, library, run, wait_for

HERE = os.path.dirname(os.path.abspath(__file__))
SECONDS = float(os.environ.get("STORM_SECONDS", "1"))
SANITIZED = os.environ.get("STORM_LIBRARY")
# How many of the bytes that passed TLS agentd is told of: all; all, and those of calls that the program does not count;
# or some, for each process attaches for itself, and one that cannot within 20 ms stays untapped.
ALL, MORE, SOME = "all", "more", "some"
# name: program, how much agentd is told, the fault (broken.c) that it must notice
STORMS = {
    "fork": ("storm_process", ALL, "LOCK"),
    "clone": ("storm_process", ALL, "LOCK"),
    "spawn": ("storm_process", SOME, "LOAD"),
    "cancel": ("storm_thread", MORE, "LOCK"),
    "async": ("storm_thread", MORE, "LOCK"),
    "jump": ("storm_thread", MORE, "LOCK"),
    "alarm": ("storm_thread", MORE, "LOCK"),
    "profile": ("storm_thread", ALL, "STACK"),
    "descriptors": ("storm_confined", ALL, "KEEP"),
    "limits": ("storm_confined", ALL, "GROW"),
    "root": ("storm_confined", ALL, "GROW"),
    "namespaces": ("storm_confined", ALL, "THREAD"),
}
# AddressSanitizer itself needs more stack, more memory or /proc; or a cancelled thread's frames are alive for it
NOT_SANITIZED = {"profile", "limits", "root", "clone", "cancel", "async"}


def snippet(name):
    return os.path.join(build_dir(), "tests", "snippets", name)


def broken(scratch, fault):
    return compile_c(os.path.join(HERE, "broken.c"), os.path.join(scratch, f"{fault}.so"), "-shared", "-fPIC",
                     f"-DFAULT={fault}", "-ldl", "-pthread")


class Count:
    """What the program says its TLS calls have reported."""

    def __init__(self, scratch):
        self.path = os.path.join(scratch, "count")
        self.reset()

    def reset(self):
        with open(self.path, "wb") as f:
            f.write(bytes(8))
        os.chmod(self.path, 0o666)

    def value(self):
        with open(self.path, "rb") as f:
            return struct.unpack("=Q", f.read())[0]


def outcome(command, env, ns, timeout):
    """What a program leaves behind; None: it hung."""
    try:
        done = run(command, ns=ns, env=env, timeout=timeout, check=False)
    except subprocess.TimeoutExpired:
        return None
    return done.returncode, done.stdout, done.stderr


def preload(agent):
    return agent.env(LD_PRELOAD=SANITIZED or library())


def believable(told, count, how):
    return {ALL: told == count, MORE: told >= count, SOME: 0 < told <= count}[how]


def tapped_outcome(agent, command, ns, count, how, timeout, **more):  # pylint: disable=too-many-arguments
    """Of a run in which the process did attach; one that could not within 20 ms does not count."""
    for _ in range(5):
        count.reset()
        before = agent.status()
        result = outcome(command, {**preload(agent), "STORM_COUNT": count.path, **more}, ns, timeout)
        after = agent.wait_quiet(120)
        told = after["reported"] - before["reported"]
        if told or result is None:
            assert believable(told, count.value(), how), (told, count.value(), agent.status())
            return result
    raise AssertionError(f"{command} was not tapped: {agent.status()}")


@pytest.mark.parametrize("name", STORMS)
def test_storm(name, agentd, net, scratch):
    if SANITIZED and name in NOT_SANITIZED:
        pytest.skip("not with a sanitizer")
    program, how, _ = STORMS[name]
    agent = agentd("-I", "any", "-D", "-w", "/dev/null", "--pool-size", "128M", asan=bool(SANITIZED))
    command = [snippet(program), name]
    plain = outcome([*command, min(SECONDS, 0.5)], environment(TMPDIR=scratch), net.server, 60)
    assert plain is not None and plain[0] == 0 and plain[1] and not plain[2], plain
    tapped = tapped_outcome(agent, [*command, SECONDS], net.server, Count(scratch), how, SECONDS * 2 + 60, TMPDIR=scratch)
    assert tapped == plain
    assert not [name for name in os.listdir(scratch) if name.startswith("storm.")]
    agent.check_balance()


@pytest.mark.parametrize("name", STORMS)
@pytest.mark.skipif(SANITIZED is not None, reason="says nothing about the library")
def test_storm_notices(name, net, scratch):
    """A library with the fault that the storm is about does not get through it."""
    program, _, fault = STORMS[name]
    env = environment(LD_PRELOAD=broken(scratch, fault), STORM_PATIENCE=1)
    for _ in range(10):  # not in every second of it a lock is held at the wrong moment
        result = outcome([snippet(program), name, 1], env, net.server, 10)
        if result is None or result[0] != 0 or result[2]:
            return
    raise AssertionError(f"{fault} was not noticed: {result}")


# --- system call filters --------------------------------------------------------------------------------


def system_calls(scratch, net, command, after=None):
    """The numbers of what @command calls, untapped, in several runs, all or from @after on."""
    trace, numbers = os.path.join(scratch, "strace"), set()
    for _ in range(3):
        run(["strace", "-f", "-n", "-o", trace, *command], ns=net.server, env=environment())
        with open(trace, encoding="utf-8", errors="replace") as f:
            text = f.read()
        if after:
            assert f"] {after}(" in text
            text = text.split(f"] {after}(", 1)[1]
        numbers |= {int(n) for n in re.findall(r"^\d* *\[ *(\d+)\]", text, re.M)}
    assert numbers
    return sorted(numbers)


def check_filtered(command, agent, net, scratch, told=True, env=None):
    """Its output is the same; agentd was told of all, or, where it passes through, of nothing."""
    count = Count(scratch)
    plain = outcome(command, environment(), net.server, 60)
    assert plain is not None and plain[0] == 0, plain
    for _ in range(5):
        count.reset()
        before = agent.status()["reported"]
        assert outcome(command, {**preload(agent), "STORM_COUNT": count.path, **(env or {})}, net.server, 60) == plain
        if not told or agent.wait_quiet()["reported"] > before:
            break
    seen = agent.check_balance()["reported"] - before
    assert seen == (count.value() if told else 0)


def test_filter_that_kills_on_surprise(agentd, net, scratch):
    """Of a program that confines itself once its connections stand: as privilege-separated daemons do."""
    agent = agentd("-I", "any", "-D", "-w", "/dev/null")
    command = [snippet("storm_confined"), "filter", 0]
    numbers = system_calls(scratch, net, command, "getppid")
    check_filtered([*command, *numbers], agent, net, scratch)


def test_filter_notices(net, scratch):
    command = [snippet("storm_confined"), "filter", 0]
    numbers = system_calls(scratch, net, command, "getppid")
    assert outcome([*command, *numbers], environment(LD_PRELOAD=broken(scratch, "CALL")), net.server, 60)[0] == -31


def test_filter_and_a_handshake(agentd, net, scratch):
    """Whoever confines itself before a handshake is on the list of those that are asked for no address."""
    agent = agentd("-I", "any", "-D", "-w", "/dev/null")
    command = [snippet("storm_confined"), "filter_new", 0]
    numbers = system_calls(scratch, net, command, "getppid")
    check_filtered([*command, *numbers], agent, net, scratch, env={"TLSTAP_CONFINED": "1"})


def test_filter_from_the_start(agentd, net, scratch):
    """As systemd installs them: before the program, and its loader, run. It passes through untapped."""
    agent = agentd("-I", "any", "-D", "-w", "/dev/null")
    command = [snippet("storm_process"), "once", 0]
    numbers = system_calls(scratch, net, command)
    check_filtered([snippet("storm_confined"), "under", 0, *numbers, "--", *command], agent, net, scratch, told=False)


# --- before the start -----------------------------------------------------------------------------------


@pytest.mark.parametrize("limit", ["--as=67108864", "--nofile=12", "--fsize=0", "--nproc=1", "--memlock=0",
                                   "--stack=131072"])
def test_limit_from_the_start(limit, agentd, net, scratch):
    """Where the address space is limited nothing is mapped; all else does not matter."""
    agent = agentd("-I", "any", "-D", "-w", "/dev/null")
    command = ["prlimit", limit, snippet("storm_process"), "once", 0]
    check_filtered(command, agent, net, scratch, told=not limit.startswith("--as"))


@pytest.mark.parametrize("command", [["-U", "-r"], ["-n"], ["-m"], ["-p", "--fork", "--mount-proc"], ["-i", "-u", "-C"],
                                     ["-T"]], ids=" ".join)
def test_namespace_from_the_start(command, agentd, net, scratch):
    """unshare(1) itself is tapped, too: with a second thread it would fail."""
    agent = agentd("-I", "any", "-D", "-w", "/dev/null")
    up = "ip link set lo up; " if "-n" in command else ""
    inner = f"{up}exec {snippet('storm_process')} once 0"
    check_filtered(["unshare", *command, "sh", "-c", inner], agent, net, scratch)


def test_standard_descriptors_stay_closed(agentd, net, scratch):
    """Nothing of ours becomes descriptor 0, 1 or 2 of a program that was started without them."""
    agent = agentd("-I", "any", "-D", "-w", "/dev/null")
    command = ["sh", "-c", f"exec {snippet('storm_confined')} bare 0 <&- >&- 2>&-"]
    for env, code in ((environment(), 7), (environment(LD_PRELOAD=broken(scratch, "KEEP")), 1)):
        assert run(command, ns=net.server, env=env, check=False).returncode == code

    def attached():
        assert run(command, ns=net.server, env=preload(agent), check=False).returncode == 7
        return agent.status()["attach"]["attached"]
    wait_for(attached)
