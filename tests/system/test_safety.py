# SPDX-License-Identifier: Apache-2.0
"""docs/safety.md: each test that it names exists, each trap is in it; and tests of small traps that have no better
place."""
import ast
import fcntl
import glob
import os
import re
import resource
import shutil
import socket
import struct
import tempfile
import threading
import time

import pytest

from proc import ROOT, compile_c, environment, library, run, wait_for
from test_storms import Count, snippet
from web import PYTHON

HERE = os.path.dirname(os.path.abspath(__file__))
TRAPS = 63


def existing_tests():
    """{file without ending: its test functions}"""
    found = {}
    for path in glob.glob(os.path.join(ROOT, "tests", "system", "test_*.py")):
        with open(path, encoding="utf-8") as f:
            body = ast.parse(f.read()).body
        found[os.path.basename(path)] = {n.name for n in body if isinstance(n, ast.FunctionDef)}
    for path in glob.glob(os.path.join(ROOT, "tests", "unit", "test_*.c")):
        with open(path, encoding="utf-8") as f:
            found[os.path.basename(path)] = set(re.findall(r"^static void (test_\w+)\(", f.read(), re.M))
    return found


def test_document_names_existing_tests():
    with open(os.path.join(ROOT, "docs", "safety.md"), encoding="utf-8") as f:
        text = f.read()
    exist = existing_tests()
    named = re.findall(r"`(test_\w+\.(?:py|c))(?:::(test_\w+))?`", text)
    assert len(named) > 50
    missing = [(file, test) for file, test in named if file not in exist or (test and test not in exist[file])]
    assert not missing
    unnamed = re.findall(r"`(test_\w+)`", text)
    assert not unnamed, "say the file, too"
    assert [int(n) for n in re.findall(r"^\| A(\d+) \|", text, re.M)] == list(range(1, TRAPS + 1))
    for line in re.findall(r"^\| A\d+ \|.*", text, re.M):
        cells = [c.strip() for c in line.strip("|").split("|")]
        assert len(cells) == 4 and re.match(r"(tested|by design|remains)\b", cells[3]), line
        assert not cells[3].startswith("tested") or "`test_" in cells[3], line


def readelf(*args):
    return run(["readelf", "-W", *args, library()]).stdout.decode()


def test_no_private_symbols():
    symbols = readelf("--dyn-syms")
    assert "GLIBC_2." in symbols and "GLIBC_PRIVATE" not in symbols and "__isoc23" not in symbols


@pytest.mark.skipif(os.uname().machine != "x86_64", reason="there is no shadow stack")
def test_marked_for_shadow_stacks():
    """One library that is not switches them off in the whole process."""
    assert re.search(r"x86 feature: .*SHSTK", readelf("-n"))


def test_all_symbols_are_there_at_the_start():
    """Where everything is bound at once, a name that is missing would end the program."""
    for command in (["/bin/true"], ["openssl", "version"]):
        done = run(command, env=environment(tap=True, LD_BIND_NOW="1"))
        assert done.stdout == run(command).stdout and not done.stderr


def test_program_without_libc(scratch):
    source, program = os.path.join(scratch, "bare.c"), os.path.join(scratch, "bare")
    with open(source, "w", encoding="ascii") as f:
        f.write("void _start(void) { __asm__ volatile(\"syscall\" :: \"a\"(231), \"D\"(42)); for (;;); }\n"
                if os.uname().machine == "x86_64" else
                "void _start(void) { register long n __asm__(\"x8\") = 94, c __asm__(\"x0\") = 42;"
                "__asm__ volatile(\"svc 0\" :: \"r\"(n), \"r\"(c)); for (;;); }\n")
    run(["gcc", "-O1", "-fPIE", "-pie", "-nostdlib", "-nostartfiles", "-Wl,-dynamic-linker," + interpreter(), source,
         "-o", program])
    assert b"NEEDED" not in run(["readelf", "-d", program]).stdout
    for tap in (False, True):
        done = run([program], tap=tap, check=False)
        assert (done.returncode, done.stdout, done.stderr) == (42, b"", b"")


def interpreter():
    return re.search(r"interpreter: (\S+)\]", run(["readelf", "-l", "/bin/true"]).stdout.decode()).group(1)


def told_of_all(agent, command, net, scratch, env):
    """Its output is the same, and agentd is told of every byte, once."""
    count = Count(scratch)
    plain = run(command, ns=net.server, env=environment())
    for _ in range(5):
        count.reset()
        before = agent.status()["reported"]
        done = run(command, ns=net.server, env={**env, "STORM_COUNT": count.path})
        assert (done.stdout, done.stderr) == (plain.stdout, plain.stderr)
        told = agent.wait_quiet()["reported"] - before
        if told:
            assert told == count.value()
            return
    raise AssertionError(f"never attached: {agent.status()}")


def test_two_copies_of_the_library(agentd, net, scratch):
    """As while it is being replaced: the first one's hooks are called, and they call the real functions."""
    agent = agentd("-I", "any", "-D", "-w", "/dev/null")
    copy = os.path.join(scratch, "libtlstap-other.so")
    shutil.copy(library(), copy)
    told_of_all(agent, [snippet("storm_process"), "once", 0], net, scratch, agent.env(LD_PRELOAD=f"{copy}:{library()}"))


def test_calls_before_our_constructor(agentd, net, scratch):
    agent = agentd("-I", "any", "-D", "-w", "/dev/null")
    source = os.path.join(HERE, "early_calls.c")
    early = compile_c(source, os.path.join(scratch, "libearly.so"), "-shared", "-fPIC", "-DLIBRARY",
                      os.path.join(ROOT, "tests", "snippets", "lib", "loop.c"), "-lssl", "-lcrypto")
    program = compile_c(source, os.path.join(scratch, "early"), early, f"-Wl,-rpath,{scratch}")
    told_of_all(agent, [program], net, scratch, agent.env())


def test_probe_for_a_tls_library(scratch):
    """Who has none and looks for SSL_read finds ours, and is told that it failed."""
    program = compile_c(os.path.join(HERE, "early_calls.c"), os.path.join(scratch, "probe"), "-DPROBE", "-ldl")
    assert run([program]).stdout == b"no SSL_read\n"
    assert run([program], tap=True).stdout == b"SSL_read says -1\n"


def test_left_out_of_core_dumps(agentd, net):
    agent = agentd("-I", "any", "-D", "-w", "/dev/null")
    look = """if True:
        import contextlib, ssl
        with contextlib.suppress(ssl.SSLWantReadError):
            ssl.create_default_context().wrap_bio(ssl.MemoryBIO(), ssl.MemoryBIO(), server_hostname='a').do_handshake()
        print(open('/proc/self/smaps').read())"""

    def flags():
        maps = run([PYTHON, "-c", look], ns=net.server, env=agent.env()).stdout.decode()
        return re.findall(r"memfd:tlstap(?:.*\n)+?VmFlags:(.*)", maps)
    found = wait_for(flags)
    assert all(" dd" in f for f in found), found


def test_many_descriptors_allowed(agentd, net, scratch):
    """Nothing of ours counts up to the limit of descriptors."""
    agent = agentd("-I", "any", "-D", "-w", "/dev/null")
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    told_of_all(agent, ["prlimit", f"--nofile={most}", snippet("storm_process"), "once", 0], net, scratch, agent.env())


SEALS = {"none": 0, "grow": fcntl.F_SEAL_GROW, "both": fcntl.F_SEAL_GROW | fcntl.F_SEAL_SHRINK}
MAPPING = 1 << 22


def odd_descriptor(what):
    """What an agentd gone mad might hand out."""
    if what == "directory":
        return os.open("/tmp", os.O_RDONLY)
    if what == "zeroes":
        return os.open("/dev/zero", os.O_RDWR)
    if what == "pipe":
        return os.pipe()[0]
    if what == "file":
        with tempfile.TemporaryFile() as f:
            os.ftruncate(f.fileno(), MAPPING)
            return os.dup(f.fileno())
    fd = os.memfd_create("odd", os.MFD_ALLOW_SEALING)
    os.ftruncate(fd, 0 if what.startswith("short") else MAPPING)
    fcntl.fcntl(fd, fcntl.F_ADD_SEALS, SEALS[what.rsplit(" ", 1)[1]])
    return fd


def wire_format():
    with open(os.path.join(ROOT, "common", "attach.h"), encoding="ascii") as f:
        return (int(n.rstrip("u"), 0) for n in re.findall(r"#define ATTACH_(?:MAGIC|ABI) (\w+)", f.read()))


@pytest.mark.parametrize("what", ["memfd none", "memfd grow", "memfd both", "short both", "directory", "zeroes", "pipe",
                                  "file", "nothing"])
def test_whatever_agentd_hands_out(what, net, scratch):
    """Only a sealed memfd of the size that was said is mapped, and used only if it looks like one."""
    magic, abi = wire_format()
    folder = tempfile.mkdtemp(dir=scratch)
    page, path = os.path.join(folder, "state"), os.path.join(folder, "sock")
    handed_out = []

    def serve(listener):
        while True:
            try:
                guest = listener.accept()[0]
            except OSError:
                return
            with guest:
                guest.recv(64)
                fds = [] if what == "nothing" else [odd_descriptor(what)]
                socket.send_fds(guest, [struct.pack("=IIQ", magic, abi, MAPPING)], fds)
                handed_out.append(what)
                for fd in fds:
                    os.close(fd)

    plain = run([snippet("storm_process"), "once", 0], ns=net.server)
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listener:
        listener.bind(path)
        listener.listen(5)
        threading.Thread(target=serve, args=(listener,), daemon=True).start()

        def tapped():
            with open(page, "wb") as f:
                f.write(struct.pack("=IIQII", magic, abi, time.monotonic_ns(), 0, 0))
            done = run([snippet("storm_process"), "once", 0], ns=net.server,
                       env=environment(tap=True, TLSTAP_SOCKET=path))
            assert (done.stdout, done.stderr) == (plain.stdout, plain.stderr)
            return handed_out
        wait_for(tapped)
        listener.shutdown(socket.SHUT_RDWR)


def test_others_fill_the_queue(net, scratch):
    """Who cannot get in at once waits for his turn: others who fill the queue all the time do not keep him out."""
    magic, abi = wire_format()
    folder = tempfile.mkdtemp(dir=scratch)
    page, path = os.path.join(folder, "state"), os.path.join(folder, "sock")
    came, over = [], threading.Event()

    def push():
        while not over.is_set():
            with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as other:
                try:
                    other.connect(path)
                except OSError:
                    return

    def serve(listener):
        while not over.wait(0.002):
            guest = listener.accept()[0]
            pid = struct.unpack("iII", guest.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))[0]
            guest.close()
            if pid != os.getpid():
                came.append(pid)

    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listener:
        listener.bind(path)
        listener.listen(0)
        listener.settimeout(10)
        threads = [threading.Thread(target=push, daemon=True) for _ in range(2)]
        threads.append(threading.Thread(target=serve, args=(listener,), daemon=True))
        for thread in threads:
            thread.start()
        for _ in range(100):
            with open(page, "wb") as f:
                f.write(struct.pack("=IIQII", magic, abi, time.monotonic_ns(), 0, 0))
            run([snippet("storm_process"), "once", 0], ns=net.server, env=environment(tap=True, TLSTAP_SOCKET=path))
            if len(came) >= 10:
                break
        over.set()
    assert len(came) >= 10
