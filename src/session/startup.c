/*
 * The beginning of a connection: requests for encryption, cancels, the startup packet; TLS at once (PostgreSQL 17's
 * sslnegotiation=direct). https://www.postgresql.org/docs/current/protocol-flow.html#PROTOCOL-FLOW-START-UP
 */
#include "session/login_priv.h"

#include "base/log.h"

#include <netinet/in.h>

#define TLS_HANDSHAKE_RECORD 0x16

static const struct slice alpn_postgresql = {(const uint8_t *)"\x0apostgresql", 11};

static bool start_tls(struct session *s)
{
	if (conn_start_tls(&s->conn, s->worker->settings.client_tls, /* accepting= */ true, NULL, alpn_postgresql) == 0)
		return true;
	session_close(s, "cannot start TLS");
	return false;
}

/* Before the first byte is taken, or when the handshake is over. */
void startup_ready(struct session *s)
{
	uint8_t first;

	if (conn_is_tls(&s->conn)) {
		count_add(&session_counters(s)->tls_handshakes_total, 1);
		if (s->direct_tls && !conn_tls_has_alpn(&s->conn))
			session_close(
				s,
				"direct TLS without ALPN"); /* PostgreSQL asks for it, against cross-protocol attacks */
		return;
	}
	if (s->worker->settings.client_tls && conn_peek(&s->conn, &first, 1) == 1 && first == TLS_HANDSHAKE_RECORD) {
		s->direct_tls = true;
		start_tls(s);
	}
}

static void answer_ssl_request(struct session *s, size_t behind)
{
	bool can = s->worker->settings.client_tls && !conn_is_tls(&s->conn);

	if (behind) { /* bytes ahead of the handshake could be an attacker's: CVE-2021-23214 */
		session_fatal(s, ERROR_PROTOCOL_VIOLATION, "received unencrypted data after SSL request");
		return;
	}
	conn_send_ref(&s->conn, can ? "S" : "N", 1);
	if (can)
		start_tls(s);
}

static bool version_is_fine(struct session *s, const struct startup *p)
{
	if (p->major == 3)
		return true;
	session_fatal(s, ERROR_UNSUPPORTED_PROTOCOL, NULL, (unsigned)p->major, (unsigned)p->minor);
	return false;
}

/* Unknown minor versions and protocol options are negotiated down, not refused. True: there were none. */
static bool negotiate(struct session *s, const struct startup *p)
{
	struct buf out = BUF_INIT(65536);
	uint32_t spoken = p->minor >= 2 ? 2 : 0; /* there is no 3.1 */

	s->long_key = spoken == 2;
	if (p->minor == spoken && p->protocol_option_count == 0)
		return true;
	message_negotiate_version(&out, (3u << 16) | spoken, p->protocol_options, p->protocol_option_count);
	session_send_buf(s, &out);
	return false;
}

static bool has_room(struct session *s)
{
	const struct config *c = s->worker->settings.config;

	if (atomic_load(&s->worker->shared->draining)) {
		session_fatal(s, ERROR_SHUTTING_DOWN, NULL);
		return false;
	}
	if (atomic_load(&s->worker->shared->clients) > c->proxy.max_clients) {
		session_fatal(s, ERROR_TOO_MANY_CLIENTS, NULL);
		return false;
	}
	return true;
}

static void begin_login(struct session *s, struct introduction *introduction)
{
	if (login_begin(s, introduction) < 0)
		session_fatal(s, ERROR_OUT_OF_MEMORY, NULL);
}

static void session_packet(struct session *s, const struct startup *p, struct slice packet)
{
	struct introduction *introduction;

	if (!version_is_fine(s, p) || !has_room(s))
		return;
	if (!negotiate(s, p))
		packet.len = 0;
	introduction = introduction_new(s, p, packet);
	if (introduction)
		begin_login(s, introduction);
	introduction_unref(introduction);
}

/* One that has let somebody in before. */
static void known_packet(struct session *s, struct introduction *introduction)
{
	s->long_key = introduction->long_key;
	if (has_room(s))
		begin_login(s, introduction);
}

size_t startup_received(struct session *s, uint8_t *bytes, size_t len)
{
	struct introduction *known = introduction_find(s->worker, bytes, len);
	struct startup p;
	int size;

	if (known) {
		size = (int)known->packet_len;
		known_packet(s, known);
		return s->state == SESSION_CLOSED ? len : (size_t)size;
	}
	size = startup_read(bytes, len, &p);
	if (size == 0)
		return 0;
	if (size < 0) {
		session_fatal(s, ERROR_INVALID_STARTUP,
			      size == -EMSGSIZE ? "its length cannot be" : "it is malformed inside");
		return len;
	}
	switch (p.kind) {
	case STARTUP_SSL:
		answer_ssl_request(s, len - (size_t)size);
		return len;
	case STARTUP_GSSENC:
		if (len > (size_t)size)
			session_fatal(s, ERROR_PROTOCOL_VIOLATION,
				      "received unencrypted data after GSSAPI encryption request");
		else
			conn_send_ref(&s->conn, "N", 1);
		return len;
	case STARTUP_CANCEL:
		count_add(&session_counters(s)->cancel_requests_total, 1);
		conn_pause(&s->conn);
		if (!cancel_request(s, p.cancel_pid, p.cancel_key))
			session_close(s, "cancel request"); /* without a word, as PostgreSQL does */
		return len;
	case STARTUP_SESSION:
		session_packet(s, &p, slice_make(bytes, (size_t)size));
		return s->state == SESSION_CLOSED ? len : (size_t)size;
	}
	return len;
}
