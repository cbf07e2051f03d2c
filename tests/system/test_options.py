# SPDX-License-Identifier: Apache-2.0
"""Options: a wrong one is one clear line and a non-zero exit; --help and the manual page know the same ones."""
import os
import re

import pytest

from proc import ROOT, environment, program, run

DAEMONS = ("agentd", "receiverd")


def daemon(name, *args, asan=True):
    path = program(name, asan)
    if not os.path.exists(path):
        pytest.fail(f"{name} was not built")
    return run([path, *args], check=False, timeout=30, env=environment())


def one_line(done, *words):
    """It refused with one line that says all of @words."""
    text = done.stderr.decode()
    assert done.returncode not in (0, None) and done.returncode > 0, text
    assert text.count("\n") == 1 and text.endswith("\n"), text
    assert not done.stdout
    for word in words:
        assert word in text, text


@pytest.mark.parametrize("name", DAEMONS)
@pytest.mark.parametrize("args,words", [
    (["--nix"], ["--nix", "no such option"]),
    (["-Z"], ["-Z", "no such option"]),
    (["--config"], ["--config", "missing"]),
    (["--config", "/nonexistent/conf"], ["/nonexistent/conf", "No such file"]),
    (["--version=2"], ["--version", "takes no value"]),
    (["--mtu", "100"], ["--mtu", "'100'"]),
    (["--mtu", "70000"], ["--mtu", "'70000'"]),
    (["-m", "many"], ["-m", "'many'"]),
    (["-o"], ["-o", "missing"]),
    (["--status=xml", "--socket", "/nonexistent/s"], ["--status", "json"]),
    (["--status", "--socket", "/nonexistent/s"], ["/nonexistent/"]),
])
def test_bad_option_is_one_line(name, args, words):
    one_line(daemon(name, *args), *words)


@pytest.mark.parametrize("args,words", [
    (["stray"], ["stray"]),
    ([], ["-I"]),
    (["-I", "any", "-D"], ["-t", "-o", "-w"]),                # where to?
    (["-i", "any", "-I", "any", "-w", "/dev/null"], ["-i", "-I"]),
    (["-D", "-w", "/dev/null"], ["-D", "-I"]),
    (["-i", "any", "-D", "-w", "/dev/null"], ["-D", "-I"]),
    (["-i", "nosuchif0", "-w", "/dev/null"], ["nosuchif0"]),
    (["-I", "nosuchif0", "-w", "/dev/null"], ["nosuchif0"]),
    (["-i", "lo", "-o", "lo"], ["-o", "captured"]),
    (["-I", "lo", "-o", "lo"], ["-o", "captured"]),
    (["-I", "any", "-D", "-p", "tcp", "-w", "/dev/null"], ["-p", "-D"]),
    (["-i", "any", "-H", "10.0.0.0/8", "-w", "/dev/null"], ["-H", "-I"]),
    (["-I", "any", "-D", "-H", "10.0.0.0/33", "-w", "/dev/null"], ["-H", "10.0.0.0/33"]),
    (["-i", "any", "--netns", "all", "-w", "/dev/null"], ["--netns", "-I"]),
    (["-I", "any", "-D", "--netns", "nosuchns0", "-w", "/dev/null"], ["--netns", "nosuchns0"]),
    (["-i", "lo", "-p", "tcp prot 80", "-w", "/dev/null"], ["-p", "prot"]),
    (["-i", "lo", "--buffer-size", "1", "-w", "/dev/null"], ["--buffer-size"]),
    (["-I", "any", "-D", "-w", "/nonexistent/dir/file"], ["/nonexistent/dir/file"]),
    (["-I", "nosuchif0", "-D", "-w", "/dev/null"], ["nosuchif0"]),
    (["-I", "any", "-D", "-o", "nosuchif0"], ["nosuchif0"]),
    (["-I", "any", "-D", "-t", "host:99999"], ["host:99999"]),
    (["-I", "any", "-D", "-t", ""], ["-t"]),
    (["-I", "any", "-D", "-w", "/dev/null", "-t", "192.0.2.1"], ["-w"]),
    (["-I", "any", "-D", "-w", "/dev/null", "--port-shift", "70000"], ["--port-shift"]),
    (["-I", "any", "-D", "-w", "/dev/null", "--port-map", "443"], ["--port-map", "443"]),
    (["-I", "any", "-D", "-w", "/dev/null", "--port-map", "0=1"], ["--port-map"]),
    (["-I", "any", "-D", "-w", "/dev/null", "--port-map", "1=65536"], ["--port-map"]),
    (["-I", "any", "-D", "-w", "/dev/null", "--pool-size", "1"], ["--pool-size"]),
    (["-I", "any", "-D", "-w", "/dev/null", "--pool-size", "lots"], ["--pool-size"]),
    (["-I", "any", "-D", "-w", "/dev/null", "--rotate", "-1"], ["--rotate"]),
    (["-I", "any", "-D", "-w", "/dev/null", "--socket", "/nonexistent/dir/sock"], ["/nonexistent/dir"]),
])
def test_agentd_refuses(args, words, scratch):
    if "--socket" not in args:
        args = [*args, "--socket", os.path.join(scratch, "sock")]
    one_line(daemon("agentd", *args), *words)


@pytest.mark.parametrize("args,words", [
    (["-c", "stray"], ["stray"]),
    ([], ["-c"]),
    (["-c", "-o", "nosuchif0"], ["nosuchif0"]),
    (["-c", "-o", "lo"], ["lo"]),                             # it has addresses
    (["-c", "-o", "none", "-w", "/nonexistent/dir/file"], ["/nonexistent/dir/file"]),
    (["-c", "-o", "none", "--listen", "nowhere.example:1:2"], ["nowhere.example:1:2"]),
    (["-c", "-o", "none", "--state-dir", "/proc/nix"], ["/proc/nix"]),
    (["-c", "-o", "none", "--queue", "1"], ["--queue"]),
])
def test_receiverd_refuses(args, words, scratch):
    if "--state-dir" not in args:
        args = [*args, "--state-dir", os.path.join(scratch, "state")]
    one_line(daemon("receiverd", *args, "--socket", os.path.join(scratch, "sock")), *words)


@pytest.mark.parametrize("name", DAEMONS)
@pytest.mark.parametrize("text,words", [
    ("nix = 1\n", [":1:", "nix"]),
    ("\nmtu\n", [":2:", "mtu"]),
    ("mtu = 1\n", [":1:", "mtu"]),
    ("status = json\n", [":1:", "command line"]),
    ("\0\n", [":1:", "text"]),
])
def test_bad_file_is_one_line(name, text, words, scratch):
    conf = os.path.join(scratch, "conf")
    with open(conf, "w", encoding="ascii") as f:
        f.write(text)
    one_line(daemon(name, "--config", conf), conf, *words)


def options_of_help(text):
    return set(re.findall(r"^\s+(?:-\w, )?--([a-z0-9-]+)", text, re.M))


def letters_of_help(text):
    return dict(re.findall(r"^\s+-(\w), --([a-z0-9-]+)", text, re.M))


@pytest.mark.parametrize("name", [*DAEMONS, "tlstap"])
def test_help_and_manual_agree(name):
    done = run([program(name), "--help"], env=environment())
    assert not done.stderr
    text = done.stdout.decode()
    section = 1 if name == "tlstap" else 8
    with open(os.path.join(ROOT, "docs", "man", f"{name}.{section}"), encoding="ascii") as f:
        page = f.read()
    documented, letters = set(), {}
    for line in re.findall(r"^\.It (.*)$", page, re.M):
        # ".It Fl m , Fl -mtu Ar MTU"; in mdoc "Fl -mtu" is --mtu
        flags = re.findall(r"Fl (-?[A-Za-z0-9-]+)", line)
        long = [f[1:] for f in flags if f.startswith("-")]
        documented.update(long)
        letters.update({f: long[0] for f in flags if not f.startswith("-") and long})
    assert documented == options_of_help(text)
    assert letters == letters_of_help(text)


@pytest.mark.parametrize("name", [*DAEMONS, "tlstap"])
def test_version(name):
    done = run([program(name), "--version"], env=environment())
    assert re.fullmatch(rf"{name} [0-9]+\.[0-9]+\.[0-9]+\n", done.stdout.decode()) and not done.stderr


def test_example_configurations_are_accepted(scratch):
    """Every line of the examples, commented out or not, is an option that exists."""
    for name in DAEMONS:
        with open(os.path.join(ROOT, "packaging", "conf", f"{name}.conf"), encoding="ascii") as f:
            text = f.read()
        options = options_of_help(run([program(name), "--help"], env=environment()).stdout.decode())
        used = set(re.findall(r"^#?([a-z-]+) = ", text, re.M))
        assert used and used <= options
        conf = os.path.join(scratch, name)
        with open(conf, "w", encoding="ascii") as f:
            f.write(text)
        done = daemon(name, "--config", conf, "--status", "--socket", "/nonexistent/s")
        assert conf not in done.stderr.decode()


def words(*path):
    with open(os.path.join(ROOT, *path), encoding="utf-8") as f:
        return set(re.findall(r"\w+(?:\.[ch]\b)?", f.read()))


def test_manual_names_what_is_hooked():
    with open(os.path.join(ROOT, "libtlstap", "libtlstap.map"), encoding="ascii") as f:
        exported = set(re.findall(r"^\t(\w+);$", f.read(), re.M)) - {"tlstap_stand_in"}
    assert "SSL_read" in exported
    assert not exported - words("docs", "man", "libtlstap.7")


def test_manual_names_what_is_counted():
    with open(os.path.join(ROOT, "agentd", "account.h"), encoding="ascii") as f:
        counters = set(re.findall(r"\bX\((\w+)\)", f.read()))
    with open(os.path.join(ROOT, "agentd", "status.c"), encoding="ascii") as f:
        counters |= set(re.findall(r'\\"(\w+)\\": %" PRIu64', f.read()))
    assert {"taken", "denied", "hasty"} <= counters
    assert not counters - words("docs", "man", "agentd.8")


def test_manual_names_who_is_never_tapped():
    with open(os.path.join(ROOT, "agentd", "policy.c"), encoding="ascii") as f:
        listed = f.read().split("[] = {", 1)[1].split("\n};", 1)[0]
    names = [name for name in re.findall(r'"([^"]+)"', listed) if "/" not in name]
    assert {"init", "sshd", "runc"} <= set(names)
    with open(os.path.join(ROOT, "docs", "man", "agentd.8"), encoding="ascii") as f:
        section = f.read().split("Never tapped,", 1)[1].split(".Ss Where to", 1)[0]
    known = set(re.split(r"[\s,()]+", section))
    known.update({"agentd", "receiverd"})
    assert not set(names) - known


def test_architecture_names_all_sources():
    known = words("docs", "architecture.md")
    for folder in ("agentd", "common", "libtlstap", "receiverd"):
        names = {name for name in os.listdir(os.path.join(ROOT, folder)) if name.endswith(".c")}
        assert names and not names - known, folder


def test_manual_pages_have_no_mistakes():
    folder = os.path.join(ROOT, "docs", "man")
    for page in sorted(os.listdir(folder)):
        done = run(["man", "--warnings", "-E", "UTF-8", "-l", "-Tutf8", "-Z", os.path.join(folder, page)], check=False,
                   env=environment(MANROFFSEQ=""))
        assert done.returncode == 0 and not done.stderr, f"{page}: {done.stderr.decode()}"
