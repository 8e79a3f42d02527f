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

struct session_login {
	enum login_phase phase;
	char *user, *database, *replication; /* replication: NULL, or the parameter's value */
	enum auth_method method;
	const struct hba_rule *rule; /* NULL: no HBA file. Lives with the configuration ... */
	const struct config *config; /* ... of this login */
	struct client_auth *auth;
	bool passthrough; /* the server decides */
	struct session *session;
	struct auth_asker asker;          /* while in LOGIN_AUTH_QUERY */
	const char *asked_in;             /* database where auth_query ran; NULL: it was not needed */
	struct secret secret;             /* what the proxy knows of the user */
	bool application_is_plain;        /* the server leaves application_name as it is, and won't refuse it */
	const struct params *welcome_key; /* settings, without an application_name that is plain */
};

/* The client didn't prove who it is. */
void login_failed(struct session *s);
void login_authenticated(struct session *s);
void login_welcome(struct session *s);
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
