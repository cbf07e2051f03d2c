/* SPDX-License-Identifier: Apache-2.0 */
/* pattern.h - bytes that know where they belong: stream, direction and offset decide each one, and a
 * whole record of them is one pointer into a table, so that neither making nor checking them costs time. */
#ifndef TLSTAP_TEST_PATTERN_H
#define TLSTAP_TEST_PATTERN_H

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define PATTERN_RUN 80000u /* bytes that may be used from a pointer */
#define PATTERN_PERIOD 1048573u

static uint8_t pattern_table[PATTERN_PERIOD + PATTERN_RUN];

static inline uint64_t rnd_mix(uint64_t x)
{
	x += 0x9e3779b97f4a7c15ull;
	x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9ull;
	x = (x ^ x >> 27) * 0x94d049bb133111ebull;
	return x ^ x >> 31;
}

static inline void pattern_init(void)
{
	for (uint64_t i = 0; i < PATTERN_PERIOD; i++)
		pattern_table[i] = (uint8_t)rnd_mix(i);
	memcpy(pattern_table + PATTERN_PERIOD, pattern_table, PATTERN_RUN);
}

/* The bytes of @stream and @dir from @off on, PATTERN_RUN of them. */
static inline const uint8_t *pattern(uint64_t stream, unsigned dir, uint64_t off)
{
	return pattern_table + (off % PATTERN_PERIOD + rnd_mix(stream * 2 + dir) % PATTERN_PERIOD) % PATTERN_PERIOD;
}

/* A generator per thread: the same seed gives the same numbers. */
struct rnd {
	uint64_t state;
};

static inline uint64_t rnd(struct rnd *r)
{
	return r->state = rnd_mix(r->state);
}

/* 0 .. @n - 1 */
static inline uint32_t rnd_below(struct rnd *r, uint32_t n)
{
	return (uint32_t)((rnd(r) >> 32) * n >> 32);
}

/* Sizes as programs have them: mostly small, now and then a whole buffer. */
static inline size_t rnd_size(struct rnd *r, size_t max)
{
	static const uint32_t most[] = {64, 64, 600, 600, 4096, 16384, 16384, 70000};
	size_t n = 1 + rnd_below(r, most[rnd_below(r, 8)]);

	return n < max ? n : max;
}

/* -s SEED replays a run; else the seed is drawn. Printed in any case. */
static inline uint64_t seed_of(int argc, char **argv)
{
	uint64_t seed = 0;
	FILE *f = fopen("/dev/urandom", "rb");

	if (f && fread(&seed, sizeof(seed), 1, f) != 1)
		seed = 1;
	if (f)
		fclose(f);
	seed >>= 32;
	for (int i = 1; i + 1 < argc; i++)
		if (strcmp(argv[i], "-s") == 0)
			seed = strtoull(argv[i + 1], NULL, 0);
	printf("seed %llu (again: %s -s %llu)\n", (unsigned long long)seed, argv[0], (unsigned long long)seed);
	fflush(stdout);
	return seed;
}

#endif
