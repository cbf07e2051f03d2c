# SPDX-License-Identifier: Apache-2.0
"""What really went over the wire: tcpdump records it, tshark decrypts it with the keys the clients wrote down.

No part of tlstap has a hand in this truth: neither in the 5-tuples nor in the cleartext."""
import os

from proc import Daemon, compile_c, run, wait_for

SYSTEM = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "system")


class Wire:
    """A capture of all TCP on one interface, or on any of a network namespace."""

    def __init__(self, folder, ns, interface="any"):
        os.makedirs(folder, exist_ok=True)
        self.path = os.path.join(folder, "wire.pcap")
        self.keys = os.path.join(folder, "keys.log")
        self.keylog = os.path.join(folder, "keylog.so")
        compile_c(os.path.join(SYSTEM, "keylog.c"), self.keylog, "-shared", "-fPIC", "-ldl")
        self.daemon = Daemon(["tcpdump", "-ni", interface, "-U", "--immediate-mode", "-s", "66000", "-B", "131072",
                              "-w", self.path, "tcp"], os.path.join(folder, "tcpdump.log"), ns)
        self.daemon.wait_log("listening on")

    def client(self, env, keys=None):
        """@env with which a client writes its keys down: GnuTLS does so by itself, OpenSSL is made to.
        @keys  the file; else one that is taken for the truth at once"""
        env = dict(env, SSLKEYLOGFILE=keys or self.keys)
        env["LD_PRELOAD"] = " ".join(filter(None, [self.keylog, env.get("LD_PRELOAD")]))
        return env

    def believe(self, keys):
        """The connections whose keys are in this file belong to the truth too."""
        with open(keys, "rb") as f, open(self.keys, "ab") as all_keys:
            all_keys.write(f.read())

    def stop(self):
        if self.daemon.alive():
            self._settle()
            self.daemon.stop()

    def _settle(self):
        """Wait until tcpdump has written what it has seen."""
        sizes = []

        def settled():
            sizes.append(os.path.getsize(self.path))
            return len(sizes) > 8 and sizes[-1] == sizes[-8]
        wait_for(settled, step=0.05)

    def truth(self):
        """{((client, port), (server, port)): (what the client wrote, what the server wrote)} of each TLS connection
        that came beyond its handshake."""
        self.stop()
        assert b" 0 packets dropped by kernel" in b" " + self.daemon.log().replace(b"\n", b" "), self.daemon.log()
        options = ["-o", f"tls.keylog_file:{self.keys}"]
        ends = {}
        for line in self._tshark(*options, "-Y", "tls.handshake.type==1", "-T", "fields", "-e", "tcp.stream",
                           "-e", "ip.src", "-e", "ipv6.src", "-e", "tcp.srcport", "-e", "ip.dst", "-e", "ipv6.dst",
                           "-e", "tcp.dstport").splitlines():
            stream, s4, s6, sport, d4, d6, dport = line.split("\t")
            ends.setdefault(int(stream), ((s4 or s6, int(sport)), (d4 or d6, int(dport))))
        if not ends:
            return {}
        follow = [a for stream in ends for a in ("-z", f"follow,tls,raw,{stream}")]
        found = {}
        for stream, sides in self._followed(self._tshark(*options, "-q", *follow), ends):
            if any(sides):
                assert ends[stream] not in found, f"{ends[stream]} twice"
                found[ends[stream]] = sides
        return found

    def _tshark(self, *args):
        # Two passes, for a client's keys are written after its hello. Checksums are the network card's business here.
        # That a flow is the data of some FTP session hides from tshark that it is TLS.
        return run(["tshark", "-n", "-2", "-r", self.path, "-o", "tcp.reassemble_out_of_order:TRUE",
                    "--disable-protocol", "ftp-data", *args],
                   timeout=300).stdout.decode()

    @staticmethod
    def _followed(text, ends):
        """(stream, (client's bytes, server's bytes)) of each conversation in the output of -z follow."""
        for part in text.split("=" * 67):
            stream, first, sides = None, None, ([], [])
            for line in part.splitlines():
                word = line.strip()
                if line.startswith("Filter: tcp.stream eq "):
                    stream = int(line.rsplit(" ", 1)[1])
                elif line.startswith("Node 0: "):
                    address, port = line.split(": ", 1)[1].rsplit(":", 1)
                    first = (address.strip("[]"), int(port))
                elif first and word and all(c in "0123456789abcdef" for c in word):
                    sides[line.startswith("\t")].append(bytes.fromhex(word))
            if stream is None:
                continue
            # node 0 is whose record came first, and that may be the server's session ticket
            if first == ends[stream][1]:
                sides = sides[1], sides[0]
            elif not any(sides):
                continue
            else:
                assert first == ends[stream][0], f"{first} is no end of {ends[stream]}"
            yield stream, tuple(b"".join(s) for s in sides)


def shifted(truth, shift=4):
    """The 5-tuples under which agentd shows them."""
    return {(client, (server[0], server[1] + shift)): sides for (client, server), sides in truth.items()}


