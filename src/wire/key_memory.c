/*
 * Keys derived from one password to log in to servers: PBKDF2 takes milliseconds, and all links of a pool meet the same
 * few salts. Who needs keys that somebody is deriving waits for those, for that is what it would take to derive them.
 *
 * Invariant: kept[0, count) are keys of the password of the secret (and its copies) that this belongs to.
 */
#include "wire/scram_priv.h"

#include <pthread.h>
#include <stdatomic.h>

#define SALTS_MAX 8u /* a user has one in a cluster; a name may lead to several clusters */

struct key_memory {
	_Atomic uint32_t references;
	pthread_mutex_t lock; /* of what follows */
	struct scram_keys kept[SALTS_MAX];
	uint32_t count, next;
	uint64_t derivations;
};

struct key_memory *key_memory_ref(struct key_memory *memory)
{
	if (memory)
		atomic_fetch_add(&memory->references, 1);
	return memory;
}

void key_memory_unref(struct key_memory *memory)
{
	if (!memory || atomic_fetch_sub(&memory->references, 1) > 1)
		return;
	pthread_mutex_destroy(&memory->lock);
	wipe(memory, sizeof(*memory));
	free(memory);
}

static const struct scram_keys *find(const struct key_memory *memory, const uint8_t *salt, uint32_t salt_len,
				     uint32_t iterations)
{
	for (uint32_t i = 0; i < memory->count; i++) {
		const struct scram_keys *k = &memory->kept[i];

		if (k->iterations == iterations && k->salt_len == salt_len && memcmp(k->salt, salt, salt_len) == 0)
			return k;
	}
	return NULL;
}

int key_memory_derive(struct key_memory *memory, const char *password, const uint8_t *salt, uint32_t salt_len,
		      uint32_t iterations, struct scram_keys *ret)
{
	const struct scram_keys *known;
	int r = 0;

	if (!memory)
		return scram_derive(password, salt, salt_len, iterations, ret);
	pthread_mutex_lock(&memory->lock);
	known = find(memory, salt, salt_len, iterations);
	if (known) {
		*ret = *known;
	} else {
		r = scram_derive(password, salt, salt_len, iterations, ret);
		memory->derivations++;
	}
	if (!known && r == 0) {
		memory->kept[memory->next] = *ret;
		memory->next = (memory->next + 1) % SALTS_MAX;
		memory->count = MIN(memory->count + 1, SALTS_MAX);
	}
	pthread_mutex_unlock(&memory->lock);
	return r;
}

void secret_remember_keys(struct secret *secret)
{
	struct key_memory *memory;

	if (secret->kind != SECRET_PLAIN || secret->memory)
		return;
	memory = calloc(1, sizeof(*memory));
	if (!memory)
		return;
	atomic_init(&memory->references, 1);
	pthread_mutex_init(&memory->lock, NULL);
	secret->memory = memory;
}

uint64_t secret_derivations(const struct secret *secret)
{
	uint64_t count = 0;

	if (secret->memory) {
		pthread_mutex_lock(&secret->memory->lock);
		count = secret->memory->derivations;
		pthread_mutex_unlock(&secret->memory->lock);
	}
	return count;
}
