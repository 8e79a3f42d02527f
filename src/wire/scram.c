/*
 * What both sides of SCRAM-SHA-256 do: keys, verifiers, signatures, and the attributes of messages.
 */
#include <stdio.h>

#include "wire/scram_priv.h"

/* Of text, as pg_authid has it: SCRAM-SHA-256$4096:salt$StoredKey:ServerKey */
#define VERIFIER_PREFIX SCRAM_NAME "$"
#define VERIFIER_MAX    256u

/* ------------------------------------------------------------------ keys */

static int keys_from_salted(const uint8_t salted[SCRAM_KEY], struct scram_keys *keys)
{
	const struct slice key = slice_make(salted, SCRAM_KEY);
	const struct slice client = SLICE_LITERAL("Client Key"), server = SLICE_LITERAL("Server Key");
	int r = hmac_sha256(key, &client, 1, keys->client_key);

	if (r == 0)
		r = sha256(keys->client_key, SCRAM_KEY, keys->stored_key);
	if (r == 0)
		r = hmac_sha256(key, &server, 1, keys->server_key);
	keys->has_client_key = r == 0;
	return r;
}

int scram_derive(const char *password, const uint8_t *salt, uint32_t salt_len, uint32_t iterations,
		 struct scram_keys *ret)
{
	struct scram_keys keys = {.iterations = iterations, .salt_len = salt_len};
	uint8_t salted[SCRAM_KEY];
	char *prepared;
	int r;

	if (salt_len > SCRAM_SALT_MAX || iterations == 0)
		return -EINVAL;
	if (salt_len > 0)
		memcpy(keys.salt, salt, salt_len);
	prepared = saslprep(password);
	if (!prepared)
		return -ENOMEM;
	r = pbkdf2_sha256(prepared, keys.salt, salt_len, iterations, salted);
	if (r == 0)
		r = keys_from_salted(salted, &keys);
	if (r == 0)
		*ret = keys;
	secret_free(prepared);
	wipe(salted, sizeof(salted));
	wipe(&keys, sizeof(keys));
	return r;
}

int scram_xor_signature(const uint8_t stored_key[SCRAM_KEY], struct slice auth_message, const uint8_t in[SCRAM_KEY],
			uint8_t out[SCRAM_KEY])
{
	uint8_t signature[SCRAM_KEY];
	int r = hmac_sha256(slice_make(stored_key, SCRAM_KEY), &auth_message, 1, signature);

	for (size_t i = 0; r == 0 && i < SCRAM_KEY; i++)
		out[i] = in[i] ^ signature[i];
	wipe(signature, sizeof(signature));
	return r;
}

int scram_server_signature(const uint8_t server_key[SCRAM_KEY], struct slice auth_message, uint8_t out[SCRAM_KEY])
{
	return hmac_sha256(slice_make(server_key, SCRAM_KEY), &auth_message, 1, out);
}

/* ------------------------------------------------------------------ verifiers */

/* Takes what stands before `end` off *text; false without one. */
static bool take_until(struct slice *text, char end, struct slice *ret)
{
	const uint8_t *at = memchr(text->bytes, end, text->len);

	if (!at)
		return false;
	*ret = slice_make(text->bytes, (size_t)(at - text->bytes));
	*text = slice_make(at + 1, text->len - ret->len - 1);
	return true;
}

uint32_t scram_iterations_parse(struct slice text)
{
	uint64_t n = 0;

	if (text.len > 10)
		return 0;
	for (size_t i = 0; i < text.len; i++) {
		if (text.bytes[i] < '0' || text.bytes[i] > '9')
			return 0;
		n = n * 10 + (uint64_t)(text.bytes[i] - '0');
	}
	return n <= INT32_MAX ? (uint32_t)n : 0;
}

bool scram_verifier_parse(const char *text, struct scram_keys *ret)
{
	struct scram_keys keys = {0};
	struct slice rest = slice_str(text), iterations, salt, stored;
	int salt_len;

	if (strncmp(text, VERIFIER_PREFIX, sizeof(VERIFIER_PREFIX) - 1) != 0)
		return false;
	rest = slice_make(rest.bytes + sizeof(VERIFIER_PREFIX) - 1, rest.len - (sizeof(VERIFIER_PREFIX) - 1));
	if (!take_until(&rest, ':', &iterations) || !take_until(&rest, '$', &salt) || !take_until(&rest, ':', &stored))
		return false;
	salt_len = base64_decode(salt, keys.salt, sizeof(keys.salt));
	keys.iterations = scram_iterations_parse(iterations);
	if (keys.iterations == 0 || salt_len < 0 ||
	    base64_decode(stored, keys.stored_key, SCRAM_KEY) != (int)SCRAM_KEY ||
	    base64_decode(rest, keys.server_key, SCRAM_KEY) != (int)SCRAM_KEY)
		return false;
	keys.salt_len = (uint32_t)salt_len;
	*ret = keys;
	return true;
}

int scram_verifier_print(const struct scram_keys *keys, char *text, size_t size)
{
	struct buf b = BUF_INIT(VERIFIER_MAX + 1);
	int r = -ENOMEM;

	buf_printf(&b, VERIFIER_PREFIX "%u:", keys->iterations);
	base64_add(&b, keys->salt, keys->salt_len);
	buf_add_char(&b, '$');
	base64_add(&b, keys->stored_key, SCRAM_KEY);
	buf_add_char(&b, ':');
	base64_add(&b, keys->server_key, SCRAM_KEY);
	if (!b.failed) {
		r = -ENOSPC;
		if (b.len < size) {
			memcpy(text, b.bytes, b.len);
			text[b.len] = 0;
			r = (int)b.len;
		}
	}
	buf_free_secret(&b);
	return r;
}

/* ------------------------------------------------------------------ messages */

int scram_nonce(char nonce[SCRAM_NONCE_TEXT])
{
	struct buf b = BUF_INIT(SCRAM_NONCE_TEXT);
	uint8_t random[SCRAM_NONCE];
	int r = random_bytes(random, sizeof(random));

	if (r < 0)
		return r;
	base64_add(&b, random, sizeof(random));
	r = b.failed ? -ENOMEM : 0;
	if (r == 0) {
		memcpy(nonce, b.bytes, SCRAM_NONCE_TEXT - 1);
		nonce[SCRAM_NONCE_TEXT - 1] = 0;
	}
	buf_free(&b);
	return r;
}

bool scram_nonce_is_valid(struct slice nonce)
{
	for (size_t i = 0; i < nonce.len; i++)
		if (nonce.bytes[i] < 0x21 || nonce.bytes[i] > 0x7e || nonce.bytes[i] == ',')
			return false;
	return nonce.len > 0;
}

bool scram_text_begin(struct scram_text *t, struct slice message)
{
	*t = (struct scram_text){.rest = message};
	t->failed = message.len == 0 || message.len > SCRAM_MESSAGE_MAX || memchr(message.bytes, 0, message.len);
	return !t->failed;
}

bool scram_text_eat(struct scram_text *t, const char *prefix)
{
	size_t len = strlen(prefix);

	if (t->rest.len < len || memcmp(t->rest.bytes, prefix, len) != 0)
		return false;
	t->rest = slice_make(t->rest.bytes + len, t->rest.len - len);
	return true;
}

struct slice scram_attribute(struct scram_text *t, char name)
{
	const uint8_t *comma;
	struct slice value;

	if (t->failed || t->rest.len < 2 || t->rest.bytes[0] != (uint8_t)name || t->rest.bytes[1] != '=') {
		t->failed = true;
		return SLICE_LITERAL("");
	}
	comma = memchr(t->rest.bytes, ',', t->rest.len);
	value = slice_make(t->rest.bytes + 2, (comma ? (size_t)(comma - t->rest.bytes) : t->rest.len) - 2);
	t->rest = slice_make(value.bytes + value.len, t->rest.len - value.len - 2);
	if (comma) {
		t->rest = slice_make(t->rest.bytes + 1, t->rest.len - 1);
		t->failed = t->rest.len == 0; /* nothing stands behind the comma */
	}
	return value;
}

void scram_skip_to(struct scram_text *t, char name)
{
	while (!t->failed && t->rest.len > 0 && t->rest.bytes[0] != (uint8_t)name) {
		uint8_t letter = t->rest.bytes[0] | 0x20;

		if (letter < 'a' || letter > 'z')
			t->failed = true;
		else
			scram_attribute(t, (char)t->rest.bytes[0]);
	}
}

const char *scram_gs2_header(enum scram_flag flag)
{
	switch (flag) {
	case SCRAM_BIND_NONE:
		return "n,,";
	case SCRAM_BIND_UNASKED:
		return "y,,";
	case SCRAM_BIND:
		return "p=tls-server-end-point,,";
	}
	return NULL;
}

void scram_binding_add(struct buf *out, enum scram_flag flag, struct slice end_point)
{
	struct buf binding = BUF_INIT(128);

	buf_add_str(&binding, scram_gs2_header(flag));
	if (flag == SCRAM_BIND)
		buf_add(&binding, end_point.bytes, end_point.len);
	base64_add(out, binding.bytes, binding.len);
	out->failed |= binding.failed;
	buf_free(&binding);
}
