# SPDX-License-Identifier: Apache-2.0
"""Who is tapped and who is not: rules by program, user and control group; isolated children; everything off and on
again; and tlstap why, which tells."""
import contextlib
import os
import pwd
import shutil
import signal
import subprocess
import threading
import time

import pytest

import capture
import net as network
from proc import Daemon, compile_c, environment, program, run, wait_for, ROOT
from web import LIB, PYTHON, python_client, request

EXE = os.path.realpath(PYTHON)
FATES = ("unpaired", "unverified", "no_room", "died", "pool_full", "not_tcp", "no_slot", "stripes_busy")


def start(agentd, scratch, *args, **more):
    path = os.path.join(scratch, "forged.pcapng")
    disable = ["--disable-file", os.path.join(scratch, "disable")]
    return agentd("-I", "any", "-D", "-w", path, *disable, *args, **more), path


class Talker:
    """tests/lib/talker.py, told what to do."""

    def __init__(self, net, env=None, host=network.SERVER4, ns=None, wrap=()):
        command = [*wrap, PYTHON, os.path.join(LIB, "talker.py"), host, "443"]
        self.process = subprocess.Popen((ns or net.client).command(command), stdin=subprocess.PIPE,
                                        stdout=subprocess.PIPE, env=env or environment())
        self.pid = self.process.pid

    def say(self, *words):
        self.process.stdin.write(" ".join(map(str, words)).encode() + b"\n")
        self.process.stdin.flush()
        answer = self.process.stdout.readline().decode().split()
        assert answer, f"the talker ended with {self.process.wait()}"
        return [int(w) if w.isdigit() else w for w in answer]

    def get(self, name, size):
        return sum(self.say("get", name, f"/bytes/{size}"))

    def stop(self):
        self.process.stdin.close()
        self.process.wait(30)

    kill = stop


@pytest.fixture
def talker(net, started):
    def make(*args, **more):
        t = Talker(net, *args, **more)
        started.append(t)
        return t
    return make


def why(agent, pid):
    done = run([program("tlstap"), "why", pid, "--socket", agent.socket], check=False)
    return done.returncode, done.stdout.decode()


def explained(agent, pid, *words, tapped=False):
    code, text = why(agent, pid)
    assert text.count("\n") == 1 and code == (0 if tapped else 1), text
    assert text.startswith("Tapped: " if tapped else "Not tapped: "), text
    for word in words:
        assert word in text, text


def exchange(net, scratch, agent, **more):
    """A tapped Python client and its server. Returns bytes."""
    sent, got, _ = python_client(scratch, net.server, [request("/bytes/30000")], host=network.CLIENT4, env=agent.env(),
                                 **more)
    return len(sent + got)


def tapped_as(agent, net, scratch, python_server, rule_allows):
    python_server(ns=net.client)
    before = agent.status()["attach"]
    said = exchange(net, scratch, agent)
    counters = agent.check_balance()
    after = agent.status()["attach"]
    assert counters["reported"] == (said if rule_allows else 0), counters
    assert (after["attached"] - before["attached"], after["denied"] - before["denied"]) == \
        ((1, 0) if rule_allows else (0, 1)), after


@pytest.mark.parametrize("args,tapped", [
    (["--deny", f"exe:{EXE}"], False),
    (["--deny", f"exe:{PYTHON}"], False),                     # a symbolic link to it
    (["--deny", "exe:*/python3*"], False),
    (["--deny", "exe:/usr/bin/curl,uid:4711"], True),
    (["--deny", "uid:0"], False),
    (["--deny", "user:root"], False),
    (["--deny", "user:nobody"], True),
    (["--allow", "exe:/usr/bin/curl"], False),
    (["--allow", "exe:/usr/bin/curl", "--allow", f"exe:{EXE}"], True),
    (["--allow", f"exe:{EXE}", "--deny", "uid:0"], False),    # deny wins
    (["--isolate", f"exe:{EXE}"], True),
])
def test_rules(agentd, python_server, net, scratch, args, tapped):
    agent, _ = start(agentd, scratch, *args)
    tapped_as(agent, net, scratch, python_server, tapped)


@pytest.mark.parametrize("rule", ["exe", "exe:", "exe:curl", "uid:x", "uid:-1", "user:nosuchuser0", "unit:a/b",
                                  "cgroup:a", "path:/usr", "uid:4294967295", "exe:/" + "x" * 600])
@pytest.mark.parametrize("option", ["--deny", "--allow", "--isolate"])
def test_wrong_rules_are_one_line(scratch, option, rule):
    done = run([program("agentd"), "-I", "any", "-D", "-w", "/dev/null", "--socket", os.path.join(scratch, "s"), option,
                rule], check=False)
    text = done.stderr.decode()
    assert done.returncode > 0 and text.count("\n") == 1 and option in text, text


def test_denied_by_user(agentd, python_server, net, scratch, talker):
    """The one who is, and beside him one who is not."""
    agent, _ = start(agentd, scratch, "--deny", "user:nobody")
    python_server(ns=net.client)
    nobody = pwd.getpwnam("nobody")
    wrap = ["setpriv", f"--reuid={nobody.pw_uid}", f"--regid={nobody.pw_gid}", "--clear-groups"]
    his = talker(agent.env(), host=network.CLIENT4, ns=net.server, wrap=wrap)
    other = talker(agent.env(), host=network.CLIENT4, ns=net.server)
    for t in (his, other):
        t.say("open", "a")
    said = other.get("a", 5000)
    his.get("a", 7000)
    assert agent.check_balance()["reported"] == said
    explained(agent, his.pid, "deny = user:nobody", f"user {nobody.pw_uid}")
    explained(agent, other.pid, "no rule denies it", tapped=True)


def test_who_gives_up_root_is_judged_as_who_it_is_then(agentd, python_server, net, scratch, talker):
    """As most daemons do after their start: attached as root, then somebody else."""
    agent, path = start(agentd, scratch, "--deny", "user:nobody")
    server = python_server(ns=net.client)
    client = talker(agent.env(), host=network.CLIENT4, ns=net.server)
    port = client.say("open", "root")[0]
    said = client.get("root", 5000)
    assert agent.check_balance()["forged"] == said
    client.say("become", pwd.getpwnam("nobody").pw_uid)
    client.say("open", "nobody")
    refused = client.get("nobody", 7000) + client.get("root", 2000)
    wait_for(lambda: agent.status()["processes"][0]["off"], why=agent.status)
    client.get("nobody", 9000)
    counters = agent.check_balance()
    assert (counters["forged"], counters["denied"]) == (said, counters["reported"] - said), counters
    assert counters["denied"] <= refused
    explained(agent, client.pid, "deny = user:nobody")
    agent.stop()
    assert {key[0][1] for key in capture.flows(path)} == {port} and server.recorded(port)


def test_denied_by_a_successor(agentd, python_server, net, scratch, talker):
    """The rules have changed while agentd was not there: what was said meanwhile is not shown."""
    agent, _ = start(agentd, scratch)
    python_server(ns=net.client)
    talkers = [talker(agent.env(), host=network.CLIENT4, ns=net.server) for _ in range(3)]
    for t in talkers:
        t.say("open", "a")
        t.get("a", 5000)
    agent.check_balance()
    agent.kill()
    said = sum(t.get("a", 30000) for t in talkers)
    agent, path = start(agentd, scratch, "--deny", f"exe:{EXE}", socket=agent.socket)
    wait_for(lambda: len(agent.status()["processes"]) == 3 and all(p["off"] for p in agent.status()["processes"]),
             why=agent.status)
    counters = agent.check_balance()
    assert counters["forged"] == 0 and counters["denied"] == said, counters
    agent.stop()
    assert not capture.flows(path)


@pytest.mark.parametrize("reap", [False, True])
def test_who_dies_before_it_is_looked_at_was_allowed(agentd, python_server, net, scratch, talker, reap):
    """The helper is busy, so that a process has ended, or is a zombie, before it is looked at once more."""
    agent, _ = start(agentd, scratch)
    python_server(ns=net.client)
    client = talker(agent.env(), host=network.CLIENT4, ns=net.server)
    client.say("open", "a")
    said = client.get("a", 5000)
    agent.check_balance()
    helper = int(run(["pgrep", "-P", agent.pid, "-o"]).stdout)
    os.kill(helper, signal.SIGSTOP)
    try:
        agent.daemon.signal(signal.SIGHUP)
        agent.daemon.wait_log("reloaded --deny")
        time.sleep(0.1)
        client.say("open", "b")
        said += client.get("b", 7000)
        client.say("end", 0)
        wait_for(lambda: open(f"/proc/{client.pid}/stat", encoding="ascii").read().split()[2] == "Z")
        if reap:
            client.process.wait(10)
    finally:
        os.kill(helper, signal.SIGCONT)
    wait_for(lambda: agent.counters()["forged"] == said, why=agent.counters)
    assert agent.check_balance()["denied"] == 0


@contextlib.contextmanager
def control_group(*names):
    with open("/proc/self/mounts", encoding="ascii") as f:
        root = next((line.split()[1] for line in f if line.split()[2] == "cgroup2"), None)
    if not root:
        pytest.skip("no unified control groups here")
    top = f"tlstap-test-{os.getpid()}.slice"
    path = os.path.join(root, top, *names)
    try:
        os.makedirs(path)
    except OSError as error:
        pytest.skip(f"no control group can be made: {error}")
    yield path, "/" + "/".join((top, *names))
    for _ in range(100):
        with contextlib.suppress(OSError):
            for i in range(len(names), -1, -1):
                os.rmdir(os.path.join(root, top, *names[:i]))
            break
        time.sleep(0.1)


@pytest.mark.parametrize("how", ["unit", "cgroup", "allow"])
def test_rules_by_control_group(agentd, python_server, net, scratch, how):
    with control_group("some.service") as (path, name):
        rule = {"unit": ["--deny", "unit:some.service"], "cgroup": ["--deny", f"cgroup:{os.path.dirname(name)}/*"],
                "allow": ["--allow", "unit:s?me.service"]}[how]
        agent, _ = start(agentd, scratch, *rule)
        python_server(ns=net.client)
        url = f"https://{network.CLIENT4}/bytes/3000"
        inside = ["sh", "-c", f"echo $$ > {path}/cgroup.procs; exec curl -sfk -o /dev/null {url}"]
        outside = ["curl", "-sfk", "-o", "/dev/null", url]
        run(inside if how != "allow" else outside, ns=net.server, env=agent.env())
        assert agent.check_balance()["reported"] == 0 and agent.status()["attach"]["denied"] == 1
        run(outside if how != "allow" else inside, ns=net.server, env=agent.env())
        assert agent.check_balance()["reported"] > 3000


def test_programs_that_are_never_tapped(agentd, python_server, net, scratch):
    """By their name, whatever --allow says."""
    agent, _ = start(agentd, scratch, "--allow", "exe:/*")
    python_server(ns=net.client)
    for name, tapped in (("sshd", False), ("systemd-resolved", False), ("agentd", False), ("sshd-not", True)):
        copy = os.path.join(scratch, "bin", name)
        os.makedirs(os.path.dirname(copy), exist_ok=True)
        shutil.copy("/usr/bin/curl", copy)
        before = agent.check_balance()["reported"]
        run([copy, "-sfk", "-o", "/dev/null", f"https://{network.CLIENT4}/bytes/3000"], ns=net.server, env=agent.env())
        assert (agent.check_balance()["reported"] > before) == tapped, name
    explained(agent, 1, "first process")
    explained(agent, agent.pid, "agentd itself")


@pytest.mark.parametrize("isolated", [False, True])
def test_isolated_children_are_not_tapped(agentd, python_server, net, scratch, talker, isolated):
    agent, _ = start(agentd, scratch, *(["--isolate", f"exe:{EXE}"] if isolated else []))
    python_server(ns=net.client)
    parent = talker(agent.env(), host=network.CLIENT4, ns=net.server)
    parent.say("open", "a")
    said = parent.get("a", 4000)
    for i in range(3):
        sent, got, _ = parent.say("fork", "b", f"/bytes/{2000 + i}")
        said += 0 if isolated else sent + got
    said += parent.get("a", 6000)
    assert agent.check_balance()["reported"] == said
    explained(agent, parent.pid, *(["isolate"] if isolated else []), tapped=True)


def test_isolated_servers_that_fork(agentd, python_server, net, scratch, nginx):
    """nginx attaches before it forks: its workers pass through. The other one's children attach themselves: each has
    memory of its own, which nobody else can read."""
    agent, _ = start(agentd, scratch, "--isolate", f"exe:{EXE},exe:*/nginx")
    server = nginx(env=agent.env())
    server.put("file", b"x" * 20000)
    run(["curl", "-sfk", "-o", "/dev/null", f"https://{network.SERVER4}/file"], ns=net.client)
    assert agent.check_balance()["reported"] == 0 and agent.status()["attach"]["attached"] == 1
    explained(agent, server.workers()[0], "whose children pass through")
    python_server(env=agent.env(), args=["--fork"], port=8443)
    said = 0
    for i in range(2):
        sent, got, _ = python_client(scratch, net.client, [request("/bytes/30000")], port=8443, name=f"c{i}")
        said += len(sent + got)
    assert agent.check_balance()["reported"] == said and agent.status()["attach"]["attached"] == 3


def test_child_of_a_denied_user_is_not_shown(agentd, net, scratch, nginx):
    """The master attaches as root; its worker is somebody else."""
    agent, path = start(agentd, scratch, "--deny", "user:nobody")
    server = nginx(env=agent.env())
    server.put("file", b"x" * 20000)
    with open(server.conf, encoding="ascii") as f:
        text = f.read().replace("user root;", "user nobody nogroup;")
    with open(server.conf, "w", encoding="ascii") as f:
        f.write(text)
    run(["curl", "-sfk", "-o", "/dev/null", f"https://{network.SERVER4}/file"], ns=net.client)
    shown = agent.check_balance()["forged"]
    assert shown > 20000, "the worker of root is shown"
    workers = server.workers()
    server.reload()
    wait_for(lambda: server.workers() and not set(server.workers()) & set(workers))
    for _ in range(3):
        run(["curl", "-sfk", "-o", "/dev/null", f"https://{network.SERVER4}/file"], ns=net.client)
    counters = agent.check_balance()
    assert counters["forged"] == shown and counters["denied"] > 60000, counters
    explained(agent, server.workers()[0], "deny = user:nobody")
    explained(agent, server.daemon.pid, tapped=True)
    agent.stop()
    assert len(capture.flows(path)) == 1


def test_rules_are_reloaded(agentd, python_server, net, scratch, talker):
    """A process that is denied later passes through from then on; allowed again, its next connection is shown."""
    conf = os.path.join(scratch, "agentd.conf")

    def rules(text):
        with open(conf, "w", encoding="ascii") as f:
            f.write(text)
    rules("")
    agent, path = start(agentd, scratch, "--config", conf)
    server = python_server(env=agent.env())
    client = talker()
    old = client.say("open", "old")[0]
    said = client.get("old", 10000)
    assert agent.check_balance()["forged"] == said
    rules(f"deny = exe:{EXE}\n")
    agent.daemon.signal(signal.SIGHUP)
    wait_for(lambda: agent.status()["processes"][0]["off"], why=agent.status)
    explained(agent, server.daemon.pid, f"deny = exe:{EXE}")
    client.get("old", 20000)
    client.say("open", "meanwhile")
    client.get("meanwhile", 20000)
    assert agent.check_balance()["reported"] == said
    rules("nonsense\n")
    agent.daemon.signal(signal.SIGHUP)
    agent.daemon.wait_log("not reloaded")
    rules("deny = user:nobody\n")
    agent.daemon.signal(signal.SIGHUP)
    wait_for(lambda: not agent.status()["processes"][0]["off"], why=agent.status)
    time.sleep(0.3)
    new = client.say("open", "new")[0]
    shown = client.get("new", 30000)
    wait_for(lambda: agent.counters()["forged"] == said + shown, why=agent.counters)
    for name in ("old", "meanwhile"):
        client.get(name, 1000)
        client.say("close", name)
    client.say("close", "new")
    counters = agent.check_balance()
    assert counters["forged"] == said + shown and counters["reported"] == said + shown + counters["denied"]
    explained(agent, server.daemon.pid, tapped=True)
    agent.stop()
    check_flows(path, server, {old: said, new: None})


def check_flows(path, server, ports):
    """@ports  {client's port: bytes that are shown of its connection, None: all}"""
    flows = {key[0][1]: flow for key, flow in capture.flows(path).items()}
    assert set(flows) == set(ports), (set(flows), ports)
    for port, shown in ports.items():
        for side, truth in enumerate(server.recorded(port)):
            got = flows[port].stream(side)
            assert truth.startswith(got) and (shown is not None or got == truth), (port, side, len(got), len(truth))
        assert shown in (None, sum(len(flows[port].stream(side)) for side in (0, 1)))


def switch(what, scratch):
    run([program("tlstap"), what, "--file", os.path.join(scratch, "disable")])


def test_off_and_on_again(agentd, python_server, net, scratch, talker):
    """At rest: what is said while taps are off is not even reported; what was connected then stays unseen."""
    agent, path = start(agentd, scratch)
    server = python_server(env=agent.env())
    client = talker()
    ports = {name: client.say("open", name)[0] for name in ("old", "idle", "freed")}
    said = {name: client.get(name, 10000) for name in ports}
    assert agent.check_balance()["forged"] == sum(said.values())
    begin = time.monotonic()
    switch("disable", scratch)
    wait_for(lambda: agent.status()["disabled"], 5)
    assert time.monotonic() - begin < 1
    wait_for(lambda: agent.status()["processes"][0]["off"])
    code, text = why(agent, server.daemon.pid)
    assert code == 1 and "switched off" in text and "tlstap enable" in text
    client.get("old", 20000)
    client.say("close", "freed")
    for i in range(20):
        client.say("open", f"m{i}")
        client.get(f"m{i}", 500)
        if i > 10:
            client.say("close", f"m{i}")
    started_meanwhile = python_client(scratch, net.server, [request("/x")], host=network.SERVER4, env=agent.env())
    assert started_meanwhile[1]
    time.sleep(0.3)
    assert agent.check_balance()["reported"] == sum(said.values())
    switch("enable", scratch)
    wait_for(lambda: not agent.status()["processes"][0]["off"], 5)
    time.sleep(0.3)
    for name in ("old", "idle", "m0", "m5"):
        client.get(name, 3000)
    ports["new"] = client.say("open", "new")[0]
    new = client.get("new", 40000)
    client.get("m5", 3000)
    wait_for(lambda: agent.counters()["forged"] == sum(said.values()) + new, why=agent.counters)
    counters = agent.check_balance()
    assert counters["denied"] == counters["reported"] - sum(said.values()) - new > 15000, counters
    assert not any(counters[k] for k in FATES), counters
    agent.stop()
    check_flows(path, server, {**{ports[name]: said[name] for name in said}, ports["new"]: None})


def test_off_and_on_in_the_middle(agentd, python_server, net, scratch):
    """Many connections at full speed, both ends tapped, while all is switched off and on: every byte that was reported
    is accounted for, nothing that was forged is wrong, and what begins afterwards is whole."""
    agent, path = start(agentd, scratch, "--pool-size", "64M")
    server = python_server(env=agent.env())
    stop, clients, errors = threading.Event(), [], []

    def client(number):
        rounds = 0
        while not stop.is_set():
            try:
                clients.append(python_client(scratch, net.server, [request(f"/bytes/{50000 + number}")] * 20,
                                             env=agent.env(), name=f"c{number}.{rounds}")[2])
            except AssertionError as error:
                errors.append(error)
            rounds += 1
    threads = [threading.Thread(target=client, args=(i,)) for i in range(3)]
    for t in threads:
        t.start()
    for pause in (1.5, 0.4, 1.2):
        time.sleep(1.5)
        switch("disable", scratch)
        wait_for(lambda: agent.status()["disabled"], 5)
        time.sleep(pause)
        switch("enable", scratch)
        wait_for(lambda: not agent.status()["disabled"], 5)
    time.sleep(0.5)
    stop.set()
    for t in threads:
        t.join()
    assert not errors, errors[0]
    before = agent.check_balance()
    sent, got, port = python_client(scratch, net.client, [request("/bytes/100000")] * 3, name="last")
    wait_for(lambda: agent.counters()["forged"] == before["forged"] + len(sent + got), why=agent.counters)
    agent.check_balance()
    agent.stop()
    flows = {key[0][1]: flow for key, flow in capture.flows(path).items()}
    assert flows[port].stream(0) == sent and flows[port].stream(1) == got
    whole = 0
    for client_port, flow in flows.items():
        truth = server.recorded(client_port)
        shown = (flow.stream(0), flow.stream(1))
        assert truth[0].startswith(shown[0]) and truth[1].startswith(shown[1]), f"{client_port}: not what was said"
        whole += truth == shown
    assert whole >= 3, f"{whole} of {len(flows)} flows are whole"


def test_off_survives_a_restart(agentd, python_server, net, scratch, talker):
    """agentd is killed while all is off; its successor finds the mappings off, and switches them on when it may."""
    agent, _ = start(agentd, scratch)
    server = python_server(env=agent.env())
    client = talker()
    client.say("open", "old")
    client.get("old", 5000)
    agent.check_balance()
    switch("disable", scratch)
    wait_for(lambda: agent.status()["processes"][0]["off"])
    agent.kill()
    client.get("old", 5000)
    agent, path = start(agentd, scratch, socket=agent.socket)
    wait_for(lambda: agent.status()["processes"] and agent.status()["processes"][0]["off"], why=agent.status)
    client.get("old", 5000)
    assert agent.check_balance()["reported"] == 0
    switch("enable", scratch)
    wait_for(lambda: not agent.status()["processes"][0]["off"])
    time.sleep(0.3)
    client.get("old", 5000)
    port = client.say("open", "new")[0]
    said = client.get("new", 6000)
    wait_for(lambda: agent.counters()["forged"] == said, why=agent.counters)
    agent.check_balance()
    client.say("close", "new")
    agent.stop()
    check_flows(path, server, {port: None})


def test_disabled_from_the_start(agentd, python_server, net, scratch):
    switch("disable", scratch)
    switch("disable", scratch)  # again does no harm
    agent, _ = start(agentd, scratch)
    assert agent.status()["disabled"]
    python_server(ns=net.client)
    exchange(net, scratch, agent)
    assert agent.check_balance()["reported"] == 0 and agent.status()["attach"]["attached"] == 0
    switch("enable", scratch)
    switch("enable", scratch)
    wait_for(lambda: not agent.status()["disabled"], 5)
    assert exchange(net, scratch, agent, name="again") == agent.check_balance()["reported"]


def test_disable_takes_what_is_there(scratch):
    """Anything of that name is the switch; none of it is opened, followed or waited for."""
    path = os.path.join(scratch, "disable")
    target = os.path.join(scratch, "target")
    for make in (lambda: os.mkfifo(path), lambda: os.symlink(target, path), lambda: os.mkdir(path, 0),
                 lambda: os.close(os.open(path, os.O_CREAT, 0))):
        make()
        before = os.lstat(path)
        run([program("tlstap"), "disable", "--file", path], timeout=10)
        assert os.lstat(path) == before and not os.path.exists(target)
        done = run([program("tlstap"), "enable", "--file", path], check=False)
        if done.returncode:
            assert os.path.isdir(path) and done.returncode == 125 and done.stderr.count(b"\n") == 1
            os.rmdir(path)
        assert not os.path.lexists(path)
    run([program("tlstap"), "enable", "--file", os.path.join(scratch, "no", "disable")])


def test_disable_says_what_is_wrong(scratch):
    done = run([program("tlstap"), "disable", "--file", os.path.join(scratch, "no", "disable")], check=False)
    assert done.returncode == 125 and done.stderr.count(b"\n") == 1 and b"No such file" in done.stderr
    hidden = os.path.join(scratch, "hidden")
    os.mkdir(hidden, 0o700)
    sock = os.path.join(scratch, "run", "sock")
    done = run([program("agentd"), "-I", "any", "-D", "-w", "/dev/null", "--socket", sock, "--disable-file",
                os.path.join(hidden, "disable")], check=False, timeout=20)
    assert done.returncode == 1 and b"--disable-file" in done.stderr


def test_why(agentd, python_server, net, scratch, started, talker):
    agent, _ = start(agentd, scratch, "--deny", "exe:/usr/bin/sleep")
    python_server(ns=net.client)
    plain = talker(host=network.CLIENT4, ns=net.server)
    tapped = talker(agent.env(), host=network.CLIENT4, ns=net.server)
    early = talker(dict(agent.env(), TLSTAP_SOCKET="/nonexistent/sock"), host=network.CLIENT4, ns=net.server)
    sleeper = Daemon(["sleep", "600"], os.path.join(scratch, "sleep.log"), net.server)
    started.append(sleeper)
    for t in (plain, tapped, early):
        t.say("open", "a")
        t.get("a", 1000)
    agent.check_balance()
    explained(agent, tapped.pid, EXE, "1 open connection", tapped=True)
    explained(agent, plain.pid, "without libtlstap", "tlstap run")
    explained(agent, early.pid, "has not attached", "Restart it")
    explained(agent, sleeper.pid, "deny = exe:/usr/bin/sleep")
    explained(agent, 4194303, "there is no process 4194303")
    for wrong in ([], ["x"], ["-1"], ["1 2"], ["1", "--nix"], ["99999999999"]):
        done = run([program("tlstap"), "why", *wrong], check=False)
        assert done.returncode == 125 and done.stderr.count(b"\n") == 1, wrong
    done = run([program("tlstap"), "why", 1, "--socket", "/nonexistent/sock"], check=False)
    assert done.returncode == 2


def test_why_of_odd_processes(agentd, python_server, net, scratch, started, talker):
    agent, _ = start(agentd, scratch)
    python_server(ns=net.client)
    contained = talker(agent.env(), host=network.CLIENT4, ns=net.server, wrap=["unshare", "-pf", "--mount-proc"])
    contained.say("open", "a")
    contained.get("a", 3000)
    agent.check_balance()
    children = run(["pgrep", "-P", contained.pid]).stdout.decode().split()
    explained(agent, int(children[0]), EXE, "1 open connection", tapped=True)
    explained(agent, contained.pid, "unshare", "no TLS library")
    ended = subprocess.Popen(["true"])  # pylint: disable=consider-using-with
    wait_for(lambda: open(f"/proc/{ended.pid}/stat", encoding="ascii").read().split()[2] == "Z")
    explained(agent, ended.pid, "has no program", "ended")
    ended.wait()
    explained(agent, ended.pid, "there is no process")
    with open("/proc/2/stat", encoding="ascii") as f:
        if "kthreadd" in f.read():
            explained(agent, 2, "a thread of the kernel")
    name = "a\nTapped: b\x1b[31m"
    copy = os.path.join(scratch, name)
    shutil.copy("/usr/bin/sleep", copy)
    odd = Daemon([copy, "600"], os.path.join(scratch, "odd.log"), net.server, env=agent.env())
    started.append(odd)
    explained(agent, odd.pid, "a?Tapped: b?[31m", "no TLS library")
    os.unlink(copy)
    explained(agent, odd.pid, "(deleted)", "no TLS library")


def test_attaching_is_quick_and_many_may_come(agentd, net, scratch):
    """An attach may cost an application 20 ms, and hardly ever costs half of it; when 200 come at once, none waits
    longer, and agentd then goes on as before."""
    agent, _ = start(agentd, scratch)
    askers = compile_c(os.path.join(ROOT, "tests", "system", "askers.c"), os.path.join(scratch, "askers"), "-I", ROOT)

    def ask(processes, rounds):
        lines = run([askers, agent.socket, processes, rounds], ns=net.server).stdout.split()
        return sorted(map(int, lines[::2])), [int(w) for w in lines[1::2]]
    ask(1, 5)
    waited, given = ask(1, 100)
    print("one at a time, microseconds: half", waited[50], "99 %", waited[98])
    assert given.count(1) >= 90 and waited[50] < 15000, (given, waited)
    waited, given = ask(200, 3)
    print("200 at once: given", given.count(1), "of 600; 99 %", waited[593])
    assert given.count(1) >= 20, "nobody gets in any more when many come"
    time.sleep(2)
    _, given = ask(1, 50)
    assert given.count(1) >= 45, agent.status()["attach"]
