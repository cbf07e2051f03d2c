# SPDX-License-Identifier: Apache-2.0
"""Servers of the system tests beside nginx: each runs from files in its scratch folder, in a network namespace, and
knows nothing of the services of this host."""
import os
import shutil

from proc import Daemon, environment, run
from web import LIB, PYTHON, certificate


class Service:
    """What they have in common. @env: with libtlstap, or None for a server that is not tapped."""

    stop_signal = 15

    def __init__(self, folder, ns, env=None, port=443, **options):
        self.folder, self.ns, self.port, self.options = folder, ns, port, options
        self.env = env or environment()
        os.makedirs(folder, exist_ok=True)
        os.chmod(folder, 0o755)
        self.cert, self.key = certificate(folder)
        self.command = self.prepare()
        self.daemon = None
        self.start()

    def start(self):
        name = type(self).__name__.lower()
        self.daemon = Daemon(self.command, os.path.join(self.folder, name + ".log"), self.ns, env=self.env, name=name,
                             stop_signal=self.stop_signal)
        self.daemon.wait_for(self.ready)

    def prepare(self):
        """Write the configuration. Returns the command that runs it in the foreground."""
        raise NotImplementedError

    def ready(self):
        listening = run(["ss", "-Hltn"], ns=self.ns).stdout.decode().split("\n")
        return any(f":{self.port} " in line for line in listening)

    def path(self, *names):
        return os.path.join(self.folder, *names)

    def write(self, name, text, mode=0o644):
        with open(self.path(name), "w", encoding="utf-8") as f:
            f.write(text)
        os.chmod(self.path(name), mode)
        return self.path(name)

    def folders(self, *names, user=None):
        for name in names:
            os.makedirs(self.path(name), exist_ok=True)
            if user:
                shutil.chown(self.path(name), user)
        return self.path(names[0])

    def stop(self):
        return self.daemon.stop()


class Apache(Service):
    """The event MPM, HTTP/1.1 and HTTP/2; files below www/, /upload counts what it is sent, /git/ is git's. What a
    request says in X-Token the answer says too."""

    stop_signal = 28  # SIGWINCH: let the connections end

    def prepare(self):
        self.folders("www", "cgi", "git")
        self.write("cgi/upload", "#!/bin/sh\nprintf 'Content-Type: text/plain\\r\\n\\r\\n'\nexec wc -c\n", 0o755)
        modules = ("mpm_event", "ssl", "http2", "authz_core", "alias", "env", "cgid", "mime", "socache_shmcb",
                   "setenvif", "headers")
        load = "".join(f"LoadModule {m}_module /usr/lib/apache2/modules/mod_{m}.so\n" for m in modules)
        conf = self.write("apache.conf", f"""{load}
ServerRoot {self.folder}
DefaultRuntimeDir {self.folder}
PidFile {self.path("apache.pid")}
ScriptSock {self.path("cgid.sock")}
ErrorLog {self.path("apache-error.log")}
LogFormat "%{{remote}}p %{{X-Token}}i" tokens
CustomLog {self.path("tokens")} tokens
ServerName server.example
TypesConfig /etc/mime.types
User www-data
Group www-data
StartServers 1
ServerLimit 1
ThreadsPerChild 100
ThreadLimit 100
MaxRequestWorkers 100
AsyncRequestWorkerFactor 4
GracefulShutdownTimeout 5
Listen {self.port}
DocumentRoot {self.path("www")}
<Directory {self.folder}>
	Require all granted
	Options +ExecCGI
</Directory>
<Directory /usr/lib/git-core>
	Require all granted
	Options +ExecCGI
</Directory>
SSLEngine on
SSLCertificateFile {self.cert}
SSLCertificateKeyFile {self.key}
SSLSessionCache shmcb:{self.path("sessions")}(512000)
Protocols h2 http/1.1
Header echo ^X-Token$
ScriptAlias /upload {self.path("cgi/upload")}
ScriptAlias /git/ /usr/lib/git-core/git-http-backend/
SetEnv GIT_PROJECT_ROOT {self.path("git")}
SetEnv GIT_HTTP_EXPORT_ALL 1
SetEnv GIT_CONFIG_COUNT 1
SetEnv GIT_CONFIG_KEY_0 safe.directory
SetEnv GIT_CONFIG_VALUE_0 *
""")
        return ["apache2", "-DFOREGROUND", "-f", conf]

    def put(self, name, content):
        with open(self.path("www", name), "wb") as f:
            f.write(content)

    def said(self):
        """{a client's port: the token it sent}"""
        with open(self.path("tokens"), encoding="ascii") as f:
            return dict(line.split() for line in f)


class Haproxy(Service):
    """TLS in front and, to backend=ADDRESS:PORT, at the back. With proxy=1 or 2 it knows nothing of TLS and puts a
    PROXY header of that version before what it passes on."""

    def prepare(self):
        pem = self.path("haproxy.pem")
        with open(pem, "wb") as out:
            for name in (self.cert, self.key):
                with open(name, "rb") as f:
                    out.write(f.read())
        chroot = self.folders("empty")
        mode = "tcp" if "proxy" in self.options else "http"
        bind = "" if mode == "tcp" else f"ssl crt {pem}"
        server = {0: "ssl verify none", 1: "send-proxy", 2: "send-proxy-v2"}[self.options.get("proxy", 0)]
        conf = self.write("haproxy.conf", f"""
global
	maxconn 2000
	nbthread 2
	user haproxy
	group haproxy
	chroot {chroot}
defaults
	mode {mode}
	timeout connect 20s
	timeout client 60s
	timeout server 60s
	{"http-reuse never" if mode == "http" else ""}
frontend front
	bind :::{self.port} v4v6 {bind}
	default_backend back
backend back
	server one {self.options["backend"]} {server}
""")
        return ["haproxy", "-db", "-f", conf]


class Asyncio(Service):
    def prepare(self):
        return [PYTHON, os.path.join(LIB, "aio.py"), self.options.get("what", "server"), "--cert", self.cert, "--key",
                self.key, "--port", self.port, "--bind", self.options.get("bind", "0.0.0.0,::")]

    def ready(self):
        return b"ready\n" in self.daemon.log()

    def said(self):
        """{first word: second word} of the lines it printed"""
        return dict(line.split() for line in self.daemon.log().decode().splitlines() if line.count(" ") == 1)

    def stop(self):
        self.daemon.kill()


class Slapd(Service):
    """ldap:// with StartTLS, ldaps://, and 300 people."""


    def __init__(self, folder, ns, env=None):
        super().__init__(folder, ns, env, port=636)

    def prepare(self):
        data = self.folders("ldap")
        conf = self.write("slapd.conf", f"""
modulepath /usr/lib/ldap
moduleload back_mdb
include /etc/ldap/schema/core.schema
pidfile {self.path("slapd.pid")}
TLSCertificateFile {self.cert}
TLSCertificateKeyFile {self.key}
database mdb
suffix "dc=example"
rootdn "cn=admin,dc=example"
rootpw secret
directory {data}
""")
        people = ["dn: dc=example\nobjectClass: dcObject\nobjectClass: organization\no: x\ndc: example\n"]
        people += [f"dn: cn=p{i},dc=example\nobjectClass: person\ncn: p{i}\nsn: {'x' * (i + 1)}\n" for i in range(300)]
        ldif = self.write("people.ldif", "\n".join(people))
        run(["/usr/sbin/slapadd", "-q", "-f", conf, "-l", ldif])
        return ["/usr/sbin/slapd", "-f", conf, "-h", "ldap:/// ldaps:///", "-d", "0"]


class Postgres(Service):
    stop_signal = 2  # SIGINT: end the connections

    def __init__(self, folder, ns, env=None):
        super().__init__(folder, ns, env, port=5432)

    def prepare(self):
        folder = "/usr/lib/postgresql"
        newest = max(os.listdir(folder), key=lambda v: float(v))  # pylint: disable=unnecessary-lambda
        programs = os.path.join(folder, newest, "bin")
        key = self.path("postgres.key")
        shutil.copy(self.key, key)
        os.chmod(key, 0o600)
        shutil.chown(key, "postgres")
        data = self.folders("data", user="postgres")
        run(["runuser", "-u", "postgres", "--", f"{programs}/initdb", "-D", data, "-A", "trust", "-N", "--locale=C",
             "-E", "UTF8"], cwd="/")
        with open(os.path.join(data, "pg_hba.conf"), "a", encoding="ascii") as f:
            f.write("hostssl all all all trust\n")
        return ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups", f"{programs}/postgres", "-D", data,
                "-c", "listen_addresses=*", "-c", "ssl=on", "-c", f"ssl_cert_file={self.cert}",
                "-c", f"ssl_key_file={key}", "-c", f"unix_socket_directories={data}", "-c", "fsync=off"]

    def ready(self):
        return b"ready to accept connections" in self.daemon.log()


class Postfix(Service):
    """smtpd with STARTTLS; all mail is thrown away. It clears its children's environment: only what
    import_environment names gets through."""

    def __init__(self, folder, ns, env=None):
        super().__init__(folder, ns, env, port=25)

    def prepare(self):
        self.folders("conf", "spool", "spool/pid")
        self.folders("lib", user="postfix")
        imported = " ".join(f"{{ {name} = {self.env[name]} }}" for name in ("LD_PRELOAD", "TLSTAP_SOCKET")
                            if name in self.env)
        self.write("conf/main.cf", f"""
compatibility_level = 3.6
queue_directory = {self.path("spool")}
data_directory = {self.path("lib")}
command_directory = /usr/sbin
daemon_directory = /usr/lib/postfix/sbin
mail_owner = postfix
setgid_group = postdrop
import_environment = MAIL_CONFIG MAIL_DEBUG MAIL_LOGTAG TZ LANG=C POSTLOG_SERVICE POSTLOG_HOSTNAME {imported}
inet_interfaces = all
inet_protocols = all
myhostname = server.example
mydestination =
mynetworks = 0.0.0.0/0 [::]/0
default_transport = discard
maillog_file_prefixes = {self.folder}
maillog_file = {self.path("postfix-mail.log")}
alias_maps =
alias_database =
smtpd_tls_cert_file = {self.cert}
smtpd_tls_key_file = {self.key}
smtpd_tls_security_level = may
smtpd_peername_lookup = no
""")
        self.write("conf/master.cf", """
smtp      inet  n       -       n       -       -       smtpd
pickup    unix  n       -       n       60      1       pickup
cleanup   unix  n       -       n       -       0       cleanup
qmgr      unix  n       -       n       300     1       qmgr
tlsmgr    unix  -       -       n       1000?   1       tlsmgr
rewrite   unix  -       -       n       -       -       trivial-rewrite
bounce    unix  -       -       n       -       0       bounce
defer     unix  -       -       n       -       0       bounce
trace     unix  -       -       n       -       0       bounce
proxymap  unix  -       -       n       -       -       proxymap
error     unix  -       -       n       -       -       error
discard   unix  -       -       n       -       -       discard
anvil     unix  -       -       n       -       1       anvil
postlog   unix-dgram n  -       n       -       1       postlogd
""")
        return ["postfix", "-c", self.path("conf"), "start-fg"]

    def stop(self):
        # "start-fg" is a script that waits for the master, which is in a session of its own.
        run(["postfix", "-c", self.path("conf"), "stop"], ns=self.ns, check=False)
        return self.daemon.stop()


class Vsftpd(Service):
    """Explicit TLS for control and data connections; anonymous people read and write. Its own filter of system calls is
    off: it ends Debian 12's vsftpd at the first handshake, tapped or not."""

    def __init__(self, folder, ns, env=None):
        super().__init__(folder, ns, env, port=21)

    def prepare(self):
        self.folders("empty", "ftp")
        self.folders("ftp/upload", user="ftp")
        conf = self.write("vsftpd.conf", f"""listen=YES
background=NO
anonymous_enable=YES
local_enable=NO
write_enable=YES
anon_upload_enable=YES
no_anon_password=YES
anon_root={self.path("ftp")}
secure_chroot_dir={self.path("empty")}
ssl_enable=YES
allow_anon_ssl=YES
force_anon_data_ssl=YES
force_anon_logins_ssl=YES
require_ssl_reuse=NO
pasv_min_port=61000
pasv_max_port=61999
rsa_cert_file={self.cert}
rsa_private_key_file={self.key}
seccomp_sandbox=NO
isolate_network=NO
xferlog_enable=NO
""")
        return ["vsftpd", conf]
