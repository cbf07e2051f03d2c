/* SPDX-License-Identifier: Apache-2.0 */
/* flood.c - handshakes of connections that do not exist: flood IFACE PER_SECOND SECONDS.
 * Each is a ClientHello and its ServerHello, with randoms and a client's address of their own, to a MAC address that
 * nobody has. */
#include <arpa/inet.h>
#include <net/if.h>
#include <netpacket/packet.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>

#define ETHER 14
#define HEADERS (ETHER + 20 + 20)
#define HELLO 100
#define FRAME (HEADERS + 9 + HELLO)

static void put16(uint8_t *p, unsigned n)
{
	p[0] = (uint8_t)(n >> 8);
	p[1] = (uint8_t)n;
}

static void build(uint8_t *f, uint32_t n, int server)
{
	uint8_t *ip = f + ETHER, *tcp = ip + 20, *tls = tcp + 20;
	uint8_t client[4] = {10, (uint8_t)(n >> 16), (uint8_t)(n >> 8), (uint8_t)n}, host[4] = {192, 0, 2, 2};

	memset(f, 0, FRAME);
	memcpy(f, "\x02\0\0\0\0\x77\x02\0\0\0\0\x78\x08\0", ETHER);
	ip[0] = 0x45;
	put16(ip + 2, FRAME - ETHER);
	ip[8] = 64;
	ip[9] = 6;
	memcpy(ip + 12, server ? host : client, 4);
	memcpy(ip + 16, server ? client : host, 4);
	put16(tcp + (server ? 2 : 0), 1024 + n % 60000);
	put16(tcp + (server ? 0 : 2), 443);
	tcp[12] = 0x50;
	tcp[13] = 0x18;
	tls[0] = 22;
	tls[1] = tls[2] = 3;
	put16(tls + 3, 4 + HELLO);
	tls[5] = server ? 2 : 1;
	put16(tls + 7, HELLO);
	tls[9] = tls[10] = 3;
	for (unsigned i = 0; i < 32; i++)
		tls[11 + i] = (uint8_t)((n * 2654435761u >> i % 25) ^ (i * 37 + (unsigned)server));
	memcpy(tls + 11, &n, 4);
}

static double now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

int main(int argc, char **argv)
{
	struct sockaddr_ll to = {.sll_family = AF_PACKET, .sll_protocol = htons(0x0800)};
	struct timespec nap = {.tv_nsec = 1000000};
	uint32_t sent = 0, per_second, all;
	uint8_t frame[FRAME];
	double begin = now();
	int fd = socket(AF_PACKET, SOCK_RAW, 0);

	if (argc != 4 || fd == -1)
		return 2;
	to.sll_ifindex = (int)if_nametoindex(argv[1]);
	per_second = (uint32_t)atoi(argv[2]);
	all = per_second * (uint32_t)atoi(argv[3]);
	while (sent < all) {
		uint32_t due = (uint32_t)((now() - begin) * per_second);

		for (; sent < due && sent < all; sent++)
			for (int server = 0; server < 2; server++) {
				build(frame, sent, server);
				while (sendto(fd, frame, sizeof(frame), 0, (struct sockaddr *)&to, sizeof(to)) == -1)
					nanosleep(&nap, NULL);
			}
		nanosleep(&nap, NULL);
	}
	printf("%u\n", sent);
	return 0;
}
