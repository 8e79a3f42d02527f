/*
 * Secrets and the SASL exchange SCRAM-SHA-256 and -PLUS, both sides, as pure state machines: bytes in,
 * bytes out. RFC 5802, RFC 7677, RFC 5929; https://www.postgresql.org/docs/current/sasl-authentication.html
 * Hashes are OpenSSL's. Passwords are SASLprepped (RFC 4013) where possible, else taken as they are, as in PostgreSQL.
 *
 * Steps that fail for want of memory (or of OpenSSL) are AUTH_FAILED with out->failed set: look at that first.
 */
#ifndef WIRE_SCRAM_H
#define WIRE_SCRAM_H

#include "base/buf.h"

#define SCRAM_KEY        32u
#define SCRAM_SALT_MAX   64u
#define SCRAM_ITERATIONS 4096u  /* PostgreSQL's default */
#define PASSWORD_MAX     65535u /* bytes, as PostgreSQL's PG_MAX_AUTH_TOKEN_LENGTH */

enum secret_kind {
	SECRET_NONE,  /* no such user, or none is stored: every attempt fails, in the same time */
	SECRET_PLAIN, /* the password itself */
	SECRET_MD5,   /* "md5" + 32 hex digits of md5(password || user) */
	SECRET_SCRAM, /* SCRAM-SHA-256$iterations:salt$StoredKey:ServerKey */
};

struct scram_keys { /* a SCRAM verifier; with client_key also enough to log in elsewhere */
	uint32_t iterations;
	uint8_t salt[SCRAM_SALT_MAX];
	uint32_t salt_len;
	uint8_t stored_key[SCRAM_KEY], server_key[SCRAM_KEY], client_key[SCRAM_KEY];
	bool has_client_key;
};

struct key_memory;

struct secret {
	enum secret_kind kind;
	char *text;             /* PLAIN: password; MD5: "md5..."; wiped when freed */
	struct scram_keys keys; /* SCRAM; for PLAIN filled when first derived */
	bool keys_derived;
	struct key_memory *memory; /* counted, see secret_remember_keys() */
};

/* From the text of a password file or pg_authid. NULL or "": SECRET_NONE. 0, -EINVAL (damaged SCRAM, or longer than
 * PASSWORD_MAX), -ENOMEM. */
int secret_parse(const char *text, struct secret *ret) MUST_USE;
int secret_copy(const struct secret *from, struct secret *ret) MUST_USE;
void secret_wipe(struct secret *s);                                /* and frees what it owns */
bool secret_equal(const struct secret *a, const struct secret *b); /* what is stored; derived keys don't count */
/*
 * PLAIN: fills the keys that log in clients by SCRAM (with the salt that an unknown user of that name would see), once;
 * other kinds: nothing to do. client_auth_new() does it when nobody has before, at each login; that takes longer than
 * an unknown user's, which is why logins go through a scram_cache. 0 or -errno.
 */
int secret_derive(struct secret *secret, const char *user, const uint8_t mock_key[32]) MUST_USE;
/* PLAIN: keys that are derived from here on to log in to servers are remembered for this secret and all its copies, in
 * all threads, so that many links cost one derivation a salt. Wiped with the last copy. Out of memory, or another kind:
 * nothing is remembered. */
void secret_remember_keys(struct secret *secret);
/* How often keys were derived since then. */
uint64_t secret_derivations(const struct secret *secret);

struct scram_cache;                               /* of derived keys; one thread's. Holds 16384 names */
struct scram_cache *scram_cache_new(void);        /* NULL: out of memory */
void scram_cache_free(struct scram_cache *cache); /* wipes; NULL is fine */
/* As secret_derive(). With another kind of secret, or none, the same work is done for nothing: where some secrets are
 * PLAIN, all logins go through here, so that time doesn't tell who has one. 0 or -errno. */
int scram_cache_derive(struct scram_cache *cache, struct secret *secret, const char *user,
		       const uint8_t mock_key[32]) MUST_USE;
bool scram_verifier_parse(const char *text, struct scram_keys *ret);
int scram_verifier_print(const struct scram_keys *keys, char *text, size_t size) MUST_USE; /* length or -ENOSPC */
/* PBKDF2: about 2 ms for 4096 iterations. 0 or -errno. */
int scram_derive(const char *password, const uint8_t *salt, uint32_t salt_len, uint32_t iterations,
		 struct scram_keys *ret) MUST_USE;
/* "md5" + hex of md5(hex(md5(password || user)) || salt); out: 36 bytes. shadow: "md5..." of 35 or the password. */
int md5_response(const struct secret *secret, const char *user, const uint8_t salt[4], char out[36]) MUST_USE;
/* Wipes memory in a way the compiler keeps. */
void wipe(void *memory, size_t len);

/* ------------------------------------------------------------------ we are the server: log in a client */

enum auth_method { AUTH_TRUST, AUTH_REJECT, AUTH_PASSWORD, AUTH_MD5, AUTH_SCRAM, AUTH_CERT };

enum auth_step {
	AUTH_CONTINUE, /* what is in `out` is to be sent; wait for the client's next 'p' message */
	AUTH_DONE, /* accepted (out may hold a last message, e.g. AuthenticationSASLFinal, but not AuthenticationOk) */
	AUTH_FAILED,    /* refused: the caller sends the one text that all refusals have */
	AUTH_MALFORMED, /* protocol violation (08P01) */
};

struct client_auth; /* one exchange */

/*
 * method: PASSWORD, MD5 or SCRAM (MD5 is upgraded to SCRAM when the secret is SECRET_SCRAM, as PostgreSQL does).
 * With MD5 and no secret MD5 is asked for, as PgBouncer does: who keeps SCRAM secrets passes SCRAM for unknown users.
 * secret: copied; NULL or SECRET_NONE: the exchange is carried to its end and then refused; its salt is made
 * from `mock_key` (32 bytes, one per process) and the user's name so that it stays the same for a name.
 * end_point: tls-server-end-point bytes when the client is on TLS (then -PLUS is offered), else empty.
 * NULL when out of memory.
 */
struct client_auth *client_auth_new(enum auth_method method, const char *user, const struct secret *secret,
				    const uint8_t mock_key[32], struct slice end_point, bool on_tls);
void client_auth_free(struct client_auth *auth); /* wipes; NULL is fine */
/* Appends the first Authentication* message. */
enum auth_step client_auth_begin(struct client_auth *auth, struct buf *out);
/* body: of a 'p' message (PasswordMessage, SASLInitialResponse, SASLResponse). */
enum auth_step client_auth_answer(struct client_auth *auth, const uint8_t *body, size_t len, struct buf *out);
/* After AUTH_DONE: the password the client sent in clear (method PASSWORD), or NULL; it lives as long as auth. */
const char *client_auth_password(const struct client_auth *auth);
/* After AUTH_DONE by SCRAM: the verifier with the client's key recovered from its proof; NULL otherwise. */
const struct scram_keys *client_auth_keys(const struct client_auth *auth);

/* ------------------------------------------------------------------ we are the client: log in to a server */

struct server_auth;

/* secret: copied. PLAIN answers every method; MD5 answers md5; SCRAM with client_key answers SCRAM when the server's
 * salt and iterations are the same. end_point: of the server's certificate; then -PLUS is chosen where offered. */
struct server_auth *server_auth_new(const char *user, const struct secret *secret, struct slice end_point, bool on_tls);
void server_auth_free(struct server_auth *auth);
/*
 * body: of an 'R' message. AUTH_CONTINUE: out (may be empty) is to be sent. AUTH_DONE: AuthenticationOk came, and if
 * SCRAM ran the server's signature was right. AUTH_FAILED: can't be answered; *why (static text) says what is missing.
 */
enum auth_step server_auth_message(struct server_auth *auth, const uint8_t *body, size_t len, struct buf *out,
				   const char **why);
/* The method the server asked for, for logs: "trust", "password", "md5", "scram-sha-256", "scram-sha-256-plus". */
const char *server_auth_method(const struct server_auth *auth);

#endif
