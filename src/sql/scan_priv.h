/*
 * Between scan.c, which walks a statement's tokens, and classify.c, which names it.
 */
#ifndef SQL_SCAN_PRIV_H
#define SQL_SCAN_PRIV_H

#include "sql/lexer.h"
#include "sql/scan.h"

/* What can stand anywhere in a statement, noted on the one walk over its tokens. */
struct facts {
	uint32_t marks;
	uint16_t first;   /* code of the first token */
	uint16_t main;    /* WITH ... outside of parentheses: the verb behind its list, 0 when that is a parenthesis */
	uint32_t execute; /* offset of EXECUTE in CREATE TABLE ... AS EXECUTE; 0: none (no statement begins there) */
	bool has_with;    /* WITH, anywhere */
	bool has_query;   /* SELECT, VALUES or TABLE, anywhere */
	bool has_select;  /* SELECT, outside of parentheses */
	bool has_change;  /* an INSERT, UPDATE, DELETE or MERGE in parentheses */
	bool has_effects; /* calls a FUNCTION of keywords.def */
	bool into;        /* SELECT ... INTO */
	bool into_temp;   /* SELECT ... INTO TEMP */
};

/* Fills in class, verb, name, value and more marks; s->begin, end and marks are given, the rest is zero. */
void statement_classify(const struct lexer *text, const struct facts *facts, struct statement *s);

#endif
