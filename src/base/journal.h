/*
 * The last entries of something that is written down: log lines (log.c), events (event.c). Any thread adds; whoever
 * reads copies what is new, and makes text of it at leisure. What an entry needs is known from the start: so many
 * entries, so many bytes; the oldest go. The lock is held for a memcpy, and nobody waits for a reader.
 *
 * Numbers of entries grow by one, and also over a restart of the process: the first is the wall clock at the start, in
 * microseconds. So whoever read another process's entries before finds that some are missing, not others in their
 * place.
 */
#ifndef BASE_JOURNAL_H
#define BASE_JOURNAL_H

#include "base/log.h"

#define JOURNAL_PAIRS_MAX 32
#define JOURNAL_ENTRY_MAX LOG_LINE_MAX /* bytes that one entry takes; pairs that don't fit are left out */

struct journal;

struct journal_entry {
	uint64_t number, wall_us;
	enum log_level level;
	unsigned kind; /* whoever adds says what that is */
	const char *message;
	const struct kv *pairs; /* ends with KV_END; texts are KV_STR */
};

/* NULL: no memory. bytes is raised to what a few of the longest entries need. */
struct journal *journal_new(size_t entries, size_t bytes, uint64_t wall_us);
void journal_free(struct journal *journal); /* NULL is fine */

/* The entry's number is given here. */
void journal_add(struct journal *journal, const struct journal_entry *entry);
/* told() is called by whoever has added one, under the journal's lock: it is short, and writes nothing down. NULL:
 * nobody is told, from the return on. */
void journal_watch(struct journal *journal, void (*told)(void *argument), void *argument);

/* The first number that is (or will be) there, and the one that the next entry gets. */
void journal_span(struct journal *journal, uint64_t *ret_first, uint64_t *ret_next);
/* The number of the very first: those below are another process's. */
uint64_t journal_born(const struct journal *journal);
size_t journal_entries_max(const struct journal *journal);

/* Where a reader has come to. */
struct journal_reader {
	struct journal *journal;
	uint64_t next;   /* the number that is read next; the oldest, if that is gone */
	uint64_t until;  /* exclusive; UINT64_MAX: whatever comes */
	uint64_t missed; /* numbers that were gone, of those asked for: whoever looks sets it back */
	size_t at, filled;
	struct kv pairs[JOURNAL_PAIRS_MAX + 1];
	char copy[64 << 10];
};

/* From this number on. */
void journal_read(struct journal_reader *reader, struct journal *journal, uint64_t from);
/* false: that was all, for now. The entry lives until the next call. */
bool journal_next(struct journal_reader *reader, struct journal_entry *ret_entry);

#endif
