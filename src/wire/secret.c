/*
 * What is known of a user's password, in the forms that PostgreSQL and PgBouncer store.
 */
#include "wire/scram_priv.h"

static bool is_md5_text(const char *text)
{
	return strncmp(text, "md5", 3) == 0 && strlen(text) == MD5_TEXT - 1 &&
	       strspn(text + 3, "0123456789abcdef") == MD5_TEXT - 1 - 3;
}

int secret_parse(const char *text, struct secret *ret)
{
	static const char scram[] = SCRAM_NAME "$";
	struct secret secret = {.kind = SECRET_NONE};

	if (!text || !*text) {
		*ret = secret;
		return 0;
	}
	if (strncmp(text, scram, sizeof(scram) - 1) == 0) {
		secret.kind = SECRET_SCRAM;
		if (!scram_verifier_parse(text, &secret.keys))
			return -EINVAL;
		secret.keys_derived = true;
	} else {
		secret.kind = is_md5_text(text) ? SECRET_MD5 : SECRET_PLAIN;
		if (strlen(text) > PASSWORD_MAX)
			return -EINVAL;
		secret.text = strdup(text);
		if (!secret.text)
			return -ENOMEM;
	}
	*ret = secret;
	wipe(&secret, sizeof(secret));
	return 0;
}

int secret_copy(const struct secret *from, struct secret *ret)
{
	char *text = from->text ? strdup(from->text) : NULL;

	if (from->text && !text)
		return -ENOMEM;
	*ret = *from;
	ret->text = text;
	key_memory_ref(ret->memory);
	return 0;
}

bool secret_equal(const struct secret *a, const struct secret *b)
{
	const struct scram_keys *x = &a->keys, *y = &b->keys;

	if (a->kind != b->kind)
		return false;
	if (a->kind != SECRET_SCRAM)
		return a->kind == SECRET_NONE || strcmp(a->text, b->text) == 0;
	return x->iterations == y->iterations && x->salt_len == y->salt_len &&
	       memcmp(x->salt, y->salt, x->salt_len) == 0 && x->has_client_key == y->has_client_key &&
	       memcmp(x->stored_key, y->stored_key, SCRAM_KEY) == 0 &&
	       memcmp(x->server_key, y->server_key, SCRAM_KEY) == 0;
}

void secret_wipe(struct secret *s)
{
	secret_free(s->text);
	key_memory_unref(s->memory);
	wipe(s, sizeof(*s));
}

void secret_free(char *text)
{
	if (text)
		wipe(text, strlen(text));
	free(text);
}

/* Made from a key of the process and the name: the same at each login, and telling nothing about the name. */
int secret_salt(const uint8_t mock_key[32], const char *user, uint8_t salt[SCRAM_MOCK_SALT])
{
	const struct slice parts[] = {SLICE_LITERAL("salt:"), slice_str(user)};
	uint8_t hash[SCRAM_KEY];
	int r = hmac_sha256(slice_make(mock_key, 32), parts, ARRAY_SIZE(parts), hash);

	if (r == 0)
		memcpy(salt, hash, SCRAM_MOCK_SALT);
	return r;
}

int secret_derive(struct secret *secret, const char *user, const uint8_t mock_key[32])
{
	uint8_t salt[SCRAM_MOCK_SALT];
	int r;

	if (secret->kind != SECRET_PLAIN || secret->keys_derived)
		return 0;
	r = secret_salt(mock_key, user, salt);
	if (r == 0)
		r = scram_derive(secret->text, salt, sizeof(salt), SCRAM_ITERATIONS, &secret->keys);
	secret->keys_derived = r == 0;
	return r;
}

int md5_response(const struct secret *secret, const char *user, const uint8_t salt[4], char out[36])
{
	char shadow[MD5_TEXT];
	int r;

	if (secret->kind == SECRET_PLAIN) {
		r = md5_text(slice_str(secret->text), slice_str(user), shadow);
	} else if (secret->kind == SECRET_MD5) {
		memcpy(shadow, secret->text, sizeof(shadow));
		r = 0;
	} else {
		return -EINVAL;
	}
	if (r == 0)
		r = md5_text(slice_make(shadow + 3, sizeof(shadow) - 1 - 3), slice_make(salt, 4), out);
	wipe(shadow, sizeof(shadow));
	return r;
}
