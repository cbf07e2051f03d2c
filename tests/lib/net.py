# SPDX-License-Identifier: Apache-2.0
"""Network namespaces with veth pairs; nothing outside of them is touched and nothing stays behind.

  client eth0 192.0.2.1 -------- 192.0.2.2 eth0 server eth1 198.51.100.1 -------- 198.51.100.2 eth0 ids
         2001:db8:1::1        2001:db8:1::2               2001:db8:2::1        2001:db8:2::2
                                                                    ids: dummy0 ==== sniff0 (veth, no addresses)
"""
import atexit
import contextlib
import itertools
import os
import signal
import subprocess

CLIENT4, SERVER4 = "192.0.2.1", "192.0.2.2"
CLIENT6, SERVER6 = "2001:db8:1::1", "2001:db8:1::2"
TUNNEL4, IDS4 = "198.51.100.1", "198.51.100.2"
TUNNEL6, IDS6 = "2001:db8:2::1", "2001:db8:2::2"

PREFIX = "tlstap"
_number = itertools.count()
_alive = set()


def ip(*args, check=True, ns=None):
    command = ["ip"] + (["-n", ns] if ns else []) + [str(a) for a in args]
    done = subprocess.run(command, capture_output=True, check=False)
    if check and done.returncode != 0:
        raise AssertionError(f"{' '.join(command)}: {done.stderr.decode(errors='replace')}")
    return done


class Namespace:
    """One network namespace; its name holds our pid, so that a later run can tell what is left over."""

    def __init__(self, label):
        self.name = f"{PREFIX}-{os.getpid()}-{next(_number)}-{label}"
        ip("netns", "add", self.name)
        _alive.add(self.name)
        ip("link", "set", "lo", "up", ns=self.name)
        for key in ("all", "default"):
            self.sysctl(f"net/ipv6/conf/{key}/accept_dad", 0)
            self.sysctl(f"net/ipv6/conf/{key}/router_solicitations", 0)

    def command(self, args):
        # Not `ip netns exec`: that one also makes a mount namespace, and daemons would not see each other's files.
        return ["nsenter", f"--net=/run/netns/{self.name}", "--"] + [str(a) for a in args]

    def sysctl(self, path, value):
        subprocess.run(self.command(["sh", "-c", f"echo {value} > /proc/sys/{path}"]), check=False,
                       stderr=subprocess.DEVNULL)

    def address(self, device, *addresses):
        for a in addresses:
            extra = ["nodad"] if ":" in a else []
            ip("addr", "add", a, "dev", device, *extra, ns=self.name)
        ip("link", "set", device, "up", ns=self.name)

    def quiet_veth(self, one, other):
        """A veth pair within this namespace that carries nothing but what is injected."""
        ip("link", "add", one, "type", "veth", "peer", "name", other, ns=self.name)
        for device in (one, other):
            self.sysctl(f"net/ipv6/conf/{device}/disable_ipv6", 1)
            ip("link", "set", device, "arp", "off", "up", ns=self.name)

    def delete(self):
        delete(self.name)


def delete(name):
    """End every process in the namespace, then the namespace."""
    pids = ip("netns", "pids", name, check=False).stdout.split()
    for pid in pids:
        with contextlib.suppress(ProcessLookupError, ValueError):
            os.kill(int(pid), signal.SIGKILL)
    ip("netns", "del", name, check=False)
    _alive.discard(name)


def veth(a, dev_a, b, dev_b):
    ip("link", "add", dev_a, "netns", a.name, "type", "veth", "peer", "name", dev_b, "netns", b.name)


class Network:
    """client, server and ids, connected as drawn above."""

    def __init__(self):
        self.client, self.server, self.ids = (Namespace(n) for n in ("client", "server", "ids"))
        veth(self.client, "eth0", self.server, "eth0")
        veth(self.server, "eth1", self.ids, "eth0")
        self.client.address("eth0", CLIENT4 + "/24", CLIENT6 + "/64")
        self.server.address("eth0", SERVER4 + "/24", SERVER6 + "/64")
        self.server.address("eth1", TUNNEL4 + "/24", TUNNEL6 + "/64")
        self.ids.address("eth0", IDS4 + "/24", IDS6 + "/64")
        self.ids.quiet_veth("dummy0", "sniff0")
        self.server.quiet_veth("replay0", "replay1")

    def delete(self):
        for ns in (self.client, self.server, self.ids):
            ns.delete()


def clean_up():
    for name in list(_alive):
        delete(name)


def clean_leftovers():
    """Remove the namespaces of runs that were killed."""
    for line in ip("netns", "list", check=False).stdout.decode().splitlines():
        name = line.split()[0]
        parts = name.split("-")
        if parts[0] == PREFIX and len(parts) == 4 and parts[1].isdigit() and not os.path.exists(f"/proc/{parts[1]}"):
            delete(name)


atexit.register(clean_up)
