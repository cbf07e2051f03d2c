# SPDX-License-Identifier: Apache-2.0
"""Real programs, most of which hide the socket from their TLS library: every connection is shown under its true
5-tuple, to the byte, whichever end is tapped; once, if both are.

The truth is tcpdump's and tshark's (wire.py). A tapped end is in the server's namespace, an untapped one in the
client's; so is each service twice."""
import os

import pytest

import capture
import net as network
from proc import environment, run, wait_for
from services import Apache, Asyncio, Haproxy, Postfix, Postgres, Service, Slapd, Vsftpd
from stage import FATES, Stage, wait_enough
from table import shows
from web import LIB, PYTHON, PythonServer, pattern

KIB = 1024
AIO = [PYTHON, os.path.join(LIB, "aio.py")]


@pytest.fixture
def stage(agentd, net, scratch, started):
    def start(*args, **options):
        return Stage(agentd, net, scratch, started, *args, **options)
    return start


@pytest.fixture
def upload(scratch):
    name = os.path.join(scratch, "upload")
    with open(name, "wb") as f:
        f.write(pattern(100 * KIB))
    return name


def put_files(server):
    for i in range(4):
        server.put(f"file{i}", pattern(50 * KIB * i + 1, seed=b"%d" % i))


@shows("curl", "OpenSSL")
@shows("Apache", "OpenSSL")
@pytest.mark.parametrize("http", ["--http1.1", "--http2"])
def test_curl_and_apache(stage, scratch, upload, http):
    """libcurl has a BIO method of its own, mod_ssl sits between filters; an HTTP/2 session is shown as it is."""
    s = stage()

    def client(do, host):
        do(["curl", "-sSfk", http, "-Z", f"https://{host}/file[0-3]", "-o", os.path.join(scratch, "file#1")])
        do(["curl", "-sSfk", http, *[a for i in (0, 3) for a in (f"https://{host}/file{i}", "-o", "/dev/null")]])
        done = do(["curl", "-sSfk", http, "-H", "Expect:", "--data-binary", "@" + upload, f"https://{host}/upload"])
        assert done.stdout.split() == [str(100 * KIB).encode()]
    s.all_ways(Apache, client, fill=put_files)
    truth = s.check(9)
    first = b"GET /file" if http == "--http1.1" else b"PRI * HTTP/2.0"
    assert any(sides[0].startswith(first) for sides in truth.values())


@shows("Python asyncio", "OpenSSL")
def test_asyncio(stage):
    """Memory BIOs: the TLS library never sees a socket, on neither side."""
    s = stage()
    s.all_ways(Asyncio, lambda do, host: do([*AIO, "client", "--host", host, "--count", "5"]))
    s.check(15)


@shows("HAProxy", "OpenSSL")
def test_haproxy_front_and_back(stage):
    """One process is the server of one session and the client of the next; it changes root and user."""
    s = stage()
    plain = s.service(Asyncio, False, port=8443, keys=True)
    tapped = s.service(Asyncio, True, port=8443, keys=True)
    s.service(Haproxy, True, backend=f"{network.CLIENT4}:8443")
    s.service(Haproxy, False, backend="127.0.0.1:8443")
    s.service(Haproxy, True, port=444, backend=f"{network.SERVER4}:8443")
    for tap, host, port, token in ((False, network.SERVER4, 443, "proxy"), (True, network.CLIENT4, 443, "client"),
                                   (True, network.SERVER4, 444, "all")):
        s.client(tap)([*AIO, "client", "--host", host, "--port", port, "--count", "4", "--token", token])
    assert len(plain.said()) >= 8 and len(tapped.said()) == 4
    s.check(20)


@shows("wget", "GnuTLS")
def test_wget(stage, scratch):
    s = stage()
    out = os.path.join(scratch, "out")

    def client(do, host):
        do(["wget", "-q", "--no-check-certificate", "-O", out, *[f"https://{host}/file{i}" for i in (1, 3, 0)]])
        with open(out, "rb") as f:
            assert f.read() == b"".join(pattern(50 * KIB * i + 1, seed=b"%d" % i) for i in (1, 3, 0))
    s.all_ways(Apache, client, fill=put_files)
    s.check(3)


class GnutlsServ(Service):
    """It says what it is told."""

    def prepare(self):
        return ["gnutls-serv", "--echo", "--quiet", "-p", self.port, "--x509certfile", self.cert, "--x509keyfile", self.key]

    def stop(self):
        self.daemon.kill()


@shows("gnutls-cli", "GnuTLS")
@shows("gnutls-serv", "GnuTLS")
def test_gnutls_cli_and_serv(stage, scratch):
    s = stage()
    said = os.path.join(scratch, "said")
    with open(said, "wb") as f:
        f.write(b"".join(b"line %d\n" % i for i in range(2000)))

    def client(do, host):
        for version in ("1.2", "1.3"):
            done = do(["bash", "-c", f"(cat {said}; sleep 2) | exec gnutls-cli --no-ca-verification --priority "
                       f"NORMAL:-VERS-ALL:+VERS-TLS{version} {host}"])
            assert b"line 1999\n" in done.stdout
    s.all_ways(GnutlsServ, client)
    s.check(6)


@shows("libcurl-gnutls", "GnuTLS")
@pytest.mark.parametrize("http", ["1", "2"])
def test_libcurl_gnutls(http, stage):
    s = stage()

    def client(do, host):
        got = do([PYTHON, os.path.join(LIB, "libcurl.py"), "gnutls", http, *[f"https://{host}/file{i}" for i in (1, 3)]])
        assert got.stdout == b"".join(pattern(50 * KIB * i + 1, seed=b"%d" % i) for i in (1, 3))
    s.all_ways(Apache, client, fill=put_files)
    truth = s.check(3)
    assert all(sides[0].startswith(b"GET /file1" if http == "1" else b"PRI * HTTP/2.0") for sides in truth.values())


def git_repository(server):
    """A repository in @server's folder, with one file that does not compress."""
    bare, work = server.path("git/repo.git"), server.path("work")
    who = ["-c", "user.name=t", "-c", "user.email=t@example", "-c", "init.defaultBranch=main"]
    run(["git", "init", "-q", work])
    with open(os.path.join(work, "file"), "wb") as f:
        f.write(pattern(200 * KIB))
    run(["git", "-C", work, *who, "add", "file"])
    run(["git", "-C", work, *who, "commit", "-qm", "file"])
    run(["git", "clone", "-q", "--bare", work, bare])


@shows("git", "GnuTLS")
def test_git_over_https(stage, scratch):
    """libcurl with GnuTLS, which gets push and pull functions instead of a socket."""
    s = stage()

    def client(do, host):
        target = os.path.join(scratch, "clone")
        do(["sh", "-c", "rm -rf \"$2\" && exec git -c http.sslVerify=false clone -q \"$1\" \"$2\"", "-",
            f"https://{host}/git/repo.git", target])
        with open(os.path.join(target, "file"), "rb") as f:
            assert f.read() == pattern(200 * KIB)
    s.all_ways(Apache, client, fill=git_repository)
    s.check(3)


@shows("ldapsearch", "GnuTLS")
@shows("slapd", "GnuTLS")
def test_ldap(stage):
    """GnuTLS with push and pull functions on both sides; slapd's threads take turns; StartTLS begins in mid-flow."""
    s = stage()

    def client(do, host):
        for way in (["-H", f"ldaps://{host}"], ["-H", f"ldap://{host}", "-ZZ"]):
            done = do(["env", "LDAPTLS_REQCERT=never", "ldapsearch", "-x", "-LLL", *way, "-b", "dc=example",
                       "-D", "cn=admin,dc=example", "-w", "secret"])
            assert done.stdout.count(b"objectClass: person") == 300
    s.all_ways(Slapd, client)
    s.check(6)


RUBY = """
require 'net/http'
http = Net::HTTP.new(ARGV[0], 443)
http.use_ssl = true
http.verify_mode = OpenSSL::SSL::VERIFY_NONE
http.start do |h|
  2.times { |i| puts h.get("/file#{i + 1}").body.bytesize }
end
"""
PERL_SOCKET = """
use IO::Socket::SSL;
my $s = IO::Socket::SSL->new(PeerHost => $ARGV[0], PeerPort => 443, SSL_verify_mode => SSL_VERIFY_NONE)
	or die $SSL_ERROR;
print $s "GET /file1 HTTP/1.0\\r\\n\\r\\n";
local $/;
print length((split /\\r\\n\\r\\n/, <$s>, 2)[1]), "\\n";
"""
PERL_LWP = """
use LWP::UserAgent;
my $u = LWP::UserAgent->new(keep_alive => 1, ssl_opts => {verify_hostname => 0, SSL_verify_mode => 0});
print length($u->get("https://$ARGV[0]/file$_")->content), "\\n" for 1, 2;
"""


@shows("Ruby Net::HTTP", "OpenSSL")
@shows("Perl IO::Socket::SSL", "OpenSSL")
@shows("Perl LWP", "OpenSSL")
def test_ruby_and_perl(stage):
    s = stage()

    def client(do, host):
        sizes = [str(50 * KIB * i + 1).encode() for i in (1, 2)]
        assert do(["ruby", "-e", RUBY, host]).stdout.split() == sizes
        assert do(["perl", "-e", PERL_SOCKET, host]).stdout.split() == sizes[:1]
        assert do(["perl", "-e", PERL_LWP, host]).stdout.split() == sizes
    s.all_ways(Apache, client, fill=put_files)
    s.check(9)


@shows("PostgreSQL", "OpenSSL")
@shows("psql", "OpenSSL")
def test_postgres(stage):
    """TLS begins after PostgreSQL's own question; libssl and libgnutls are in one process."""
    s = stage()

    def client(do, host):
        done = do(["psql", f"host={host} user=postgres dbname=postgres sslmode=require", "-qAt", "-c",
                   "select ssl from pg_stat_ssl where pid = pg_backend_pid()", "-c",
                   "select repeat(i::text, 100) from generate_series(1, 1000) i"])
        assert done.stdout.startswith(b"t\n") and done.stdout.count(b"\n") == 1001
    s.all_ways(Postgres, client)
    s.check(3)


SMTP = """
import smtplib, ssl, sys
context = ssl._create_unverified_context()
with smtplib.SMTP(sys.argv[1], 25, timeout=60) as smtp:
    smtp.starttls(context=context)
    for i in range(2):
        smtp.sendmail('a@example.com', ['b@example.com'], 'Subject: test\\r\\n\\r\\n' + 'line\\r\\n' * 5000)
"""


@shows("Postfix", "OpenSSL")
@shows("Python smtplib", "OpenSSL")
def test_postfix_starttls(stage):
    """smtpd closes every descriptor it does not know and uses other sockets within the handshake."""
    s = stage()
    s.all_ways(Postfix, lambda do, host: do([PYTHON, "-c", SMTP, host]))
    truth = s.check(3)
    for sides in truth.values():
        assert sides[0].lower().startswith(b"ehlo ") and sides[0].count(b"line\r\n") == 10000


@shows("vsftpd", "OpenSSL")
@shows("lftp", "GnuTLS")
def test_vsftpd(stage, scratch, upload):
    """Its children come from clone(2), have descriptor 0 as their TLS socket and another root."""
    s = stage()

    def fill(server):
        with open(server.path("ftp/file"), "wb") as f:
            f.write(pattern(100 * KIB))

    def client(do, host):
        target = os.path.join(scratch, "got")
        do(["sh", "-c", "exec lftp -c \"set ssl:verify-certificate no; set ftp:ssl-allow-anonymous yes;"
            "set xfer:clobber yes; set ftp:ssl-force yes; set ftp:ssl-protect-data yes; set net:max-retries 1;"
            "set cmd:fail-exit yes;"
            f"open ftp://{host}; get file -o {target}; put {upload} -o upload/$$; cls; exit\""])
        with open(target, "rb") as f:
            assert f.read() == pattern(100 * KIB)
    s.all_ways(Vsftpd, client, fill=fill)
    truth = s.check(12)
    assert sum(sides[0] == pattern(100 * KIB) for sides in truth.values()) == 3


# -- many at once

def run_curls(stage, tapped, host, n, at_once):
    """@n curls. Returns {own port: token}."""
    script = ("seq $2 | xargs -P $3 -I @ curl -sSfk --http1.1 -H 'X-Token: tok-@' -o /dev/null "
              "-w '%{local_port} tok-@\\n' https://$1/file1")
    ns = stage.net.server if tapped else stage.net.client
    done = run(["bash", "-c", script, "-", host, n, at_once], ns=ns, env=stage.agent.env() if tapped else environment())
    lines = done.stdout.decode().splitlines()
    tokens = dict(line.split() for line in lines)
    assert len(lines) == n and len(tokens) == n, f"{len(lines)} answers, on {len(tokens)} ports"
    return tokens


def in_headers(token):
    return f"\r\nX-Token: {token}\r\n", f"\r\nX-Token: {token}\r\n"


def check_tokens(stage, tokens, server, streams=in_headers, at_least=None):
    """@tokens  {(client, port): token}: these flows to @server are there, each with its own token in both directions.
    @at_least   so many of them, where there may be clients that are not tapped; nothing else may be there"""
    flows = capture.flows(stage.path)
    wrong, missing = {}, []
    for client, token in tokens.items():
        flow = flows.get((client, server))
        needles = [text.encode() for text in streams(token)]
        if not flow:
            missing.append(client)
        elif any(needle not in flow.stream(side) for side, needle in enumerate(needles)):
            wrong[client] = f"{token} is not in {flow.stream(0)!r} {flow.stream(1)[:500]!r}"
    others = {key[0] for key in flows if key[1] == server} - set(tokens)
    assert not wrong, f"{len(wrong)} of {len(tokens)} wrong: {list(wrong.items())[:5]}"
    assert not others, f"flows that never were: {others}"
    assert len(tokens) - len(missing) >= (at_least or len(tokens)), f"{len(missing)} missing: {missing}"


def settle(stage, bytes_at_least):
    """Let everything arrive, and end the agent."""
    counters = wait_enough(stage.agent, bytes_at_least)
    stage.agent.check_balance()
    status = stage.agent.status()
    stage.agent.stop()
    lost = {k: counters[k] for k in FATES if counters.get(k)}
    assert not lost, f"{lost}: {status}"
    return counters


@pytest.mark.parametrize("end", ["server", "client", "both"])
def test_200_curls_to_apache(stage, end):
    s = stage()
    server = s.service(Apache, end != "client")
    put_files(server)
    host = network.CLIENT4 if end == "client" else network.SERVER4
    who = network.CLIENT4 if end == "server" else network.SERVER4
    # Who cannot attach within 20 ms is not tapped, and that happens to some of many on a busy machine. settle() sees
    # that of those that are tapped nothing is lost.
    tokens = run_curls(s, end != "server", host, 200, 200 if end == "server" else 10)
    wait_for(lambda: len(server.said()) == 200)
    assert server.said() == tokens
    counters = settle(s, 200 * 50 * KIB)
    at_least = 150 if end == "client" else 200
    assert bool(counters["duplicate"]) == (end == "both")
    check_tokens(s, {(who, int(port)): token for port, token in tokens.items()}, (host, 447), at_least=at_least)


@pytest.mark.parametrize("end", ["server", "client", "both"])
def test_200_asyncio_clients_to_haproxy(stage, end):
    """haproxy in front of a server that is not tapped: two connections for each client, when haproxy is tapped."""
    s = stage()
    backend = s.service(Asyncio, False, port=8443)
    s.service(Haproxy, end != "client", backend=f"{network.CLIENT4}:8443")
    host = network.CLIENT4 if end == "client" else network.SERVER4
    who = network.CLIENT4 if end == "server" else network.SERVER4
    done = s.client(end != "server")([*AIO, "client", "--host", host, "--count", "200"])
    tokens = dict(line.split() for line in done.stdout.decode().splitlines())
    assert len(tokens) == 200 and sorted(backend.said().values()) == sorted(tokens.values())
    settle(s, 200 * 1400 * (1 if end == "client" else 2))

    def streams(token):
        return f"/{token} ", f"\n{token}\n"
    check_tokens(s, {(who, int(port)): token for port, token in tokens.items()}, (host, 447), streams)
    if end != "client":
        back = {(network.SERVER4, int(port)): token for port, token in backend.said().items()}
        check_tokens(s, back, (network.CLIENT4, 8447), streams)


# -- a session inside a session

def test_tls_inside_tls(stage, scratch):
    """curl through an HTTPS proxy: the inner session has a flow of its own, beside the outer one."""
    s = stage()
    proxy = s.service(Asyncio, False, port=3128, what="proxy")
    server = s.service(PythonServer, False)
    done = s.client(True)(["curl", "-sfk", "--http1.1", "--proxy-insecure",
                           "--proxy", f"https://{network.CLIENT4}:3128", "-w", "%{local_port}\n",
                           "-o", "/dev/null", f"https://{network.CLIENT4}/bytes/100000",
                           "-o", os.path.join(scratch, "two"), f"https://{network.CLIENT4}/bytes/5"])
    port = done.stdout.split()[0].decode()
    inner = server.recorded(int(proxy.said()[port]))
    assert inner[0].count(b"GET /bytes/") == 2 and len(inner[1]) > 100005
    settle(s, len(inner[0] + inner[1]))
    flows = capture.flows(s.path)
    client = (network.SERVER4, int(port))
    assert set(flows) == {(client, (network.CLIENT4, 3132)), (client, (network.CLIENT4, 3136))}
    flow = flows[(client, (network.CLIENT4, 3136))]
    assert (flow.stream(0), flow.stream(1)) == inner
    outer = flows[(client, (network.CLIENT4, 3132))]
    assert outer.stream(0).startswith(b"CONNECT 192.0.2.1:443 HTTP/1.1\r\n")
    assert outer.stream(1).startswith(b"HTTP/1.1 200 ")
    assert b"GET /bytes" not in outer.stream(0) and inner[1][200:300] not in outer.stream(1)
