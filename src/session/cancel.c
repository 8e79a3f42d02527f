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

struct cancel_message {
	struct loop_message message;
	uint32_t slot;
	uint32_t key_len;
	uint8_t key[32];
};

static struct session *find(struct worker *w, const struct cancel_message *m)
{
	struct session *s = m->slot < w->slot_count ? w->slots[m->slot] : NULL;

	if (!s || ((uintptr_t)s & 1) || m->key_len != (s->long_key ? 32 : 4) ||
	    CRYPTO_memcmp(s->secret, m->key, m->key_len) != 0)
		return NULL;
	return s;
}

static void cancel_session(struct session *s)
{
	struct buf out = BUF_INIT(1024);

	if (s->state == SESSION_WAITING) {
		pool_wait_end(&s->waiter);
		error_message(&out, ERROR_CANCELED_WAITING, NULL);
		session_fail_request(s, out.bytes, out.len);
		buf_free(&out);
	} else if (s->link && (s->link->expects.answers || s->state == SESSION_REPLICATION)) {
		if (pool_cancel(s->link) < 0)
			session_log(LOG_WARN, s, "could not send a cancel to the server", NULL);
	}
}

static void cancel_arrives(struct loop_message *message, void *thread)
{
	struct cancel_message *m = container_of(message, struct cancel_message, message);
	struct session *s = find(thread, m);

	if (s && s->logged)
		cancel_session(s);
	wipe(m->key, sizeof(m->key));
	free(m);
}

void cancel_request(struct worker *w, uint32_t pid, struct slice key)
{
	uint32_t number = pid - 1, index = number >> SLOT_BITS;
	struct cancel_message *m;

	if (index >= w->shared->worker_count || key.len > sizeof(m->key))
		return;
	m = malloc(sizeof(*m));
	if (!m)
		return;
	*m = (struct cancel_message){.message.run = cancel_arrives, .slot = number & ((1u << SLOT_BITS) - 1),
	                             .key_len = (uint32_t)key.len};
	memcpy(m->key, key.bytes, key.len);
	loop_post(w->shared->workers[index]->pool_thread.loop, &m->message);
}
