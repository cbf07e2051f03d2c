# SPDX-License-Identifier: Apache-2.0
"""libtlstap-dlsym.so and what it is not for: programs that look their TLS library up by name (Qt, ctypes) are tapped
with it, and whoever else uses dlsym() gets what it got before; modules loaded with RTLD_DEEPBIND (PHP) are named."""
import contextlib
import os
import re
import shutil

import pytest

import capture
import net as network
from services import Asyncio
from proc import build_dir, compile_c, environment, library, program, run, wait_for
from stage import Stage, check_forged
from test_effectiveness import held, start_agent, wait_named  # noqa: F401  # pylint: disable=unused-import
from test_library import NEWEST_GLIBC
from wire import shifted

HERE = os.path.dirname(os.path.abspath(__file__))
PYTHON = "/usr/bin/python3"


def dlsym_library():
    return os.path.join(build_dir(), "libtlstap", "libtlstap-dlsym.so")


def compiled(scratch, source, *options, name=None):
    return compile_c(os.path.join(HERE, source), os.path.join(scratch, name or source[:-2]), *options)


def shared(scratch, source, name, *options):
    return compiled(scratch, source, "-shared", "-fPIC", *options, name=name)


@pytest.fixture
def lookups(scratch):
    """lookups(preloaded libraries, *arguments) -> (standard output, standard error), as lines"""
    looker = compiled(scratch, "reach_lookups.c", "-pthread", "-ldl")
    own = os.path.join(scratch, "own.c")
    with open(own, "w", encoding="ascii") as f:
        f.write("int SSL_read(void); int SSL_read(void) { return 1; }\n")
    for name in ("own.so", "gone.so"):
        compile_c(own, os.path.join(scratch, name), "-shared", "-fPIC")

    def start(preloaded, *args, **env):
        done = run([looker, scratch, *args], env=environment(LD_PRELOAD=":".join(preloaded) or None, **env))
        return done.stdout.decode().splitlines(), done.stderr.decode().splitlines()
    return start


def orders(*libraries):
    return [list(libraries), list(reversed(libraries))]


# -- what the library is

def test_it_exports_dlsym_alone_and_needs_next_to_nothing():
    symbols = run(["readelf", "-W", "--dyn-syms", dlsym_library()]).stdout.decode().splitlines()
    fields = [line.split() for line in symbols if len(line.split()) >= 8]
    assert [f[7] for f in fields if f[4] in ("GLOBAL", "WEAK") and f[6] != "UND"] == ["dlsym"]
    wanted = {f[7].split("@")[0] for f in fields if f[6] == "UND"}
    assert wanted <= {"dlvsym", "__errno_location", "tlstap_stand_in", "__cxa_finalize", "__gmon_start__",
                      "_ITM_deregisterTMCloneTable", "_ITM_registerTMCloneTable"}, wanted
    text = run(["readelf", "-W", "-V", "-d", dlsym_library()]).stdout.decode()
    assert re.findall(r"\(NEEDED\).*\[(.*)\]", text) == ["libc.so.6"]
    assert max(tuple(map(int, v.split("."))) for v in re.findall(r"GLIBC_([0-9.]+)", text)) <= NEWEST_GLIBC
    assert "BIND_NOW" in text and "NODELETE" in text
    if os.uname().machine == "x86_64":  # or shadow stacks are switched off in the whole process
        assert re.search(r"x86 feature: .*SHSTK", run(["readelf", "-W", "-n", dlsym_library()]).stdout.decode())


# -- others get what they got

HOOKED = re.compile(r"(ssl|gnutls|after an error|after another) "
                    r"(SSL_(read|write|write_ex|free|connect|shutdown)|gnutls_record_recv):")


def but_dlsym(lines):
    return [line for line in lines if not re.match("(default|next) dlsym:", line)]


def test_only_hooks_of_a_tls_library_change(lookups):
    """To the last errno and dlerror(), in either order. A function of that name in another library stays as it is,
    even if it is looked up before any other, and the library can be unloaded."""
    plain, err = lookups([])
    assert not err and len(plain) == 62, plain
    alone, err = lookups([dlsym_library()])
    assert not err and but_dlsym(alone) == but_dlsym(plain)  # it is a jump
    tapped = but_dlsym(lookups([library()])[0])
    assert tapped != but_dlsym(plain)
    for order in orders(library(), dlsym_library()):
        both, err = lookups(order)
        both = but_dlsym(both)
        assert not err and len(both) == len(tapped)
        changed = {b for b, t in zip(both, tapped) if b != t}
        expected = {t for t in tapped if HOOKED.match(t) and "no error" in t}
        assert {t for b, t in zip(both, tapped) if b != t} == expected and len(expected) == 8, changed
        for line in changed:
            name = line.split(":")[0].split()[-1]
            assert line.endswith(f": libtlstap.so {name}, errno 77, no error"), line


def test_before_any_constructor(lookups, scratch):
    shared(scratch, "reach_early.c", "libearly.so")
    early = compiled(scratch, "reach_lookups.c", "-pthread", "-Wl,--no-as-needed", f"-Wl,-rpath,{scratch}",
                     os.path.join(scratch, "libearly.so"), name="early")
    for order in orders(library(), dlsym_library()):
        out = run([early, scratch], env=environment(LD_PRELOAD=":".join(order))).stdout.decode().splitlines()
        assert out[0] == "early: libtlstap.so"
        assert out[1:] == [line.replace(" reach_lookups:", " early:") for line in lookups(order)[0]]
    assert run([early, scratch]).stdout.startswith(b"early: libssl.so.3\n")


def test_those_who_pass_calls_on_find_the_next_one(lookups, scratch):
    """Two libraries, one after the other, ours before, between and behind them: each one's next is where it was."""
    first, second = (shared(scratch, "reach_next.c", f"{name}.so", f'-DNAME="{name}"', "-ldl") for name in "ab")
    _, plain = lookups([first, second])
    _, tapped = lookups([library(), first, second])
    assert sorted(plain) == ["a: malloc in b.so, connect in b.so, SSL_read nowhere",
                             "b: malloc in libc.so.6, connect in libc.so.6, SSL_read nowhere"]
    assert tapped == plain
    for order in ([dlsym_library(), library(), first, second], [library(), first, dlsym_library(), second],
                  [library(), first, second, dlsym_library()]):
        assert lookups(order)[1] == plain, order
    behind = [e.replace("SSL_read nowhere", "SSL_read libtlstap.so") for e in plain]
    assert lookups([first, second, dlsym_library(), library()])[1] == behind


def test_another_library_interposes_dlsym(lookups, scratch):
    """Before us: it does not reach us, and all is as without us. Behind us: it sees each call it saw, from where it
    came; and those of hooks, which we look at, twice."""
    other = shared(scratch, "reach_other.c", "other.so", "-ldl", "-pthread")
    plain = lookups([library(), other])
    assert "other: SSL_readx, " in " ".join(plain[1])
    without, behind = lookups([other, library()]), lookups([other, dlsym_library(), library()])
    assert behind[1] == without[1]
    differ = {(a, b) for a, b in zip(without[0], behind[0]) if a != b}
    assert {a.split(":")[0] for a, _ in differ} <= {"next dlsym"}, differ  # ours is the next one now
    out, err = lookups([dlsym_library(), library(), other])
    differ = {a for a, b in zip(plain[0], out) if a != b and not HOOKED.match(a)}
    assert differ == {a for a in plain[0] if a.startswith("default dlsym:")}, differ

    def of(name, lines):
        return [line for line in lines if f" {name}," in line]
    for name in ("SSL_CTX_new", "SSL_readx", "SSL_", "SSL_nix"):
        assert of(name, err) == of(name, plain[1]) != [], name
    assert {line.split(",")[0] for line in err} >= {line.split(",")[0] for line in plain[1]}


def test_a_thread_ends_inside_of_it(lookups, scratch):
    """What unwinds passes our frames as any others."""
    other = shared(scratch, "reach_other.c", "other.so", "-ldl", "-pthread")
    for order in ([library(), other], [dlsym_library(), library(), other]):
        assert lookups(order, "unwind", OTHER_EXIT="1")[0] == ["cleaned up", "joined"]


def test_threads_and_forks(lookups):
    for _ in range(5):
        out, _ = lookups([library(), dlsym_library()], "storm")
        assert out[1:] == ["ssl SSL_read: libtlstap.so SSL_read, errno 77, no error", "0 wrong"]


def test_tlstap_run_has_an_option_for_it():
    paths = [os.path.realpath(library()), os.path.realpath(dlsym_library())]
    for args in (["--dlsym"], ["--dlsym", "--"]):
        done = run([program("tlstap"), "run", *args, "printenv", "LD_PRELOAD"], env=environment(LD_PRELOAD="libm.so.6"))
        assert done.stdout.decode() == ":".join([*paths, "libm.so.6"]) + "\n"


@pytest.mark.parametrize("command", [["python3", "-c", "import ctypes, sqlite3, json; ctypes.CDLL(None).getpid()"],
                                     ["perl", "-MPOSIX", "-MSocket", "-e", "print POSIX::getpid() > 0"],
                                     ["fakeroot", "id", "-u"], ["git", "--version"], ["openssl", "version"]],
                         ids=lambda c: c[0])
def test_programs_without_tls(command):
    if not shutil.which(command[0]):
        pytest.skip(f"no {command[0]}")
    plain = run(command)
    for order in orders(library(), dlsym_library()):
        done = run(command, env=environment(LD_PRELOAD=":".join(order)))
        assert (done.stdout, done.stderr) == (plain.stdout, plain.stderr)


# -- who is tapped with it

CLIENT = os.path.join(HERE, "reach_client.c")
AT = f"https://{network.CLIENT4}:8443/"
BODY = 200  # times the token


@pytest.fixture
def stage(agentd, net, scratch, started):
    """A Stage with an untapped server on the client's side, which writes its keys down."""
    s = Stage(agentd, net, scratch, started)
    s.server = s.service(Asyncio, False, port=8443, keys=True)
    s.untapped = set()
    return s


def tapped_run(stage, command, *preloaded):
    """A process that did not get to attach within 20 ms does not count: once more."""
    agent = stage.agent
    for _ in range(8):
        before, known = agent.counters()["reported"], set(stage.server.said())
        done = run(command, ns=stage.net.server, env=agent.env(LD_PRELOAD=":".join([library(), *preloaded])))
        with contextlib.suppress(AssertionError):
            wait_for(lambda: agent.counters()["reported"] > before, 2)  # pylint: disable=cell-var-from-loop
            return done
        stage.untapped |= {int(port) for port in set(stage.server.said()) - known}
    raise AssertionError(f"{command} was not tapped in 8 attempts: {agent.status()}")


def check(stage, at_least):
    truth = {key: sides for key, sides in shifted(stage.wire.truth()).items() if key[0][1] not in stage.untapped}
    assert len(truth) >= at_least, truth
    check_forged(stage.agent, stage.path, truth)
    assert all(sides[0].count(b"GET /") == sides[1].count(b"HTTP/1.1 200 OK\r\n") > 0 for sides in truth.values())


@pytest.fixture
def client(scratch):
    return compiled(scratch, "reach_client.c", "-pthread", "-ldl")


@pytest.mark.parametrize("mode,connections", [("threads", 13), ("fork", 1), ("gnutls", 1)])
def test_by_name(mode, connections, stage, client):
    """The TLS library is loaded by dlopen() and all of its functions are looked up; nothing is linked with it."""
    done = tapped_run(stage, [client, network.CLIENT4, 8443, mode], dlsym_library())
    assert done.stdout == b"all right\n"
    # without it is not reached; what GnuTLS writes is, for it calls itself
    if mode != "gnutls":
        before = stage.agent.wait_quiet()["reported"]
        done = run([client, network.CLIENT4, 8443, mode], ns=stage.net.client, env=stage.agent.env())
        assert done.stdout == b"all right\n" and stage.agent.wait_quiet()["reported"] == before
    check(stage, connections)


def test_ctypes(stage):
    script = ("import ctypes, socket\n"
              "L = ctypes.CDLL('libssl.so.3')\n"
              "for n in ('TLS_client_method', 'SSL_CTX_new', 'SSL_new'): getattr(L, n).restype = ctypes.c_void_p\n"
              f"s = socket.create_connection(('{network.CLIENT4}', 8443))\n"
              "p = ctypes.c_void_p(L.SSL_new(ctypes.c_void_p(L.SSL_CTX_new(ctypes.c_void_p(L.TLS_client_method())))))\n"
              "assert L.SSL_set_fd(p, s.fileno()) == 1 and L.SSL_connect(p) == 1\n"
              "q = b'GET /ctypes HTTP/1.1\\r\\nHost: x\\r\\n\\r\\n'\n"
              "assert L.SSL_write(p, q, len(q)) == len(q)\n"
              "b, got = ctypes.create_string_buffer(4096), b''\n"
              f"while got.count(b'ctypes\\n') < {BODY}: got += b[:L.SSL_read(p, b, 4096)]\n"
              "L.SSL_shutdown(p), L.SSL_free(p)\n")
    tapped_run(stage, [PYTHON, "-c", script], dlsym_library())
    check(stage, 1)


QT = """
import sys
from PySide2 import QtCore, QtNetwork
app = QtCore.QCoreApplication([])
manager = QtNetwork.QNetworkAccessManager()
left = len(sys.argv) - 1
def done(reply):
    global left
    if reply.error() != QtNetwork.QNetworkReply.NoError:
        print(reply.errorString())
    sys.stdout.write(bytes(reply.readAll()).decode())
    left -= 1
    if not left:
        app.quit()
manager.finished.connect(done)
manager.sslErrors.connect(lambda reply, errors: reply.ignoreSslErrors())
for url in sys.argv[1:]:
    manager.get(QtNetwork.QNetworkRequest(QtCore.QUrl(url)))
app.exec_()
"""


def need_qt():
    if run([PYTHON, "-c", "from PySide2 import QtNetwork"], check=False).returncode:
        pytest.skip("no python3-pyside2.qtnetwork")


def test_qt(stage):
    """QSslSocket loads libssl by itself and keeps to memory BIOs."""
    need_qt()
    done = tapped_run(stage, [PYTHON, "-c", QT, *[f"{AT}qt{i}" for i in range(3)]], dlsym_library())
    assert [done.stdout.count(b"qt%d\n" % i) for i in range(3)] == [BODY] * 3, done
    check(stage, 1)


def test_two_libraries_by_name(stage, client):
    """Two libssl and two libgnutls: of each kind, the functions of the first one looked up are ours. All work."""
    copies = os.path.join(build_dir(), "tests", "snippets", "copies")
    names = ("libssB.so.3", "libgnutlB.so.30")
    if not all(os.path.exists(os.path.join(copies, n)) for n in names):
        pytest.skip("not built: openssl-copies, gnutls-copy")
    command = ["env", f"LD_LIBRARY_PATH={copies}", client, network.CLIENT4, 8443, "two", *names]
    tapped_run(stage, command, dlsym_library())
    agent = stage.agent
    agent.check_balance()
    agent.stop()
    flows = capture.flows(stage.path)
    said = sorted(re.search(rb"^GET /(\S+)", f.stream(0)).group(1) for f in flows.values() if f.stream(1))
    assert said == [b"gnutls-1", b"openssl-1"]
    assert not any(b"openssl-2" in f.stream(0) for f in flows.values())


# -- RTLD_DEEPBIND

PHP_CURL = ("$c = curl_init('%s'); curl_setopt_array($c, [CURLOPT_SSL_VERIFYPEER => 0, CURLOPT_SSL_VERIFYHOST => 0, "
            "CURLOPT_HTTP_VERSION => 2]); exit(curl_exec($c) ? 0 : 1);")
PHP_STREAM = ("$f = fopen('%s', 'r', false, stream_context_create(['ssl' => ['verify_peer' => false, "
              "'verify_peer_name' => false], 'http' => ['protocol_version' => '1.1']])); "
              "for ($i = 0; $i < 200; $i++) echo fgets($f);")


def need_php():
    if not shutil.which("php") or b"curl" not in run(["php", "-m"]).stdout:
        pytest.skip("no php-cli, php-curl")


@pytest.mark.parametrize("script,preloaded", [
    (PHP_STREAM, ()), (PHP_STREAM, (dlsym_library(),)), (PHP_CURL, ("libcurl.so.4",)),
    (PHP_CURL, ("libcurl.so.4", dlsym_library()))], ids=["stream", "stream+dlsym", "curl", "curl+dlsym"])
def test_php(script, preloaded, stage):
    """Its own streams call a libssl that it is linked with. Its extension for curl is loaded with RTLD_DEEPBIND:
    libcurl is reached if it is there before."""
    need_php()
    done = tapped_run(stage, ["php", "-r", script % f"{AT}php"], *preloaded)
    assert done.stdout == b"php\n" * BODY
    check(stage, 1)


# -- the doctor names who is not reached

WHY = "it calls its TLS library past the tap (RTLD_DEEPBIND or dlsym)"
TO_DO = "if by dlsym, preload libtlstap-dlsym.so, too"


@pytest.mark.parametrize("more", [(), (dlsym_library(),)], ids=["tap", "tap+dlsym"])
def test_doctor_names_deepbind(more, agentd, nginx, net, scratch, held):  # pylint: disable=too-many-arguments
    """A plugin that is linked with libssl and loaded with RTLD_DEEPBIND; libtlstap-dlsym.so changes nothing for it."""
    plugin = shared(scratch, "tls_client.c", "plugin.so", "-Dmain=plugin_main", "-lssl", "-lcrypto")
    loader = compiled(scratch, "reach_deepbind.c", "-ldl")
    agent = start_agent(agentd, net, scratch)
    nginx()
    for _ in range(2):
        held([loader, plugin, network.SERVER4, "443"], agent.env(LD_PRELOAD=":".join([library(), *more]))).go()
    wait_named(agent, f"{loader} as TLS client", WHY, TO_DO)


HELD_QT = """
import sys
from PySide2 import QtCore, QtNetwork
app = QtCore.QCoreApplication([])
sys.stdin.readline()
s = QtNetwork.QSslSocket()
s.setPeerVerifyMode(QtNetwork.QSslSocket.VerifyNone)
s.connectToHostEncrypted(sys.argv[1], 443)
assert s.waitForEncrypted(20000)
s.write(b"GET /file HTTP/1.1\\r\\nHost: x\\r\\n\\r\\n")
s.waitForReadyRead(20000)
print("up", flush=True)
sys.stdin.read()
"""


def test_doctor_names_qt_unless_it_has_the_library(agentd, nginx, net, scratch, held):
    need_qt()
    agent = start_agent(agentd, net, scratch)
    nginx().put("file", b"x")
    command = [PYTHON, "-c", HELD_QT, network.SERVER4]

    def missed():
        return [k for k in agent.status()["coverage"] if k["exe"] == os.path.realpath(PYTHON)]
    both = agent.env(LD_PRELOAD=f"{library()}:{dlsym_library()}")
    for _ in range(8):  # one that could not attach within 20 ms is missed, too
        delivered = agent.status()["sessions"]["delivered"]
        held(command, both).go()
        with contextlib.suppress(AssertionError):
            # pylint: disable-next=cell-var-from-loop
            wait_for(lambda: agent.status()["sessions"]["delivered"] > delivered, 3)
            break
    else:
        pytest.fail(f"never tapped: {agent.status()}")
    before = sum(k["sessions"] + k["like"] for k in missed())
    held(command, agent.env()).go()
    wait_for(lambda: sum(k["sessions"] + k["like"] for k in missed()) == before + 1, 40, 0.3, missed)
    wait_named(agent, f"{os.path.realpath(PYTHON)} as TLS client", WHY, TO_DO)
