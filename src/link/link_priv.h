/* What the files of link/ share. */
#ifndef LINK_LINK_PRIV_H
#define LINK_LINK_PRIV_H

#include "link/link.h"

/* A copy of a link_target that owns what it points to. */
struct link_target *link_target_copy(const struct link_target *from);
void link_target_free(struct link_target *target); /* NULL is fine; wipes the secret */

static inline const struct sockaddr *link_target_address(const struct link_target *target)
{
	return (const struct sockaddr *)&target->addresses[target->address_at];
}

/* Connects to the target's address of now (conn_connect, socket options). 0 or -errno. */
int link_target_connect(const struct link_target *target, struct conn *conn, struct loop *loop) MUST_USE;

/* What comes after the TCP connection and before the first byte of protocol: TLS or not. */
enum encrypt_step { ENCRYPT_NOT_NEEDED, ENCRYPT_ASKED, ENCRYPT_STARTED, ENCRYPT_FAILED };
/* The connection is up: asks for TLS, starts it, or neither. */
enum encrypt_step link_target_encrypt(const struct link_target *target, struct conn *conn);
/* The server's one byte answer to SSLRequest. ENCRYPT_FAILED: TLS is a must, and there is none. */
enum encrypt_step link_target_encrypt_answer(const struct link_target *target, struct conn *conn, uint8_t answer);

/* Begins to connect, too; fails for want of memory alone. */
int link_login_begin(struct link *link, struct loop *loop, const struct link_target *target) MUST_USE;
void link_login_end(struct link *link);

void link_set_state(struct link *link, enum link_state to);
/* Frees the link at the end of the turn; its conn is closed. */
void link_bury(struct link *link);

extern const struct conn_ops link_login_conn_ops; /* while logging in */
extern const struct conn_ops link_conn_ops;       /* afterwards */

/* A cancel under way, see link_cancel.c. */
void link_forget_cancels(struct link *link);

#endif
