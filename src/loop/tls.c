/*
 * See tls.h. Sessions of servers we connect to are kept here, one a host name, under the
 * only mutex of this layer: it is taken for handshakes, never for data.
 */
#include "loop/tls_priv.h"
#include "base/map.h"

#include <openssl/err.h>
#include <openssl/pem.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>

#define SESSIONS_MAX 1024

struct tls_context {
	_Atomic uint32_t references;
	SSL_CTX *ssl;
	bool verify_host;
	pthread_mutex_t mutex;
	struct map sessions; /* host -> SSL_SESSION */
};

SSL_CTX *tls_context_ssl(struct tls_context *context)
{
	return context->ssl;
}

bool tls_context_verifies_host(const struct tls_context *context)
{
	return context->verify_host;
}

void tls_error_text(char *text, size_t size, const char *otherwise)
{
	unsigned long error = ERR_peek_error(); /* the first is the cause of the others */
	const char *reason = error ? ERR_reason_error_string(error) : NULL;

	if (error && !reason && ERR_SYSTEM_ERROR(error))
		reason = strerrordesc_np(ERR_GET_REASON(error));
	snprintf(text, size, "%s", reason ? reason : otherwise);
	ERR_clear_error();
}

/* ---- sessions ---- */

/* Returns 1: the session is ours now. */
static int keep_session(SSL *ssl, SSL_SESSION *session)
{
	struct conn_tls *tls = SSL_get_app_data(ssl);
	struct tls_context *context;
	void *old = NULL;
	int kept = 0;

	if (!tls || !tls->host)
		return 0;
	context = tls->context;
	pthread_mutex_lock(&context->mutex);
	if (context->sessions.count < SESSIONS_MAX || map_get(&context->sessions, slice_str(tls->host)))
		kept = map_put(&context->sessions, slice_str(tls->host), session, &old) == 0;
	pthread_mutex_unlock(&context->mutex);
	SSL_SESSION_free(old);
	return kept;
}

SSL_SESSION *tls_context_session(struct tls_context *context, const char *host)
{
	SSL_SESSION *session;

	pthread_mutex_lock(&context->mutex);
	session = map_get(&context->sessions, slice_str(host));
	if (session)
		SSL_SESSION_up_ref(session);
	pthread_mutex_unlock(&context->mutex);
	return session;
}

static void free_sessions(struct map *sessions)
{
	struct slice host;
	void *session;

	for (uint32_t at = 0; map_next(sessions, &at, &host, &session);)
		SSL_SESSION_free(session);
	map_free(sessions);
}

/* ---- settings ---- */

static bool is_set(const char *s)
{
	return s && *s;
}

static int refuse(char *why, size_t why_size, const char *what, const char *value)
{
	char reason[128];

	tls_error_text(reason, sizeof(reason), "not usable");
	snprintf(why, why_size, "%s%s%s: %s", what, is_set(value) ? " " : "", is_set(value) ? value : "", reason);
	return -EINVAL;
}

/* A key with a passphrase is refused: OpenSSL would ask for it on the terminal. */
static int no_passphrase(char *text UNUSED, int size UNUSED, int writing UNUSED, void *data UNUSED)
{
	return 0;
}

static int set_protocol(SSL_CTX *ssl, const struct tls_settings *s, char *why, size_t why_size)
{
	int version = TLS1_2_VERSION;

	if (is_set(s->min_version) && strcmp(s->min_version, "TLSv1.3") == 0)
		version = TLS1_3_VERSION;
	else if (is_set(s->min_version) && strcmp(s->min_version, "TLSv1.2") != 0)
		return refuse(why, why_size, "unknown TLS version", s->min_version);
	if (!SSL_CTX_set_min_proto_version(ssl, version))
		return refuse(why, why_size, "TLS version", s->min_version);
	if (is_set(s->ciphers) && !SSL_CTX_set_cipher_list(ssl, s->ciphers))
		return refuse(why, why_size, "ciphers", s->ciphers);
	if (is_set(s->ciphersuites) && !SSL_CTX_set_ciphersuites(ssl, s->ciphersuites))
		return refuse(why, why_size, "ciphersuites", s->ciphersuites);
	return 0;
}

static int set_certificate(SSL_CTX *ssl, const struct tls_settings *s, char *why, size_t why_size)
{
	if (!is_set(s->cert_path) && !is_set(s->key_path))
		return 0;
	if (!is_set(s->cert_path) || !is_set(s->key_path))
		return refuse(why, why_size, "a certificate and its key are needed, one is missing", NULL);
	if (SSL_CTX_use_certificate_chain_file(ssl, s->cert_path) != 1)
		return refuse(why, why_size, "certificate", s->cert_path);
	if (SSL_CTX_use_PrivateKey_file(ssl, s->key_path, SSL_FILETYPE_PEM) != 1)
		return refuse(why, why_size, "key", s->key_path);
	if (SSL_CTX_check_private_key(ssl) != 1)
		return refuse(why, why_size, "key does not belong to the certificate", s->key_path);
	return 0;
}

static int set_ca(SSL_CTX *ssl, const struct tls_settings *s, char *why, size_t why_size)
{
	int done;

	if (!is_set(s->ca_path))
		return 0;
	if (strcmp(s->ca_path, "system") == 0)
		done = SSL_CTX_set_default_verify_paths(ssl);
	else
		done = SSL_CTX_load_verify_file(ssl, s->ca_path);
	return done == 1 ? 0 : refuse(why, why_size, "CA", s->ca_path);
}

static int set_common(SSL_CTX *ssl, const struct tls_settings *s, char *why, size_t why_size)
{
	int r;

	SSL_CTX_set_mode(ssl, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER |
				      SSL_MODE_RELEASE_BUFFERS);
	/* The protocol above has lengths and a good-bye of its own: an end without close_notify is an end. */
	SSL_CTX_set_options(ssl, SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_COMPRESSION | SSL_OP_IGNORE_UNEXPECTED_EOF);
	SSL_CTX_set_default_passwd_cb(ssl, no_passphrase);
	if (s->ktls)
		SSL_CTX_set_options(ssl, SSL_OP_ENABLE_KTLS);
	else
		SSL_CTX_set_read_ahead(ssl, 1); /* a record costs one recv(), not two */
	r = set_protocol(ssl, s, why, why_size);
	if (r == 0)
		r = set_certificate(ssl, s, why, why_size);
	if (r == 0)
		r = set_ca(ssl, s, why, why_size);
	return r;
}

/* ---- accepting ---- */

/* A client that names protocols must name ours (the rule of direct TLS): else it talks to the wrong port. */
static int select_alpn(SSL *ssl, const unsigned char **out, unsigned char *out_len, const unsigned char *in,
		       unsigned int in_len, void *unused UNUSED)
{
	const struct conn_tls *tls = SSL_get_app_data(ssl);
	unsigned char *selected = NULL;

	if (!tls || tls->alpn_len == 0)
		return SSL_TLSEXT_ERR_NOACK;
	if (SSL_select_next_proto(&selected, out_len, tls->alpn, tls->alpn_len, in, in_len) != OPENSSL_NPN_NEGOTIATED)
		return SSL_TLSEXT_ERR_ALERT_FATAL;
	*out = selected;
	return SSL_TLSEXT_ERR_OK;
}

static int set_client_verification(SSL_CTX *ssl, const struct tls_settings *s, char *why, size_t why_size)
{
	STACK_OF(X509_NAME) * names;

	if (!s->require_client_cert && !s->request_client_cert)
		return 0;
	if (!is_set(s->ca_path))
		return refuse(why, why_size, "a CA is needed to verify client certificates", NULL);
	SSL_CTX_set_verify(ssl, SSL_VERIFY_PEER | (s->require_client_cert ? SSL_VERIFY_FAIL_IF_NO_PEER_CERT : 0), NULL);
	if (strcmp(s->ca_path, "system") == 0)
		return 0;
	names = SSL_load_client_CA_file(s->ca_path);
	if (!names)
		return refuse(why, why_size, "CA", s->ca_path);
	SSL_CTX_set_client_CA_list(ssl, names);
	return 0;
}

static int set_server(SSL_CTX *ssl, const struct tls_settings *s, char *why, size_t why_size)
{
	static const unsigned char session_context[] = "heliosdb-proxy";

	if (!is_set(s->cert_path) || !is_set(s->key_path))
		return refuse(why, why_size, "a certificate and a key are needed", NULL);
	SSL_CTX_set_options(ssl, SSL_OP_CIPHER_SERVER_PREFERENCE);
	SSL_CTX_set_session_id_context(ssl, session_context, sizeof(session_context) - 1);
	/* Clients resume by ticket; a cache here would be a lock that all threads share. */
	SSL_CTX_set_session_cache_mode(ssl, SSL_SESS_CACHE_OFF);
	SSL_CTX_set_num_tickets(ssl, 1); /* two by default; it may be used more than once */
	SSL_CTX_set_dh_auto(ssl, 1);
	SSL_CTX_set_alpn_select_cb(ssl, select_alpn, NULL);
	return set_client_verification(ssl, s, why, why_size);
}

/* ---- connecting ---- */

static int set_client(struct tls_context *context, const struct tls_settings *s, char *why, size_t why_size)
{
	/* As libpq: `require` with a CA verifies the chain. */
	bool verify = s->mode >= TLS_VERIFY_CA || (s->mode == TLS_REQUIRE && is_set(s->ca_path));

	if (verify && !is_set(s->ca_path))
		return refuse(why, why_size, "a CA is needed to verify servers", NULL);
	SSL_CTX_set_verify(context->ssl, verify ? SSL_VERIFY_PEER : SSL_VERIFY_NONE, NULL);
	context->verify_host = s->mode == TLS_VERIFY_FULL;
	SSL_CTX_set_session_cache_mode(context->ssl, SSL_SESS_CACHE_CLIENT | SSL_SESS_CACHE_NO_INTERNAL);
	SSL_CTX_sess_set_new_cb(context->ssl, keep_session);
	return 0;
}

/* ---- contexts ---- */

static struct tls_context *context_new(const SSL_METHOD *method)
{
	struct tls_context *context = calloc(1, sizeof(*context));

	if (!context)
		return NULL;
	context->ssl = SSL_CTX_new(method);
	if (!context->ssl) {
		free(context);
		return NULL;
	}
	atomic_init(&context->references, 1);
	pthread_mutex_init(&context->mutex, NULL);
	return context;
}

struct tls_context *tls_server_context_new(const struct tls_settings *settings, char *why, size_t why_size)
{
	struct tls_context *context;

	ERR_clear_error();
	context = context_new(TLS_server_method());
	if (!context) {
		refuse(why, why_size, "TLS", NULL);
		return NULL;
	}
	if (set_common(context->ssl, settings, why, why_size) < 0 ||
	    set_server(context->ssl, settings, why, why_size) < 0) {
		tls_context_unref(context);
		return NULL;
	}
	return context;
}

struct tls_context *tls_client_context_new(const struct tls_settings *settings, char *why, size_t why_size)
{
	struct tls_context *context;

	ERR_clear_error();
	context = context_new(TLS_client_method());
	if (!context) {
		refuse(why, why_size, "TLS", NULL);
		return NULL;
	}
	if (set_common(context->ssl, settings, why, why_size) < 0 || set_client(context, settings, why, why_size) < 0) {
		tls_context_unref(context);
		return NULL;
	}
	return context;
}

struct tls_context *tls_context_ref(struct tls_context *context)
{
	if (context)
		atomic_fetch_add_explicit(&context->references, 1, memory_order_relaxed);
	return context;
}

void tls_context_unref(struct tls_context *context)
{
	if (!context || atomic_fetch_sub(&context->references, 1) != 1)
		return;
	free_sessions(&context->sessions);
	SSL_CTX_free(context->ssl);
	pthread_mutex_destroy(&context->mutex);
	free(context);
}
