# SPDX-License-Identifier: Apache-2.0
"""libtlstap beside other people's preload libraries, before and after them: the program does what it does with the
other one alone, the other one still works, and the tap still shows what was said."""
import glob
import os

import pytest

import capture
from proc import Daemon, environment, library, run, wait_for
from web import LIB, PYTHON, pattern

SIZE = 30000
SOCKS_PORT = 9050
URL = "https://192.0.2.2/file"
# Prints what the other library does to it, then a digest of what it was given.
PROGRAM = """if True:
    import hashlib, os, ssl, sys, time, urllib.request
    url, name, path = sys.argv[1:]
    print(time.gmtime().tm_year < 2021, name in open('/proc/self/maps').read())
    open(path, 'w').close()
    os.chown(path, 1234, 1234)
    print(os.stat(path).st_uid, os.getuid())
    with open(path, 'w') as f:
        os.fsync(f.fileno())
    answer = urllib.request.urlopen(url, context=ssl._create_unverified_context()).read()
    print(len(answer), hashlib.sha256(answer).hexdigest())
"""


class Other:
    """Another preload library. @proof: what PROGRAM prints when it works, or None."""

    # pylint: disable-next=too-many-arguments
    def __init__(self, path, proof=None, env=None, wrapper=(), socks=False, url=URL):
        self.pattern, self.proof, self.env, self.wrapper = path, proof, env or {}, list(wrapper)
        self.socks, self.url = socks, url

    def path(self):
        found = sorted(glob.glob("/usr/lib/*/" + self.pattern))
        assert found, f"no {self.pattern}: packaging/install-deps test"
        return found[0]


OTHERS = {
    "libfaketime": Other("faketime/libfaketime.so.1", "True True\n", {"FAKETIME": "2020-01-01 00:00:00"}),
    "libfaketime, threads": Other("faketime/libfaketimeMT.so.1", "True True\n", {"FAKETIME": "2020-01-01 00:00:00"}),
    "libeatmydata": Other("libeatmydata.so", "False True\n"),
    "jemalloc": Other("libjemalloc.so.2", "False True\n"),
    # `fakeroot' preloads its library itself, before all others
    "fakeroot": Other("libfakeroot/libfakeroot-sysv.so", "\n1234 0\n", wrapper=["fakeroot"]),
    "torsocks": Other("torsocks/libtorsocks.so", None, {"TORSOCKS_CONF_FILE": "{folder}/torsocks.conf"}, socks=True),
    "proxychains": Other("libproxychains.so.4", None, {"PROXYCHAINS_CONF_FILE": "{folder}/proxychains.conf"},
                         socks=True),
    "nss_wrapper": Other("libnss_wrapper.so", "False True\n", {"NSS_WRAPPER_HOSTS": "{folder}/hosts"},
                         url="https://server.example/file"),
}


def write(folder, name, text):
    with open(os.path.join(folder, name), "w", encoding="ascii") as f:
        f.write(text)


@pytest.fixture
def socks(net, scratch, started):
    write(scratch, "torsocks.conf", f"TorAddress 127.0.0.1\nTorPort {SOCKS_PORT}\n")
    write(scratch, "proxychains.conf", f"strict_chain\nquiet_mode\n[ProxyList]\nsocks5 127.0.0.1 {SOCKS_PORT}\n")
    write(scratch, "hosts", "192.0.2.2 server.example\n")
    # Another user's, as Tor is: its connections show the same randoms as its clients'.
    server = Daemon(["setpriv", "--reuid=65534", "--clear-groups", PYTHON, os.path.join(LIB, "socks.py"), SOCKS_PORT],
                    os.path.join(scratch, "socks.log"), net.server)
    started.append(server)
    server.wait_log("ready\n")
    return server


class Stack:
    """Runs of one program with one other library."""

    def __init__(self, other, program, agent, net, scratch, proxy):  # pylint: disable=too-many-arguments
        self.other, self.agent, self.ns, self.scratch, self.proxy = other, agent, net.server, scratch, proxy
        self.program = program
        self.asked = []

    def command(self, ask):
        url = f"{self.other.url}?{ask}"
        if self.program == "curl":
            return ["curl", "-sSk", "--http1.1", "-H", "Accept:", url]
        return [PYTHON, "-c", PROGRAM, url, os.path.basename(self.other.path()), os.path.join(self.scratch, "owned")]

    def outcome(self, preload, ask, tap):
        env = self.agent.env() if tap else environment()
        env.update({k: v.format(folder=self.scratch) for k, v in self.other.env.items()})
        command = self.command(ask)
        if self.other.wrapper:  # it sets LD_PRELOAD; what it has set is put at its place
            wanted = preload.replace(self.other.path(), "${LD_PRELOAD}")
            command = [*self.other.wrapper, "sh", "-c", f'LD_PRELOAD="{wanted}" exec "$@"', "sh", *command]
            env.pop("LD_PRELOAD", None)
        else:
            env["LD_PRELOAD"] = preload
        done = run(command, ns=self.ns, env=env, check=False)
        return done.returncode, done.stdout, done.stderr

    def alone(self):
        got = self.outcome(self.other.path(), "alone", False)
        assert got[0] == 0 and not got[2], got
        if self.program == "python" and self.other.proof:
            assert self.other.proof in got[1].decode(), got
        if self.other.socks:
            assert b"connected to 192.0.2.2 443" in self.proxy.log()
        return got

    def tapped(self, preload, ask):
        """A process that did not attach within 20 ms does not count."""
        for attempt in range(5):
            seen, before = self.proxy.log(), self.agent.counters()["reported"]
            got = self.outcome(preload, f"{ask}{attempt}", True)
            if self.other.socks:
                assert b"connected to 192.0.2.2 443" in self.proxy.log()[len(seen):]
            if self.agent.wait_quiet()["reported"] > before:
                self.asked.append(f"{ask}{attempt}")
                return got
        raise AssertionError(f"never attached; the last one: {got}")


@pytest.mark.parametrize("program", ["curl", "python"])
@pytest.mark.parametrize("name", OTHERS)
def test_stack(name, program, agentd, nginx, net, scratch, socks):  # pylint: disable=too-many-arguments
    nginx().put("file", pattern(SIZE))
    path = os.path.join(scratch, "forged.pcapng")
    agent = agentd("-I", "any", "-D", "-w", path)
    stack = Stack(OTHERS[name], program, agent, net, scratch, socks)
    alone = stack.alone()
    other = stack.other.path()
    assert stack.tapped(f"{library()}:{other}", "first") == alone
    assert stack.tapped(f"{other}:{library()}", "last") == alone
    agent.check_balance()
    agent.stop()
    said = [(flow.stream(0), flow.stream(1)) for flow in capture.flows(path).values()]
    for ask in stack.asked:
        answers = [answer for request, answer in said if f"GET /file?{ask} HTTP".encode() in request]
        assert len(answers) == 1 and answers[0].endswith(pattern(SIZE)), (ask, [a[:60] for a, _ in said])


def test_stack_of_all(agentd, nginx, net, scratch, socks):  # pylint: disable=unused-argument
    """Several at once, ours in the middle."""
    nginx().put("file", pattern(SIZE))
    agent = agentd("-I", "any", "-D", "-w", os.path.join(scratch, "forged.pcapng"))
    several = [OTHERS[n].path() for n in ("libeatmydata", "jemalloc", "nss_wrapper")]
    several.insert(1, library())

    def attached():
        done = run(["curl", "-sSk", URL], ns=net.server, env=agent.env(LD_PRELOAD=":".join(several)), timeout=30)
        assert done.stdout == pattern(SIZE) and not done.stderr
        return agent.status()["attach"]["attached"]
    wait_for(attached)
