/*
 * TLS on a connection. OpenSSL reads and writes the socket itself, so it may hold bytes
 * that epoll knows nothing of: conn_tls_has_bytes() tells, and such a conn is shown again
 * without an event (in the next turn when it had its share of this one, else when resumed).
 *
 * Small pieces of output are put together to records of up to 16 KiB. A record that the
 * socket didn't take whole must be offered again with the same bytes in front: they are,
 * as what isn't written stays in the order of out, then iov.
 */
#include "loop/loop_priv.h"
#include "loop/tls_priv.h"

#include <arpa/inet.h>
#include <openssl/err.h>
#include <openssl/x509v3.h>
#include <stdio.h>

#define RECORD SSL3_RT_MAX_PLAIN_LENGTH

/* ---- beginning and end ---- */

void conn_tls_free(struct conn_tls *tls)
{
	if (!tls)
		return;
	SSL_free(tls->ssl);
	tls_context_unref(tls->context);
	free(tls->host);
	free(tls);
}

/* One attempt to say good-bye, without waiting for an answer. */
void conn_tls_shutdown(struct conn *conn)
{
	struct conn_tls *tls = conn->tls;

	if (!tls || tls->broken || !SSL_is_init_finished(tls->ssl) || (SSL_get_shutdown(tls->ssl) & SSL_SENT_SHUTDOWN))
		return;
	ERR_clear_error();
	SSL_shutdown(tls->ssl);
	ERR_clear_error();
}

static bool is_ip_address(const char *host)
{
	uint8_t address[sizeof(struct in6_addr)];

	return inet_pton(AF_INET, host, address) == 1 || inet_pton(AF_INET6, host, address) == 1;
}

static int expect_host(struct conn_tls *tls, const char *host)
{
	bool is_ip = is_ip_address(host);
	X509_VERIFY_PARAM *param = SSL_get0_param(tls->ssl);

	if (!is_ip && SSL_set_tlsext_host_name(tls->ssl, host) != 1)
		return -EINVAL;
	if (!tls_context_verifies_host(tls->context))
		return 0;
	SSL_set_hostflags(tls->ssl, X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS);
	if ((is_ip ? X509_VERIFY_PARAM_set1_ip_asc(param, host) : SSL_set1_host(tls->ssl, host)) != 1)
		return -EINVAL;
	return 0;
}

static int prepare_connecting(struct conn_tls *tls, const char *host, struct slice alpn)
{
	SSL_SESSION *session;
	int r;

	SSL_set_connect_state(tls->ssl);
	if (alpn.len > 0 && SSL_set_alpn_protos(tls->ssl, alpn.bytes, (unsigned int)alpn.len) != 0)
		return -ENOMEM;
	if (!host || !*host)
		return tls_context_verifies_host(tls->context) ? -EINVAL : 0;
	r = expect_host(tls, host);
	if (r < 0)
		return r;
	tls->host = strdup(host);
	if (!tls->host)
		return -ENOMEM;
	session = tls_context_session(tls->context, host);
	if (session) {
		SSL_set_session(tls->ssl, session);
		SSL_SESSION_free(session);
	}
	return 0;
}

static int prepare(struct conn_tls *tls, struct tls_context *context, int fd, bool accepting, const char *host,
		   struct slice alpn)
{
	tls->context = tls_context_ref(context);
	tls->accepting = accepting;
	tls->ssl = SSL_new(tls_context_ssl(context));
	if (!tls->ssl || SSL_set_fd(tls->ssl, fd) != 1)
		return -ENOMEM;
	SSL_set_app_data(tls->ssl, tls);
	if (!accepting)
		return prepare_connecting(tls, host, alpn);
	SSL_set_accept_state(tls->ssl);
	memcpy(tls->alpn, alpn.bytes, alpn.len);
	tls->alpn_len = (uint8_t)alpn.len;
	return 0;
}

int conn_start_tls(struct conn *conn, struct tls_context *context, bool accepting, const char *host, struct slice alpn)
{
	bool showing = conn->loop && conn->loop->showing == conn;
	struct conn_tls *tls;
	int r;

	if (conn->state != CONN_OPEN || conn->tls || alpn.len > sizeof(tls->alpn))
		return -EINVAL;
	if (conn->kept_len > 0 && !showing)
		return -EBUSY;
	/* The kernel must not take the peer's hello for us. What it took already was sent ahead of the handshake. */
	r = poll_stop(conn);
	if (r == 0)
		r = conn_write_plain(conn);
	if (r < 0)
		return r;
	if (conn->queued > 0) /* a peer that doesn't read a single byte */
		return -EAGAIN;
	tls = calloc(1, sizeof(*tls));
	if (!tls)
		return -ENOMEM;
	ERR_clear_error();
	r = prepare(tls, context, conn->fd, accepting, host, alpn.bytes ? alpn : SLICE_LITERAL(""));
	if (r < 0) {
		ERR_clear_error();
		conn_tls_free(tls);
		return r;
	}
	conn->tls = tls;
	conn->state = CONN_HANDSHAKING;
	if (showing)
		conn->flags |= CONN_TLS_BEGUN;
	if (!accepting || !showing) /* who asked for TLS has yet to say the first word of it */
		conn_tls_handshake_due(conn);
	return 0;
}

/* ---- failure ---- */

void conn_tls_set_error(struct conn *conn, const char *text)
{
	if (conn->tls)
		snprintf(conn->tls->error, sizeof(conn->tls->error), "%s", text);
}

/* What SSL_get_error() said, as -errno; 0: an orderly end. The text is kept. */
static int failure(struct conn *conn, int ssl_error, int saved_errno)
{
	struct conn_tls *tls = conn->tls;
	long verified = SSL_get_verify_result(tls->ssl);

	if (ssl_error == SSL_ERROR_ZERO_RETURN)
		return 0;
	tls->broken = true;
	if (ssl_error == SSL_ERROR_SYSCALL && ERR_peek_last_error() == 0) {
		if (saved_errno != 0)
			conn_tls_set_error(conn, strerrordesc_np(saved_errno));
		return -saved_errno;
	}
	if (verified != X509_V_OK && !SSL_is_init_finished(tls->ssl) &&
	    SSL_get_verify_mode(tls->ssl) != SSL_VERIFY_NONE) {
		snprintf(tls->error, sizeof(tls->error), "certificate verify failed: %s",
			 X509_verify_cert_error_string(verified));
		ERR_clear_error();
	} else {
		tls_error_text(tls->error, sizeof(tls->error), "TLS failed");
	}
	return -EPROTO;
}

/* ---- handshake ---- */

/*
 * Who has begun comes first: so that of many at once the first are through soon, not all of them late, and few have a
 * handshake's buffers. So do we towards a server, for whom many may be waiting.
 */
void conn_tls_handshake_due(struct conn *conn)
{
	bool first = conn->tls->begun || !conn->tls->accepting;

	if (list_is_empty(&conn->resumed)) {
		list_push_back(&conn->loop->handshakes[!first], &conn->resumed);
	} else if (!(conn->flags & CONN_HOLD)) { /* it has to wait: epoll need not tell so each turn */
		conn->flags |= CONN_HOLD;
		if (poll_update(conn) < 0)
			conn_fail(conn, -ENOMEM);
	}
}

static void established(struct conn *conn)
{
	struct loop *loop = conn->loop;
	struct conn_tls *tls = conn->tls;
	int r;

	conn->state = CONN_OPEN;
	tls->wants_write = false;
	conn->flags |= CONN_WRITABLE;
	r = poll_update(conn);
	if (r < 0) {
		conn_fail(conn, r);
		return;
	}
	if (conn->queued > 0)
		conn_set_dirty(conn);
	loop->showing = conn; /* it may be gone after this */
	conn->ops->ready(conn);
	if (loop->showing != conn)
		return;
	loop->showing = NULL;
	if (conn_may_read(conn) && conn_tls_has_bytes(conn) && list_is_empty(&conn->resumed))
		list_push_back(&loop->resumed, &conn->resumed);
}

/* One step. Output that was queued meanwhile is kept until it may be encrypted. */
void conn_tls_handshake(struct conn *conn)
{
	struct conn_tls *tls = conn->tls;
	int n, error, saved_errno, r = conn_keep_output(conn);

	if (r < 0) {
		conn_fail(conn, r);
		return;
	}
	ERR_clear_error();
	errno = 0;
	tls->begun = true;
	conn->flags &= (uint16_t)~CONN_HOLD;
	n = SSL_do_handshake(tls->ssl);
	saved_errno = errno;
	if (n == 1) {
		established(conn);
		return;
	}
	error = SSL_get_error(tls->ssl, n);
	if (error != SSL_ERROR_WANT_READ && error != SSL_ERROR_WANT_WRITE) {
		r = failure(conn, error, saved_errno);
		if (r == 0) {
			conn_tls_set_error(conn, "the connection was closed during the TLS handshake");
			r = -EPROTO;
		}
		conn_fail(conn, r);
		return;
	}
	tls->wants_write = error == SSL_ERROR_WANT_WRITE;
	r = poll_update(conn);
	if (r < 0)
		conn_fail(conn, r);
}

bool conn_tls_wants_write(const struct conn *conn)
{
	return conn->tls && conn->tls->wants_write;
}

/* ---- receiving ---- */

bool conn_tls_has_bytes(const struct conn *conn)
{
	return conn->tls && (conn->tls->ended || SSL_has_pending(conn->tls->ssl));
}

/* Reads until the room is full or nothing is left; returns SSL_ERROR_NONE when it is the room. */
static int read_records(struct conn *conn, uint8_t *room, size_t size, size_t *ret_len, int *ret_errno)
{
	SSL *ssl = conn->tls->ssl;
	size_t got = 0, n;
	int r;

	do {
		ERR_clear_error();
		errno = 0;
		count(&conn->loop->counters.receives, 1);
		r = SSL_read_ex(ssl, room + got, size - got, &n);
		*ret_errno = errno;
		if (r != 1)
			break;
		got += n;
	} while (got < size && SSL_has_pending(ssl));
	*ret_len = got;
	if (r != 1)
		return SSL_get_error(ssl, r);
	return SSL_has_pending(ssl) ? SSL_ERROR_NONE : SSL_ERROR_WANT_READ;
}

static void show_next_turn(struct conn *conn)
{
	if (list_is_empty(&conn->resumed))
		list_push_back(&conn->loop->again, &conn->resumed);
}

/* An answer of OpenSSL's own (to a key update) didn't fit; nothing is read before it does. */
static bool wait_to_write(struct conn *conn)
{
	int r;

	conn->tls->wants_write = true;
	conn->flags &= (uint16_t)~CONN_WRITABLE;
	r = poll_update(conn);
	if (r < 0)
		conn_fail(conn, r);
	return r == 0;
}

bool conn_tls_receive(struct conn *conn)
{
	struct conn_tls *tls = conn->tls;
	size_t size, len;
	uint8_t *room = conn_receive_room(conn, &size);
	int result, saved_errno, error;

	if (!room) {
		conn_fail(conn, -ENOMEM);
		return false;
	}
	result = read_records(conn, room, size, &len, &saved_errno);
	error = result == SSL_ERROR_SSL || result == SSL_ERROR_SYSCALL ? failure(conn, result, saved_errno) : 0;
	tls->ended = tls->ended || result == SSL_ERROR_ZERO_RETURN || tls->broken;
	if (len > 0 && !conn_received(conn, room, len))
		return false;
	if (tls->broken) {
		conn_fail(conn, error);
		return false;
	}
	if (tls->ended && conn_may_read(conn))
		return conn_hear_end(conn);
	if (result == SSL_ERROR_WANT_WRITE)
		return wait_to_write(conn);
	if (result == SSL_ERROR_NONE && conn_may_read(conn))
		show_next_turn(conn);
	return true;
}

/* ---- sending ---- */

/* Up to a record of what is to be written; in place when one piece is enough. */
static size_t gather(const struct conn *conn, uint8_t *record, const uint8_t **ret_bytes)
{
	const struct conn_out *chunk = conn->out;
	size_t len = 0;

	if (!chunk && conn->iov_count > 0 && (conn->iov_count == 1 || conn->iov->iov_len >= RECORD)) {
		*ret_bytes = conn->iov->iov_base;
		return MIN(conn->iov->iov_len, RECORD);
	}
	*ret_bytes = record;
	while (chunk && len < RECORD) {
		size_t part;

		chunk = chunk->next;
		part = MIN(chunk->end - chunk->start, RECORD - len);
		memcpy(record + len, chunk->bytes + chunk->start, part);
		len += part;
		if (chunk == conn->out)
			break;
	}
	for (uint32_t i = 0; i < conn->iov_count && len < RECORD; i++) {
		size_t part = MIN(conn->iov[i].iov_len, RECORD - len);

		memcpy(record + len, conn->iov[i].iov_base, part);
		len += part;
	}
	return len;
}

int conn_tls_write(struct conn *conn)
{
	struct conn_tls *tls = conn->tls;
	uint8_t record[RECORD];

	if (conn_is_full(conn))
		return conn_keep_output(conn);
	conn->flags &= (uint16_t)~CONN_WRITABLE;
	if (tls->wants_write && conn_tls_has_bytes(conn))
		show_next_turn(conn);
	tls->wants_write = false;
	while (conn->queued > 0) {
		const uint8_t *bytes;
		size_t len = gather(conn, record, &bytes), written;
		int error, saved_errno;

		ERR_clear_error();
		errno = 0;
		count(&conn->loop->counters.sends, 1);
		if (SSL_write_ex(tls->ssl, bytes, len, &written) == 1) {
			count(&conn->loop->counters.bytes_out, written);
			conn_output_advance(conn, written);
			continue;
		}
		saved_errno = errno;
		error = SSL_get_error(tls->ssl, 0);
		if (error != SSL_ERROR_WANT_WRITE && error != SSL_ERROR_WANT_READ) {
			int r = failure(conn, error, saved_errno);

			return r ? r : -EPIPE;
		}
		break;
	}
	return conn_keep_output(conn);
}

/* ---- what is known of it ---- */

const char *conn_tls_error(const struct conn *conn)
{
	return conn->tls ? conn->tls->error : "";
}

const char *conn_tls_version(const struct conn *conn)
{
	return conn->tls ? SSL_get_version(conn->tls->ssl) : "";
}

const char *conn_tls_cipher(const struct conn *conn)
{
	return conn->tls ? SSL_get_cipher_name(conn->tls->ssl) : "";
}

bool conn_tls_has_alpn(const struct conn *conn)
{
	const unsigned char *protocol = NULL;
	unsigned int len = 0;

	if (conn->tls)
		SSL_get0_alpn_selected(conn->tls->ssl, &protocol, &len);
	return len > 0;
}

bool conn_tls_resumed(const struct conn *conn)
{
	return conn->tls && SSL_session_reused(conn->tls->ssl);
}

size_t conn_tls_end_point(const struct conn *conn, uint8_t *bytes, size_t size)
{
	const X509 *certificate;
	const EVP_MD *digest;
	unsigned int len = 0;
	int nid = NID_undef;

	if (!conn->tls || size < EVP_MAX_MD_SIZE)
		return 0;
	certificate =
		conn->tls->accepting ? SSL_get_certificate(conn->tls->ssl) : SSL_get0_peer_certificate(conn->tls->ssl);
	if (!certificate || X509_get_signature_info((X509 *)certificate, &nid, NULL, NULL, NULL) != 1)
		return 0;
	if (nid == NID_md5 || nid == NID_sha1)
		nid = NID_sha256;
	digest = EVP_get_digestbynid(nid);
	if (!digest || X509_digest(certificate, digest, bytes, &len) != 1)
		return 0;
	return len;
}

/* Only a certificate that was verified says anything. */
static X509_NAME *peer_name(const struct conn *conn)
{
	X509 *certificate;

	if (!conn->tls || SSL_get_verify_mode(conn->tls->ssl) == SSL_VERIFY_NONE ||
	    SSL_get_verify_result(conn->tls->ssl) != X509_V_OK)
		return NULL;
	certificate = SSL_get0_peer_certificate(conn->tls->ssl);
	return certificate ? X509_get_subject_name(certificate) : NULL;
}

/* A NUL within would end the name early for whoever reads it as a C string: such a name is none. */
static size_t copy_name(const char *name, size_t len, char *text, size_t size)
{
	if (len == 0 || len >= size || memchr(name, '\0', len))
		return 0;
	memcpy(text, name, len);
	text[len] = '\0';
	return len;
}

size_t conn_tls_peer_cn(const struct conn *conn, char *text, size_t size)
{
	X509_NAME *name = peer_name(conn);
	int at = name ? X509_NAME_get_index_by_NID(name, NID_commonName, -1) : -1;
	unsigned char *utf8 = NULL;
	size_t copied = 0;
	int len;

	if (at < 0)
		return 0;
	len = ASN1_STRING_to_UTF8(&utf8, X509_NAME_ENTRY_get_data(X509_NAME_get_entry(name, at)));
	if (len > 0)
		copied = copy_name((char *)utf8, (size_t)len, text, size);
	OPENSSL_free(utf8);
	return copied;
}

size_t conn_tls_peer_dn(const struct conn *conn, char *text, size_t size)
{
	X509_NAME *name = peer_name(conn);
	BIO *bio = name ? BIO_new(BIO_s_mem()) : NULL;
	size_t copied = 0;
	char *line;
	long len;

	if (!bio)
		return 0;
	if (X509_NAME_print_ex(bio, name, 0, XN_FLAG_RFC2253) >= 0) {
		len = BIO_get_mem_data(bio, &line);
		if (len > 0)
			copied = copy_name(line, (size_t)len, text, size);
	}
	BIO_free(bio);
	return copied;
}
