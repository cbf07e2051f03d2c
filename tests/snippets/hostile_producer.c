/* SPDX-License-Identifier: Apache-2.0 */
/* A process that attaches like the library, and then lies: agentd may end its session and nothing more.
 *
 *   hostile_producer records SECONDS [SEED]   well-formed stripes full of records that contradict themselves, each
 *                                             other and the slots: lengths, offsets, types, generations
 *   hostile_producer headers SECONDS [SEED]   every number of the protocol between writers and reader: stripes,
 *                                             FIFOs, free lists, chunk tails, while good records go on
 *   hostile_producer address ADDR PORT ADDR PORT   one connection's data, under addresses not its own (IPv4)
 *   hostile_producer random HEX               one connection's data, without addresses, under a client random not its own
 *   hostile_producer socket SECONDS [SEED]    the socket: garbage, nothing, descriptors, connections by the hundred
 *
 * Prints "attached N" at the end, N how often it was given a mapping; the exit code is 0. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <arpa/inet.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "common/attach.h"
#include "common/shm.h"

#define MANY 200

static uint64_t rng = 1;

static uint64_t draw(void)
{
	rng ^= rng << 13;
	rng ^= rng >> 7;
	rng ^= rng << 17;
	return rng;
}

/* Numbers that bounds checks get wrong. */
static uint64_t feared(void)
{
	static const uint64_t v[] = {0,
				     1,
				     7,
				     47,
				     48,
				     49,
				     65471,
				     65472,
				     65473,
				     65535,
				     65536,
				     65537,
				     0x7fffffff,
				     0x80000000,
				     0xfffffff8,
				     UINT32_MAX,
				     UINT32_MAX - 47,
				     1ull << 47,
				     1ull << 48,
				     INT64_MAX,
				     1ull << 63,
				     UINT64_MAX - 7,
				     UINT64_MAX};

	return draw() % 3 == 0 ? draw() : v[draw() % (sizeof(v) / sizeof(v[0]))] + (draw() % 8 == 0 ? draw() % 64 : 0);
}

static double now(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (double)ts.tv_sec + (double)ts.tv_nsec / 1e9;
}

static int reach(void)
{
	const char *path = getenv("TLSTAP_SOCKET");
	struct sockaddr_un a = {.sun_family = AF_UNIX};
	int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);

	strncpy(a.sun_path, path != NULL ? path : ATTACH_SOCKET, sizeof(a.sun_path) - 1);
	if (connect(fd, (void *)&a, sizeof(a)) == -1) {
		close(fd);
		return -1;
	}
	return fd;
}

/* Attach as the library does. Returns false if agentd did not give a mapping. */
static bool attach(struct shm *v, uint16_t *ret_producer)
{
	struct attach_request req = {.magic = ATTACH_MAGIC, .abi = ATTACH_ABI, .pid = getpid()};
	struct attach_reply reply = {.size = 0};
	struct iovec iov = {.iov_base = &reply, .iov_len = sizeof(reply)};
	union {
		struct cmsghdr h;
		char buf[CMSG_SPACE(sizeof(int))];
	} control;
	struct msghdr m = {.msg_iov = &iov,
			   .msg_iovlen = 1,
			   .msg_control = &control,
			   .msg_controllen = sizeof(control)};
	struct timeval patience = {.tv_sec = 5};
	int fd = reach(), got;
	void *base;

	if (fd == -1)
		return false;
	(void)setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
	if (send(fd, &req, sizeof(req), MSG_NOSIGNAL) == -1 || recvmsg(fd, &m, MSG_CMSG_CLOEXEC) != sizeof(reply) ||
	    reply.size == 0 || CMSG_FIRSTHDR(&m) == NULL) {
		close(fd);
		return false;
	}
	memcpy(&got, CMSG_DATA(CMSG_FIRSTHDR(&m)), sizeof(got));
	base = mmap(NULL, reply.size, PROT_READ | PROT_WRITE, MAP_SHARED, got, 0);
	close(got);
	close(fd);
	if (base == MAP_FAILED || shm_view(v, base, reply.size) != 0)
		return false;
	*ret_producer = shm_producer(v, getpid());
	return *ret_producer != 0;
}

static void open_record(struct rec_open *o, bool lie)
{
	*o = (struct rec_open){.ver = 4, .lib = REC_LIB_OPENSSL, .flags = REC_OPEN_ADDRS, .fd = 3, .pid = getpid()};
	o->local_port = 40000;
	o->remote_port = 443;
	o->local[0] = o->remote[0] = 127;
	o->local[3] = o->remote[3] = 1;
	if (lie) {
		for (size_t i = 0; i < sizeof(*o) / 8; i++) {
			uint64_t x = feared();

			if (draw() % 4 == 0)
				memcpy((uint8_t *)o + i * 8, &x, 8);
		}
	}
}

static void write_records(const struct shm *v, uint16_t producer, double until)
{
	static uint8_t data[65536];

	for (size_t i = 0; i < sizeof(data); i++)
		data[i] = (uint8_t)draw();
	while (now() < until) {
		const void *handle = (const void *)(uintptr_t)(0x1000 * (1 + draw() % 64));
		struct shm_slot *s = shm_find(v, producer, handle);
		struct rec_open o;
		struct rec r = {.type = (uint16_t)(1 + draw() % 6), .flags = (uint16_t)draw()};
		enum shm_why why;
		size_t done;

		if (s == NULL)
			s = shm_insert(v, producer, handle);
		if (s == NULL || draw() % 50 == 0) {
			shm_remove(v, producer, handle);
			continue;
		}
		for (unsigned k = 0; k < 2; k++) {
			if (draw() % 4 == 0)
				atomic_store(&s->rep[k], feared());
			if (draw() % 16 == 0)
				atomic_store(&s->base[k], feared());
		}
		r.slot = draw() % 8 == 0 ? (uint32_t)feared() : (uint32_t)(s - v->slot);
		r.gen = draw() % 8 == 0 ? (uint32_t)feared() : atomic_load(&s->gen);
		r.off = draw() % 2 == 0 ? feared() : atomic_load(&s->rep[0]);
		r.other = draw() % 2 == 0 ? feared() : atomic_load(&s->rep[1]);
		r.begin = (uint32_t)feared();
		open_record(&o, true);
		if (r.type == REC_OPEN || r.type == REC_SOCKET) {
			memcpy(data, &o, sizeof(o));
			r.len = (uint32_t)(draw() % 4 == 0 ? draw() % 700 : sizeof(o));
		} else if (r.type == REC_HOLE || r.type == REC_CLOSE || r.type == REC_VERDICT) {
			r.len = r.type == REC_HOLE ? (uint32_t)feared() : 0;
		} else {
			r.len = (uint32_t)(draw() % 60000);
		}
		(void)shm_append(v, producer, (uintptr_t)draw(), &r, data, &why, &done);
	}
}

static void write_headers(const struct shm *v, uint16_t producer, double until)
{
	static const uint8_t data[3000];

	while (now() < until) {
		struct shm_stripe *st = &v->stripe[draw() % SHM_STRIPES];
		struct rec r = {.type = REC_DATA, .len = sizeof(data), .gen = 1};
		enum shm_why why;
		size_t done;

		switch (draw() % 10) {
		case 0:
			atomic_store(&st->tail, (uint32_t)feared());
			break;
		case 1:
			atomic_store(&st->cur, (uint32_t)(draw() % 2 ? feared() : draw() % (v->chunks + 2)));
			break;
		case 2:
			atomic_store(&st->lock, (uint32_t)(draw() % 2 ? feared() : 0));
			break;
		case 3:
			atomic_store(&v->fifo[draw() % (SHM_STRIPES * (v->fifo_mask + 1))], (uint32_t)feared());
			break;
		case 4:
			atomic_store(&v->next[draw() % v->chunks], (uint32_t)feared());
			break;
		case 5:
			atomic_store(draw() % 2 ? &v->h->free_hot : &v->h->free_cold, feared());
			break;
		case 6:
			atomic_store(&v->chunk[draw() % 20 % v->chunks].tail, (uint32_t)feared());
			break;
		case 7:
			atomic_store(&v->h->used, feared());
			break;
		case 8:
			atomic_store((_Atomic uint64_t *)(v->base + draw() % 512 * 8),
				     feared()); /* the header's page */
			break;
		default:
			atomic_store((_Atomic uint64_t *)(v->base +
							  draw() % ((uint64_t)((uint8_t *)v->chunk - v->base) / 8) * 8),
				     feared());
			break;
		}
		if (draw() % 4 == 0) {
			atomic_store(&st->lock, 0);
			(void)shm_append(v, producer, (uintptr_t)draw(), &r, data, &why, &done);
		}
	}
}

/* Data of the connection that *@o describes. */
static int state(const struct shm *v, uint16_t producer, struct rec_open *o)
{
	static const char text[] = "GET /forged-by-somebody-else HTTP/1.1\r\nHost: x\r\n\r\n";
	struct shm_slot *s = shm_insert(v, producer, o);
	struct rec r = {.type = REC_OPEN, .len = sizeof(*o)};
	enum shm_why why;
	size_t done;

	if (s == NULL)
		return 1;
	o->base[0] = atomic_load(&s->base[0]);
	o->base[1] = atomic_load(&s->base[1]);
	r.slot = (uint32_t)(s - v->slot);
	r.gen = atomic_load(&s->gen);
	r.off = o->base[0];
	r.other = o->base[1];
	if (!shm_append(v, producer, 1, &r, o, &why, &done))
		return 1;
	r.type = REC_DATA;
	r.len = sizeof(text) - 1;
	atomic_fetch_add(&s->rep[0], r.len);
	if (!shm_append(v, producer, 1, &r, text, &why, &done))
		return 1;
	usleep(500000); /* alive, so that agentd can look */
	return 0;
}

static int state_addresses(const struct shm *v, uint16_t producer, char **arg)
{
	struct rec_open o;

	open_record(&o, false);
	if (inet_pton(AF_INET, arg[0], o.local) != 1 || inet_pton(AF_INET, arg[2], o.remote) != 1)
		return 2;
	o.local_port = (uint16_t)atoi(arg[1]);
	o.remote_port = (uint16_t)atoi(arg[3]);
	return state(v, producer, &o);
}

static int state_random(const struct shm *v, uint16_t producer, const char *hex)
{
	struct rec_open o;

	open_record(&o, false);
	o.flags = 0;
	o.fd = -1;
	memset(o.local, 0, sizeof(o.local));
	memset(o.remote, 0, sizeof(o.remote));
	o.ver = 0;
	o.local_port = o.remote_port = 0;
	for (size_t i = 0; i < sizeof(o.client_random); i++)
		if (sscanf(hex + 2 * i, "%2hhx", &o.client_random[i]) != 1)
			return 2;
	return state(v, producer, &o);
}

/* One message with @n descriptors. */
static void send_descriptors(int fd, int n)
{
	struct attach_request req = {.magic = ATTACH_MAGIC, .abi = ATTACH_ABI, .pid = getpid()};
	struct iovec iov = {.iov_base = &req, .iov_len = sizeof(req)};
	static union {
		struct cmsghdr h;
		char buf[CMSG_SPACE(253 * sizeof(int))];
	} control;
	struct msghdr m = {.msg_iov = &iov, .msg_iovlen = 1, .msg_control = &control};
	int null = open("/dev/null", O_RDONLY | O_CLOEXEC);

	m.msg_controllen = CMSG_SPACE((size_t)n * sizeof(int));
	control.h = (struct cmsghdr){.cmsg_level = SOL_SOCKET,
				     .cmsg_type = SCM_RIGHTS,
				     .cmsg_len = CMSG_LEN((size_t)n * sizeof(int))};
	for (int i = 0; i < n; i++)
		memcpy(CMSG_DATA(&control.h) + (size_t)i * sizeof(int), &null, sizeof(int));
	(void)sendmsg(fd, &m, MSG_NOSIGNAL | MSG_DONTWAIT);
	close(null);
}

static void abuse_socket(double until)
{
	static uint8_t garbage[65536];
	int idle[MANY];

	for (int i = 0; i < MANY; i++)
		idle[i] = -1;
	while (now() < until) {
		int *fd = &idle[draw() % MANY];
		struct attach_request req = {.magic = ATTACH_MAGIC, .abi = ATTACH_ABI, .pid = (int32_t)feared()};

		if (*fd != -1 && draw() % 2) {
			close(*fd);
			*fd = -1;
		}
		if (*fd == -1)
			*fd = reach();
		if (*fd == -1)
			continue;
		for (size_t i = 0; i < sizeof(garbage); i += 8) {
			uint64_t x = draw();

			memcpy(garbage + i, &x, 8);
		}
		switch (draw() % 5) {
		case 0:
			(void)send(*fd, garbage, draw() % sizeof(garbage), MSG_NOSIGNAL | MSG_DONTWAIT);
			break;
		case 1:
			send_descriptors(*fd, (int)(1 + draw() % 253));
			break;
		case 2:
			req.abi = (uint32_t)feared();
			(void)send(*fd, &req, sizeof(req), MSG_NOSIGNAL | MSG_DONTWAIT);
			break;
		case 3:
			(void)send(*fd, &req, draw() % sizeof(req), MSG_NOSIGNAL | MSG_DONTWAIT);
			break;
		default:
			break; /* says nothing */
		}
	}
	for (int i = 0; i < MANY; i++)
		close(idle[i]);
}

int main(int argc, char **argv)
{
	bool address = argc == 6 && strcmp(argv[1], "address") == 0;
	bool random = argc == 3 && strcmp(argv[1], "random") == 0;
	unsigned attached = 0;
	int ret = 0;
	double until;

	if (!address && argc != 3 && argc != 4) {
		fprintf(stderr,
			"usage: %s records|headers|socket SECONDS [SEED] | address ADDR PORT ADDR PORT | random HEX\n",
			argv[0]);
		return 2;
	}
	until = now() + (random ? 5 : atof(argv[2]));
	rng = argc == 4 ? strtoull(argv[3], NULL, 10) * 2 + 1 : 88172645463325252u;
	if (strcmp(argv[1], "socket") == 0) {
		abuse_socket(until);
		return 0;
	}
	do {
		struct shm v;
		uint16_t producer;
		double next = now() + 0.3; /* a session that agentd gave up gets a successor */

		if (!attach(&v, &producer)) {
			usleep(20000);
			continue;
		}
		attached++;
		if (address)
			ret = state_addresses(&v, producer, argv + 2);
		else if (random)
			ret = state_random(&v, producer, argv[2]);
		else if (strcmp(argv[1], "records") == 0)
			write_records(&v, producer, next < until ? next : until);
		else
			write_headers(&v, producer, next < until ? next : until);
		munmap(v.base, v.size);
	} while (!address && !(random && attached) && now() < until);
	printf("attached %u\n", attached);
	return ret;
}
