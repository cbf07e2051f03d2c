# SPDX-License-Identifier: Apache-2.0
"""agentd and receiverd under test, and what their --status must say: design, conservation."""
import json
import os

from proc import Daemon, environment, program, run, wait_for

# left = sum of right, in bytes of cleartext
AGENT_EQUATIONS = {
    "reported": ("decided", "pending"),
    "decided": ("taken", "pool_full", "stripes_busy", "no_slot", "died", "sendfile", "predecessor"),
    "taken": ("forged_in", "held", "duplicate", "unpaired", "unverified", "not_tcp", "collision", "denied", "early_rejected",
              "no_room"),
    "forged_in": ("forged", "resync", "queued"),
    "forged": ("acked", "in_flight", "backlog", "unknown"),
}
RECEIVER_EQUATIONS = {
    "received": ("injected", "policy", "duplicate", "oversize", "inject_error", "queued"),
}


def unbalanced(counters, equations):
    """The equations that do not hold, as text."""
    wrong = []
    for left, right in equations.items():
        terms = {name: counters.get(name, 0) for name in right}
        # What a predecessor took and lost is known to nobody else: it stands beside what was taken.
        if left == "decided":
            terms["predecessor"] = counters.get("predecessor", 0)
        if counters[left] != sum(terms.values()):
            wrong.append(f"{left} = {counters[left]}, but {' + '.join(f'{k} {v}' for k, v in terms.items())} "
                         f"= {sum(terms.values())}")
    return wrong


class Tapd:
    """What agentd and receiverd have in common."""

    def __init__(self, name, folder, ns, args, asan=False, env=None, socket=None):
        self.folder, self.ns, self.asan, self.name = folder, ns, asan, name
        self.killed = False
        os.makedirs(os.path.join(folder, name), exist_ok=True)
        self.socket = socket or os.path.join(folder, name, "sock")
        self.log = os.path.join(folder, f"{name}.log")
        self.daemon = Daemon([program(name, asan), "--socket", self.socket, *args], self.log, ns, env=env)
        # -i taps nothing: there is no socket to attach to
        self.daemon.wait_for(lambda: ("-i" in args or os.path.exists(self.socket)) and self.try_status() is not None)

    @property
    def pid(self):
        return self.daemon.pid

    def try_status(self):
        done = run([program(self.name, self.asan), "--socket", self.socket, "--status=json"], check=False, timeout=20)
        return json.loads(done.stdout) if done.returncode == 0 else None

    def status(self):
        done = run([program(self.name, self.asan), "--socket", self.socket, "--status=json"], timeout=20)
        return json.loads(done.stdout)

    def stop(self):
        if self.killed:
            self.daemon.check_sanitizers()
            return
        code = self.daemon.stop()
        self.daemon.check_sanitizers()
        assert code == 0, f"{self.name} ended with {code}:\n{self.daemon.log().decode(errors='replace')[-4000:]}"

    def kill(self):
        """As a crash would: no good-bye."""
        self.killed = True
        self.daemon.kill()


class Agentd(Tapd):
    def __init__(self, folder, ns, *args, asan=False, env=None, socket=None):
        super().__init__("agentd", folder, ns, args, asan, env, socket)

    def env(self, **more):
        """The environment of a program that this agent is to tap."""
        return environment(tap=True, TLSTAP_SOCKET=self.socket, **more)

    def counters(self):
        """The sums of all connections and directions, in one dictionary."""
        status = self.status()
        sink = status["sink"]
        counters = {k: v for k, v in status.items() if isinstance(v, int)}
        counters.update({k: sink[k] for k in ("acked", "in_flight", "backlog", "unknown")})
        assert sink["forged"] == counters["forged"], "the sink was given something else than what was forged"
        return counters

    def wait_forged(self, size, timeout=60):
        """Wait until @size bytes of cleartext were forged and have left."""
        wait_for(lambda: self.counters()["acked"] >= size, timeout,
                 why=lambda: f"{size} bytes forged and gone; status: {json.dumps(self.status(), indent=1)[:6000]}")

    def wait_quiet(self, timeout=60):
        """Wait until nothing is on its way any more. Returns the counters."""
        def quiet():
            c = self.counters()
            return c if not any(c[k] for k in ("pending", "held", "queued", "in_flight", "backlog")) else None
        return wait_for(quiet, timeout, why=lambda: f"quiet; status: {json.dumps(self.status(), indent=1)[:6000]}")

    def check_balance(self):
        """All equations, at rest. Returns the counters."""
        c = self.wait_quiet()
        wrong = unbalanced(c, AGENT_EQUATIONS)
        assert not wrong, "\n".join(wrong)
        return c


class Receiverd(Tapd):
    def __init__(self, folder, ns, *args, asan=False, env=None):
        state = os.path.join(folder, "receiverd-state")
        super().__init__("receiverd", folder, ns, ["--state-dir", state, *args], asan, env)
