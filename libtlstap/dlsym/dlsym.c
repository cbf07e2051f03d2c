/* SPDX-License-Identifier: Apache-2.0 */
/* dlsym.c - libtlstap-dlsym.so: dlsym(3) for programs that look the functions of their TLS library up by name.
 *
 * The one exception to "never a function of libc", and therefore a library of its own, which is loaded beside libtlstap
 * into such programs only. Each call is a jump: to the next dlsym, with the caller's arguments and return address, by
 * which RTLD_NEXT and RTLD_DEFAULT know who asks. Only what is looked up in an explicit handle under the name of a hook
 * goes to look(), which asks the next dlsym itself, and libtlstap whether a wrapper stands in for what that found.
 *
 * Nothing here needs a constructor, a lock, memory or a thread's own variables. Without libtlstap, it is the jump. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>

#include "libtlstap/hooks.h"
#include "libtlstap/standin.h"

#if defined(__x86_64__)
#define OLDEST "GLIBC_2.2.5"
#elif defined(__aarch64__)
#define OLDEST "GLIBC_2.17"
#else
#error "how does one jump with the caller's arguments and return address here?"
#endif

typedef void *lookup(void *handle, const char *name);

extern __typeof(dlvsym) old_dlvsym __attribute__((weak)); /* as in resolve.c */
__asm__(".symver old_dlvsym, dlvsym@" OLDEST);
extern __typeof(tlstap_stand_in) tlstap_stand_in __attribute__((weak));

lookup *tlstap_dlsym_way(void *handle, const char *name) __attribute__((visibility("hidden"), used));

/* dlsym: jump to what tlstap_dlsym_way() says. */
#if defined(__x86_64__)
__asm__(".text\n"
	".p2align 4\n"
	".globl dlsym\n"
	".type dlsym, @function\n"
	"dlsym:\n"
	".cfi_startproc\n"
	"	endbr64\n"
	"	pushq %rdi\n"
	"	.cfi_adjust_cfa_offset 8\n"
	"	pushq %rsi\n"
	"	.cfi_adjust_cfa_offset 8\n"
	"	subq $8, %rsp\n"
	"	.cfi_adjust_cfa_offset 8\n"
	"	call tlstap_dlsym_way\n"
	"	addq $8, %rsp\n"
	"	.cfi_adjust_cfa_offset -8\n"
	"	popq %rsi\n"
	"	.cfi_adjust_cfa_offset -8\n"
	"	popq %rdi\n"
	"	.cfi_adjust_cfa_offset -8\n"
	"	jmp *%rax\n"
	".cfi_endproc\n"
	".size dlsym, . - dlsym\n");
#else
__asm__(".text\n"
	".p2align 4\n"
	".globl dlsym\n"
	".type dlsym, %function\n"
	"dlsym:\n"
	".cfi_startproc\n"
	"	hint #34\n" /* bti c */
	"	stp x29, x30, [sp, #-32]!\n"
	"	.cfi_def_cfa_offset 32\n"
	"	.cfi_offset 29, -32\n"
	"	.cfi_offset 30, -24\n"
	"	mov x29, sp\n"
	"	stp x0, x1, [sp, #16]\n"
	"	bl tlstap_dlsym_way\n"
	"	mov x16, x0\n"
	"	ldp x0, x1, [sp, #16]\n"
	"	ldp x29, x30, [sp], #32\n"
	"	.cfi_restore 30\n"
	"	.cfi_restore 29\n"
	"	.cfi_def_cfa_offset 0\n"
	"	br x16\n"
	".cfi_endproc\n"
	".size dlsym, . - dlsym\n");
#endif

/* As an array of characters it needs no relocation. */
static const char names[][32] = {
#define NAME(ret, name, args, fail) #name,
	OPENSSL_HOOKS(NAME) GNUTLS_HOOKS(NAME)
#undef NAME
};

static bool same(const char *a, const char *b)
{
	while (*a && *a == *b) {
		a++;
		b++;
	}
	return *a == *b;
}

static bool is_hook(const char *name)
{
	if (!name || !(name[0] == 'S' ? name[1] == 'S' && name[2] == 'L' && name[3] == '_'
				      : name[0] == 'g' && name[1] == 'n' && name[2] == 'u'))
		return false;
	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
		if (same(names[i], name))
			return true;
	return false;
}

static void *none(void *handle, const char *name)
{
	(void)handle;
	(void)name;
	return NULL;
}

static _Atomic(lookup *) next; /* who finds it out first writes it down; all find the same */

/* The dlsym that callers would reach without us: libc's, or that of another library which interposes it, too. The
 * latter is found by the former alone, for dlvsym() sees no function without a version. */
static __attribute__((noinline)) lookup *find_next(void)
{
	lookup *f = NULL, *other = NULL;
	int err = errno;

	if (old_dlvsym)
		f = (lookup *)old_dlvsym(RTLD_NEXT, "dlsym", OLDEST);
	if (f)
		other = (lookup *)f(RTLD_NEXT, "dlsym");
	f = other ? other : f ? f : none;
	atomic_store_explicit(&next, f, memory_order_release);
	errno = err;
	return f;
}

/* Reached by the jump: our return address is the caller's. */
static void *look(void *handle, const char *name)
{
	lookup *f = atomic_load_explicit(&next, memory_order_acquire);
	void *found = f(handle, name), *ours;
	int err = errno;

	if (!found)
		return NULL;
	ours = tlstap_stand_in(name, found, __builtin_return_address(0));
	/* libtlstap asks the linker for what need not be there: dlerror(3) shall know of this call only */
	(void)f(handle, name);
	errno = err;
	return ours ? ours : found;
}

lookup *tlstap_dlsym_way(void *handle, const char *name)
{
	lookup *f = atomic_load_explicit(&next, memory_order_acquire);

	if (!f)
		f = find_next();
	/* what is in everybody's sight is found in libtlstap anyway; who wants the next one wants the next one */
	if (handle == RTLD_DEFAULT || handle == RTLD_NEXT || !tlstap_stand_in || !is_hook(name))
		return f;
	return look;
}
