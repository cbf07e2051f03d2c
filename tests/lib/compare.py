# SPDX-License-Identifier: Apache-2.0
"""No harm: a command behaves with the tap as it does without."""
from collections import namedtuple

from proc import environment, run

Outcome = namedtuple("Outcome", "code stdout stderr")


def outcome(command, tap, ns=None, env=None, timeout=60, clean=lambda text: text, **popen):
    done = run(command, ns=ns, timeout=timeout, check=False, env=env or environment(tap), **popen)
    return Outcome(done.returncode, clean(done.stdout), clean(done.stderr))


def assert_no_difference(command, socket=None, clean=lambda text: text, **more):
    """Run @command without and with the tap, and compare exit code, stdout and stderr.
    @socket  of the agentd that taps; none: there is no agent
    @clean   removes from output what differs between any two runs"""
    plain = outcome(command, False, clean=clean, **more)
    env = environment(tap=True, TLSTAP_SOCKET=socket or "/nonexistent/agentd.sock")
    tapped = outcome(command, True, env=env, clean=clean, **more)
    assert tapped == plain, f"{command}: differs under the tap\nplain:  {plain}\ntapped: {tapped}"
    return tapped
