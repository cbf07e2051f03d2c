# SPDX-License-Identifier: Apache-2.0
"""Full marks: Suricata and tshark look at forged conversations, without any daemon of ours in between.

Each conversation is written as text (tests/golden/scene.c) and forged into a capture of its own; all captures of
one test are read in one run of Suricata. A transaction's response body has a length that belongs to its number, so
a wrong pair shows."""
import os
import re
import shutil

import pytest

from ids import Suricata
from proc import build_dir, run

SCENE = os.path.join(build_dir(), "tests", "golden", "scene")
RULE_RAW = 'alert tcp any any -> any any (msg:"raw"; flow:established; content:"raw-needle"; sid:9000010; rev:1;)\n'
pytestmark = pytest.mark.skipif(not shutil.which("suricata"), reason="suricata is not installed")


def quote(data):
    if isinstance(data, str):
        data = data.encode("latin-1")
    return '"' + "".join(chr(b) if 32 <= b < 127 and b not in b'"\\' else f"\\x{b:02x}" for b in data) + '"'


def body_len(n):
    return 1000 + n


def response_body(n):
    text = f"secret-response {n} ".encode()
    return text + b"r" * (body_len(n) - len(text))


def request(n, method="GET", body=None, headers="", chunks=None):
    head = f"{method} /secret-uri/{n} HTTP/1.1\r\nHost: a.example\r\n{headers}"
    return message(head, body, chunks)


def response(n, body=None, status="200 OK", headers="", chunks=None):
    head = f"HTTP/1.1 {status}\r\nContent-Type: application/octet-stream\r\n{headers}"
    return message(head, response_body(n) if body is None else body, chunks)


def message(head, body, chunks=None):
    if body is None:
        return (head + "\r\n").encode()
    if chunks is None:
        return (head + f"Content-Length: {len(body)}\r\n\r\n").encode() + body
    out = (head + "Transfer-Encoding: chunked\r\n\r\n").encode()
    for pos in range(0, len(body), chunks):
        piece = body[pos:pos + chunks]
        out += b"%x\r\n" % len(piece) + piece + b"\r\n"
    return out + b"0\r\n\r\n"


class Scene:
    """One conversation: its steps, and what must be seen of it."""

    def __init__(self, *settings):
        self.steps = list(settings)
        self.want = set()     # transactions that must be complete
        self.may = set()      # that may be there, damaged or not
        self.said = {"c": b"", "s": b""}
        self.length = {}      # of transactions: bytes of the response's body as Suricata counts them, chunk lines too
        self.port = None
        self.forged = {}

    def say(self, side, data, lost=None):
        """One record; or @lost=(from, to): those bytes of it are missing, and what surrounds them are records."""
        if lost is None:
            self.steps.append(f"{side} {quote(data)}")
            self.said[side] += data if isinstance(data, bytes) else data.encode()
            return self
        begin, end = lost
        if begin > 0:
            self.steps.append(f"{side} {quote(data[:begin])}")
        self.steps.append(f"lost {side} {end - begin}")
        if end < len(data):
            self.steps.append(f"{side} {quote(data[end:])}")
        return self

    def quiet(self, wait_ms=6):
        self.steps += ["settle", f"tick {wait_ms}"]
        return self

    def exchange(self, n, req=None, rsp=None, want=True):
        self.say("c", req or request(n)).quiet()
        self.say("s", rsp or response(n)).quiet()
        (self.want if want else self.may).add(n)
        if rsp and b"chunked" in rsp:
            self.length[n] = len(rsp) - rsp.index(b"chunked\r\n\r\n") - len("chunked\r\n\r\n") - len("\r\n")
        return self

    def forge(self, folder, port, start):
        self.port = port
        path = os.path.join(folder, f"{port}.pcap")
        text = "\n".join([f"port {port} 447", f"time {start}", *self.steps, "end c"]) + "\n"
        done = run([SCENE, path], input=text.encode(), stdin=None)
        values = map(int, re.findall(r"\d+", done.stdout.decode()))
        self.forged = dict(zip(("c", "s", "c_resync", "s_resync", "breaks", "rotations", "incarnations"), values))
        return path


def forge_all(scratch, scenes):
    """Returns the path of one capture with all scenes in it, one after the other."""
    folder = os.path.join(scratch, "scenes")
    os.makedirs(folder, exist_ok=True)
    path = os.path.join(scratch, "all.pcap")
    with open(path, "wb") as out:
        for i, scene in enumerate(scenes):
            with open(scene.forge(folder, 20000 + i, 1700000000 + 100 * i), "rb") as one:
                out.write(one.read() if i == 0 else one.read()[24:])
    return path


def judge(scratch, scenes, rules="", deep=False, allowed=()):
    """Let Suricata read it; every wanted transaction must be there with its own response, none with another's."""
    capture = forge_all(scratch, scenes)
    suricata = Suricata(scratch, rules=rules, deep=deep).read(capture)
    assert [c for c in suricata.complaints() if c not in allowed and c != "raw"] == []
    by_port = {scene.port: {} for scene in scenes}
    for event in suricata.events("http"):
        http = event["http"]
        found = re.search(r"/secret-uri/(\d+)", http.get("url", ""))
        if not found:  # the begin of a request line before a hole
            assert "/secret-uri/".startswith(http.get("url", "?")) and not http.get("status"), event
            continue
        by_port[event["src_port"]].setdefault(int(found.group(1)), []).append(http)
    for i, scene in enumerate(scenes):
        seen = by_port[scene.port]
        assert set(seen) <= scene.want | scene.may, f"scene {i}"
        for n, https in seen.items():
            assert len(https) == 1, f"scene {i}: transaction {n} is there twice"
            if n in scene.want:
                assert https[0].get("status"), f"scene {i}: transaction {n} has no response"
                want = scene.length.get(n, body_len(n))
                assert https[0]["length"] == want, f"scene {i}: transaction {n} has another's response"
            else:
                most = scene.length.get(n, body_len(n))
                assert https[0]["length"] <= most, f"scene {i}: transaction {n} has another's response"
        assert scene.want <= set(seen), f"scene {i}: missing {sorted(scene.want - set(seen))}"
    # Every response body is a file, whole.
    whole = {(e["dest_port"], e["http"]["url"]): e["fileinfo"] for e in suricata.events("fileinfo")
             if e["http"].get("url") and e["dest_port"] in by_port}
    for scene in scenes:
        for n in scene.want:
            info = whole[(scene.port, f"/secret-uri/{n}")]
            assert (info["size"], info["state"], info["gaps"]) == (body_len(n), "CLOSED", False), info
    return suricata


def sids_by_port(suricata, sid):
    counts = {}
    for event in suricata.events("alert"):
        if event["alert"]["signature_id"] == sid:
            port = event["src_port"] if event["dest_port"] == 447 else event["dest_port"]
            counts[port] = counts.get(port, 0) + 1
    return counts


def post(n, size=500, **more):
    return request(n, "POST", b"secret-request " + b"q" * size, **more)


def test_keepalive_and_alerts(scratch):
    scenes = [Scene(), Scene("ver 6"), Scene("mtu 9000"), Scene("mtu 576")]
    for scene in scenes:
        for n in range(40):
            req = post(n, 40000 if n % 10 == 3 else 500) if n % 3 else post(n, chunks=77)
            scene.exchange(n, req, response(n, chunks=300) if n % 4 == 1 else None)
    suricata = judge(scratch, scenes)
    for sid in (9000001, 9000002, 9000003):
        assert sids_by_port(suricata, sid) == {scene.port: 40 for scene in scenes}
    for scene in scenes:
        assert scene.forged["c"] == len(scene.said["c"]) and scene.forged["s"] == len(scene.said["s"])


def test_without_pauses(scratch):
    """All of it in one sweep: the peer's data carry the ACKs."""
    scene = Scene()
    for n in range(60):
        scene.say("c", post(n)).say("s", response(n))
        scene.want.add(n)
    suricata = judge(scratch, [scene])
    for sid in (9000001, 9000002, 9000003):
        assert sids_by_port(suricata, sid) == {scene.port: 60}


def test_pipelining(scratch):
    one, many = Scene(), Scene()
    for burst in range(6):
        ns = range(burst * 5, burst * 5 + 5)
        one.say("c", b"".join(request(n) for n in ns)).quiet().say("s", b"".join(response(n) for n in ns)).quiet()
        for n in ns:
            many.say("c", request(n))
        for n in ns:
            many.say("s", response(n))
        one.want |= set(ns)
        many.want |= set(ns)
    suricata = judge(scratch, [one, many])
    assert sids_by_port(suricata, 9000001) == {one.port: 30, many.port: 30}
    assert sids_by_port(suricata, 9000002) == {one.port: 30, many.port: 30}


def test_rotation_shows_all_of_a_long_connection(scratch):
    """30 times 100 kB on one connection, Suricata's stock stream depth of 1 MiB."""
    scene = Scene()
    for n in range(30):
        body = response_body(n) + b"z" * 100000
        scene.say("c", request(n)).quiet()
        rsp = response(n, body)
        for pos in range(0, len(rsp), 16384):
            scene.say("s", rsp[pos:pos + 16384])
        scene.quiet()
    capture = forge_all(scratch, [scene])
    assert scene.forged["rotations"] == 3
    suricata = Suricata(scratch).read(capture)
    assert suricata.complaints() == []
    got = {e["http"]["url"]: (e["http"]["status"], e["http"]["length"]) for e in suricata.events("http")}
    assert got == {f"/secret-uri/{n}": (200, body_len(n) + 100000) for n in range(30)}
    assert sids_by_port(suricata, 9000002) == {scene.port: 30}


def test_responses_without_body(scratch):
    scene = Scene()
    scene.exchange(0)
    scene.exchange(1, request(1, "HEAD"), message("HTTP/1.1 200 OK\r\nContent-Length: 5000\r\n", None), want=False)
    scene.exchange(2, None, message("HTTP/1.1 204 No Content\r\n", None), want=False)
    scene.exchange(3, None, message("HTTP/1.1 304 Not Modified\r\n", None), want=False)
    scene.exchange(4, request(4, "POST", b"x" * 2000, "Expect: 100-continue\r\n"),
                   b"HTTP/1.1 100 Continue\r\n\r\n" + response(4))
    scene.exchange(5, None, response(5, chunks=100))
    suricata = judge(scratch, [scene])
    status = {e["http"]["url"]: e["http"]["status"] for e in suricata.events("http")}
    assert status == {f"/secret-uri/{n}": s for n, s in enumerate((200, 200, 204, 304, 200, 200))}


def test_tunnels(scratch):
    connect = Scene().say("c", "CONNECT b.example:443 HTTP/1.1\r\nHost: b.example:443\r\n\r\n").quiet()
    connect.say("s", "HTTP/1.1 200 OK\r\n\r\n").quiet()
    upgrade = Scene().say("c", "GET /secret-uri/0 HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
                               "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n").quiet()
    upgrade.say("s", "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n").quiet()
    for scene in (connect, upgrade):
        for i in range(3):
            scene.say("c", b"\x81\x8araw-needle%d" % i).quiet().say("s", b"\x81\x0araw-needle%d" % i).quiet()
    capture = forge_all(scratch, [connect, upgrade])
    suricata = Suricata(scratch, rules=RULE_RAW).read(capture)
    assert {e["http"]["status"] for e in suricata.events("http")} == {200, 101}
    assert set(suricata.complaints()) == {"raw"}
    assert set(sids_by_port(suricata, 9000010)) == {connect.port, upgrade.port}


def test_large_header_blocks(scratch):
    """One field of 40 kB, written in pieces: Suricata gives up unless it gets the whole block at once."""
    scene = Scene()
    scene.exchange(0)
    big = "X-Big: " + "h" * 40000 + "\r\n"
    req, rsp = request(1, headers=big), response(1, headers=big)
    for pos in range(0, len(req), 16384):
        scene.say("c", req[pos:pos + 16384]).quiet()
    for pos in range(0, len(rsp), 16384):
        scene.say("s", rsp[pos:pos + 16384]).quiet()
    scene.want.add(1)
    scene.exchange(2).exchange(3)
    judge(scratch, [scene])


def test_other_protocols(scratch):
    smtp = Scene().say("s", "220 mail.example ESMTP\r\n").quiet()
    for c, s in (("EHLO a.example\r\n", "250 mail.example\r\n"), ("MAIL FROM:<a@a.example>\r\n", "250 ok\r\n"),
                 ("RCPT TO:<b@b.example>\r\n", "250 ok\r\n"), ("DATA\r\n", "354 go on\r\n"),
                 ("Subject: raw-needle\r\n\r\nhello\r\n.\r\n", "250 queued\r\n"), ("QUIT\r\n", "221 bye\r\n")):
        smtp.say("c", c).quiet().say("s", s).quiet()
    raw = Scene("ver 6").say("c", b"\x01raw-needle\x02" * 300).quiet().say("s", b"\x03raw-needle\x04").quiet()
    raw.steps.append("lost s 100")
    raw.say("s", b"more raw-needle").quiet()
    capture = forge_all(scratch, [smtp, raw])
    suricata = Suricata(scratch, rules=RULE_RAW).read(capture)
    smtps = suricata.events("smtp")
    assert [e["smtp"]["mail_from"] for e in smtps if "mail_from" in e["smtp"]] == ["<a@a.example>"]
    assert set(sids_by_port(suricata, 9000010)) == {smtp.port, raw.port}
    assert not [c for c in suricata.complaints() if "SURICATA STREAM" in c or "Decode" in c]
    assert raw.forged["incarnations"] == 2 and raw.forged["c_resync"] == raw.forged["s_resync"] == 0


def damaged(kind, side, chunked=False):
    """Transaction 1 of 8 loses bytes of @kind on @side; the client waits for each response."""
    scene = Scene()
    scene.exchange(0, post(0))
    req = post(1, 5000, chunks=700 if chunked else None)
    rsp = response(1, chunks=200 if chunked else None)
    data = req if side == "c" else rsp
    head = data.index(b"\r\n\r\n") + 4
    lost = {"body": (head + 50, head + 800), "header": (20, head - 10), "tail": (head + 100, len(data)),
            "begin": (0, head + 10), "whole": (0, len(data))}[kind]
    scene.say("c", req, lost if side in "cb" else None)
    if side == "b":
        scene.quiet().say("s", rsp, (0, len(rsp)))
    else:
        scene.quiet().say("s", rsp, lost if side == "s" else None)
    scene.may |= {1}
    for n in range(2, 8):
        scene.exchange(n, post(n))
    return scene


def test_losses_of_all_kinds(scratch):
    scenes = [damaged(kind, side, chunked) for kind in ("body", "header", "tail", "begin", "whole") for side in "cs"
              for chunked in (False, True)]
    scenes.append(damaged("whole", "b"))
    suricata = judge(scratch, scenes)
    for scene in scenes:
        assert scene.forged["breaks"] >= 1
    counts = sids_by_port(suricata, 9000002)
    assert all(counts[scene.port] >= 7 for scene in scenes)


def test_a_hole_over_a_message_border(scratch):
    """The end of one response and the begin of the next are lost; likewise of requests."""
    scenes = []
    for side in "cs":
        scene = Scene()
        scene.exchange(0)
        if side == "s":
            scene.say("c", request(1)).quiet().say("s", response(1)[:300]).quiet()
            scene.say("c", request(2)).quiet()
            scene.steps.append("lost s 900")
            scene.say("s", response(2)[60:]).quiet()
        else:
            scene.say("c", post(1)[:300]).quiet()
            scene.steps.append("lost c 400")
            scene.say("s", response(1)).quiet()
            scene.say("c", post(2)[150:]).quiet().say("s", response(2)).quiet()
        scene.may |= {1, 2}
        for n in range(3, 9):
            scene.exchange(n)
        scenes.append(scene)
    judge(scratch, scenes)


def test_losses_in_pipelined_bursts(scratch):
    """Three bursts are seen whole, then one response (or request) of a burst is lost, then more bursts."""
    scenes = []
    for victim in range(4):
        for side in "cs":
            for part in ("whole", "header", "body"):
                scene = Scene()
                for burst in range(8):
                    ns = list(range(burst * 4, burst * 4 + 4))
                    for side_now, make in (("c", post), ("s", response)):
                        for i, n in enumerate(ns):
                            data = make(n)
                            head = data.index(b"\r\n\r\n") + 4
                            lost = {"whole": (0, len(data)), "header": (10, head - 5), "body": (head + 3, head + 400)}
                            hit = (burst, i, side_now) == (3, victim, side)
                            scene.say(side_now, data, lost[part] if hit else None)
                    scene.quiet()
                    (scene.may if burst == 3 else scene.want).update(ns)
                scenes.append(scene)
    judge(scratch, scenes)
    for scene in scenes:
        assert scene.forged["breaks"] == 1


def test_everything_is_lost_for_a_while(scratch):
    """A stopped agent: several exchanges are missing in both directions, then it goes on."""
    scene = Scene()
    for n in range(5):
        scene.exchange(n)
    missing = range(5, 15)
    scene.steps += [f"lost c {sum(len(request(n)) for n in missing)}",
                    f"lost s {sum(len(response(n)) for n in missing)}"]
    for n in range(15, 25):
        scene.exchange(n)
    judge(scratch, [scene])


def test_large_bodies_with_the_stream_depth_raised(scratch):
    """5 MiB in one response and in one request."""
    scene = Scene()
    scene.exchange(0)
    for n, (req, rsp) in enumerate(((post(1, 5 << 20), response(1)), (request(2), response(2, b"z" * (5 << 20)))), 1):
        for side, data in (("c", req), ("s", rsp)):
            for pos in range(0, len(data), 16384):
                scene.say(side, data[pos:pos + 16384])
        scene.quiet()
        scene.length[2] = 5 << 20
        scene.may.add(n)
    scene.exchange(3)
    suricata = judge(scratch, [scene], deep=True)
    got = {e["http"]["url"]: (e["fileinfo"]["size"], e["fileinfo"]["state"]) for e in suricata.events("fileinfo")
           if e["dest_port"] == scene.port}
    assert got["/secret-uri/2"] == (5 << 20, "CLOSED")


def test_idle_for_a_quarter_of_an_hour(scratch):
    scene = Scene()
    scene.exchange(0)
    for _ in range(15):
        scene.steps.append("tick 100000")
    scene.exchange(1)
    judge(scratch, [scene])


@pytest.mark.skipif(not shutil.which("tshark"), reason="tshark is not installed")
def test_tshark_finds_valid_checksums_and_the_same_bytes(scratch):
    scene = Scene()
    for n in range(12):
        scene.exchange(n, post(n, 30000 if n == 5 else 100), response(n, chunks=300) if n % 2 else None)
    capture = forge_all(scratch, [scene])
    tshark = ["tshark", "-n", "-r", capture, "-o", "tcp.check_checksum:TRUE", "-o", "ip.check_checksum:TRUE"]
    bad = run([*tshark, "-Y", "tcp.checksum.status != 1 || ip.checksum.status != 1 || tcp.analysis.duplicate_ack || "
               "tcp.analysis.lost_segment || tcp.analysis.retransmission || tcp.analysis.ack_lost_segment"])
    assert bad.stdout == b""
    raw = run(["tshark", "-n", "-r", capture, "-q", "-z", "follow,tcp,raw,0"]).stdout.decode()
    got = {"c": b"", "s": b""}
    for line in raw.splitlines():
        if re.fullmatch(r"\t?[0-9a-f]+", line):
            got["s" if line.startswith("\t") else "c"] += bytes.fromhex(line.strip())
    assert got == scene.said
