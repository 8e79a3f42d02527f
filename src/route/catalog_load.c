/*
 * Reads the catalog of a database: a job of one worker, on a link of a client's pool. It begins by a message, for who
 * asks for a catalog is in the middle of something, and is over when the link has gone back.
 */
#include "route/catalogs_priv.h"

#include "link/params.h"
#include "wire/frame.h"
#include "wire/message.h"
#include "wire/reader.h"

#include <stdio.h>

#define LOAD_TIMEOUT (30 * USEC_PER_SEC)
#define FRAME_MAX    65536u
#define NAME_COST    64u /* bytes that a name takes besides its own */

/* Undoes whatever a client of the same pool has set: what names mean here must not change, nor who asks. */
#define RESET_SETTINGS "RESET SESSION AUTHORIZATION;RESET ROLE;RESET ALL"

/* One transaction, which nothing outlives. JIT would take longer than the query does. The position is read last: what
 * was seen before is behind it. */
#define BEFORE "SET LOCAL search_path TO pg_catalog;SET LOCAL statement_timeout TO '30s';SET LOCAL jit TO off;"
#define BEHIND ";SELECT 'position', (pg_catalog.pg_current_wal_insert_lsn() - '0/0'::pg_catalog.pg_lsn)::text"

struct load {
	struct loop_message message;
	struct list node; /* in catalogs->loads, under its lock */
	struct catalog_entry *entry;
	struct pool_thread *thread;
	struct pool *pool;
	struct link *link;
	struct waiter waiter;
	struct timer timer;
	struct catalog *catalog;
	uint64_t changes, position;
	bool has_position;
	bool has_begun;
	bool given_up; /* before it has begun */
	usec_t begun;
	uint64_t size;
	uint32_t ready_awaited; /* ReadyForQuery that must come */
	char error[CATALOG_ERROR_SIZE];
	struct loop_deferred deferred;
};

/* ---- the end ---- */

static void load_free(struct loop_deferred *deferred)
{
	free(container_of(deferred, struct load, deferred));
}

/* Nothing of it is under way any more. */
static void leave(struct load *load)
{
	struct catalogs *c = load->entry->catalogs;

	catalog_free(load->catalog);
	pthread_mutex_lock(&c->lock);
	list_remove(&load->node);
	pthread_mutex_unlock(&c->lock);
	catalogs_release(load->entry);
	pool_unref(load->pool);
	load->deferred.run = load_free;
	loop_defer(load->thread->loop, &load->deferred);
}

static usec_t give_back(struct load *load)
{
	struct link *link = load->link;

	timer_cancel(&load->timer);
	pool_wait_end(&load->waiter);
	load->link = NULL;
	if (link) {
		link->has_unnamed = false; /* a simple query ends the unnamed statement */
		pool_give_back(link);
	}
	return clock_now() - load->begun;
}

static void fail(struct load *load, enum catalog_failure why, const char *error)
{
	usec_t took = give_back(load);

	if (why != CATALOG_GIVEN_UP)
		count_add(&load->thread->counters.catalog_load_failures_total, 1);
	catalog_load_failed(load->entry, why, error, took);
	leave(load);
}

/* The link is closed: its answer is outstanding. */
static void fail_and_close(struct load *load, enum catalog_failure why, const char *error)
{
	if (load->link)
		load->link->close_when_free = true;
	fail(load, why, error);
}

static void succeed(struct load *load)
{
	struct catalog *catalog = load->catalog;
	usec_t took = give_back(load);

	load->catalog = NULL;
	count_add(&load->thread->counters.catalog_loads_total, 1);
	catalog_loaded(load->entry, catalog, load->changes, load->position, took);
	leave(load);
}

static void takes_long(struct timer *timer)
{
	struct load *load = container_of(timer, struct load, timer);

	fail_and_close(load, CATALOG_FAILED, "it took too long");
}

/* ---- the answer ---- */

static void keep_error(struct load *load, const uint8_t *body, size_t len)
{
	struct error_fields e = {0};

	if (!*load->error && message_read_error(body, len, &e))
		snprintf(load->error, sizeof(load->error), "%.*s", (int)MIN(e.message.len, 250u),
			 (const char *)e.message.bytes);
	if (!*load->error)
		snprintf(load->error, sizeof(load->error), "an error without a message");
}

static bool read_number(struct slice digits, uint64_t *ret)
{
	*ret = 0;
	for (size_t i = 0; i < digits.len; i++) {
		if (digits.bytes[i] < '0' || digits.bytes[i] > '9' || *ret > UINT64_MAX / 10 - 1)
			return false;
		*ret = *ret * 10 + (digits.bytes[i] - '0');
	}
	return digits.len > 0;
}

/* NULL: kept. Else why this can't be. */
static const char *keep_row(struct load *load, struct slice kind, struct slice name)
{
	int r;

	if (slice_equal(kind, SLICE_LITERAL("position"))) {
		load->has_position = read_number(name, &load->position);
		return load->has_position ? NULL : "the position is no number";
	}
	load->size += NAME_COST + name.len;
	if (load->size > atomic_load(&load->entry->catalogs->size_max))
		return "it is larger than [read_write_split] catalog_max_size";
	r = catalog_add(load->catalog, kind, name);
	return r == 0 ? NULL : r == -ENOMEM ? "out of memory" : "a row of a kind that is not known";
}

static const char *take_row(struct load *load, const struct frame *f)
{
	struct reader r = reader_make(f->body, f->body_len);
	uint16_t columns = read_u16(&r);
	struct slice kind = read_slice(&r, read_u32(&r));
	struct slice name = read_slice(&r, read_u32(&r));

	if (columns != 2 || !reader_done(&r))
		return "a row that was not asked for";
	return keep_row(load, kind, name);
}

/* All answers have come. */
static void conclude(struct load *load)
{
	if (*load->error)
		fail(load, CATALOG_FAILED, load->error);
	else if (!load->has_position)
		fail(load, CATALOG_FAILED, "the answer is not whole");
	else
		succeed(load);
}

/* False: the load is over. */
static bool take_message(void *to, const struct frame *f)
{
	struct load *load = to;
	const char *wrong = NULL;

	switch (f->type) {
	case 'E':
		keep_error(load, f->body, f->body_len);
		return true;
	case 'S':
		if (!link_parameter_status(load->link, f->body, f->body_len))
			wrong = "a message that makes no sense";
		break;
	case 'D':
		if (load->ready_awaited == 1 && !*load->error)
			wrong = take_row(load, f);
		break;
	case 'Z':
		load->link->tx_status = f->body_len ? (char)f->body[0] : '?';
		expects_pop(&load->link->expects);
		if (--load->ready_awaited > 0)
			return true;
		conclude(load);
		return false;
	}
	if (!wrong)
		return true;
	fail_and_close(load, CATALOG_FAILED, wrong);
	return false;
}

static size_t received(struct link *link, uint8_t *bytes, size_t len)
{
	size_t done;

	if (frames_take(bytes, len, FRAME_MAX, take_message, link->user, &done))
		return done;
	fail_and_close(link->user, CATALOG_FAILED, "the server sent what the protocol does not allow");
	return len;
}

static void lost(struct link *link, int error)
{
	struct load *load = link->user;

	(void)error;
	fail_and_close(load, CATALOG_UNREACHABLE, *load->error ? load->error : "the server closed the connection");
}

static const struct link_user_ops link_ops = {.received = received, .lost = lost};

/* ---- the question ---- */

static bool ask(struct load *load, struct buf *out, struct slice sql)
{
	message_query(out, sql);
	load->ready_awaited++;
	return !out->failed && expects_push(&load->link->expects, (struct expect){.kind = EXPECT_QUERY}) == 0;
}

/* One packet. */
static bool send_question(struct load *load)
{
	struct link *link = load->link;
	struct buf sql = BUF_INIT(1u << 20), out = BUF_INIT(1u << 20);
	bool good = true;

	buf_add_str(&sql, BEFORE);
	buf_add_str(&sql, catalog_query);
	buf_add_str(&sql, BEHIND);
	if (link->settings)
		good = ask(load, &out, SLICE_LITERAL(RESET_SETTINGS));
	good = good && !sql.failed && ask(load, &out, slice_make(sql.bytes, sql.len));
	if (good) {
		conn_send(&link->conn, out.bytes, out.len);
		params_assign(&link->settings, NULL);
	}
	buf_free(&sql);
	buf_free(&out);
	return good;
}

static void granted(struct waiter *waiter, struct link *link)
{
	struct load *load = container_of(waiter, struct load, waiter);

	load->link = link;
	link_lend(link, &link_ops, load);
	if (strcmp(pool_server_database(load->pool), load->entry->name) != 0) { /* since a reload */
		fail(load, CATALOG_FAILED, "what clients call so is another database now");
		return;
	}
	load->begun = clock_now();
	load->changes = atomic_load(&load->entry->changes); /* before the server looks */
	if (!send_question(load))
		fail_and_close(load, CATALOG_FAILED, "out of memory");
}

static void not_granted(struct waiter *waiter, const struct link_failure *failure)
{
	struct load *load = container_of(waiter, struct load, waiter);

	/* who is told "no" by a server, other than that it starts or stops, has reached it */
	bool reached = failure->from_server && memcmp(failure->sqlstate, "57", 2) != 0;

	if (failure->error_len > FRAME_HEADER)
		keep_error(load, failure->error + FRAME_HEADER, failure->error_len - FRAME_HEADER);
	fail(load, reached ? CATALOG_FAILED : CATALOG_UNREACHABLE,
	     *load->error ? load->error : "no connection to the server");
}

static const struct waiter_ops waiter_ops = {.granted = granted, .failed = not_granted};

/* ---- beginning ---- */

static void begin(struct load *load)
{
	struct shard *shard = pool_shard(load->pool, load->thread);
	struct link *link;

	load->catalog = catalog_new();
	if (!shard || !load->catalog) {
		fail(load, CATALOG_FAILED, "out of memory");
		return;
	}
	timer_set(loop_timers(load->thread->loop), &load->timer, clock_now() + LOAD_TIMEOUT);
	link = pool_take(shard);
	if (link)
		granted(&load->waiter, link);
	else if (!pool_wait(shard, &load->waiter))
		fail(load, CATALOG_FAILED, "too many wait for a connection");
}

static void arrives(struct loop_message *message, void *thread)
{
	struct load *load = container_of(message, struct load, message);

	(void)thread;
	load->has_begun = true;
	load->begun = clock_now();
	if (load->given_up || load->thread->ending)
		fail(load, CATALOG_GIVEN_UP, "");
	else
		begin(load);
}

void catalog_load_begin(struct catalog_entry *entry, struct pool_thread *thread, struct pool *home)
{
	struct catalogs *c = entry->catalogs;
	struct load *load = calloc(1, sizeof(*load));

	if (!load) {
		catalog_load_failed(entry, CATALOG_FAILED, "out of memory", 0);
		catalogs_release(entry);
		return;
	}
	*load = (struct load){.message.run = arrives,
			      .entry = entry,
			      .thread = thread,
			      .pool = pool_ref(home),
			      .waiter.ops = &waiter_ops};
	list_init(&load->waiter.node);
	timer_init(&load->timer, takes_long);
	pthread_mutex_lock(&c->lock);
	list_push_back(&c->loads, &load->node);
	pthread_mutex_unlock(&c->lock);
	loop_post(thread->loop, &load->message);
}

/* One of the thread's that has not been given up yet. */
static struct load *next_load(struct catalogs *c, const struct pool_thread *thread)
{
	struct load *found = NULL;

	pthread_mutex_lock(&c->lock);
	list_for_each (node, &c->loads) {
		struct load *load = list_entry(node, struct load, node);

		if (!found && load->thread == thread && !load->given_up)
			found = load;
	}
	pthread_mutex_unlock(&c->lock);
	return found;
}

void catalogs_thread_end(struct catalogs *c, struct pool_thread *thread)
{
	struct load *load;

	while (c && (load = next_load(c, thread))) {
		load->given_up = true; /* its message may still be under way */
		if (load->has_begun)
			fail_and_close(load, CATALOG_GIVEN_UP, "");
	}
}
