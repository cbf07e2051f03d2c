# SPDX-License-Identifier: Apache-2.0
"""Real programs, most of which hide the socket from their TLS library: every connection is shown under its true
5-tuple, to the byte, whichever end is tapped; once, if both are.

The truth is tcpdump's and tshark's (wire.py). A tapped end is in the server's namespace, an untapped one in the
client's; so is each service twice."""
import os

import pytest

import net as network
from proc import environment, run
from services import Apache, Asyncio, Haproxy, Postfix, Postgres, Slapd, Vsftpd
from stage import Stage
from web import LIB, PYTHON, pattern

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


@pytest.mark.parametrize("http", ["--http1.1", "--http2"])
def test_curl_and_apache(stage, scratch, upload, http):
    """libcurl has a BIO method of its own, mod_ssl sits between filters; an HTTP/2 session is shown as it is."""
    s = stage()

    def client(do, host):
        do(["curl", "-sSfk", http, "-Z", f"https://{host}/file[0-3]", "-o", os.path.join(scratch, "file#1")])
        do(["curl", "-sSfk", http, f"https://{host}/file0", f"https://{host}/file3", "-o", "/dev/null", "-o", "/dev/null"])
        done = do(["curl", "-sSfk", http, "-H", "Expect:", "--data-binary", "@" + upload, f"https://{host}/upload"])
        assert done.stdout.split() == [str(100 * KIB).encode()]
    s.all_ways(Apache, client, fill=put_files)
    truth = s.check(9)
    assert any(sides[0].startswith(b"GET /file" if http == "--http1.1" else b"PRI * HTTP/2.0") for sides in truth.values())


def test_asyncio(stage):
    """Memory BIOs: the TLS library never sees a socket, on neither side."""
    s = stage()
    s.all_ways(Asyncio, lambda do, host: do([*AIO, "client", "--host", host, "--count", "5"]))
    s.check(15)


def test_haproxy_front_and_back(stage):
    """One process is the server of one session and the client of the next; it changes root and user."""
    s = stage()
    plain = s.service(Asyncio, False, port=8443, keys=True)
    tapped = s.service(Asyncio, True, port=8443, keys=True)
    s.service(Haproxy, True, backend=f"{network.CLIENT4}:8443")
    s.service(Haproxy, False, backend=f"{network.SERVER4}:8443")
    s.service(Haproxy, True, port=444, backend=f"{network.SERVER4}:8443")
    for tap, host, port, token in ((False, network.SERVER4, 443, "proxy"), (True, network.CLIENT4, 443, "ends"),
                                   (True, network.SERVER4, 444, "all")):
        s.client(tap)([*AIO, "client", "--host", host, "--port", port, "--count", "4", "--token", token])
    assert len(plain.said()) == 4 and len(tapped.said()) == 8
    s.check(24)


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


def test_git_over_https(stage, scratch):
    """libcurl with GnuTLS, which gets push and pull functions instead of a socket."""
    s = stage()

    def client(do, host):
        target = os.path.join(scratch, f"clone{len(os.listdir(scratch))}")
        do(["git", "-c", "http.sslVerify=false", "clone", "-q", f"https://{host}/git/repo.git", target])
        with open(os.path.join(target, "file"), "rb") as f:
            assert f.read() == pattern(200 * KIB)
    s.all_ways(Apache, client, fill=git_repository)
    s.check(3)


def test_ldap(stage):
    """GnuTLS with push and pull functions on both sides; slapd's threads take turns; StartTLS in the middle of a flow."""
    s = stage()

    def client(do, host):
        for way in (["-H", f"ldaps://{host}"], ["-H", f"ldap://{host}", "-ZZ"]):
            done = do(["ldapsearch", "-x", "-LLL", *way, "-b", "dc=example", "-D", "cn=admin,dc=example", "-w", "secret"])
            assert done.stdout.count(b"objectClass: person") == 300

    def run_with_no_questions(tapped):
        return s.client(tapped, LDAPTLS_REQCERT="never")
    s.service(Slapd, True)
    s.service(Slapd, False)
    for tapped, host in ((False, network.SERVER4), (True, network.CLIENT4), (True, network.SERVER4)):
        client(run_with_no_questions(tapped), host)
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
my $s = IO::Socket::SSL->new(PeerHost => $ARGV[0], PeerPort => 443, SSL_verify_mode => SSL_VERIFY_NONE) or die $SSL_ERROR;
print $s "GET /file1 HTTP/1.0\\r\\n\\r\\n";
local $/;
print length((split /\\r\\n\\r\\n/, <$s>, 2)[1]), "\\n";
"""
PERL_LWP = """
use LWP::UserAgent;
my $u = LWP::UserAgent->new(keep_alive => 1, ssl_opts => {verify_hostname => 0, SSL_verify_mode => 0});
print length($u->get("https://$ARGV[0]/file$_")->content), "\\n" for 1, 2;
"""


def test_ruby_and_perl(stage):
    s = stage()

    def client(do, host):
        sizes = [str(50 * KIB * i + 1).encode() for i in (1, 2)]
        assert do(["ruby", "-e", RUBY, host]).stdout.split() == sizes
        assert do(["perl", "-e", PERL_SOCKET, host]).stdout.split() == sizes[:1]
        assert do(["perl", "-e", PERL_LWP, host]).stdout.split() == sizes
    s.all_ways(Apache, client, fill=put_files)
    s.check(9)


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
        smtp.sendmail('a@example.com', ['b@example.com'], 'Subject: test\\r\\n\\r\\n' + 'x' * 70 + '\\r\\n' + 'line\\r\\n' * 5000)
"""


def test_postfix_starttls(stage):
    """smtpd closes every descriptor it does not know and uses other sockets within the handshake."""
    s = stage()
    s.all_ways(Postfix, lambda do, host: do([PYTHON, "-c", SMTP, host]))
    truth = s.check(3)
    assert all(sides[0].lower().startswith(b"ehlo ") and sides[0].count(b"line\r\n") == 10000 for sides in truth.values())


def test_vsftpd(stage, scratch, upload):
    """Its children come from clone(2), have descriptor 0 as their TLS socket and another root."""
    s = stage()

    def fill(server):
        with open(server.path("ftp/file"), "wb") as f:
            f.write(pattern(100 * KIB))

    def client(do, host):
        target = os.path.join(scratch, f"got{len(os.listdir(scratch))}")
        do(["lftp", "-c", "set ssl:verify-certificate no; set ftp:ssl-allow-anonymous yes; set ftp:ssl-force yes; set ftp:ssl-protect-data yes; "
            "set net:max-retries 1; set cmd:fail-exit yes;"
            f"open ftp://{host}; get file -o {target}; put {upload} -o upload/{os.path.basename(target)}; cls; exit"])
        with open(target, "rb") as f:
            assert f.read() == pattern(100 * KIB)
    s.all_ways(Vsftpd, client, fill=fill)
    truth = s.check(12)
    assert sum(sides[0] == pattern(100 * KIB) for sides in truth.values()) == 3
