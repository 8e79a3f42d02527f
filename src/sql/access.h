/*
 * Where a text may run: on any node, or only on the primary. And what it does that a router must know: transactions it
 * begins and ends, and what ties its session to a node. docs/routing.md says what counts as a read, and why.
 *
 * A wrong READS is the gravest mistake of all; anything that is not known to be harmless is something else.
 */
#ifndef SQL_ACCESS_H
#define SQL_ACCESS_H

#include "sql/catalog.h"
#include "sql/scan.h"

enum access_level {                  /* of several statements the highest counts */
		    ACCESS_FOLLOWS,  /* asks for no data: runs where the transaction is; without one, on the primary */
		    ACCESS_READS,    /* any node that has replayed as much gives the same answer */
		    ACCESS_DOUBTFUL, /* a query that calls what may write: the primary's; in a READ ONLY transaction it
				      * can stay where that is, for a write fails there as it would on the primary */
		    ACCESS_WRITES,   /* the primary's */
};

enum access_reason {
#define REASON(name, word, text) REASON_##name,
#include "sql/access_reasons.def"
#undef REASON
	REASONS,
};

enum access_said { SAID_NOTHING, SAID_YES, SAID_NO, SAID_DEFAULT };

enum access_after { AFTER_SAME, AFTER_OPEN, AFTER_CLOSED };

/* What ties the session to its node. All of these are WRITES. */
#define TIE_TEMP     BIT(0) /* temporary tables and other objects */
#define TIE_LISTEN   BIT(1)
#define TIE_CURSOR   BIT(2) /* WITH HOLD */
#define TIE_LOCK     BIT(3) /* session advisory locks */
#define TIE_PREPARED BIT(4) /* SQL PREPARE */
#define TIE_LOAD     BIT(5)

struct access {
	enum access_level level;
	enum access_reason reason; /* of the first statement that has that level */
	enum access_after after;   /* whether a transaction block is open behind the last statement */
	uint32_t ties;
	/*
	 * As the text says it, last one last; SAID_DEFAULT: as the server has it. Of the transaction it begins or is in
	 * (never DEFAULT), and of the session's transactions from then on. A setting made in a transaction that is
	 * rolled back goes with it. set_config() isn't seen: the session's settings are the session layer's.
	 */
	enum access_said read_only, serializable;
	enum access_said session_read_only, session_serializable;
};

/*
 * text, scan: as scan_text() read it. standard_conforming_strings: as the session has it now; read with the wrong
 * value, a text may hide a call in what looks like a string. So may text in a client encoding that scan.h does not
 * allow. catalog: of the session's database; NULL: nothing but PostgreSQL's own functions is known, and views not at
 * all.
 */
void access_find(const char *text, const struct scan *scan, bool standard_conforming_strings,
		 const struct catalog *catalog, struct access *ret);

const char *access_level_name(enum access_level level);
const char *access_reason_word(enum access_reason reason);
const char *access_reason_text(enum access_reason reason);

#endif
