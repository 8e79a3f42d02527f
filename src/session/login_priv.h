/* What login.c and passthrough.c share: what only a login needs. */
#ifndef SESSION_LOGIN_PRIV_H
#define SESSION_LOGIN_PRIV_H

#include "config/hba.h"
#include "session/session_priv.h"

enum login_phase {
	LOGIN_AUTH_QUERY, /* auth_query is under way */
	LOGIN_EXCHANGE,   /* client_auth is at work */
	LOGIN_LEARNING,   /* passthrough: does the server want a password at all? */
	LOGIN_PASSWORD,   /* passthrough: the client's password is awaited */
	LOGIN_TRYING,     /* passthrough: the password is tried at the server */
	LOGIN_WELCOME,    /* a link is awaited, or the client's settings are being put onto it */
};

/* See introduction.c. Counted; of one worker. */
struct introduction {
	uint32_t references;
	uint32_t packet_len, greeting_len;
	bool long_key;             /* it asks for protocol 3.2 */
	bool application_is_plain; /* the server leaves application_name as it is, and won't refuse it */
	bool stays_out;            /* of those that are kept: it is one of them, or must not be */
	uint8_t *packet;           /* NULL: not to be kept */
	char *user, *database;
	char *replication, *application; /* NULL, or the parameter's value */
	const struct params *settings;
	const struct params *welcome_key; /* settings, without an application_name that is plain */
	const struct params *learned;     /* what the greeting was made of ... */
	const struct params *reported;    /* ... and what it tells */
	uint8_t *greeting;                /* AuthenticationOk and ParameterStatus; NULL: none yet */
};

struct session_login {
	enum login_phase phase;
	struct introduction *introduction;
	const char *user, *database, *replication; /* its own */
	enum auth_method method;
	const struct hba_rule *rule; /* NULL: no HBA file. Lives with the configuration ... */
	const struct config *config; /* ... of this login */
	struct client_auth *auth;
	bool passthrough; /* the server decides */
	bool console;     /* its database leads to no node */
	struct session *session;
	struct auth_asker asker; /* while in LOGIN_AUTH_QUERY */
	const char *asked_in;    /* database where auth_query ran; NULL: it was not needed */
	struct secret secret;    /* what the proxy knows of the user */
};

/* The greeting is what answers it where the server reports this. false: out of memory. */
bool introduction_greet(struct introduction *i, const struct params *learned);
/* It led to a login: the next one with the same packet will find it. */
void introduction_remember(struct worker *w, struct introduction *i);

/* The client didn't prove who it is. */
void login_failed(struct session *s);
void login_authenticated(struct session *s);
void login_welcome(struct session *s);
void login_make_secret(struct session *s);   /* of its cancel key; the session may be closed afterwards */
void login_wait_for_link(struct session *s); /* login_link_granted() follows, also at once */
void login_find_secret(struct session *s);
/* s->shard; false: refused. */
bool login_find_pool(struct session *s);
/* True: the client was refused, for a password in clear is too risky on its connection. */
bool login_refuses_clear_text(struct session *s);

/* passthrough.c */
void passthrough_begin(struct session *s);
size_t passthrough_password(struct session *s, const struct frame *f);
void passthrough_failed(struct session *s, const struct link_failure *failure);
void passthrough_granted(struct session *s, struct link *link);

#endif
