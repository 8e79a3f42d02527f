/* What tls.c (contexts) and tls_conn.c (connections) share. */
#ifndef LOOP_TLS_PRIV_H
#define LOOP_TLS_PRIV_H

#include "loop/tls.h"

#include <openssl/ssl.h>

struct conn_tls {
	SSL *ssl;
	struct tls_context *context;
	char *host; /* connecting: whose session is kept; NULL: none */
	bool accepting;
	bool begun;       /* the first step of the handshake was taken */
	bool wants_write; /* handshake or key update: goes on when the socket is writable */
	bool ended;       /* the peer said that it closes */
	bool broken;      /* nothing may be written any more, not even a good-bye */
	uint8_t alpn_len;
	uint8_t alpn[64]; /* accepting: what we speak, in wire format */
	char error[160];
};

SSL_CTX *tls_context_ssl(struct tls_context *context);
/* Whether the server's name must match. */
bool tls_context_verifies_host(const struct tls_context *context);
/* The session last made with this host, referenced; NULL when there is none. */
SSL_SESSION *tls_context_session(struct tls_context *context, const char *host);
/* What OpenSSL's error queue of this thread says, as text; empties it. */
void tls_error_text(char *text, size_t size, const char *otherwise);

#endif
