/*
 * TLS contexts from files and settings (OpenSSL 3). A context is immutable and counted:
 * a reload makes a new one, connections keep the one they began with.
 * Modes are libpq's: https://www.postgresql.org/docs/current/libpq-ssl.html
 */
#ifndef LOOP_TLS_H
#define LOOP_TLS_H

#include "base/common.h"

enum tls_mode { TLS_DISABLE, TLS_ALLOW, TLS_PREFER, TLS_REQUIRE, TLS_VERIFY_CA, TLS_VERIFY_FULL };

struct tls_settings {
	const char *cert_path, *key_path; /* PEM; server side: needed. NULL or "": none */
	const char *ca_path;              /* PEM bundle; NULL or "": none ("system": the system's store) */
	const char *min_version;          /* "TLSv1.2" (default when NULL or "") or "TLSv1.3" */
	const char *ciphers;              /* TLS 1.2 list; NULL: OpenSSL's default */
	const char *ciphersuites;         /* TLS 1.3 list; NULL: OpenSSL's default */
	bool require_client_cert;         /* server side */
	bool request_client_cert;         /* server side: verify one if it is sent */
	bool ktls;                        /* let the kernel encrypt where it can */
	enum tls_mode mode;               /* client side: what to verify */
};

struct tls_context;

/* For accepting connections. On failure NULL, and the reason (static or in `why`, cut to size) in why. */
struct tls_context *tls_server_context_new(const struct tls_settings *settings, char *why, size_t why_size);
/* For connecting to servers; sessions are resumed per host name. */
struct tls_context *tls_client_context_new(const struct tls_settings *settings, char *why, size_t why_size);
struct tls_context *tls_context_ref(struct tls_context *context); /* NULL is fine */
void tls_context_unref(struct tls_context *context);              /* NULL is fine; any thread */

#endif
