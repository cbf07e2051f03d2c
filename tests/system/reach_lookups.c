/* SPDX-License-Identifier: Apache-2.0 */
/* reach_lookups.c - looks functions up in every way and says what it got. No TLS library is linked in.
 *
 *   reach_lookups FOLDER         one line each: how, what, object and name of what was found, errno, dlerror(3)
 *   reach_lookups FOLDER unwind  a thread ends inside a dlsym() that reach_other.so interposes
 *   reach_lookups FOLDER storm   threads look up while the process forks
 *
 * FOLDER has own.so and gone.so, which are no TLS libraries but have an SSL_read(). */
#include <dlfcn.h>
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define THREADS 6
#define LOOKUPS 3000
#define FORKS 30

static const char *base(const char *path)
{
	const char *slash = path ? strrchr(path, '/') : NULL;

	return slash ? slash + 1 : path ? path : "";
}

static void say(const char *how, const char *name, void *found)
{
	int err = errno;
	char *why = dlerror();
	Dl_info info;

	if (!found || !dladdr(found, &info))
		memset(&info, 0, sizeof(info));
	printf("%s %s: %s %s, errno %d, %s\n", how, name, base(info.dli_fname), info.dli_sname ? info.dli_sname : "",
	       err, why ? base(why) : "no error");
}

static void look(const char *how, void *handle, const char *name)
{
	errno = 77;
	say(how, name, dlsym(handle, name));
}

static void *load(const char *file)
{
	void *h = dlopen(file, RTLD_NOW | RTLD_LOCAL);

	if (!h) {
		fprintf(stderr, "%s\n", dlerror());
		exit(3);
	}
	return h;
}

static void look_and_unload(const char *folder)
{
	char path[4096];
	void *gone;

	snprintf(path, sizeof(path), "%s/gone.so", folder);
	gone = load(path);
	look("gone", gone, "SSL_read");
	dlclose(gone);
	printf("gone.so: %s\n", dlopen(path, RTLD_NOW | RTLD_NOLOAD) ? "is there" : "unloaded");
	(void)dlerror();
}

static void *ssl;

static void lookups(const char *folder)
{
	static const char *const names[] = {"SSL_read",
					    "SSL_write",
					    "SSL_write_ex",
					    "SSL_free",
					    "SSL_connect",
					    "SSL_CTX_new",
					    "BIO_read",
					    "SSL_readx",
					    "SSL_",
					    "S",
					    "",
					    "dlsym",
					    "malloc"};
	char path[4096];
	void *own, *gnutls = load("libgnutls.so.30");

	snprintf(path, sizeof(path), "%s/own.so", folder);
	own = load(path);
	look("first", own, "SSL_read");
	look_and_unload(folder);
	for (unsigned i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		look("ssl", ssl, names[i]);
		look("own", own, names[i]);
		look("default", RTLD_DEFAULT, names[i]);
		look("next", RTLD_NEXT, names[i]);
	}
	look("self", dlopen(NULL, RTLD_NOW), "SSL_read");
	look("gnutls", gnutls, "gnutls_record_recv");
	look("gnutls", gnutls, "gnutls_init");
	look("ssl", ssl, "gnutls_record_recv");
	/* an error that nobody asked for is gone after the next lookup */
	(void)dlopen("no-such.so", RTLD_NOW);
	look("after an error", ssl, "SSL_write");
	(void)dlsym(ssl, "SSL_nix");
	look("after another", ssl, "SSL_shutdown");
	say("by version", "SSL_read", dlvsym(ssl, "SSL_read", "OPENSSL_3.0.0"));
}

static void at_end(void *arg)
{
	(void)arg;
	puts("cleaned up");
}

static void *ends_inside(void *arg)
{
	pthread_cleanup_push(at_end, NULL);
	(void)dlsym(ssl, "SSL_read");
	pthread_cleanup_pop(0);
	return arg;
}

static int round_of_lookups(void)
{
	static const char *const names[] = {"SSL_read", "malloc", "SSL_new", "SSL_write"};
	void *first[4] = {NULL}, *p;

	for (int i = 0; i < LOOKUPS; i++) {
		p = dlsym(i % 4 == 1 ? RTLD_DEFAULT : ssl, names[i % 4]);
		if (!p || (first[i % 4] && first[i % 4] != p))
			return 1;
		first[i % 4] = p;
	}
	return 0;
}

static void *stormy(void *arg)
{
	return round_of_lookups() ? NULL : arg;
}

static int storm(void)
{
	pthread_t t[THREADS];
	int status, wrong = 0;
	void *ret;

	for (int i = 0; i < THREADS; i++)
		pthread_create(&t[i], NULL, stormy, &t[i]);
	for (int i = 0; i < FORKS; i++) {
		pid_t pid = fork();

		if (pid == 0)
			_exit(round_of_lookups());
		waitpid(pid, &status, 0);
		wrong += status != 0;
	}
	for (int i = 0; i < THREADS; i++) {
		pthread_join(t[i], &ret);
		wrong += ret == NULL;
	}
	look("ssl", ssl, "SSL_read");
	printf("%d wrong\n", wrong);
	return wrong != 0;
}

int main(int argc, char **argv)
{
	pthread_t t;

	if (argc < 2)
		return 2;
	ssl = load("libssl.so.3");
	if (argc == 2) {
		lookups(argv[1]);
	} else if (strcmp(argv[2], "storm") == 0) {
		look("ssl", ssl, "SSL_write");
		return storm();
	} else {
		pthread_create(&t, NULL, ends_inside, NULL);
		pthread_join(t, NULL);
		puts("joined");
	}
	return 0;
}
