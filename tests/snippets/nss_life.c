/* SPDX-License-Identifier: Apache-2.0 */
/* Three connections of NSS, one after the other: what programs put on top of a TLS layer, and how they let go of it.
 * Started like nss_calls.
 * ARG: a layer on top that calls NSPR's functions for the one below, in these methods only: reads (read, recv), writes
 *      (write, not writev), buffers (both; writes when it has enough, or is to read); or
 *      how the server closes: transmits (a last file), methods (not by PR_Close()), pops (the TLS layer, and goes on
 *      without); or duplex (two threads on one descriptor), imported (a socket that NSPR did not make) */
#include <netinet/in.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <nspr.h>
#include <nss.h>
#include <pk11pub.h>
#include <private/pprio.h>
#include <ssl.h>
#include <sslproto.h>

#define CONNECTIONS 3
#define ENOUGH 300 /* for the layer that buffers */
#define MUCH 2000000

static bool server;
static const char *mode;
static PRNetAddr address;
static PRFileDesc *model, *listener;
static FILE *tx, *rx;
static int connections, rounds;

static bool is(const char *name)
{
	return strcmp(mode, name) == 0;
}

static void must(bool ok, const char *what)
{
	if (ok)
		return;
	fprintf(stderr, "%s: %s: %d\n", server ? "server" : "client", what, PR_GetError());
	_exit(9);
}

static FILE *open_save(const char *kind)
{
	const char *dir = getenv("SNIP_SAVE");
	char path[512];

	snprintf(path, sizeof(path), "%s/%s.%d.%d.%s", dir ? dir : "", server ? "server" : "client", (int)getpid(),
		 connections, kind);
	return dir ? fopen(path, "we") : NULL;
}

static void save(FILE *f, const void *buf, int n)
{
	if (f && n > 0)
		fwrite(buf, 1, (size_t)n, f);
}

/* --- layers ---------------------------------------------------------------------------------------- */

static char kept[ENOUGH + 500];
static int kept_n;

static PRInt32 flush(PRFileDesc *fd)
{
	PRInt32 r = kept_n ? PR_Write(fd->lower, kept, kept_n) : 0;

	save(tx, kept, r);
	kept_n -= r;
	return r;
}

static PRInt32 pass_write(PRFileDesc *fd, const void *buf, PRInt32 n)
{
	PRInt32 r;

	if (is("buffers")) {
		must(n <= 500, "too much");
		memcpy(kept + kept_n, buf, (size_t)n);
		kept_n += n;
		return kept_n <= ENOUGH || flush(fd) > 0 ? n : -1;
	}
	r = PR_Write(fd->lower, buf, n);
	save(tx, buf, r);
	return r;
}

static PRInt32 pass_recv(PRFileDesc *fd, void *buf, PRInt32 n, PRIntn flags, PRIntervalTime timeout)
{
	PRInt32 r;

	must(flush(fd) >= 0, "flush");
	r = PR_Recv(fd->lower, buf, n, flags, timeout);
	save(rx, buf, r);
	return r;
}

static PRInt32 pass_read(PRFileDesc *fd, void *buf, PRInt32 n)
{
	return pass_recv(fd, buf, n, 0, PR_INTERVAL_NO_TIMEOUT);
}

static bool reads(void)
{
	return is("reads") || is("buffers");
}

static bool writes(void)
{
	return is("writes") || is("buffers");
}

static void push(PRFileDesc *fd)
{
	static PRIOMethods methods;
	static PRDescIdentity identity;
	PRFileDesc *layer;

	if (!identity) {
		methods = *PR_GetDefaultIOMethods();
		if (reads())
			methods.read = pass_read, methods.recv = pass_recv;
		if (writes())
			methods.write = pass_write;
		identity = PR_GetUniqueIdentity("of the snippet");
	}
	layer = PR_CreateIOLayerStub(identity, &methods);
	must(layer && PR_PushIOLayer(fd, PR_TOP_IO_LAYER, layer) == PR_SUCCESS, "push");
}

/* --- connections ----------------------------------------------------------------------------------- */

static SECStatus trust(void *arg, PRFileDesc *fd, PRBool sig, PRBool is_server)
{
	(void)arg, (void)fd, (void)sig, (void)is_server;
	return SECSuccess;
}

static void init(void)
{
	PRSocketOptionData reuse = {.option = PR_SockOpt_Reuseaddr, .value.reuse_addr = PR_TRUE};

	must(NSS_Init(getenv("SNIP_NSS")) == SECSuccess && NSS_SetDomesticPolicy() == SECSuccess, "init");
	model = SSL_ImportFD(NULL, PR_NewTCPSocket());
	must(model && SSL_AuthCertificateHook(model, trust, NULL) == SECSuccess, "model");
	if (server) {
		CERTCertificate *cert = PK11_FindCertFromNickname("server", NULL);
		SECKEYPrivateKey *key = cert ? PK11_FindKeyByAnyCert(cert, NULL) : NULL;

		must(key && SSL_ConfigServerCert(model, cert, key, NULL, 0) == SECSuccess &&
			     SSL_ConfigServerSessionIDCache(0, 0, 0, NULL) == SECSuccess,
		     "certificate");
		listener = PR_NewTCPSocket();
		must(PR_SetSocketOption(listener, &reuse) == PR_SUCCESS && PR_Bind(listener, &address) == PR_SUCCESS &&
			     PR_Listen(listener, 5) == PR_SUCCESS,
		     "listen");
	}
}

static PRFileDesc *connected(void)
{
	struct sockaddr_in to = {.sin_family = AF_INET,
				 .sin_port = address.inet.port,
				 .sin_addr.s_addr = address.inet.ip};

	for (unsigned i = 0; i < 500; i++) {
		int s = socket(AF_INET, SOCK_STREAM, 0);
		PRFileDesc *fd;

		if (is("imported") && connect(s, (void *)&to, sizeof(to)) == 0)
			return PR_ImportTCPSocket(s);
		close(s);
		fd = PR_NewTCPSocket();
		if (!is("imported") && PR_Connect(fd, &address, PR_INTERVAL_NO_TIMEOUT) == PR_SUCCESS)
			return fd;
		PR_Close(fd);
		usleep(20000);
	}
	must(false, "connect");
	return NULL;
}

static PRFileDesc *tls(void)
{
	PRFileDesc *fd = server ? PR_Accept(listener, NULL, PR_INTERVAL_NO_TIMEOUT) : connected();

	must(fd && (fd = SSL_ImportFD(model, fd)) && SSL_ResetHandshake(fd, server) == SECSuccess, "import");
	tx = open_save("tx");
	rx = open_save("rx");
	connections++;
	if (reads() || writes()) {
		must(SSL_ForceHandshake(fd) == SECSuccess, "handshake");
		push(fd);
	}
	return fd;
}

/* --- what is said ---------------------------------------------------------------------------------- */

static void say(PRFileDesc *fd, const char *b, int n)
{
	static int calls;

	for (int at = 0; at < n;) {
		PRIOVec vec = {(char *)b + at, n - at};
		bool past = is("writes") && calls++ % 2; /* the layer's own method */
		PRInt32 r = past ? PR_Writev(fd, &vec, 1, PR_INTERVAL_NO_TIMEOUT) : PR_Write(fd, b + at, n - at);

		must(r > 0, "write");
		if (past || !writes())
			save(tx, b + at, r);
		at += r;
	}
}

static void hear(PRFileDesc *fd, char *b, int n)
{
	for (int at = 0; at < n;) {
		PRInt32 r = PR_Read(fd, b + at, n - at);

		must(r > 0, "read");
		if (!reads())
			save(rx, b + at, r);
		at += r;
	}
}

static void talk(PRFileDesc *fd)
{
	char want[500], got[500];

	for (int i = 0; i < 20; i++, rounds++) {
		/* the first line is all that a layer keeps, so that it shows what it does */
		int n = snprintf(want, sizeof(want), "line %*d\n", rounds ? 4 : 400, rounds);

		for (int half = 0; half < 2; half++) {
			if (server == (half == 1))
				say(fd, want, n);
			else
				hear(fd, got, n);
			must(server == (half == 1) || memcmp(got, want, (size_t)n) == 0, "line");
		}
	}
}

static void *hear_much(void *fd)
{
	char *b = malloc(MUCH);

	hear(fd, b, MUCH);
	free(b);
	return NULL;
}

static void talk_at_once(PRFileDesc *fd)
{
	char *b = calloc(1, MUCH);
	pthread_t t;

	must(pthread_create(&t, NULL, hear_much, fd) == 0, "thread");
	say(fd, b, MUCH);
	pthread_join(t, NULL);
	free(b);
}

/* --- ends ------------------------------------------------------------------------------------------ */

static void to_the_end(PRFileDesc *fd)
{
	char c;

	while (PR_Recv(fd, &c, 1, 0, PR_SecondsToInterval(5)) > 0)
		;
}

static void transmit(PRFileDesc *fd)
{
	static const char said[] = "head and file";
	char path[] = "/tmp/snippet.XXXXXX", got[sizeof(said)];
	int file = mkstemp(path);
	bool written = write(file, said + 5, 8) == 8;
	PRFileDesc *f = PR_Open(path, PR_RDONLY, 0);

	must(written && f, "file");
	close(file);
	unlink(path);
	if (server) {
		must(PR_TransmitFile(fd, f, said, 5, PR_TRANSMITFILE_CLOSE_SOCKET, PR_INTERVAL_NO_TIMEOUT) == 13,
		     "transmit");
		save(tx, said, 13);
	} else {
		hear(fd, got, 13);
		PR_Close(fd);
	}
	PR_Close(f);
}

/* What is said in the clear is nobody's business. */
static void pop(PRFileDesc *fd)
{
	char got[12];

	must(PR_PopIOLayer(fd, PR_GetLayersIdentity(fd)) != NULL, "pop");
	if (server)
		must(PR_Write(fd, "in the clear", 12) == 12, "clear");
	else
		must(PR_Read(fd, got, 12) == 12 && memcmp(got, "in the clear", 12) == 0, "clear");
	PR_Close(fd);
}

static void end(PRFileDesc *fd)
{
	usleep(30000); /* a client's socket is proven while it exists */
	if (is("transmits")) {
		transmit(fd);
	} else if (is("pops")) {
		pop(fd);
	} else {
		if (!server)
			PR_Shutdown(fd, PR_SHUTDOWN_SEND);
		to_the_end(fd);
		if (is("methods"))
			fd->methods->close(fd);
		else
			PR_Close(fd);
	}
	if (tx)
		fclose(tx);
	if (rx)
		fclose(rx);
}

int main(int argc, char **argv)
{
	if (argc < 5)
		return 2;
	server = strcmp(argv[1], "server") == 0;
	mode = argv[4];
	must(PR_StringToNetAddr(argv[2], &address) == PR_SUCCESS, "address");
	address.inet.port = PR_htons((PRUint16)atoi(argv[3]));
	init();
	for (int i = 0; i < CONNECTIONS; i++) {
		PRFileDesc *fd = tls();

		talk(fd);
		if (is("duplex"))
			talk_at_once(fd);
		end(fd);
	}
	printf("lines %d\n", rounds);
	return fflush(stdout) != 0;
}
