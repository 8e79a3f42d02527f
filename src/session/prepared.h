/*
 * The prepared statements of a session in the shared modes. A client's name leads to a text, and the text's identity is
 * its name at every server; what a link lacks is prepared in front of what needs it. What is sent ahead may be skipped
 * by the server for an earlier error, so each change that is under way stands in link->expects with what undoes it, and
 * what hangs on an earlier batch's fate waits for that.
 * Functions that return false have ended the session, for want of memory.
 */
#ifndef SESSION_PREPARED_H
#define SESSION_PREPARED_H

#include "link/expect.h"
#include "session/query_info.h"

struct session;
struct buf;
struct worker;
struct error_fields;

/* What undoes a change, in the entry of its Parse or Close. */
struct statement_note {
	struct statement_id id;          /* of a Close of ours at the server (text is NULL then) */
	bool gone;                       /* of such a Close: there was nothing to close, it turned out */
	struct statement_text *text;     /* prepared, or closed */
	struct statement_text *previous; /* of an unnamed Parse: what was there before, or NULL */
	char name[];                     /* "" : the unnamed one */
};

/* ---- what the client's names mean ---- */

/* NULL: none of this name; "" is the unnamed one. */
struct statement_text *prepared_find(const struct session *s, struct slice name);
/* Takes the reference over. false: out of memory, the session goes on. */
bool prepared_remember(struct session *s, struct slice name, struct statement_text *text) MUST_USE;
bool prepared_forget(struct session *s, struct slice name); /* true: there was one */
void prepared_forget_unnamed(struct session *s);
void prepared_forget_all(struct session *s); /* DISCARD ALL, DEALLOCATE ALL, the end; portals, too */
/* The client's name of a statement that the server calls so; hash: see struct expect. false: none of its. */
bool prepared_client_name(const struct session *s, const char *server_name, uint16_t hash, struct slice *ret_name);
uint16_t prepared_name_hash(struct slice name);

/* A portal of this statement (NULL: an unknown one) is bound. */
bool prepared_bind_portal(struct session *s, struct slice portal, struct statement_text *text);
/* The portal's statement; NULL: it has no query_info, and no stage wants to know it. */
struct statement_text *prepared_portal(const struct session *s, struct slice portal);

/* ---- what is under way ---- */

/* What the name means, or if the link has its statement, is decided by what an earlier batch still has to answer. */
bool prepared_name_is_undecided(const struct session *s, struct slice name);
/* The next message waits until that is decided. It may hang on the same batch, whose answers the server holds back for
 * a Sync: then they are asked for. */
void prepared_wait_for_name(struct session *s);
bool prepared_is_undecided(const struct session *s, struct statement_id id);
/* The entries of link->expects: a client's Parse or Close that has an effect. The entry gets a reference to the text of
 * its own. */
bool prepared_push(struct session *s, enum expect_kind kind, uint8_t flags, struct slice name,
		   struct statement_text *text);
/* A Parse of the unnamed statement; takes the reference to the text over. */
bool prepared_push_unnamed(struct session *s, struct statement_text *text, uint8_t flags);
/* The entry that was pushed last ends statements when it is executed (DEALLOCATE, DISCARD). */
void prepared_pushed_deallocate(struct session *s);
/* The text is about to be executed. A DEALLOCATE of a name of the client's needs the server to know that name: it gets
 * a statement of this name, in front. False also when a name is undecided (then s->waits_for_name). */
bool prepared_before_deallocate(struct session *s, const struct query_info *info);
bool prepared_is_deallocate(const struct expect *x);
/* The entry leaves link->expects. */
void prepared_settled(struct session *s, const struct expect *x);
/* The server did not do what this entry of link->expects stands for: it failed, or was skipped for an earlier error. */
void prepared_undo(struct session *s, const struct expect *x, bool failed);
void prepared_note_free(struct session *s, struct statement_note *note);

/* ---- what the link has ---- */

/* The link has the statement, under its server_name, from here on. */
bool prepared_ensure(struct session *s, struct statement_text *text);
/* The link's unnamed statement is this; text NULL: it has none. */
bool prepared_ensure_unnamed(struct session *s, struct statement_text *text);
bool prepared_link_has_unnamed(const struct session *s, const struct statement_text *text);
void prepared_link_got_unnamed(struct session *s, const struct statement_text *text);
/* Room for one more on the link. */
bool prepared_make_room(struct session *s);
bool prepared_close_at_link(struct session *s, struct statement_id id);
/* The link has it, and gets it anew; as the unnamed statement, unless named. */
bool prepared_again(struct session *s, struct statement_text *text, bool named);
bool prepared_send_parse(struct session *s, const struct statement_text *text, const char *name);
/* The same message, with the name that servers know it by, for who has no session. */
void prepared_add_parse(struct worker *w, struct buf *out, const struct statement_text *text);
void prepared_add_close(struct buf *out, struct statement_id id);

/* ---- changes of the schema ---- */

/* What was sent may change it. Until the end of its transaction no Parse of anybody's is answered by the proxy alone.
 */
void prepared_schema_changes(struct session *s);
/* The same, and what it may do to catalogs. */
void prepared_note_changes(struct session *s, const struct query_info *info);
/* A transaction is over, but something is under way behind it. */
void prepared_catalog_changed(struct session *s);
/* A statement of session mode, or behind what was looked at of a text, of which nothing else is known, was completed
 * with this tag. */
void prepared_look_at_tag(struct session *s, struct slice tag);
/* Its transaction is over, or its link is left: all that links have prepared is prepared anew. */
void prepared_schema_changed(struct session *s);
/* Somewhere a change of the schema is under way. */
bool prepared_schema_is_changing(void);
/* What the link has prepared may be older than the schema. */
bool prepared_is_stale(const struct session *s);

/* What an error says of statements: its plan is older than the schema; it calls one by the name that we gave it. */
bool prepared_error_is_stale(const struct error_fields *e);
bool prepared_error_names_ours(const struct error_fields *e);

#endif
