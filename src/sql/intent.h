/*
 * What a query is meant for, in the few words that query statistics sort by. It says what somebody wants to do, where
 * the statement's class (scan.h) says what may happen: SELECT nextval('s') writes, and is meant to get a value.
 */
#ifndef SQL_INTENT_H
#define SQL_INTENT_H

#include "base/common.h"

enum sql_intent {
	INTENT_UNKNOWN,     /* nothing in it, or nothing that the scanner knows */
	INTENT_TRANSACTION, /* BEGIN, COMMIT, SAVEPOINT ... */
	INTENT_UTILITY,     /* SET, LISTEN, PREPARE, EXECUTE, VACUUM, CALL, DO, SHOW, EXPLAIN ... */
	INTENT_RETRIEVAL,   /* SELECT (also FOR UPDATE, or INTO), VALUES, TABLE, FETCH, COPY ... TO */
	INTENT_STORAGE,     /* INSERT, UPDATE, DELETE, MERGE, also in WITH; COPY ... FROM */
	INTENT_SCHEMA,      /* CREATE, ALTER, DROP, TRUNCATE, GRANT, COMMENT ... */
	INTENTS,
};

/* Of several statements the one that stands last in the list above: BEGIN; INSERT ...; COMMIT is storage. */
enum sql_intent sql_intent(struct slice text, bool standard_conforming_strings);
const char *sql_intent_name(enum sql_intent intent); /* "retrieval" */

#endif
