/* SPDX-License-Identifier: Apache-2.0 */
/* Every call of NSPR that moves data, on a TLS layer of NSS. Client and server say SIZES to each other in turn, once.
 * Started like the programs of snip.h, but for "both"; SNIP_SAVE and SNIP_TLS are those of snip.h, and SNIP_NSS names a
 * database with the certificate "server".
 * ARG: how to send and receive: read recv writev file nonblock;
 *      how the connection comes about: accept (by NSS), acceptread, insecure (a TLS layer that is told to do nothing);
 *      what else is on the stack: top (a layer of its own, that uses NSPR's), through (one that uses none), below, push
 *      (in mid-life); or
 *      half (one side is silent early), callback (which says a word while the first call is under way), plain (files
 *      and sockets without TLS), silly (arguments that make no sense) */
#include <dirent.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <nss.h>
#include <pk11pub.h>
#include <nspr.h>
#include <ssl.h>
#include <sslproto.h>

static const int SIZES[] = {1, 100, 16384, 16385, 70000};
#define ROUNDS (int)(sizeof(SIZES) / sizeof(SIZES[0]))
#define PIECE 1000 /* that the layer of "top" asks for, and more than it is asked for */

static bool server;
static const char *mode;
static PRNetAddr address;
static PRFileDesc *model;
static FILE *tx, *rx;
static int after_send[2], after_recv[2]; /* what PR_GetError() and PR_GetOSError() were after the last that succeeded */

static bool is(const char *name)
{
	return strcmp(mode, name) == 0;
}

static void die(const char *what)
{
	fprintf(stderr, "%s: %s: %d %s\n", server ? "server" : "client", what, PR_GetError(),
		PR_ErrorToName(PR_GetError()));
	_exit(9);
}

static void must(bool ok, const char *what)
{
	if (!ok)
		die(what);
}

static void save(FILE *f, const void *buf, int n)
{
	if (f && n > 0)
		fwrite(buf, 1, (size_t)n, f);
}

static FILE *open_save(const char *kind)
{
	char path[512];
	FILE *f;

	snprintf(path, sizeof(path), "%s/%s.%d.0.%s", getenv("SNIP_SAVE"), server ? "server" : "client", (int)getpid(),
		 kind);
	f = getenv("SNIP_SAVE") ? fopen(path, "we") : NULL;
	must(f || !getenv("SNIP_SAVE"), path);
	return f;
}

static uint8_t *words(bool of_server, int n)
{
	uint8_t *b = malloc((size_t)n);

	must(b, "memory");
	for (int i = 0; i < n; i++)
		b[i] = (uint8_t)(((unsigned)i * 2654435761u + (of_server ? 77u : 0u)) >> 13);
	return b;
}

/* --- layers ---------------------------------------------------------------------------------------- */

/* The layer of "top": turns every bit, reads ahead, and uses the functions that programs use. */
static uint8_t ahead[PIECE];
static int ahead_at, ahead_n;

static PRInt32 top_send(PRFileDesc *fd, const void *buf, PRInt32 n, PRIntn flags, PRIntervalTime timeout)
{
	uint8_t turned[PIECE];
	PRInt32 k = n < PIECE ? n : PIECE, r;

	for (int i = 0; i < k; i++)
		turned[i] = (uint8_t) ~((const uint8_t *)buf)[i];
	r = PR_Send(fd->lower, turned, k, flags, timeout);
	save(tx, turned, r);
	return r;
}

static PRInt32 top_recv(PRFileDesc *fd, void *buf, PRInt32 n, PRIntn flags, PRIntervalTime timeout)
{
	if (ahead_at == ahead_n) {
		ahead_at = 0;
		ahead_n = PR_Recv(fd->lower, ahead, PIECE, flags, timeout);
		save(rx, ahead, ahead_n);
		if (ahead_n <= 0)
			return ahead_n;
	}
	for (int i = 0; i < n; i++) {
		if (ahead_at == ahead_n)
			return i;
		((uint8_t *)buf)[i] = (uint8_t)~ahead[ahead_at++];
	}
	return n;
}

static void push(PRFileDesc *fd, bool own)
{
	static PRIOMethods methods;
	static PRDescIdentity identity;
	PRFileDesc *layer;

	if (!identity) {
		methods = *PR_GetDefaultIOMethods();
		methods.send = own ? top_send : methods.send;
		methods.recv = own ? top_recv : methods.recv;
		identity = PR_GetUniqueIdentity("of the snippet");
	}
	layer = PR_CreateIOLayerStub(identity, &methods);
	must(layer && PR_PushIOLayer(fd, PR_TOP_IO_LAYER, layer) == PR_SUCCESS, "push");
}

/* --- one connection -------------------------------------------------------------------------------- */

static SECStatus trust(void *arg, PRFileDesc *fd, PRBool sig, PRBool is_server)
{
	(void)arg;
	(void)fd;
	(void)sig;
	(void)is_server;
	return SECSuccess;
}

static void init(void)
{
	const char *db = getenv("SNIP_NSS"), *tls = getenv("SNIP_TLS");
	SSLVersionRange range = {SSL_LIBRARY_VERSION_TLS_1_2, SSL_LIBRARY_VERSION_TLS_1_3};

	must(db && NSS_Init(db) == SECSuccess && NSS_SetDomesticPolicy() == SECSuccess, "init");
	if (tls && strcmp(tls, "1.2") == 0)
		range.max = SSL_LIBRARY_VERSION_TLS_1_2;
	model = SSL_ImportFD(NULL, PR_NewTCPSocket());
	must(model && SSL_VersionRangeSet(model, &range) == SECSuccess, "model");
	if (is("insecure"))
		must(SSL_OptionSet(model, SSL_SECURITY, PR_FALSE) == SECSuccess, "option");
	if (server) {
		CERTCertificate *cert = PK11_FindCertFromNickname("server", NULL);
		SECKEYPrivateKey *key = cert ? PK11_FindKeyByAnyCert(cert, NULL) : NULL;

		must(key && SSL_ConfigServerCert(model, cert, key, NULL, 0) == SECSuccess &&
			     SSL_ConfigServerSessionIDCache(0, 0, 0, NULL) == SECSuccess,
		     "certificate");
		CERT_DestroyCertificate(cert);
		SECKEY_DestroyPrivateKey(key);
	}
	must(SSL_AuthCertificateHook(model, trust, NULL) == SECSuccess, "hook");
}

static PRFileDesc *listen_there(void)
{
	PRSocketOptionData reuse = {.option = PR_SockOpt_Reuseaddr, .value.reuse_addr = PR_TRUE};
	PRFileDesc *fd = PR_NewTCPSocket();

	must(fd && PR_SetSocketOption(fd, &reuse) == PR_SUCCESS && PR_Bind(fd, &address) == PR_SUCCESS &&
		     PR_Listen(fd, 5) == PR_SUCCESS,
	     "listen");
	if (is("accept") || is("acceptread"))
		must((fd = SSL_ImportFD(model, fd)) != NULL, "import");
	return fd;
}

static PRFileDesc *accept_one(void)
{
	PRFileDesc *listener = listen_there(), *fd = NULL;
	PRNetAddr *peer;
	char buf[PIECE + 2 * sizeof(PRNetAddr) + 64];
	PRInt32 n;

	if (is("acceptread")) { /* a word of the client's goes before all else */
		n = PR_AcceptRead(listener, &fd, &peer, buf, PIECE, PR_INTERVAL_NO_TIMEOUT);
		printf("acceptread %d %.*s\n", n, n > 0 ? n : 0, buf);
		save(rx, buf, n);
	} else {
		fd = PR_Accept(listener, NULL, PR_INTERVAL_NO_TIMEOUT);
	}
	must(fd && PR_Close(listener) == PR_SUCCESS, "accept");
	return fd;
}

static PRFileDesc *connect_one(void)
{
	PRFileDesc *fd;

	for (unsigned i = 0; i < 500; i++) {
		fd = PR_NewTCPSocket();
		if (PR_Connect(fd, &address, PR_INTERVAL_NO_TIMEOUT) == PR_SUCCESS)
			return fd;
		PR_Close(fd);
		usleep(20000);
	}
	die("connect");
	return NULL;
}

static void say_a_word(PRFileDesc *fd, void *arg)
{
	(void)arg;
	must(PR_Send(fd, "a word", 6, 0, PR_INTERVAL_NO_TIMEOUT) == 6, "send");
	save(tx, "a word", 6);
}

static PRFileDesc *tls(void)
{
	PRSocketOptionData nonblock = {.option = PR_SockOpt_Nonblocking, .value.non_blocking = PR_TRUE};
	PRFileDesc *fd = server ? accept_one() : connect_one();

	if (is("below"))
		push(fd, false);
	if (!server || (!is("accept") && !is("acceptread"))) {
		must((fd = SSL_ImportFD(model, fd)) != NULL, "import");
		must(SSL_ResetHandshake(fd, server) == SECSuccess, "reset");
	}
	if (!server && is("acceptread"))
		say_a_word(fd, NULL);
	if (!server && is("callback"))
		must(SSL_HandshakeCallback(fd, say_a_word, NULL) == SECSuccess, "hook");
	if (is("top") || is("through"))
		push(fd, is("top"));
	if (is("nonblock"))
		must(PR_SetSocketOption(fd, &nonblock) == PR_SUCCESS, "option");
	return fd;
}

/* --- what is said ---------------------------------------------------------------------------------- */

static void wait_for(PRFileDesc *fd, PRInt16 flags)
{
	PRPollDesc p = {.fd = fd, .in_flags = flags};

	must(PR_GetError() == PR_WOULD_BLOCK_ERROR, "call");
	(void)PR_Poll(&p, 1, PR_SecondsToInterval(10));
}

static PRFileDesc *temporary(const void *buf, int n)
{
	char path[] = "/tmp/snippet.XXXXXX";
	int fd = mkstemp(path);
	PRFileDesc *file;

	must(fd != -1 && write(fd, buf, (size_t)n) == n, "file");
	file = PR_Open(path, PR_RDONLY, 0);
	must(file && unlink(path) == 0, "file");
	close(fd);
	return file;
}

/* In two ways, one for odd sizes. The header is what comes first. */
static PRInt32 send_file(PRFileDesc *fd, const uint8_t *b, int n)
{
	int head = n < 10 ? n : 10, tail = n < 40 ? 0 : 20;
	PRFileDesc *file = temporary(b + head, n - head - (n % 2 ? 0 : tail));
	PRSendFileData data = {.fd = file,
			       .file_nbytes = (PRSize)(n - head - tail),
			       .header = b,
			       .hlen = head,
			       .trailer = b + n - tail,
			       .tlen = tail};
	PRInt32 r;

	if (n % 2)
		r = PR_TransmitFile(fd, file, b, head, PR_TRANSMITFILE_KEEP_OPEN, PR_INTERVAL_NO_TIMEOUT);
	else
		r = PR_SendFile(fd, &data, PR_TRANSMITFILE_KEEP_OPEN, PR_INTERVAL_NO_TIMEOUT);
	PR_Close(file);
	return r;
}

static PRInt32 send_some(PRFileDesc *fd, const uint8_t *b, int n)
{
	PRIOVec vec[4] = {{(char *)b, n / 2},
			  {(char *)b + n / 2, 0},
			  {(char *)b + n / 2, n / 4},
			  {(char *)b + n / 2 + n / 4, n - n / 2 - n / 4}};

	if (is("read") || is("plain"))
		return PR_Write(fd, b, n);
	if (is("writev"))
		return PR_Writev(fd, vec, 4, PR_INTERVAL_NO_TIMEOUT);
	if (is("file"))
		return send_file(fd, b, n);
	return PR_Send(fd, b, n, 0, PR_INTERVAL_NO_TIMEOUT);
}

static PRInt32 recv_some(PRFileDesc *fd, uint8_t *b, int n)
{
	if (is("read") || is("plain"))
		return PR_Read(fd, b, n);
	if (is("recv") && PR_Recv(fd, b, n, PR_MSG_PEEK, PR_INTERVAL_NO_TIMEOUT) > 0)
		memset(b, 0, 1);
	return PR_Recv(fd, b, n, 0, PR_INTERVAL_NO_TIMEOUT);
}

static void send_all(PRFileDesc *fd, int n)
{
	uint8_t *b = words(server, n);

	for (int at = 0; at < n;) {
		PRInt32 r;

		PR_SetError(PR_MAX_ERROR, 77);
		r = send_some(fd, b + at, n - at);
		if (r < 0) {
			wait_for(fd, PR_POLL_WRITE);
			continue;
		}
		after_send[0] = PR_GetError();
		after_send[1] = PR_GetOSError();
		if (!is("top"))
			save(tx, b + at, r);
		at += r;
	}
	free(b);
}

static void recv_all(PRFileDesc *fd, int n)
{
	uint8_t *b = calloc(1, (size_t)n), *want = words(!server, n);

	must(b, "memory");
	for (int at = 0; at < n;) {
		PRInt32 r;

		PR_SetError(PR_MAX_ERROR, 77);
		r = recv_some(fd, b + at, n - at);
		if (r < 0) {
			wait_for(fd, PR_POLL_READ);
			continue;
		}
		must(r, "end");
		after_recv[0] = PR_GetError();
		after_recv[1] = PR_GetOSError();
		if (!is("top"))
			save(rx, b + at, r);
		at += r;
	}
	printf("received %d: %s\n", n, memcmp(b, want, (size_t)n) == 0 ? "right" : "wrong");
	free(b);
	free(want);
}

static void talk(PRFileDesc *fd)
{
	for (int i = 0; i < ROUNDS; i++) {
		if (!server)
			send_all(fd, SIZES[i]);
		recv_all(fd, SIZES[i]);
		if (server)
			send_all(fd, SIZES[i]);
		if (i == 2 && is("push"))
			push(fd, false);
	}
}

/* The client says nothing any more; the server says all. */
static void half(PRFileDesc *fd)
{
	char byte;

	if (!server) {
		send_all(fd, 100);
		printf("shutdown %d\n", PR_Shutdown(fd, PR_SHUTDOWN_SEND));
		recv_all(fd, 70000);
	} else {
		recv_all(fd, 100);
		printf("end %d\n", PR_Recv(fd, &byte, 1, 0, PR_INTERVAL_NO_TIMEOUT));
		send_all(fd, 70000);
	}
}

/* The server speaks first. */
static void word_in_between(PRFileDesc *fd)
{
	char buf[6];
	PRInt32 r;

	if (!server) {
		recv_all(fd, 1);
		return;
	}
	send_all(fd, 1);
	r = PR_Recv(fd, buf, 6, 0, PR_INTERVAL_NO_TIMEOUT);
	printf("%d %.*s\n", r, r > 0 ? r : 0, buf);
	save(rx, buf, r);
}

static void say(const char *what, PRInt32 r)
{
	printf("%s: %d, error %d\n", what, r, r < 0 ? PR_GetError() : 0);
}

static void silly(PRFileDesc *fd)
{
	PRIOVec vec[PR_MAX_IOVECTOR_SIZE + 1] = {{(char *)"x", 1}};
	char buf[16] = "silly";
	PRFileDesc *alone = SSL_ImportFD(model, PR_NewTCPSocket());

	say("nothing", PR_Write(fd, buf, 0));
	say("less", PR_Send(fd, buf, -1, 0, PR_INTERVAL_NO_TIMEOUT));
	say("flags", PR_Send(fd, buf, 1, 0x70, PR_INTERVAL_NO_TIMEOUT));
	say("flags", PR_Recv(fd, buf, 1, 0x70, PR_INTERVAL_NO_WAIT));
	say("many", PR_Writev(fd, vec, PR_MAX_IOVECTOR_SIZE + 1, PR_INTERVAL_NO_TIMEOUT));
	say("how", PR_Shutdown(fd, (PRShutdownHow)9));
	say("not connected", PR_Write(alone, buf, 4));
	say("not connected", PR_Read(alone, buf, 4));
	say("not connected", PR_Shutdown(alone, PR_SHUTDOWN_BOTH));
	say("no accept", PR_Accept(alone, NULL, PR_INTERVAL_NO_WAIT) ? 0 : -1);
	say("reset", SSL_ResetHandshake(alone, PR_TRUE));
	say("close", PR_Close(alone));
	alone = PR_NewTCPSocket();
	say("no TLS", SSL_ResetHandshake(alone, PR_FALSE));
	say("close", PR_Close(alone));
}

static unsigned count_entries(const char *dir)
{
	DIR *d = opendir(dir);
	unsigned n = 0;

	while (d && readdir(d))
		n++;
	if (d)
		closedir(d);
	return n;
}

int main(int argc, char **argv)
{
	PRFileDesc *fd;
	PRInt32 r;
	char buf[64];

	if (argc < 5)
		return 2;
	server = strcmp(argv[1], "server") == 0;
	mode = argv[4];
	must(PR_StringToNetAddr(argv[2], &address) == PR_SUCCESS, "address");
	address.inet.port = PR_htons((PRUint16)atoi(argv[3]));
	tx = open_save("tx");
	rx = open_save("rx");
	init();
	fd = is("plain") ? server ? accept_one() : connect_one() : tls();
	if (is("callback"))
		word_in_between(fd);
	if (is("half"))
		half(fd);
	else
		talk(fd);
	if (is("silly"))
		silly(fd);
	r = is("half") && !server ? 0 : PR_Shutdown(fd, PR_SHUTDOWN_SEND);
	if (!is("nonblock")) /* the peer may have gone */
		say("shutdown", r);
	while (PR_Recv(fd, buf, sizeof(buf), 0, PR_SecondsToInterval(5)) > 0)
		;
	say("close", PR_Close(fd));
	PR_Close(model);
	printf("errors %d %d, %d %d; descriptors %u, threads %u\n", after_send[0], after_send[1], after_recv[0],
	       after_recv[1], count_entries("/proc/self/fd") - 3, count_entries("/proc/self/task") - 2);
	return fflush(stdout) != 0;
}
