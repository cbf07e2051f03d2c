# SPDX-License-Identifier: Apache-2.0
"""Suricata as it is packaged, with rules of our own and the rules about its own events."""
import glob
import json
import os

from proc import Daemon, run, wait_for

CONFIG = "/etc/suricata/suricata.yaml"

RULES = """
alert http any any -> any any (msg:"tlstap uri"; http.uri; content:"/secret-uri"; sid:9000001; rev:1;)
alert http any any -> any any (msg:"tlstap response body"; flow:to_client; http.response_body; content:"secret-response"; sid:9000002; rev:1;)
alert http any any -> any any (msg:"tlstap request body"; flow:to_server; http.request_body; content:"secret-request"; sid:9000003; rev:1;)
"""
OUR_SIDS = {9000001, 9000002, 9000003}


def _settings(deep):
    """What differs from the packaged configuration; @deep: bodies and streams of any length are looked at."""
    settings = ["outputs.1.eve-log.enabled=yes", "unix-command.enabled=no"]
    if deep:
        settings += ["stream.reassembly.depth=0", "stream.memcap=1gb", "stream.reassembly.memcap=2gb",
                     "app-layer.protocols.http.libhtp.default-config.request-body-limit=0",
                     "app-layer.protocols.http.libhtp.default-config.response-body-limit=0"]
    return [a for s in settings for a in ("--set", s)]


class Suricata:
    """The log directory of one run of Suricata."""

    def __init__(self, folder, rules="", deep=False):
        self.folder = os.path.join(folder, "suricata")
        os.makedirs(self.folder, exist_ok=True)
        self.rules = os.path.join(self.folder, "test.rules")
        with open(self.rules, "w", encoding="ascii") as f:
            f.write(RULES + rules)
            for name in ("stream", "decoder", "http"):
                for path in glob.glob(f"/etc/suricata/rules/{name}-events.rules"):
                    with open(path, encoding="utf-8") as events:
                        f.write(events.read())
        self.args = ["suricata", "-c", CONFIG, "-S", self.rules, "-l", self.folder, "-k", "all", *_settings(deep)]
        self.daemon = None

    def read(self, pcap, timeout=300):
        """Let it read a capture. Returns self."""
        run([*self.args, "-r", pcap, "--runmode", "single"], timeout=timeout)
        return self

    def listen(self, interface, ns):
        """Start it on an interface and wait until it sees packets."""
        self.daemon = Daemon([*self.args, f"--af-packet={interface}", "--runmode", "single"],
                             os.path.join(self.folder, "run.log"), ns)
        self.daemon.wait_log("Engine started", timeout=120)
        return self

    def stop(self):
        if self.daemon:
            self.daemon.stop(timeout=60)

    def events(self, kind=None):
        path = os.path.join(self.folder, "eve.json")
        if not os.path.exists(path):
            return []
        found = []
        with open(path, encoding="utf-8") as f:
            for line in f:
                if line.endswith("\n"):
                    event = json.loads(line)
                    if kind in (None, event["event_type"]):
                        found.append(event)
        return found

    def sids(self):
        return {e["alert"]["signature_id"] for e in self.events("alert")}

    def wait_for_sids(self, sids, timeout=30):
        wait_for(lambda: sids <= self.sids(), timeout, why=lambda: f"alerts {sids}, there are {self.sids()}")

    def complaints(self):
        """Alerts of its own rules about streams, packets and HTTP, and anomalies."""
        return [e["alert"]["signature"] for e in self.events("alert") if e["alert"]["signature_id"] not in OUR_SIDS] + \
            [str(e["anomaly"]) for e in self.events("anomaly")]
