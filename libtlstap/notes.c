/* SPDX-License-Identifier: Apache-2.0 */
/* notes.c - what was seen of a handle: a table of few places, each with its handle and one bit in one word. */
#include "notes.h"

#include <stdatomic.h>
#include <stddef.h>

#define PLACES 1024u /* a power of two */
#define NEAR 8u	     /* places that one handle may have */
#define TOLD ((uintptr_t)1)

static struct {
	_Atomic uintptr_t key; /* the handle, and TOLD; 0: free */
	struct note note;
} place[PLACES];

static inline unsigned home(uintptr_t handle)
{
	return (unsigned)((handle * 0x9e3779b97f4a7c15ull) >> 40);
}

#define PLACE(handle, i) (&place[(home(handle) + (i)) & (PLACES - 1)])

static inline _Atomic uintptr_t *key_of(uintptr_t handle)
{
	for (unsigned i = 0; i < NEAR; i++)
		if ((atomic_load_explicit(&PLACE(handle, i)->key, memory_order_acquire) & ~TOLD) == handle)
			return &PLACE(handle, i)->key;
	return NULL;
}

static struct note *note_at(_Atomic uintptr_t *key)
{
	return (struct note *)((char *)key + (offsetof(__typeof(place[0]), note) - offsetof(__typeof(place[0]), key)));
}

/* Take @key over from @old. */
static bool take(_Atomic uintptr_t *key, uintptr_t old, uintptr_t handle)
{
	return atomic_compare_exchange_strong_explicit(key, &old, handle, memory_order_acq_rel, memory_order_relaxed);
}

struct note *note_write(const void *handle)
{
	uintptr_t h = (uintptr_t)handle;
	_Atomic uintptr_t *key = key_of(h);

	if (!h || (h & TOLD))
		return NULL;
	if (key && (atomic_load_explicit(key, memory_order_relaxed) == h || take(key, h | TOLD, h)))
		return note_at(key);
	for (unsigned i = 0; i < NEAR; i++) {
		uintptr_t old = atomic_load_explicit(&PLACE(h, i)->key, memory_order_relaxed);

		if ((old && !(old & TOLD)) || !take(&PLACE(h, i)->key, old, h))
			continue;
		PLACE(h, i)->note = (struct note){.fd = -1};
		return &PLACE(h, i)->note;
	}
	return NULL;
}

void note_told(const void *handle)
{
	_Atomic uintptr_t *key = handle ? key_of((uintptr_t)handle) : NULL;

	if (key && !note_at(key)->pending) /* while bytes wait it is needed */
		(void)take(key, (uintptr_t)handle, (uintptr_t)handle | TOLD);
}

bool note_read(const void *handle, struct note *ret)
{
	_Atomic uintptr_t *key = handle ? key_of((uintptr_t)handle) : NULL;

	if (!key)
		return false;
	*ret = *note_at(key);
	atomic_thread_fence(memory_order_acquire); /* whoever took it over has said so before it wrote */
	return (atomic_load_explicit(key, memory_order_relaxed) & ~TOLD) == (uintptr_t)handle;
}

void note_drop(const void *handle)
{
	_Atomic uintptr_t *key = handle ? key_of((uintptr_t)handle) : NULL;

	if (key && !take(key, (uintptr_t)handle, 0))
		(void)take(key, (uintptr_t)handle | TOLD, 0);
}
