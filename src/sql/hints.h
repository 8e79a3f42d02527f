/*
 * Hints: comments in front of a text that say how it is to be routed. docs/routing.md has the grammar. Only what stands
 * before the first word of the first statement is looked at, and no more than HINT_BYTES_MAX of it.
 */
#ifndef SQL_HINTS_H
#define SQL_HINTS_H

#include "base/common.h"

#define HINT_BYTES_MAX    4096u
#define HINT_COMMENTS_MAX 16u
#define HINT_PAIRS_MAX    64u
#define HINT_PROBLEMS_MAX 8u
#define HINT_TEXT_MAX     128u
#define HINT_FIRST_MAX    '/' /* no text with hints begins with a greater byte */

/* 0 means that nothing was said. */
enum hint_route {
	HINT_ROUTE_UNSAID,
	HINT_ROUTE_PRIMARY,
	HINT_ROUTE_STANDBY,
	HINT_ROUTE_SYNC,
	HINT_ROUTE_SEMISYNC,
	HINT_ROUTE_ASYNC,
	HINT_ROUTE_ANY,
	HINT_ROUTE_LOCAL,
	HINT_ROUTE_VECTOR,
};
enum hint_consistency { HINT_CONSISTENCY_UNSAID, HINT_STRONG, HINT_BOUNDED, HINT_EVENTUAL };
enum hint_pool { HINT_POOL_UNSAID, HINT_POOL_SESSION, HINT_POOL_TRANSACTION, HINT_POOL_STATEMENT };
enum hint_cache {
	HINT_CACHE_UNSAID,
	HINT_CACHE_NORMAL,
	HINT_CACHE_SKIP,
	HINT_CACHE_REFRESH,
	HINT_CACHE_SEMANTIC,
	HINT_CACHE_L1,
	HINT_CACHE_L2,
	HINT_CACHE_ALL,
};
enum hint_priority {
	HINT_PRIORITY_UNSAID,
	HINT_PRIORITY_LOW,
	HINT_PRIORITY_NORMAL,
	HINT_PRIORITY_HIGH,
	HINT_PRIORITY_CRITICAL,
};
enum hint_answer { HINT_UNSAID, HINT_YES, HINT_NO };

/* Each field that was said has its bit set in `said`: BIT(HINT_SAID_route) ... */
enum {
	HINT_SAID_route,
	HINT_SAID_node,
	HINT_SAID_consistency,
	HINT_SAID_pool,
	HINT_SAID_cache,
	HINT_SAID_cache_ttl_ms,
	HINT_SAID_cache_tables,
	HINT_SAID_cache_refresh,
	HINT_SAID_semantic,
	HINT_SAID_timeout_ms,
	HINT_SAID_lag,
	HINT_SAID_key,
	HINT_SAID_priority,
	HINT_SAID_retry,
	HINT_SAID_branch,
	HINT_SAID_tool,
	HINT_SAID_workflow,
	HINT_SAID_twr,
	HINT_SAID_prefetch,
};

enum hint_problem_kind {
	HINT_KEY_UNKNOWN,
	HINT_VALUE_BAD,  /* not one of the key's words, no number, too large, too long */
	HINT_UNIT_LACKS, /* timeout=5: of what? */
	HINT_NO_PAIR,    /* no key=value */
	HINT_TOO_MANY,   /* comments, pairs or bytes: the rest was not looked at */
};

struct hint_problem {
	enum hint_problem_kind kind;
	struct slice key, value; /* in the text */
};

struct hints {
	uint32_t said;
	enum hint_route route;
	enum hint_consistency consistency;
	enum hint_pool pool;
	enum hint_cache cache;
	enum hint_priority priority;
	enum hint_answer cache_refresh, semantic, twr, prefetch;
	uint32_t retry; /* how often; yes is 1, no is 0 */
	uint64_t cache_ttl_ms;
	uint64_t timeout_ms;
	uint64_t lag; /* milliseconds, or bytes */
	bool lag_is_bytes;
	/*
	 * As written in the text, without the quotes around it. In quotes, two of them stand for one: hint_text() makes
	 * that of it.
	 */
	struct slice node, key, branch, tool, workflow, cache_tables;
	/* The comments that are hints, in order. That of a -- comment has its newline. */
	uint32_t comment_count;
	struct hint_comment {
		uint32_t begin, end;
	} comments[HINT_COMMENTS_MAX];
	uint32_t problem_count;                          /* all of them */
	struct hint_problem problems[HINT_PROBLEMS_MAX]; /* the first */
};

void hints_read(struct slice text, struct hints *ret);

/* The text that was read last: several who see a text on its way want to know. Zero is fine. */
struct hints_memo {
	size_t len; /* of all of the text */
	struct hints hints;
	uint8_t text[HINT_BYTES_MAX + 1]; /* one more: that there is more counts, too */
};

/* As hints_read(), of a copy, and only if it is another text than the last one. Until the next call. */
const struct hints *hints_recall(struct hints_memo *memo, struct slice text);

/* May it have hints? Most texts begin with a letter. */
static inline bool hints_may_begin(uint8_t first)
{
	return first <= HINT_FIRST_MAX;
}

/*
 * Strips text, which hints_read() has read, of its hints: blanks take their place, for positions in errors count from
 * its beginning. They count characters, so a comment with any that is longer than a byte stays as it is.
 */
void hints_blank(const struct hints *h, uint8_t *text);
/* The end of the last comment that hints_blank() would change; 0: there is none. */
size_t hints_blank_end(const struct hints *h, struct slice text);

/*
 * One key of a session (SET helios.route = 'replica', a startup option): key and value as they are meant, without
 * quotes. false: it isn't understood; *ret_problem says why.
 */
bool hints_set(struct hints *h, struct slice key, struct slice value, struct hint_problem *ret_problem);

/* What a value means: '' and "" within it made one, in out, with a NUL. Returns its length. */
size_t hint_text(struct slice value, char out[HINT_TEXT_MAX + 1]);

/* For a NOTICE, with a NUL. */
void hint_problem_text(const struct hint_problem *p, char *out, size_t size);

#endif
