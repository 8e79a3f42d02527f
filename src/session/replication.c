/*
 * Replication connections. Their bytes pass as they are, both ways; of the server's it is followed where messages
 * begin, and what goes on, so that the end of the proxy can come between two messages: at once for a connection that
 * idles or streams (a stream has no end of its own, and its client goes on elsewhere from where it was), but behind a
 * command that will end, such as BASE_BACKUP. https://www.postgresql.org/docs/current/protocol-replication.html
 */
#include "session/session_priv.h"

/* Messages are not followed on this way, but clients send this one alone. It is for the server, which closes then. */
static bool is_terminate(const uint8_t *bytes, size_t len)
{
	static const uint8_t terminate[] = {'X', 0, 0, 0, 4};

	return len == sizeof(terminate) && memcmp(bytes, terminate, len) == 0;
}

size_t replication_request(struct session *s, uint8_t *bytes, size_t len)
{
	struct conn *server = &s->link->conn;

	s->command_runs = true;
	s->said_goodbye = is_terminate(bytes, len);
	count_add(&session_counters(s)->bytes_received_total, len);
	conn_send_ref(server, bytes, len);
	if (conn_queued(server) > CONN_HIGH_WATER) {
		conn_pause(&s->conn);
		s->paused_for_link = true;
	}
	return len;
}

bool replication_may_end(const struct session *s)
{
	return s->link->left == 0 && (s->streams || !s->command_runs);
}

static void pass_on(struct session *s, const uint8_t *bytes, size_t len)
{
	if (len == 0)
		return;
	conn_send_ref(&s->conn, bytes, len);
	count_add(&session_counters(s)->bytes_sent_total, len);
	if (conn_queued(&s->conn) > CONN_HIGH_WATER)
		conn_pause(&s->link->conn);
}

static void note(struct session *s, const struct frame *f)
{
	if (f->type == 'W') { /* CopyBothResponse */
		s->streams = true;
	} else if (f->type == 'Z') {
		s->streams = false;
		s->command_runs = f->body_len != 1 || f->body[0] != 'I';
	}
}

/* How many of the bytes may pass: up to the end, to the half of a header, or to where the connection shall end. */
static size_t follow(struct session *s, const uint8_t *bytes, size_t len)
{
	struct link *link = s->link;
	size_t at = MIN(link->left, len), have;
	struct frame f;

	link->left -= at;
	while (at < len && !(s->worker->closing && replication_may_end(s))) {
		enum frame_result r = frame_read(bytes + at, len - at, &f);

		if (r == FRAME_SHORT || (r == FRAME_HEAD && f.type == 'Z'))
			break;
		if (r == FRAME_BAD) {
			link->close_when_free = true;
			session_fatal(s, ERROR_SERVER_PROTOCOL, "invalid message length");
			break;
		}
		note(s, &f);
		have = MIN(frame_size(&f), len - at);
		link->left = frame_size(&f) - have;
		at += have;
	}
	return at;
}

size_t replication_answer(struct session *s, uint8_t *bytes, size_t len)
{
	size_t at = follow(s, bytes, len);

	if (s->state == SESSION_CLOSED)
		return len;
	pass_on(s, bytes, at);
	if (likely(!s->worker->closing || !replication_may_end(s)))
		return at;
	session_fatal(s, ERROR_SHUTTING_DOWN, NULL);
	return len;
}
