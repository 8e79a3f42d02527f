/*
 * What a query string is and does, from one pass of a hand-written scanner: comments (nested), strings
 * ('' E'' U&'' B'' X''), dollar quotes, quoted identifiers, parameters. It is no parser: what it can't tell
 * is UNKNOWN, which callers treat with care; where a word may be a verb or a name, it's taken for what writes more.
 * Pure; any bytes are fine, no NUL needed. Bytes must be in an encoding that servers can have (ASCII bytes are ASCII
 * characters): client encodings such as SJIS or GBK, whose characters may end in a byte like \, would be read wrongly.
 * Lexical rules: https://www.postgresql.org/docs/current/sql-syntax-lexical.html
 */
#ifndef SQL_SCAN_H
#define SQL_SCAN_H

#include "base/common.h"

enum statement_class {
	STATEMENT_EMPTY, /* nothing but white space and comments */
	STATEMENT_READ,  /* SELECT, VALUES, TABLE, SHOW ... as far as a scanner can see: any function may write */
	STATEMENT_WRITE, /* INSERT, UPDATE, DELETE, MERGE; SELECT that writes in WITH, INTO, FOR UPDATE, or calls a
			  * FUNCTION of keywords.def (nextval, set_config, advisory locks, lo_* ...) */
	STATEMENT_DDL,   /* CREATE, ALTER, DROP, TRUNCATE, GRANT, COMMENT ... */
	STATEMENT_TRANSACTION, /* BEGIN, COMMIT, SAVEPOINT, PREPARE TRANSACTION ... */
	STATEMENT_SESSION,     /* SET, RESET, LISTEN, DISCARD, PREPARE, DEALLOCATE, DECLARE, LOAD ... */
	STATEMENT_COPY,
	STATEMENT_UTILITY, /* VACUUM, CALL, DO, LOCK, NOTIFY, FETCH, EXPLAIN ...; EXPLAIN ANALYZE x is what x is */
	STATEMENT_UNKNOWN,
};

enum statement_verb { /* what the session layer must act on; everything else is OTHER */
		      VERB_OTHER,
		      VERB_BEGIN,       /* BEGIN, START TRANSACTION */
		      VERB_COMMIT,      /* COMMIT, END (not COMMIT PREPARED) */
		      VERB_ROLLBACK,    /* ROLLBACK, ABORT (not TO, not PREPARED) */
		      VERB_SAVEPOINT,   /* name */
		      VERB_RELEASE,     /* name */
		      VERB_ROLLBACK_TO, /* name */
		      VERB_PREPARE_TRANSACTION,
		      VERB_SET, /* SET [SESSION] name TO value: name, value text. SET TIME ZONE and its like have the
				 * parameter's name; SET SESSION CHARACTERISTICS has the name "session characteristics"
				 */
		      VERB_SET_LOCAL, /* SET LOCAL, SET TRANSACTION, SET CONSTRAINTS ...: nothing outlives the
					 transaction */
		      VERB_RESET,     /* RESET name: name */
		      VERB_RESET_ALL,
		      VERB_DISCARD_ALL,
		      VERB_DISCARD_OTHER, /* PLANS, SEQUENCES, TEMP */
		      VERB_LISTEN,        /* name */
		      VERB_UNLISTEN,      /* name; name empty means * */
		      VERB_PREPARE,       /* SQL PREPARE: name */
		      VERB_EXECUTE, /* SQL EXECUTE: name; also EXPLAIN [ANALYZE] EXECUTE, CREATE TABLE ... AS EXECUTE */
		      VERB_DEALLOCATE, /* name */
		      VERB_DEALLOCATE_ALL,
		      VERB_DECLARE_HOLD, /* DECLARE ... WITH HOLD: name */
		      VERB_CLOSE_CURSOR, /* CLOSE name or ALL (name empty) */
		      VERB_CREATE_TEMP,  /* any CREATE TEMP/TEMPORARY ..., SELECT/CREATE ... INTO TEMP, pg_temp.x; name:
					  * of the  prepared statement, in CREATE TEMP TABLE ... AS EXECUTE name, else
					  * empty */
		      VERB_LOAD,
};

/*
 * Marks on a statement, found anywhere in it (not inside strings and comments). Keywords don't count in quotes, but
 * "nextval"( is a call and "pg_temp" is the schema. A U&"" with UESCAPE may be any name: it gets all marks of names.
 */
#define SCAN_SESSION_ADVISORY_LOCK BIT(0) /* calls pg_advisory_lock*, pg_try_advisory_lock* (not _xact_) */
#define SCAN_ADVISORY_UNLOCK       BIT(1)
#define SCAN_SET_CONFIG            BIT(2) /* calls set_config( : may set a session parameter */
#define SCAN_FOR_UPDATE            BIT(3) /* FOR UPDATE/SHARE/NO KEY UPDATE/KEY SHARE in a SELECT */
#define SCAN_WRITING_CTE           BIT(4) /* WITH x AS (DELETE ...), COPY (DELETE ...) TO; not WITH ... DELETE */
#define SCAN_NEXTVAL               BIT(5) /* nextval( setval( */
#define SCAN_ROLE_OR_AUTH          BIT(6) /* VERB_SET/RESET of role or session_authorization */
#define SCAN_CHAIN                 BIT(7) /* COMMIT/ROLLBACK AND CHAIN */
#define SCAN_PG_TEMP               BIT(8) /* the name pg_temp, or pg_temp_ and more, appears */
#define SCAN_CLOCK_LITERAL         BIT(9) /* 'now', 'today' and the like: a date as of when the text is parsed, maybe */

struct statement {
	enum statement_class class;
	enum statement_verb verb;
	uint32_t marks;
	uint32_t begin, end; /* offsets in the text: from the first token to behind the last (without ';') */
	/*
	 * As written in the text, quotes and all; empty when the verb has none. Where the text doesn't say it, a
	 * constant: timezone, session_authorization, client_encoding, search_path, xmloption, transaction_isolation,
	 * session characteristics.
	 */
	struct slice name;
	/*
	 * VERB_SET, VERB_SET_LOCAL: the text behind TO or =, trimmed; "DEFAULT" as written (a constant for SET NAMES
	 * and SET TIME ZONE LOCAL). Empty for SET x FROM CURRENT. TIME ZONE INTERVAL '1' HOUR is no value behind TO:
	 * to run a SET again, send its text from begin to end.
	 */
	struct slice value;
};

struct scan {
	uint32_t count;               /* statements that are not empty, all of them */
	struct statement *statements; /* the first SCAN_STATEMENTS_MAX of them, malloc'd when more than one */
	struct statement first; /* count 0 (then EMPTY) or 1: here (statements points to it: don't copy the scan) */
	uint32_t marks;         /* of all */
	bool truncated;         /* unterminated string or comment, more statements than listed, or text cut by max */
};

#define SCAN_STATEMENTS_MAX 1024u

/*
 * standard_conforming_strings: as the session has it. Looks at no more than max bytes (0: all). 0 or -ENOMEM; then
 * there is nothing to free. A truncated text has no READ at its end: that is UNKNOWN.
 */
int scan_text(const char *text, size_t len, size_t max, bool standard_conforming_strings, struct scan *ret) MUST_USE;
void scan_free(struct scan *s);

/*
 * An identifier as written -> as PostgreSQL means it: folded to lower case, or unquoted ("" made ", U&"" made UTF-8).
 * Cut to 63 bytes, between characters of UTF-8. For a.b (custom parameters) dots are kept and each part is cut.
 * Returns the length; out has room for size bytes and is NUL-terminated.
 */
size_t scan_identifier(struct slice written, char *out, size_t size);

const char *statement_class_name(enum statement_class class);

#endif
