# SPDX-License-Identifier: Apache-2.0
"""libtlstap.so is harmless to load: what it needs, what it exports, and every program of /usr/bin with it."""
import os
import re
import subprocess
from concurrent.futures import ThreadPoolExecutor

import pytest

from proc import ROOT, environment, library, run

NEWEST_GLIBC = (2, 17)
FRAME_MAX = 1024
# Not run: they turn the machine off, or ask for a keyboard whatever they are told.
NEVER = re.compile(r"^(reboot|halt|poweroff|shutdown|init|telinit|sulogin|systemctl|loginctl|wall|write|mesg|killall|pkill|"
                   r"skill|snice|kill|unshare|nsenter|setsid|script|scriptlive|setarch|linux32|linux64|i386|x86_64)$")


def readelf(*args):
    return run(["readelf", "-W", *args, library()]).stdout.decode()


def test_exports_are_the_list():
    with open(os.path.join(ROOT, "libtlstap", "libtlstap.map"), encoding="ascii") as f:
        text = re.sub(r"/\*.*?\*/", "", f.read(), flags=re.S)
    listed = set(re.findall(r"^\s*([A-Za-z_0-9]+);", text.split("local:")[0], re.M))
    exported = set()
    for line in readelf("--dyn-syms").splitlines():
        fields = line.split()
        if len(fields) >= 8 and fields[4] in ("GLOBAL", "WEAK") and fields[6] != "UND":
            exported.add(fields[7].split("@")[0])
    assert listed and exported == listed
    # never a function of libc: that breaks sandboxes
    libc = run(["bash", "-c", "readelf -W --dyn-syms $(ldd /bin/true | awk '/libc.so/ { print $3 }')"]).stdout.decode()
    names = {line.split()[7].split("@")[0] for line in libc.splitlines() if len(line.split()) >= 8}
    assert len(names) > 1000 and not exported & names


def test_needs_libc_alone():
    needed = re.findall(r"\(NEEDED\).*\[(.*)\]", readelf("-d"))
    assert needed == ["libc.so.6"]


def test_needs_no_new_glibc():
    versions = {tuple(map(int, v.split("."))) for v in re.findall(r"GLIBC_([0-9.]+)", readelf("-V"))}
    assert versions and max(versions) <= NEWEST_GLIBC, versions


def test_no_executable_stack():
    stack = [line for line in readelf("-l").splitlines() if "GNU_STACK" in line]
    assert len(stack) == 1 and " RW " in stack[0] and "RWE" not in stack[0]


def test_no_dynamic_tls_and_no_destructor():
    """__tls_get_addr may allocate; a destructor would run in a process that is going away."""
    symbols = readelf("--dyn-syms")
    assert "__tls_get_addr" not in symbols
    assert not [s for s in re.findall(r"UND (\S+)", symbols) if s.startswith(("pthread_create", "fork", "atexit"))]
    assert "NODELETE" in readelf("-d")


def test_imports_nothing_dangerous():
    """Nothing that allocates, prints, waits or ends the process may be in reach of a hook."""
    imported = {s.split("@")[0] for s in re.findall(r"UND (\S+)", readelf("--dyn-syms"))}
    never = {"malloc", "free", "calloc", "realloc", "printf", "fprintf", "vfprintf", "puts", "fopen", "exit", "_exit",
             "abort", "sleep", "usleep", "nanosleep", "pthread_mutex_lock", "pthread_create", "fork", "setenv", "putenv",
             "signal", "sigaction", "system", "execve", "getenv", "__printf_chk", "syslog"}
    assert not imported & never


def sandbox(script, tapped):
    """Run in private namespaces (network, mounts, processes, users' messages) without input. What it writes to
    disk goes to a file system in memory."""
    setup = ("mount -t tmpfs none /tmp && mount -t tmpfs none /root && mount -t tmpfs none /run && "
             "mount -t tmpfs none /var/tmp && mount -t tmpfs none /home && cd /tmp && "
             f"exec timeout -s KILL 5 {script}")
    # Perl and Python print what they keep in hashes in another order each time
    env = environment(HOME="/root", TERM="dumb", PATH="/usr/bin:/usr/sbin:/bin:/sbin", PERL_HASH_SEED="0",
                      PERL_PERTURB_KEYS="0", PYTHONHASHSEED="0")
    preload = f"export LD_PRELOAD=/mnt/{os.path.basename(library())}; " if tapped else ""
    before = f"mount -t tmpfs none /mnt && cp {library()} /mnt/ && "
    done = subprocess.run(["unshare", "-n", "-m", "-p", "-i", "-u", "--fork", "--kill-child", "--mount-proc", "bash", "-c",
                           before + setup.replace("exec timeout", preload + "exec timeout")],
                          stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=env,
                          timeout=60, check=False)
    return done.returncode, done.stdout[:100000], done.stderr[:100000]


def usr_bin():
    return sorted(n for n in os.listdir("/usr/bin") if os.access(f"/usr/bin/{n}", os.X_OK) and not NEVER.match(n)
                  and os.path.isfile(f"/usr/bin/{n}"))


def judge(name):
    """(name, "same" | "unsteady" | what differs)"""
    script = f"/usr/bin/'{name}' --version"
    plain = sandbox(script, False)
    tapped = sandbox(script, True)
    if tapped == plain:
        return name, "same"
    again = [sandbox(script, False) for _ in range(2)]
    if any(a != plain for a in again):
        return name, "unsteady"
    tapped = sandbox(script, True)
    return name, "same" if tapped == plain else f"plain {plain}, tapped {tapped}"


def test_sandbox_preloads_the_library():
    """Else the next test compares nothing with nothing."""
    assert library().rsplit("/", 1)[1].encode() in sandbox("cat /proc/self/maps", True)[1]
    assert library().rsplit("/", 1)[1].encode() not in sandbox("cat /proc/self/maps", False)[1]


@pytest.mark.slow
def test_every_program_of_usr_bin():
    with ThreadPoolExecutor(2) as pool:
        results = dict(pool.map(judge, usr_bin()))
    unsteady = sorted(n for n, r in results.items() if r == "unsteady")
    print(f"{len(results)} programs; skipped because two untapped runs differ: {', '.join(unsteady) or 'none'}")
    harmed = {n: r for n, r in results.items() if r not in ("same", "unsteady")}
    assert not harmed
    assert len(results) > 100 and len(unsteady) < len(results) / 5


def test_in_a_setuid_program_it_is_off():
    """The loader ignores LD_PRELOAD there (a path with a slash): nothing of ours to go wrong, no message."""
    done = run(["su", "-c", "true", "nobody", "-s", "/bin/sh"], tap=True, check=False)
    assert done.returncode == 0 and not done.stderr
