/* SPDX-License-Identifier: Apache-2.0 */
/* servers.h - how many sessions each TLS server had, and how many of them were shown in the clear.
 *
 * A server is an address, a port and the name that clients asked for. Bounded: when the table is full, further ones are
 * counted together, as "others". One thread; used by sessions.c. */
#ifndef TLSTAP_SERVERS_H
#define TLSTAP_SERVERS_H

#include <stdint.h>
#include <stdio.h>

#include "common/tuple.h"

#define SERVERS_NONE UINT32_MAX

struct servers_count {
	uint64_t seen, delivered, missed;	/* seen = delivered + missed + those that may still become either */
	uint64_t minute_seen, minute_delivered; /* of those that began within the last minute (55 to 60 s) */
};

struct servers;

/* @max  servers that are told apart. Returns NULL: no memory. */
struct servers *servers_new(uint32_t max);
void servers_free(struct servers **s);

/* The server of @t that clients call @sni (printable, "" unknown). Returns its number, which stays. */
uint32_t servers_find(struct servers *s, const struct tuple *t, const char *sni);

void servers_seen(struct servers *s, uint32_t server, uint64_t now_ns);
/* @seen_ns  when servers_seen() was told of this session */
void servers_delivered(struct servers *s, uint32_t server, uint64_t seen_ns);
/* @n  1: a session is missed; -1: it is not missed after all */
void servers_missed(struct servers *s, uint32_t server, int n);

void servers_total(const struct servers *s, uint64_t now_ns, struct servers_count *ret);

/* "seen": ..., "servers": [...], "others": {...}, without braces around. */
void servers_json(const struct servers *s, uint64_t now_ns, FILE *to);
/* One line per server, at most @max, those that miss most first: "443 to 10.1.2.3 (api.example): ...". */
void servers_text(const struct servers *s, uint64_t now_ns, unsigned max, FILE *to);
/* What is missing, in one line. */
void servers_log(const struct servers *s, uint64_t now_ns);

#endif
