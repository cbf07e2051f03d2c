/* SPDX-License-Identifier: Apache-2.0 */
/* driver.c - runs a fuzz target without libFuzzer: given files, then mutations of them.
 *
 *   fuzz_NAME [-runs=N] [-seed=N] [FILE|DIRECTORY]...
 *
 * The inputs are run as they are, then N (10000) times one of them with a few bytes changed, cut or
 * repeated. The seed is printed, so that a crash can be had again. */
#include <dirent.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

#define INPUTS_MAX 4096
#define INPUT_MAX (1u << 20)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);
__attribute__((weak)) int LLVMFuzzerInitialize(int *argc, char ***argv);

static struct {
	uint8_t *data;
	size_t len;
} input[INPUTS_MAX];
static size_t n_inputs;
static uint64_t rng;

static uint64_t draw(uint64_t below)
{
	rng ^= rng << 13;
	rng ^= rng >> 7;
	rng ^= rng << 17;
	return below ? rng % below : 0;
}

/* A copy of its own size, so that AddressSanitizer sees each byte too many. */
static void run(const uint8_t *data, size_t len)
{
	uint8_t *copy = malloc(len ? len : 1);

	if (!copy)
		abort();
	if (len)
		memcpy(copy, data, len);
	(void)LLVMFuzzerTestOneInput(copy, len);
	free(copy);
}

static void add_file(const char *path)
{
	FILE *f = fopen(path, "rb");
	uint8_t *data = malloc(INPUT_MAX);

	if (!f || !data) {
		perror(path);
		exit(1);
	}
	if (n_inputs < INPUTS_MAX) {
		input[n_inputs].len = fread(data, 1, INPUT_MAX, f);
		input[n_inputs++].data = data;
	} else {
		free(data);
	}
	fclose(f);
}

static void add(const char *path)
{
	struct stat st;
	struct dirent *e;
	DIR *d;

	if (stat(path, &st) == 0 && !S_ISDIR(st.st_mode)) {
		add_file(path);
		return;
	}
	d = opendir(path);
	if (!d) {
		perror(path);
		exit(1);
	}
	while ((e = readdir(d))) {
		char name[4096];

		if (e->d_name[0] == '.')
			continue;
		snprintf(name, sizeof(name), "%s/%s", path, e->d_name);
		add_file(name);
	}
	closedir(d);
}

static void mutate(uint8_t *buf, size_t *len)
{
	static const uint8_t odd[] = {0x00, 0xff, 0x7f, 0x80, '\r', '\n', ' ', ':', '='};
	size_t at = draw(*len + 1), n;

	switch (draw(6)) {
	case 0: /* one bit */
		if (at < *len)
			buf[at] ^= 1u << draw(8);
		break;
	case 1: /* any byte */
		if (at < *len)
			buf[at] = draw(256);
		break;
	case 2: /* a byte that parsers care about */
		if (at < *len)
			buf[at] = odd[draw(sizeof(odd))];
		break;
	case 3: /* cut */
		*len = at;
		break;
	case 4: /* remove a piece */
		n = draw(*len - at + 1);
		memmove(buf + at, buf + at + n, *len - at - n);
		*len -= n;
		break;
	default: /* repeat a piece */
		n = draw(*len - at + 1);
		if (*len + n > INPUT_MAX)
			break;
		memmove(buf + at + n, buf + at, *len - at);
		*len += n;
	}
}

int main(int argc, char **argv)
{
	uint8_t *buf = malloc(INPUT_MAX);
	uint64_t runs = 10000, i;

	if (!buf)
		return 1;
	rng = (uint64_t)time(NULL) * 2654435761u | 1;
	if (LLVMFuzzerInitialize)
		LLVMFuzzerInitialize(&argc, &argv);
	for (int a = 1; a < argc; a++) {
		if (strncmp(argv[a], "-runs=", 6) == 0)
			runs = strtoull(argv[a] + 6, NULL, 10);
		else if (strncmp(argv[a], "-seed=", 6) == 0)
			rng = strtoull(argv[a] + 6, NULL, 10) | 1;
		else if (argv[a][0] != '-')
			add(argv[a]);
	}
	printf("seed %llu, %zu inputs, %llu mutations\n", (unsigned long long)rng, n_inputs, (unsigned long long)runs);
	fflush(stdout);
	run(NULL, 0);
	for (i = 0; i < n_inputs; i++)
		run(input[i].data, input[i].len);
	for (i = 0; i < runs; i++) {
		size_t len = 64, pick = draw(n_inputs);

		if (n_inputs) {
			len = input[pick].len;
			memcpy(buf, input[pick].data, len);
		} else {
			for (size_t k = 0; k < len; k++)
				buf[k] = draw(256);
		}
		for (uint64_t m = 1 + draw(8); m; m--)
			mutate(buf, &len);
		run(buf, len);
	}
	for (i = 0; i < n_inputs; i++)
		free(input[i].data);
	free(buf);
	return 0;
}
