/* SPDX-License-Identifier: Apache-2.0 */
/* scribble.c - to be preloaded: a thread that writes nonsense over the mapping which the process shares with agentd.
 *
 * SCRIBBLE=SECONDS. First the first 64 KiB word by word with values that parsers fear, then random words anywhere
 * in the first 1 MiB (headers, slots, stripes) and in the rest. */
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static const uint64_t feared[] = {0,	      1,      UINT64_MAX, UINT32_MAX, INT64_MAX,
				  0x80000000, 0xffff, 0x10000,	  0x7fffffff, 65537};

static uint64_t *find(size_t *ret_words)
{
	char line[512];
	FILE *f = fopen("/proc/self/maps", "r");
	uint64_t *found = NULL;

	while (f && fgets(line, sizeof(line), f)) {
		unsigned long lo, hi;
		char perm[8];

		if (strstr(line, "memfd:") && sscanf(line, "%lx-%lx %7s", &lo, &hi, perm) == 3 &&
		    strcmp(perm, "rw-s") == 0) {
			found = (uint64_t *)lo;
			*ret_words = (hi - lo) / 8;
		}
	}
	if (f)
		fclose(f);
	return found;
}

static void *scribble(void *arg)
{
	uint64_t *words = NULL;
	size_t n = 0;
	time_t end = time(NULL) + atoi(getenv("SCRIBBLE"));
	unsigned seed = (unsigned)getpid();

	(void)arg;
	while (!(words = find(&n)) && time(NULL) < end)
		usleep(10000);
	if (!words)
		return NULL;
	fprintf(stderr, "scribbling over %zu words, seed %u\n", n, seed);
	for (size_t i = 0; i < 8192 && i < n && time(NULL) < end; i++)
		for (size_t k = 0; k < sizeof(feared) / sizeof(feared[0]); k++) {
			uint64_t old = __atomic_exchange_n(&words[i], feared[k], __ATOMIC_RELAXED);

			usleep(20);
			__atomic_store_n(&words[i], old, __ATOMIC_RELAXED);
		}
	while (time(NULL) < end) {
		for (int i = 0; i < 1000; i++) {
			size_t below = rand_r(&seed) % 4 ? (n < 131072 ? n : 131072) : n;
			size_t at = (((uint64_t)rand_r(&seed) << 31) ^ (uint64_t)rand_r(&seed)) % below;
			uint64_t v = rand_r(&seed) % 2 ? feared[rand_r(&seed) % 10]
						       : ((uint64_t)rand_r(&seed) << 33 ^ (uint64_t)rand_r(&seed));

			__atomic_store_n(&words[at], v, __ATOMIC_RELAXED);
		}
		usleep(100);
	}
	fprintf(stderr, "scribbled\n");
	_exit(0);
}

__attribute__((constructor)) static void start(void)
{
	pthread_t t;

	if (getenv("SCRIBBLE") && pthread_create(&t, NULL, scribble, NULL) == 0)
		pthread_detach(t);
}
