/*
 * What the files of SCRAM share. The exchanges here know SCRAM's messages only; the protocol's messages around them
 * are client_auth.c and server_auth.c. They are pure: nonces come in, so that tests can run known vectors.
 */
#ifndef WIRE_SCRAM_PRIV_H
#define WIRE_SCRAM_PRIV_H

#include "wire/scram.h"

#define SCRAM_NAME        "SCRAM-SHA-256"
#define SCRAM_PLUS_NAME   "SCRAM-SHA-256-PLUS"
#define SCRAM_MESSAGE_MAX 4096u /* bytes of one SCRAM message; PostgreSQL takes 1024 */
/* Three messages of at most that length, the second with our nonce, salt and iterations added. */
#define SCRAM_TRANSCRIPT_MAX (3 * SCRAM_MESSAGE_MAX + 256)
#define SCRAM_MOCK_SALT      16u /* bytes, as PostgreSQL makes them */
#define SCRAM_NONCE          18u /* random bytes; base64 makes 24 of them */
#define SCRAM_NONCE_TEXT     25u /* with its NUL */
#define SCRAM_NONCE_MAX      64u /* as long as a test may give */
#define END_POINT_MAX        64u /* a hash, of a certificate */
#define MD5_TEXT             36u /* "md5", 32 hex digits, NUL */

enum auth_request { /* the Int32 behind the 'R' of an Authentication* message */
		    REQUEST_OK = 0,
		    REQUEST_PASSWORD = 3,
		    REQUEST_MD5 = 5,
		    REQUEST_SASL = 10,
		    REQUEST_SASL_CONTINUE = 11,
		    REQUEST_SASL_FINAL = 12,
};

static inline enum auth_step auth_fail(const char **why, const char *text)
{
	*why = text;
	return AUTH_FAILED;
}

static inline enum auth_step auth_malformed(const char **why, const char *text)
{
	*why = text;
	return AUTH_MALFORMED;
}

/* Our own failure, not that of who logs in; what is in `out` must not be sent. */
static inline enum auth_step auth_no_memory(struct buf *out)
{
	out->failed = true;
	return AUTH_FAILED;
}

/* --- crypto.c: OpenSSL's algorithms, fetched once a process. 0 or -errno. --- */
int sha256(const void *bytes, size_t len, uint8_t out[SCRAM_KEY]) MUST_USE;
/* Of the parts one behind the other. */
int hmac_sha256(struct slice key, const struct slice *parts, size_t count, uint8_t out[SCRAM_KEY]) MUST_USE;
int pbkdf2_sha256(const char *password, const uint8_t *salt, size_t salt_len, uint32_t iterations,
		  uint8_t out[SCRAM_KEY]) MUST_USE;
/* "md5" + the hex digits of the hash of both parts. */
int md5_text(struct slice first, struct slice second, char out[MD5_TEXT]) MUST_USE;
int random_bytes(void *bytes, size_t len) MUST_USE;
/* In a time that depends on len alone. */
bool equal_in_constant_time(const void *a, const void *b, size_t len);

/* --- base64.c --- */
void base64_add(struct buf *out, const void *bytes, size_t len);
/* Length of what stands in out, or -EINVAL (not base64, or longer than size). */
int base64_decode(struct slice text, uint8_t *out, size_t size) MUST_USE;

/* --- saslprep.c --- */
/* The prepared form, or the password as it is where it can't be prepared; to be freed with secret_free(). */
char *saslprep(const char *password) MUST_USE;

/* --- key_memory.c --- */
struct key_memory *key_memory_ref(struct key_memory *memory); /* NULL is fine, here and below */
void key_memory_unref(struct key_memory *memory);
/* As scram_derive(), unless it is remembered. */
int key_memory_derive(struct key_memory *memory, const char *password, const uint8_t *salt, uint32_t salt_len,
		      uint32_t iterations, struct scram_keys *ret) MUST_USE;

/* --- secret.c --- */
void secret_free(char *text); /* wipes; NULL is fine */
/* The salt for a user of whom no verifier is stored. */
int secret_salt(const uint8_t mock_key[32], const char *user, uint8_t salt[SCRAM_MOCK_SALT]) MUST_USE;

/* --- scram.c: what both sides do --- */
enum scram_flag {                     /* of the client's first message */
		  SCRAM_BIND_NONE,    /* 'n': the client cannot bind */
		  SCRAM_BIND_UNASKED, /* 'y': it could, but believes that the server cannot */
		  SCRAM_BIND,         /* 'p': it binds */
};

struct scram_text { /* a cursor in a message */
	struct slice rest;
	bool failed;
};

/* A decimal number from 1 to INT32_MAX with nothing around it; 0 for all else. */
uint32_t scram_iterations_parse(struct slice text);
int scram_nonce(char nonce[SCRAM_NONCE_TEXT]) MUST_USE;
bool scram_nonce_is_valid(struct slice nonce);
/* False for what is too long or holds a NUL. */
bool scram_text_begin(struct scram_text *t, struct slice message);
bool scram_text_eat(struct scram_text *t, const char *prefix);
/* The value of "name=value", up to a comma, which is eaten; otherwise failed and empty. */
struct slice scram_attribute(struct scram_text *t, char name);
/* Skips attributes up to one of that name. */
void scram_skip_to(struct scram_text *t, char name);
/* The "c=" value: base64 of the GS2 header and, when binding, the end point. */
void scram_binding_add(struct buf *out, enum scram_flag flag, struct slice end_point);
const char *scram_gs2_header(enum scram_flag flag);
/* ClientKey to ClientProof and back: both ways it is an XOR with the client's signature. */
int scram_xor_signature(const uint8_t stored_key[SCRAM_KEY], struct slice auth_message, const uint8_t in[SCRAM_KEY],
			uint8_t out[SCRAM_KEY]) MUST_USE;
int scram_server_signature(const uint8_t server_key[SCRAM_KEY], struct slice auth_message,
			   uint8_t out[SCRAM_KEY]) MUST_USE;

/* --- scram_server.c --- */
struct scram_server {
	struct scram_keys keys; /* client_key is filled by a right proof */
	bool doomed;            /* the keys are made up: no proof is right */
	bool offers_plus;
	enum scram_flag flag;
	uint8_t end_point[END_POINT_MAX];
	size_t end_point_len;
	char own_nonce[SCRAM_NONCE_MAX];
	size_t nonce_at, nonce_len; /* the whole nonce, within transcript */
	struct buf transcript;      /* AuthMessage of RFC 5802, as far as it is known */
};

void scram_server_init(struct scram_server *s, const struct scram_keys *keys, bool doomed, struct slice end_point,
		       const char *own_nonce);
void scram_server_clear(struct scram_server *s);
/* Each reads one message of the client and appends the answer. plus: the mechanism that the client chose. */
enum auth_step scram_server_first(struct scram_server *s, bool plus, struct slice message, struct buf *out);
enum auth_step scram_server_final(struct scram_server *s, struct slice message, struct buf *out);

/* --- scram_client.c --- */
struct scram_client {
	struct scram_keys keys;
	enum scram_flag flag;
	uint8_t end_point[END_POINT_MAX];
	size_t end_point_len;
	char own_nonce[SCRAM_NONCE_MAX];
	struct buf transcript;
};

void scram_client_init(struct scram_client *c, enum scram_flag flag, struct slice end_point, const char *own_nonce);
void scram_client_clear(struct scram_client *c);
/* name: escaped already; PostgreSQL takes the startup's and wants none here. */
void scram_client_first(struct scram_client *c, const char *name, struct buf *out);
enum auth_step scram_client_final(struct scram_client *c, const struct secret *secret, struct slice server_first,
				  struct buf *out, const char **why);
enum auth_step scram_client_verify(struct scram_client *c, struct slice server_final, const char **why);

#endif
