/* SPDX-License-Identifier: Apache-2.0 */
/* reach_deepbind.c - reach_deepbind PLUGIN [ARG]...: loads a plugin with RTLD_DEEPBIND and runs its plugin_main(). */
#include <dlfcn.h>
#include <stdio.h>

int main(int argc, char **argv)
{
	void *h = argc > 1 ? dlopen(argv[1], RTLD_NOW | RTLD_GLOBAL | RTLD_DEEPBIND) : NULL;
	int (*run)(int, char **) = h ? (int (*)(int, char **))dlsym(h, "plugin_main") : NULL;

	if (!run) {
		fprintf(stderr, "%s\n", dlerror());
		return 2;
	}
	return run(argc - 1, argv + 1);
}
