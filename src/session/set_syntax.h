/*
 * Session parameters for servers without set_config(): HeliosDB. What sessions keep is SQL as PostgreSQL takes it
 * (settings_sql()); here it becomes what SET takes, when it is sent.
 *
 * Quotes and backslashes are left out of values. That server keeps a quote that stands twice as two, and takes a
 * backslash as itself within a literal, but as an escape where it looks for the literal's end.
 */
#ifndef SESSION_SET_SYNTAX_H
#define SESSION_SET_SYNTAX_H

#include "base/buf.h"

/* sql: what a session keeps for the parameter of this name. Appends a whole statement, without its semicolon. What is
 * no call of set_config() is the client's own SET, and goes as it is. */
void set_syntax_add(struct buf *to, const char *name, const char *sql);
/* Likewise: the parameter has its default again. */
void set_syntax_add_reset(struct buf *to, const char *name);

#endif
