# SPDX-License-Identifier: Apache-2.0
"""Nobody in: who lies, scribbles or talks nonsense ends his own session, and nothing of his is shown."""
import os
import random
import socket
import struct
import subprocess
import time

import pytest

import capture
import net as network
from proc import compile_c, environment, run, wait_for
from web import PYTHON, LIB, python_client, request

HERE = os.path.dirname(os.path.abspath(__file__))
MAGIC = 0x41544C54


def still_works(agent, net, scratch, name="after"):
    """An honest program is tapped to the byte."""
    before = agent.counters()
    sent, got, port = python_client(scratch, net.client, [request("/file")], env=agent.env(), name=name,
                                    args=["--linger", "0.3"])
    wait_for(lambda: agent.counters()["acked"] >= before["acked"] + len(sent + got), why=agent.status)
    return sent, got, port


@pytest.fixture
def agent(agentd, nginx, net, scratch):
    """An agent with sanitizers; nginx is not tapped."""
    nginx().put("file", b"x" * 5000)
    a = agentd("-I", "any", "-D", "-w", os.path.join(scratch, "forged.pcapng"), ns=net.client, asan=True)
    a.path = os.path.join(scratch, "forged.pcapng")
    return a


def talk(path, messages, kind=socket.SOCK_SEQPACKET):
    try:
        with socket.socket(socket.AF_UNIX, kind) as s:
            s.settimeout(1)
            s.connect(path)
            for m in messages:
                s.send(m)
            return s.recv(4096)
    except OSError:
        return b""


def test_garbage_to_the_agents_socket(agent, net, scratch):
    rng = random.Random(1)
    good = struct.pack("=IIiI", MAGIC, 1, os.getpid(), 0)
    for size in (0, 1, 4, 15, 17, 64, 4096, 65536, 200000):
        talk(agent.socket, [rng.randbytes(size)])
    for at in range(len(good)):
        for value in (0, 1, 0x7f, 0x80, 0xff):
            talk(agent.socket, [good[:at] + bytes([value]) + good[at + 1:]])
    talk(agent.socket, [good] * 50)
    for pid in (0, -1, 1, 2**31 - 1):
        talk(agent.socket, [struct.pack("=IIiI", MAGIC, 1, pid, 0)])
    control = os.path.join(os.path.dirname(agent.socket), "control.sock")
    for ask in (b"", b"x" * 100000, b"json" * 1000, b"\0\n"):
        talk(control, [ask], socket.SOCK_STREAM)
    silent = []
    for path, kind in ((agent.socket, socket.SOCK_SEQPACKET), (control, socket.SOCK_STREAM)):
        for _ in range(100):
            s = socket.socket(socket.AF_UNIX, kind)
            s.setblocking(False)
            try:
                s.connect(path)
            except OSError:
                pass
            silent.append(s)
    time.sleep(0.5)
    for s in silent:
        s.close()
    time.sleep(0.5)
    still_works(agent, net, scratch)
    agent.check_balance()


def lies(agent, net, scratch, ends):
    """A process states the addresses @ends of its TLS connection (to itself too). Returns what it said."""
    liar = compile_c(os.path.join(HERE, "liar.c"), os.path.join(scratch, "liar.so"), "-shared", "-fPIC")
    env = agent.env(LIAR=f"{ends[0][0]} {ends[0][1]} {ends[1][0]} {ends[1][1]}")
    env["LD_PRELOAD"] = f"{liar} {env['LD_PRELOAD']}"
    return python_client(scratch, net.client, [request("/file")], env=env, name="liar")[:2]


def only_the_truth(agent, lie, honest, lied_port):
    """The wire knows the random of who lies: its words are shown where it truly said them, and nowhere else."""
    agent.check_balance()
    agent.stop()
    flows = capture.flows(agent.path)
    by_port = {ends[0][1]: f.stream(0) + f.stream(1) for ends, f in flows.items()}
    assert by_port.pop(honest[2]) == honest[0] + honest[1]
    assert list(by_port.values()) == [lie[0] + lie[1]] and lied_port not in by_port
    assert {(ends[0][0], ends[1]) for ends in flows} == {(network.CLIENT4, (network.SERVER4, 447))}


def test_addresses_of_somebody_elses_connection(agent, net, scratch):
    """A process states the addresses of a connection that exists, but is another's."""
    ends = ("192.0.2.1", 40001), ("192.0.2.2", 443)
    script = (f"import socket, sys; s = socket.create_connection({ends[1]!r}, source_address={ends[0]!r});"
              "print('there', flush=True); sys.stdin.read()")
    with subprocess.Popen(net.client.command([PYTHON, "-c", script]), stdin=subprocess.PIPE,
                          stdout=subprocess.PIPE) as process:
        assert process.stdout.readline() == b"there\n"
        lie = lies(agent, net, scratch, ends)
        wait_for(lambda: agent.counters()["acked"] == len(lie[0] + lie[1]), why=agent.status)
        process.stdin.close()
    only_the_truth(agent, lie, still_works(agent, net, scratch), ends[0][1])


def test_connection_that_does_not_exist(agent, net, scratch):
    lie = lies(agent, net, scratch, (("192.0.2.1", 1), ("192.0.2.2", 443)))
    wait_for(lambda: agent.counters()["acked"] == len(lie[0] + lie[1]), why=agent.status)
    only_the_truth(agent, lie, still_works(agent, net, scratch), 1)


@pytest.mark.slow
def test_producer_scribbles_over_the_mapping(agent, net, scratch):
    shim = compile_c(os.path.join(HERE, "scribble.c"), os.path.join(scratch, "scribble.so"), "-shared", "-fPIC", "-lpthread")
    name = os.path.join(scratch, "s.request")
    with open(name, "wb") as f:
        f.write(request("/file"))
    for round_ in range(3):
        env = agent.env(SCRIBBLE="4")
        env["LD_PRELOAD"] = f"{shim} {env['LD_PRELOAD']}"
        done = run([PYTHON, os.path.join(LIB, "https_client.py"), "--host", "192.0.2.2", "--record",
                    os.path.join(scratch, f"s{round_}"), *[name] * 20000, "--pause", "0.001"], ns=net.client, env=env, check=False)
        assert (done.returncode, b"scribbled" in done.stderr) == (0, True), done
        agent.daemon.must_live()
        still_works(agent, net, scratch, f"after{round_}")
    agent.stop()
    # Whatever the liar said about himself: what was forged is well-formed.
    capture.flows(agent.path)


def test_presence_page_and_sockets_are_not_writable_by_others(agent):
    folder = os.path.dirname(agent.socket)
    for name, others in (("state", 4), ("control.sock", 0)):
        mode = os.stat(os.path.join(folder, name)).st_mode
        assert mode & 0o7 == others and not mode & 0o22, f"{name}: {mode:o}"
    assert os.stat(folder).st_mode & 0o22 == 0


def test_library_ignores_a_page_of_somebody_else(net, scratch):
    """A directory that a stranger made with a page and a socket in it: nothing is given to him."""
    folder = os.path.join(scratch, "evil")
    os.makedirs(folder)
    path = os.path.join(folder, "sock")
    now = time.clock_gettime_ns(time.CLOCK_MONOTONIC) + 3600 * 10**9
    with open(os.path.join(folder, "state"), "wb") as f:
        f.write(struct.pack("=IIQII", MAGIC, 1, now, 0, 0).ljust(4096, b"\0"))
    script = ("import os, socket, sys; s = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET); s.bind(sys.argv[1]);"
              "os.chmod(sys.argv[1], 0o777); s.listen(); print('up', flush=True); c = s.accept()[0];"
              "c.settimeout(10); print(len(c.recv(100)), flush=True)")
    os.chown(folder, 65534, 65534)
    os.chown(os.path.join(folder, "state"), 65534, 65534)
    os.chmod(scratch, 0o755)
    with subprocess.Popen(["setpriv", "--reuid", "65534", "--clear-groups", PYTHON, "-c", script, path],
                          stdout=subprocess.PIPE) as process:
        assert process.stdout.readline() == b"up\n"
        done = run(["openssl", "s_client", "-connect", "127.0.0.1:1"], ns=net.client, check=False,
                   env=environment(tap=True, TLSTAP_SOCKET=path))
        assert done.returncode == 1
        time.sleep(0.2)
        process.kill()
        assert process.stdout.read() == b"", "the library spoke to a stranger"
