# SPDX-License-Identifier: Apache-2.0
"""Processes of a test: run to the end, or kept as a daemon whose log is shown when the test fails."""
import contextlib
import os
import re
import signal
import subprocess
import time

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
SANITIZER = re.compile(rb"(ERROR: (Address|Leak|Thread)Sanitizer|runtime error:|WARNING: ThreadSanitizer|Assertion .* failed)")


def build_dir(asan=False):
    """Where the programs under test are: tests/run says so, else ./build."""
    if asan and os.environ.get("TLSTAP_BUILD_ASAN"):
        return os.environ["TLSTAP_BUILD_ASAN"]
    return os.environ.get("TLSTAP_BUILD") or os.path.join(ROOT, "build")


def library():
    return os.path.join(build_dir(), "libtlstap", "libtlstap.so")


def program(name, asan=False):
    folder = {"tlstap": "packaging"}.get(name, name)
    return os.path.join(build_dir(asan), folder, name)


def wait_for(what, timeout=30, step=0.02, why=None):
    """Call what() until it returns something true, and return that. The deadline is generous: it only
    bounds the time until a test fails."""
    end = time.monotonic() + timeout
    while True:
        value = what()
        if value:
            return value
        if time.monotonic() > end:
            message = why() if callable(why) else why
            raise AssertionError(f"not within {timeout} s: {message or what}")
        time.sleep(step)


def environment(tap=False, **more):
    """An environment that is the same everywhere; with @tap, libtlstap is preloaded."""
    env = {k: v for k, v in os.environ.items() if not k.startswith(("LD_", "TLSTAP_", "SSL", "LC_", "LANG"))}
    env["LC_ALL"] = "C"
    env["PYTHONDONTWRITEBYTECODE"] = "1"
    if tap:
        env["LD_PRELOAD"] = library()
    env.update({k: str(v) for k, v in more.items() if v is not None})
    return env


def run(args, ns=None, timeout=120, check=True, tap=False, env=None, **popen):
    """Run a command to its end, in the network namespace @ns. Returns subprocess.CompletedProcess (bytes)."""
    args = [str(a) for a in args]
    if ns is not None:
        args = ns.command(args)
    popen.setdefault("stdin", subprocess.DEVNULL)
    popen.setdefault("stdout", subprocess.PIPE)
    popen.setdefault("stderr", subprocess.PIPE)
    done = subprocess.run(args, timeout=timeout, env=env or environment(tap), check=False, **popen)
    if check and done.returncode != 0:
        raise AssertionError(f"{' '.join(args)}: exit code {done.returncode}\n"
                             f"{(done.stdout or b'').decode(errors='replace')[-4000:]}\n"
                             f"{(done.stderr or b'').decode(errors='replace')[-4000:]}")
    return done


class Daemon:
    """A process that runs until stop(). Its stdout and stderr go to one log file."""

    def __init__(self, args, log, ns=None, env=None, tap=False, name=None, stop_signal=signal.SIGTERM, **popen):
        self.args = [str(a) for a in args]
        self.name = name or os.path.basename(self.args[0])
        self.log_path = log
        self.stop_signal = stop_signal
        command = ns.command(self.args) if ns is not None else self.args
        with open(log, "ab") as out:
            popen.setdefault("stdin", subprocess.DEVNULL)
            self.process = subprocess.Popen(command, stdout=out, stderr=subprocess.STDOUT,
                                            env=env or environment(tap), start_new_session=True, **popen)
        self.pid = self.process.pid

    def log(self):
        with open(self.log_path, "rb") as f:
            return f.read()

    def alive(self):
        return self.process.poll() is None

    def must_live(self):
        if not self.alive():
            raise AssertionError(f"{self.name} ended with {self.process.returncode}:\n"
                                 f"{self.log().decode(errors='replace')[-4000:]}")

    def wait_for(self, what, timeout=30):
        """Wait for a condition, or fail at once if the daemon ends."""
        def either():
            self.must_live()
            return what()
        return wait_for(either, timeout, why=lambda: f"{what}, log of {self.name}:\n" +
                        self.log().decode(errors="replace")[-4000:])

    def wait_log(self, text, timeout=30):
        needle = text.encode()
        return self.wait_for(lambda: needle in self.log(), timeout)

    def signal(self, number):
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, number)

    def wait(self, timeout=30):
        return self.process.wait(timeout)

    def kill(self):
        """End it and whatever it started, at once."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)
        self.process.wait(30)

    def stop(self, timeout=30):
        """Ask it to end. Returns its exit code."""
        if self.alive():
            self.signal(signal.SIGCONT)
            self.signal(self.stop_signal)
            try:
                self.process.wait(timeout)
            except subprocess.TimeoutExpired:
                self.kill()
                raise AssertionError(f"{self.name} did not end within {timeout} s; its log:\n"
                                     f"{self.log().decode(errors='replace')[-4000:]}") from None
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)
        return self.process.returncode

    def check_sanitizers(self):
        found = SANITIZER.search(self.log())
        if found:
            raise AssertionError(f"{self.name}: {found.group(0).decode()}\n{self.log().decode(errors='replace')[-6000:]}")


def threads(pid):
    return len(os.listdir(f"/proc/{pid}/task"))


def descriptors(pid):
    """What the descriptors of a process are: kinds without numbers, so that two runs can be compared."""
    kinds = []
    for fd in os.listdir(f"/proc/{pid}/fd"):
        with contextlib.suppress(OSError):
            kinds.append(re.sub(r"[0-9]+", "N", os.readlink(f"/proc/{pid}/fd/{fd}")))
    return sorted(kinds)


def compile_c(source, out, *options):
    """Compile a small C file of the tests. Returns @out."""
    run(["gcc", "-O1", "-g", "-std=gnu11", "-Wall", "-Wextra", "-D_GNU_SOURCE", source, "-o", out, *options])
    return out
