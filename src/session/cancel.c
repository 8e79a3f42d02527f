/*
 * CancelRequest: the key that a client was given leads to its session, wherever that is; what the session runs now is
 * cancelled, or its waiting ends. The process id is (worker, slot); the secret tells sessions apart that had the
 * same slot. A link that is being cancelled does not change hands until the server is done with the cancel, so that
 * nobody else's query can be hit.
 */
#include "session/session_priv.h"

#include "base/log.h"

#include <openssl/crypto.h>

/* A process id that drivers take for one: positive, not zero. */
#define SLOT_BITS 23

uint32_t session_pid(const struct session *s)
{
	return (s->worker->pool_thread.index << SLOT_BITS | s->slot) + 1;
}

/*
 * Goes to the worker of the session that is to be cancelled, and comes back when the server has closed its end: only
 * then is the client's cancel connection closed, so that a client that waits for that knows that it was done.
 */
struct cancel_message {
	struct loop_message message;
	struct worker *from;
	uint32_t from_slot;
	uint64_t from_serial; /* tells the connection from a later one in the same slot */
	uint32_t slot;
	uint32_t key_len;
	uint8_t key[32];
};

static void close_cancel_connection(struct loop_message *message, void *thread)
{
	struct cancel_message *m = container_of(message, struct cancel_message, message);
	struct worker *w = thread;
	struct session *s = m->from_slot < w->slot_count ? w->slots[m->from_slot] : NULL;

	if (s && !((uintptr_t)s & 1) && s->serial == m->from_serial)
		session_close(s, "cancel request");
	free(m);
}

static void cancel_is_over(void *argument)
{
	struct cancel_message *m = argument;

	m->message.run = close_cancel_connection;
	loop_post(m->from->pool_thread.loop, &m->message);
}

static struct session *find(struct worker *w, const struct cancel_message *m)
{
	struct session *s = m->slot < w->slot_count ? w->slots[m->slot] : NULL;

	if (!s || ((uintptr_t)s & 1) || m->key_len != (s->long_key ? 32 : 4) ||
	    CRYPTO_memcmp(s->secret, m->key, m->key_len) != 0)
		return NULL;
	return s;
}

/* true: m goes on, with the cancel to the server. */
static bool cancel_session(struct session *s, struct cancel_message *m)
{
	struct buf out = BUF_INIT(1024);

	if (s->state == SESSION_WAITING) {
		pool_wait_end(&s->waiter);
		error_message(&out, ERROR_CANCELED_WAITING, NULL);
		session_fail_request(s, out.bytes, out.len);
		buf_free(&out);
	} else if (s->link &&
		   (s->link->expects.count || s->link->tx_status != 'I' || s->state == SESSION_REPLICATION)) {
		if (pool_cancel(s->link, cancel_is_over, m) == 0)
			return true;
		session_log(LOG_WARN, s, "could not send a cancel to the server", NULL);
	}
	return false;
}

static void cancel_arrives(struct loop_message *message, void *thread)
{
	struct cancel_message *m = container_of(message, struct cancel_message, message);
	struct session *s = find(thread, m);

	wipe(m->key, sizeof(m->key));
	if (!s || !s->logged || !cancel_session(s, m))
		cancel_is_over(m);
}

bool cancel_request(struct session *s, uint32_t pid, struct slice key)
{
	struct worker *w = s->worker;
	uint32_t number = pid - 1, index = number >> SLOT_BITS;
	struct cancel_message *m;

	if (index >= w->shared->worker_count || key.len > sizeof(m->key))
		return false;
	m = malloc(sizeof(*m));
	if (!m)
		return false;
	*m = (struct cancel_message){.message.run = cancel_arrives,
				     .from = w,
				     .from_slot = s->slot,
				     .from_serial = s->serial,
				     .slot = number & ((1u << SLOT_BITS) - 1),
				     .key_len = (uint32_t)key.len};
	memcpy(m->key, key.bytes, key.len);
	loop_post(w->shared->workers[index]->pool_thread.loop, &m->message);
	return true;
}
