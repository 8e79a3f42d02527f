/* See catalogs.h. What is known, and when it is to be read again. */
#include "route/catalogs_priv.h"

#include "base/log.h"
#include "cluster/changes.h"

#include <pthread.h>
#include <stdio.h>

#define REFRESHES_KEPT 2u /* as old as so many, a catalog that nobody has asked for is not believed any more */
#define JITTER_PERCENT 10u
#define REST_FACTOR    3u /* of the time that loads take, they may take a quarter */
#define RETRY_FIRST    (500 * USEC_PER_MSEC)
#define RETRY_DOUBLES  7u /* up to about a minute */
#define FORGET_AFTER   (600 * USEC_PER_SEC)

#define WAL_PAGE         8192u
#define WAL_SHORT_HEADER 24u
#define WAL_LONG_HEADER  40u

/* ---- when ---- */

uint32_t catalog_judge(const struct catalog_moment *m)
{
	bool any = m->loaded && !m->outdated;
	bool use = any && (m->unreachable || m->now < m->loaded + REFRESHES_KEPT * m->refresh);
	bool load = (!any || m->now >= m->refresh_at) && !m->loading && m->now >= m->not_before;

	return (use ? CATALOG_USE : 0) | (load ? CATALOG_LOAD : 0);
}

/* Where the schema changes all the time it must not be read all the time. */
usec_t catalog_rest(usec_t took, uint32_t failures_in_row)
{
	usec_t rest = REST_FACTOR * took;

	if (failures_in_row > 0)
		rest = MAX(rest, RETRY_FIRST << MIN(failures_in_row - 1, RETRY_DOUBLES));
	return rest;
}

/*
 * Behind a record that fills its page the server says where the next one will begin, which is behind the next page's
 * header; who has replayed all says where the record ended. No record ends inside of a header.
 */
uint64_t catalog_position(uint64_t insert_lsn)
{
	uint64_t within = insert_lsn % WAL_PAGE;

	return within == WAL_SHORT_HEADER || within == WAL_LONG_HEADER ? insert_lsn - within : insert_lsn;
}

/* So that proxies that were started together do not ask together. */
static usec_t refresh_time(struct catalogs *c)
{
	usec_t refresh = atomic_load(&c->refresh), jitter = refresh * JITTER_PERCENT / 100;

	return refresh - (jitter ? (usec_t)random() % jitter : 0);
}

/* ---- all of them ---- */

struct catalogs *catalogs_new(const struct catalogs_context *context)
{
	struct catalogs *c = calloc(1, sizeof(*c));

	if (!c)
		return NULL;
	c->context = *context;
	pthread_mutex_init(&c->lock, NULL);
	list_init(&c->loads);
	catalogs_reload(c, context->config);
	return c;
}

void catalogs_reload(struct catalogs *c, const struct config *config)
{
	atomic_store(&c->refresh, config->read_write_split.catalog_refresh);
	atomic_store(&c->size_max, config->read_write_split.catalog_max_size);
}

static void snapshot_free(void *argument)
{
	struct catalog_snapshot *s = argument;

	if (s)
		catalog_free(s->catalog);
	free(s);
}

/* Nobody has a reference, so no worker can be looking at what it knows either: who released it did so in a turn in
 * which he has got nothing from it since. */
static void entry_free(struct catalog_entry *e)
{
	snapshot_free(atomic_load(&e->now));
	free(e);
}

void catalogs_free(struct catalogs *c)
{
	struct slice name;
	uint32_t at = 0;
	void *entry;

	if (!c)
		return;
	while (map_next(&c->entries, &at, &name, &entry))
		entry_free(entry);
	map_free(&c->entries);
	pthread_mutex_destroy(&c->lock);
	free(c);
}

/* ---- one database ---- */

static void entry_retire(void *argument)
{
	entry_free(argument);
}

/* Those that nobody has used for long. The lock is held; the list is of entries to be retired without it. */
static uint32_t take_forgotten(struct catalogs *c, struct catalog_entry **taken, uint32_t max)
{
	usec_t now = clock_now();
	uint32_t count = 0, at = 0;
	struct slice name;
	void *value;

	while (count < max && map_next(&c->entries, &at, &name, &value)) {
		struct catalog_entry *e = value;

		if (e->references == 0 && now > e->unused_since + FORGET_AFTER)
			taken[count++] = e;
	}
	for (uint32_t i = 0; i < count; i++)
		map_remove(&c->entries, slice_str(taken[i]->name));
	return count;
}

/* The lock is held. */
static struct catalog_entry *entry_new(struct catalogs *c, const char *database)
{
	size_t size = strlen(database) + 1;
	struct catalog_entry *e = c->entries.count < CATALOG_ENTRIES_MAX ? calloc(1, sizeof(*e) + size) : NULL;

	if (!e)
		return NULL;
	e->catalogs = c;
	memcpy(e->name, database, size);
	if (map_put(&c->entries, slice_str(database), e, NULL) < 0) {
		free(e);
		return NULL;
	}
	return e;
}

struct catalog_entry *catalogs_find(struct catalogs *c, const char *database)
{
	struct catalog_entry *e, *forgotten[8];
	uint32_t count = 0;

	pthread_mutex_lock(&c->lock);
	e = map_get(&c->entries, slice_str(database));
	if (!e) {
		count = take_forgotten(c, forgotten, ARRAY_SIZE(forgotten));
		e = entry_new(c, database);
	}
	if (e)
		e->references++;
	pthread_mutex_unlock(&c->lock);
	for (uint32_t i = 0; i < count; i++)
		c->context.retire(c->context.server, entry_retire, forgotten[i]);
	return e;
}

void catalogs_release(struct catalog_entry *e)
{
	if (!e)
		return;
	pthread_mutex_lock(&e->catalogs->lock);
	e->references--;
	e->unused_since = clock_now();
	pthread_mutex_unlock(&e->catalogs->lock);
}

void catalogs_schema_changed(struct catalogs *c, const char *database)
{
	struct catalog_entry *e;

	pthread_mutex_lock(&c->lock);
	e = map_get(&c->entries, slice_str(database));
	if (e)
		atomic_fetch_add(&e->changes, 1);
	pthread_mutex_unlock(&c->lock);
	changes_tell();
}

void catalogs_primary_changed(struct catalogs *c)
{
	struct slice name;
	uint32_t at = 0;
	void *entry;

	pthread_mutex_lock(&c->lock);
	while (map_next(&c->entries, &at, &name, &entry))
		atomic_fetch_add(&((struct catalog_entry *)entry)->changes, 1);
	pthread_mutex_unlock(&c->lock);
	changes_tell();
}

static struct catalog_moment moment_of(struct catalog_entry *e, const struct catalog_snapshot *s)
{
	return (struct catalog_moment){
		.now = clock_now(),
		.loaded = s ? s->loaded : 0,
		.refresh_at = s ? s->refresh_at : 0,
		.refresh = atomic_load(&e->catalogs->refresh),
		.not_before = atomic_load(&e->not_before),
		.outdated = s && s->changes != atomic_load(&e->changes),
		.unreachable = atomic_load(&e->unreachable),
		.loading = atomic_load(&e->loading),
	};
}

static NEVER_INLINE const struct known_catalog *look_again(struct catalog_entry *e, const struct catalog_snapshot *s,
							   struct pool_thread *thread, struct pool *home)
{
	const struct catalog_moment moment = moment_of(e, s);
	uint32_t judged = catalog_judge(&moment);

	if (judged & CATALOG_LOAD && !thread->ending && !atomic_exchange(&e->loading, true)) {
		pthread_mutex_lock(&e->catalogs->lock);
		e->references++;
		pthread_mutex_unlock(&e->catalogs->lock);
		catalog_load_begin(e, thread, home);
	}
	return judged & CATALOG_USE ? &s->known : NULL;
}

const struct known_catalog *catalogs_get(struct catalog_entry *e, struct pool_thread *thread, struct pool *home)
{
	const struct catalog_snapshot *s = atomic_load_explicit(&e->now, memory_order_acquire);

	if (likely(s && s->changes == atomic_load_explicit(&e->changes, memory_order_acquire) &&
		   clock_now() < s->refresh_at))
		return &s->known;
	return look_again(e, s, thread, home);
}

/* ---- what came of a load ---- */

static void over(struct catalog_entry *e, usec_t took)
{
	atomic_store(&e->not_before, clock_now() + catalog_rest(took, e->failures_in_row));
	atomic_store(&e->loading, false);
}

static struct catalog_snapshot *snapshot_new(struct catalog_entry *e, struct catalog *catalog, uint64_t changes,
					     uint64_t position)
{
	struct catalog_snapshot *s = calloc(1, sizeof(*s));

	if (!s)
		return NULL;
	*s = (struct catalog_snapshot){
		.known = {.catalog = catalog,
			  .number = atomic_fetch_add(&e->catalogs->numbers, 1) + 1,
			  .position = catalog_position(position)},
		.catalog = catalog,
		.changes = changes,
		.loaded = MAX(clock_now(), 1u),
		.names = catalog_size(catalog),
	};
	s->refresh_at = s->loaded + refresh_time(e->catalogs);
	return s;
}

void catalog_loaded(struct catalog_entry *e, struct catalog *catalog, uint64_t changes, uint64_t position, usec_t took)
{
	struct catalogs *c = e->catalogs;
	struct catalog_snapshot *fresh = snapshot_new(e, catalog, changes, position), *old;
	uint32_t failures;

	if (!fresh) {
		catalog_free(catalog);
		catalog_load_failed(e, CATALOG_FAILED, "out of memory", took);
		return;
	}
	log_debug("catalog read", kv_str("database", e->name), kv_uint("names", fresh->names),
		  kv_uint("number", fresh->known.number), kv_uint("us", took));
	atomic_store(&e->unreachable, false);
	pthread_mutex_lock(&c->lock); /* who looks at the old one under it, keeps it from being retired */
	old = atomic_exchange(&e->now, fresh);
	failures = e->failures_in_row;
	e->failures_in_row = 0;
	e->loads++;
	*e->error = 0;
	over(e, took);
	pthread_mutex_unlock(&c->lock);
	changes_tell();
	if (failures)
		log_info("the catalog of a database could be read again", kv_str("database", e->name),
			 kv_uint("failures", failures));
	if (old)
		c->context.retire(c->context.server, snapshot_free, old);
}

void catalog_load_failed(struct catalog_entry *e, enum catalog_failure why, const char *error, usec_t took)
{
	struct catalogs *c = e->catalogs;
	bool is_news;

	if (why == CATALOG_GIVEN_UP) {
		atomic_store(&e->loading, false);
		return;
	}
	atomic_store(&e->unreachable, why == CATALOG_UNREACHABLE);
	pthread_mutex_lock(&c->lock);
	is_news = e->failures_in_row++ == 0 || strcmp(e->error, error) != 0;
	e->failures++;
	snprintf(e->error, sizeof(e->error), "%s", error);
	over(e, took);
	pthread_mutex_unlock(&c->lock);
	if (is_news)
		log_warn("the catalog of a database could not be read; without it, its statements stay on the primary",
			 kv_str("database", e->name), kv_str("reason", error));
}

/* ---- for people ---- */

static const char *state_name(const struct catalog_snapshot *s, const struct catalog_moment *m)
{
	if (!s)
		return "none";
	if (m->outdated)
		return "outdated";
	return catalog_judge(m) & CATALOG_USE ? "current" : "old";
}

static struct catalog_view view_of(struct catalog_entry *e)
{
	const struct catalog_snapshot *s = atomic_load(&e->now);
	const struct catalog_moment m = moment_of(e, s);
	struct catalog_view v = {
		.database = e->name,
		.state = state_name(s, &m),
		.loading = m.loading,
		.loads = e->loads,
		.failures = e->failures,
		.failures_in_row = e->failures_in_row,
		.error = e->error,
		.users = e->references,
	};

	if (s) {
		v.number = s->known.number;
		v.position = s->known.position;
		v.age_us = m.now > s->loaded ? m.now - s->loaded : 0;
		v.names = s->names;
	}
	return v;
}

void catalogs_each(struct catalogs *c, void (*each)(const struct catalog_view *view, void *to), void *to)
{
	struct slice name;
	uint32_t at = 0;
	void *entry;

	clock_update();
	pthread_mutex_lock(&c->lock);
	while (map_next(&c->entries, &at, &name, &entry)) {
		struct catalog_view v = view_of(entry);

		each(&v, to);
	}
	pthread_mutex_unlock(&c->lock);
}
