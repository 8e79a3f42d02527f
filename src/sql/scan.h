/*
 * What a query string is and does, from one pass of a hand-written scanner: comments (nested), strings
 * ('' E'' U&'' B'' X''), dollar quotes, quoted identifiers, parameters. It is no parser: what it can't tell
 * is UNKNOWN, which callers treat with care. Pure; any bytes are fine, no NUL needed.
 * Lexical rules: https://www.postgresql.org/docs/current/sql-syntax-lexical.html
 */
#ifndef SQL_SCAN_H
#define SQL_SCAN_H

#include "base/common.h"

enum statement_class {
	STATEMENT_EMPTY,     /* nothing but white space and comments */
	STATEMENT_READ,      /* SELECT, VALUES, TABLE, SHOW ... as far as a scanner can see */
	STATEMENT_WRITE,     /* INSERT, UPDATE, DELETE, MERGE, SELECT INTO, writing WITH ... */
	STATEMENT_DDL,       /* CREATE, ALTER, DROP, TRUNCATE, GRANT, COMMENT ... */
	STATEMENT_TRANSACTION, /* BEGIN, COMMIT, SAVEPOINT, PREPARE TRANSACTION ... */
	STATEMENT_SESSION,   /* SET, RESET, LISTEN, DISCARD, PREPARE, DEALLOCATE, DECLARE, LOAD ... */
	STATEMENT_COPY,
	STATEMENT_UTILITY,   /* VACUUM, EXPLAIN, CALL, DO, LOCK, NOTIFY ... */
	STATEMENT_UNKNOWN,
};

enum statement_verb { /* what the session layer must act on; everything else is OTHER */
	VERB_OTHER,
	VERB_BEGIN,          /* BEGIN, START TRANSACTION */
	VERB_COMMIT,         /* COMMIT, END (not COMMIT PREPARED) */
	VERB_ROLLBACK,       /* ROLLBACK, ABORT (not TO, not PREPARED) */
	VERB_SAVEPOINT,      /* name */
	VERB_RELEASE,        /* name */
	VERB_ROLLBACK_TO,    /* name */
	VERB_PREPARE_TRANSACTION,
	VERB_SET,            /* SET [SESSION] name TO value: name, value text */
	VERB_SET_LOCAL,      /* SET LOCAL ..., SET TRANSACTION ..., SET CONSTRAINTS ...: nothing outlives the transaction */
	VERB_RESET,          /* RESET name: name */
	VERB_RESET_ALL,
	VERB_DISCARD_ALL,
	VERB_DISCARD_OTHER,  /* PLANS, SEQUENCES, TEMP */
	VERB_LISTEN,
	VERB_UNLISTEN,       /* name; name empty means * */
	VERB_PREPARE,        /* SQL PREPARE: name */
	VERB_EXECUTE,        /* SQL EXECUTE: name */
	VERB_DEALLOCATE,     /* name */
	VERB_DEALLOCATE_ALL,
	VERB_DECLARE_HOLD,   /* DECLARE ... WITH HOLD: name */
	VERB_CLOSE_CURSOR,   /* CLOSE name or ALL (name empty) */
	VERB_CREATE_TEMP,    /* any CREATE TEMP/TEMPORARY ..., SELECT/CREATE ... INTO TEMP, pg_temp.x */
	VERB_LOAD,
};

/* Marks on a statement, found anywhere in it (not inside strings, comments or quoted identifiers). */
#define SCAN_SESSION_ADVISORY_LOCK BIT(0) /* calls pg_advisory_lock*, pg_try_advisory_lock* (not _xact_) */
#define SCAN_ADVISORY_UNLOCK BIT(1)
#define SCAN_SET_CONFIG BIT(2)            /* calls set_config( : may set a session parameter */
#define SCAN_FOR_UPDATE BIT(3)            /* FOR UPDATE/SHARE/NO KEY UPDATE/KEY SHARE in a SELECT */
#define SCAN_WRITING_CTE BIT(4)
#define SCAN_NEXTVAL BIT(5)               /* nextval( setval( */
#define SCAN_ROLE_OR_AUTH BIT(6)          /* VERB_SET/RESET of role or session_authorization */
#define SCAN_CHAIN BIT(7)                 /* COMMIT/ROLLBACK AND CHAIN */
#define SCAN_PG_TEMP BIT(8)               /* the name pg_temp appears */

struct statement {
	enum statement_class class;
	enum statement_verb verb;
	uint32_t marks;
	uint32_t begin, end;      /* offsets in the text: from the first token to behind the last (without ';') */
	struct slice name;        /* as written in the text (quotes and all); empty when the verb has none */
	struct slice value;       /* VERB_SET: the text behind TO or =, trimmed; "DEFAULT" as written */
};

struct scan {
	uint32_t count;           /* statements that are not empty, all of them */
	struct statement *statements; /* the first SCAN_STATEMENTS_MAX of them, malloc'd when more than one */
	struct statement first;   /* count 1: here (statements points to it) */
	uint32_t marks;           /* of all */
	bool truncated;           /* an unterminated string or comment, more statements than are listed, or text cut by max */
};

#define SCAN_STATEMENTS_MAX 1024u

/* standard_conforming_strings: as the session has it. Looks at no more than max bytes (0: all). 0 or -ENOMEM. */
int scan_text(const char *text, size_t len, size_t max, bool standard_conforming_strings, struct scan *ret) MUST_USE;
void scan_free(struct scan *s);

/*
 * An identifier as written -> as PostgreSQL means it: folded to lower case, or unquoted ("" made "). Cut to 63 bytes.
 * Returns the length; out has room for size bytes and is NUL-terminated. For "a.b" (custom parameters) dots are kept.
 */
size_t scan_identifier(struct slice written, char *out, size_t size);

const char *statement_class_name(enum statement_class class);

#endif
