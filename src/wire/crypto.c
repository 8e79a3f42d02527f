/*
 * The hashes that logins need. OpenSSL looks an algorithm up by its name at each use unless it was fetched before,
 * and that search takes locks: so all are fetched once, at first use, and kept for the life of the process.
 */
#include <pthread.h>

#include <openssl/core_names.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/kdf.h>
#include <openssl/params.h>
#include <openssl/rand.h>

#include "wire/scram_priv.h"

static struct {
	pthread_once_t once;
	EVP_MD *sha256, *md5;       /* md5 is NULL where policy forbids it (FIPS) */
	EVP_MAC_CTX *hmac_template; /* knows its hash; duplicated for each use */
	EVP_KDF *pbkdf2;
} algorithms = {.once = PTHREAD_ONCE_INIT};

static EVP_MAC_CTX *make_hmac_template(void)
{
	char digest[] = "SHA256";
	const OSSL_PARAM params[] = {OSSL_PARAM_construct_utf8_string(OSSL_MAC_PARAM_DIGEST, digest, 0),
				     OSSL_PARAM_construct_end()};
	EVP_MAC *hmac = EVP_MAC_fetch(NULL, "HMAC", NULL);
	EVP_MAC_CTX *template = hmac ? EVP_MAC_CTX_new(hmac) : NULL;

	EVP_MAC_free(hmac); /* the context holds on to it */
	if (template && !EVP_MAC_CTX_set_params(template, params)) {
		EVP_MAC_CTX_free(template);
		template = NULL;
	}
	return template;
}

static void fetch_algorithms(void)
{
	algorithms.sha256 = EVP_MD_fetch(NULL, "SHA256", NULL);
	algorithms.md5 = EVP_MD_fetch(NULL, "MD5", NULL);
	algorithms.pbkdf2 = EVP_KDF_fetch(NULL, "PBKDF2", NULL);
	algorithms.hmac_template = make_hmac_template();
}

static bool have(const void *const *algorithm)
{
	return pthread_once(&algorithms.once, fetch_algorithms) == 0 && *algorithm;
}

#define HAVE(name) have((const void *const *)(const void *)&algorithms.name)

static int digest(const EVP_MD *md, const struct slice *parts, size_t count, uint8_t *out)
{
	EVP_MD_CTX *ctx = EVP_MD_CTX_new();
	int ok = ctx && EVP_DigestInit_ex2(ctx, md, NULL);

	for (size_t i = 0; ok && i < count; i++)
		ok = EVP_DigestUpdate(ctx, parts[i].bytes, parts[i].len);
	ok = ok && EVP_DigestFinal_ex(ctx, out, NULL);
	EVP_MD_CTX_free(ctx);
	return ok ? 0 : -ENOMEM;
}

int sha256(const void *bytes, size_t len, uint8_t out[SCRAM_KEY])
{
	struct slice all = slice_make(bytes, len);

	return HAVE(sha256) ? digest(algorithms.sha256, &all, 1, out) : -ENOTSUP;
}

int hmac_sha256(struct slice key, const struct slice *parts, size_t count, uint8_t out[SCRAM_KEY])
{
	EVP_MAC_CTX *ctx;
	int ok;

	if (!HAVE(hmac_template))
		return -ENOTSUP;
	ctx = EVP_MAC_CTX_dup(algorithms.hmac_template);
	ok = ctx && EVP_MAC_init(ctx, key.bytes, key.len, NULL);
	for (size_t i = 0; ok && i < count; i++)
		ok = EVP_MAC_update(ctx, parts[i].bytes, parts[i].len);
	ok = ok && EVP_MAC_final(ctx, out, NULL, SCRAM_KEY);
	EVP_MAC_CTX_free(ctx);
	return ok ? 0 : -ENOMEM;
}

int pbkdf2_sha256(const char *password, const uint8_t *salt, size_t salt_len, uint32_t iterations,
		  uint8_t out[SCRAM_KEY])
{
	char hash[] = "SHA256";
	/* The limits of SP 800-132 are not PostgreSQL's. */
	int no_limits = 1;
	uint64_t rounds = iterations;
	const OSSL_PARAM params[] = {
		OSSL_PARAM_construct_octet_string(OSSL_KDF_PARAM_PASSWORD, (void *)(uintptr_t)password,
						  strlen(password)),
		OSSL_PARAM_construct_octet_string(OSSL_KDF_PARAM_SALT, (void *)(uintptr_t)salt, salt_len),
		OSSL_PARAM_construct_uint64(OSSL_KDF_PARAM_ITER, &rounds),
		OSSL_PARAM_construct_int(OSSL_KDF_PARAM_PKCS5, &no_limits),
		OSSL_PARAM_construct_utf8_string(OSSL_KDF_PARAM_DIGEST, hash, 0),
		OSSL_PARAM_construct_end(),
	};
	EVP_KDF_CTX *ctx;
	int ok;

	if (!HAVE(pbkdf2))
		return -ENOTSUP;
	ctx = EVP_KDF_CTX_new(algorithms.pbkdf2);
	ok = ctx && EVP_KDF_derive(ctx, out, SCRAM_KEY, params) > 0;
	EVP_KDF_CTX_free(ctx);
	return ok ? 0 : -ENOMEM;
}

int md5_text(struct slice first, struct slice second, char out[MD5_TEXT])
{
	static const char hex[] = "0123456789abcdef";
	const struct slice parts[] = {first, second};
	uint8_t hash[16];
	int r;

	if (!HAVE(md5))
		return -ENOTSUP;
	r = digest(algorithms.md5, parts, ARRAY_SIZE(parts), hash);
	if (r < 0)
		return r;
	memcpy(out, "md5", 3);
	for (size_t i = 0; i < sizeof(hash); i++) {
		out[3 + 2 * i] = hex[hash[i] >> 4];
		out[4 + 2 * i] = hex[hash[i] & 15];
	}
	out[MD5_TEXT - 1] = 0;
	wipe(hash, sizeof(hash));
	return 0;
}

int random_bytes(void *bytes, size_t len)
{
	return RAND_bytes(bytes, (int)len) == 1 ? 0 : -EIO;
}

bool equal_in_constant_time(const void *a, const void *b, size_t len)
{
	return CRYPTO_memcmp(a, b, len) == 0;
}

void wipe(void *memory, size_t len)
{
	OPENSSL_cleanse(memory, len);
}
