/*
 * Between access.c, which looks at statements, and calls.c, which looks for what a query calls.
 */
#ifndef SQL_ACCESS_PRIV_H
#define SQL_ACCESS_PRIV_H

#include "sql/access.h"
#include "sql/lexer.h"

struct verdict {
	enum access_level level;
	enum access_reason reason;
};

/* The word at a token, in any case; quoted it is none. */
bool token_is(const struct lexer *l, const struct token *t, const char *word);

/*
 * What the tokens from l->at to l->limit call and name, which scan_text() has found to be a query, or COPY's names and
 * columns: READS with REASON_QUERY at best.
 */
struct verdict calls_find(struct lexer l, const struct catalog *catalog);

#endif
