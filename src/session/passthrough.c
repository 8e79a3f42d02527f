/*
 * [auth] mode = "passthrough": the server decides. When it lets the proxy in without a password, so does the proxy.
 * When it asks for one the client is asked in turn, and what it says is tried at the server: the link that this opens
 * serves the pool afterwards. A password that was right once is kept in memory and compared from then on; one that
 * differs is tried anew, for it may have been changed.
 */
#include "session/login_priv.h"

#include <openssl/crypto.h>

static void ask_for_password(struct session *s)
{
	static const uint8_t ask[] = {'R', 0, 0, 0, 8, 0, 0, 0, 3}; /* AuthenticationCleartextPassword */

	if (login_refuses_clear_text(s))
		return;
	s->login->phase = LOGIN_PASSWORD;
	conn_send_ref(&s->conn, ask, sizeof(ask));
	conn_resume(&s->conn);
}

void passthrough_begin(struct session *s)
{
	if (!login_find_pool(s))
		return;
	switch (pool_login(session_pool(s))) {
	case POOL_LOGIN_TRUSTED:
		login_welcome(s);
		break;
	case POOL_LOGIN_NEEDS_PASSWORD:
		ask_for_password(s);
		break;
	case POOL_LOGIN_UNKNOWN:
		s->login->phase = LOGIN_LEARNING;
		pool_ask_login(session_pool(s));
		login_wait_for_link(s);
		break;
	}
}

static bool is_the_known_one(struct session *s, const struct secret *given)
{
	struct secret known;
	bool same = false;

	if (pool_copy_secret(session_pool(s), &known)) {
		size_t len = strlen(given->text);

		same = known.kind == SECRET_PLAIN && strlen(known.text) == len &&
		       CRYPTO_memcmp(known.text, given->text, len) == 0;
		secret_wipe(&known);
	}
	return same;
}

static void try_secret(struct session *s)
{
	struct session_login *l = s->login;
	int r;

	if (is_the_known_one(s, &l->secret)) {
		login_welcome(s);
		return;
	}
	l->phase = LOGIN_TRYING;
	r = pool_try_secret(s->shard, &l->secret, &s->waiter);
	if (r == -EAGAIN)
		session_fatal(s, ERROR_TOO_MANY_WAITING,
			      "the password differs from the one known, and can't be tried now");
	else if (r < 0)
		session_fatal(s, ERROR_SERVER_CONNECT_FAILED, strerror(-r));
}

size_t passthrough_password(struct session *s, const struct frame *f)
{
	struct reader r = reader_make(f->body, f->body_len);
	struct slice password = read_cstring(&r);

	if (!reader_done(&r)) {
		session_fatal(s, ERROR_PROTOCOL_VIOLATION, "malformed password message");
		return 0;
	}
	secret_wipe(&s->login->secret);
	s->login->secret.kind = SECRET_PLAIN;
	s->login->secret.text = strndup((const char *)password.bytes, password.len);
	if (password.len == 0)
		login_failed(s);
	else if (!s->login->secret.text)
		session_fatal(s, ERROR_OUT_OF_MEMORY, NULL);
	else
		try_secret(s);
	return 0;
}

void passthrough_granted(struct session *s, struct link *link)
{
	struct session_login *l = s->login;

	if (l->phase == LOGIN_TRYING) {
		pool_offer_secret(session_pool(s), &l->secret);
	} else if (link->used_password) {
		/* the pool has links of somebody who knew the password: that says nothing of this client */
		link_lend(link, &session_link_ops, s);
		pool_give_back(link);
		ask_for_password(s);
		return;
	}
	/* the link goes to the pool, and back here if the welcome needs one */
	link_lend(link, &session_link_ops, s);
	pool_give_back(link);
	login_welcome(s);
}

void passthrough_failed(struct session *s, const struct link_failure *failure)
{
	if (s->login->phase == LOGIN_LEARNING && failure->wants_password)
		ask_for_password(s);
	else
		session_fatal_bytes(s, failure->error, failure->error_len, "the server refused the login");
}
