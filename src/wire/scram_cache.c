/*
 * Keys derived from passwords, so that a storm of logins derives each only once: PBKDF2 takes milliseconds.
 *
 * Invariant: who exists and who doesn't is treated alike. A name without a password has its entry, too, made and lost
 * like the others; if only real users were remembered, a second attempt would tell them from the rest by its time.
 * An entry is found by a keyed hash of name and password: one of a password that has changed is found no more.
 */
#include "wire/scram_priv.h"

#define SETS 4096u
#define WAYS 4u

struct entry {
	uint8_t tag[SCRAM_KEY]; /* all zero: free */
	uint8_t stored_key[SCRAM_KEY], server_key[SCRAM_KEY], client_key[SCRAM_KEY];
};

struct scram_cache {
	struct entry entries[SETS][WAYS]; /* 2 MiB, of which the system gives what is written to */
};

struct scram_cache *scram_cache_new(void)
{
	return calloc(1, sizeof(struct scram_cache));
}

void scram_cache_free(struct scram_cache *cache)
{
	static const uint8_t unused[SCRAM_KEY];

	if (!cache)
		return;
	for (uint32_t i = 0; i < SETS; i++) /* reading costs no memory where nothing was written */
		for (uint32_t j = 0; j < WAYS; j++)
			if (memcmp(cache->entries[i][j].tag, unused, SCRAM_KEY) != 0)
				wipe(&cache->entries[i][j], sizeof(struct entry));
	free(cache);
}

/* Where the tag is; else where it is to be put, a place that nobody can foresee. */
static struct entry *find(struct scram_cache *cache, const uint8_t tag[SCRAM_KEY], bool *ret_found)
{
	struct entry *set = cache->entries[(tag[0] | tag[1] << 8) % SETS];

	*ret_found = true;
	for (uint32_t i = 0; i < WAYS; i++)
		if (equal_in_constant_time(set[i].tag, tag, SCRAM_KEY))
			return &set[i];
	*ret_found = false;
	return &set[tag[2] % WAYS];
}

static int make_tag(const struct secret *secret, const char *user, const uint8_t mock_key[32], uint8_t tag[SCRAM_KEY])
{
	const struct slice parts[] = {
		SLICE_LITERAL("cache:"),
		slice_make(user, strlen(user) + 1),
		slice_str(secret->kind == SECRET_PLAIN ? secret->text : ""),
	};

	return hmac_sha256(slice_make(mock_key, 32), parts, ARRAY_SIZE(parts), tag);
}

static int derive_into(struct entry *entry, const struct secret *secret, const uint8_t salt[SCRAM_MOCK_SALT],
		       const uint8_t tag[SCRAM_KEY])
{
	struct scram_keys keys;
	int r = scram_derive(secret->kind == SECRET_PLAIN ? secret->text : "none", salt, SCRAM_MOCK_SALT,
			     SCRAM_ITERATIONS, &keys);

	if (r < 0)
		return r;
	memcpy(entry->tag, tag, SCRAM_KEY);
	memcpy(entry->stored_key, keys.stored_key, SCRAM_KEY);
	memcpy(entry->server_key, keys.server_key, SCRAM_KEY);
	memcpy(entry->client_key, keys.client_key, SCRAM_KEY);
	wipe(&keys, sizeof(keys));
	return 0;
}

int scram_cache_derive(struct scram_cache *cache, struct secret *secret, const char *user, const uint8_t mock_key[32])
{
	struct scram_keys keys = {.iterations = SCRAM_ITERATIONS, .salt_len = SCRAM_MOCK_SALT, .has_client_key = true};
	uint8_t tag[SCRAM_KEY];
	struct entry *entry;
	bool found;
	int r = make_tag(secret, user, mock_key, tag);

	if (r == 0)
		r = secret_salt(mock_key, user, keys.salt);
	if (r < 0)
		return r;
	entry = find(cache, tag, &found);
	if (!found)
		r = derive_into(entry, secret, keys.salt, tag);
	if (r < 0 || secret->kind != SECRET_PLAIN)
		return r;
	memcpy(keys.stored_key, entry->stored_key, SCRAM_KEY);
	memcpy(keys.server_key, entry->server_key, SCRAM_KEY);
	memcpy(keys.client_key, entry->client_key, SCRAM_KEY);
	secret->keys = keys;
	secret->keys_derived = true;
	wipe(&keys, sizeof(keys));
	return 0;
}
