/* See breaker.h. */
#include "route/breaker.h"

#include "base/event.h"
#include "base/log.h"
#include "cluster/changes.h"

#include <pthread.h>

#define PROBES_FORGOTTEN (60 * USEC_PER_SEC) /* a probe that was begun so long ago is not waited for any more */

/* Of one worker: it alone writes them. */
struct breaker_tally {
	_Alignas(64) _Atomic uint64_t calls;
	_Atomic uint64_t failures, slow, rejected;
};

struct breaker {
	struct breaker_gate gate; /* first: what node->breaker points to. Written under the lock */
	struct breakers *all;
	struct node *node;
	struct breaker *next;
	_Atomic usec_t slow_threshold, timeout; /* 0: none */
	_Atomic usec_t open_until;
	_Atomic uint32_t round;  /* counts HALF_OPENs; the ticket of its probes. Never 0 in one */
	_Atomic uint32_t probes; /* under way */
	_Atomic usec_t probed_at;
	pthread_mutex_t lock; /* of what follows */
	struct breaker_settings settings;
	struct breaker_window window;
	uint32_t good_probes;
	usec_t since;
	uint64_t since_wall;
	uint64_t time_in[3], opened, transitions;
	struct breaker_change history[BREAKER_HISTORY];
	struct breaker_tally tallies[BREAKER_THREADS];
};

struct breakers {
	struct node_list *nodes;
	_Atomic bool enabled;
	_Atomic(struct breaker *) first; /* one is added in front, none is ever taken out */
	pthread_mutex_t lock;            /* of the codes */
	char (*codes)[6];                /* error_codes of the configuration, upper case; NULL: none */
	uint32_t code_count;
	_Atomic bool ignore_transient;
};

const char *breaker_state_name(enum breaker_state state)
{
	static const char *const names[] = {
#define X(name, text, meaning) text,
		BREAKER_STATES(X)
#undef X
	};

	return names[state];
}

const char *breaker_reason_text(enum breaker_reason reason)
{
	static const char *const texts[] = {
#define X(name, text) text,
		BREAKER_REASONS(X)
#undef X
	};

	return texts[reason];
}

/* NULL: none, or breakers are off. */
static struct breaker *breaker_of(const struct node *node)
{
	struct breaker_gate *gate =
		atomic_load_explicit(&((struct node *)(uintptr_t)node)->breaker, memory_order_acquire);
	struct breaker *b = gate ? container_of(gate, struct breaker, gate) : NULL;

	return b && atomic_load_explicit(&b->all->enabled, memory_order_relaxed) ? b : NULL;
}

static enum breaker_state state_of(struct breaker *b)
{
	return (enum breaker_state)atomic_load_explicit(&b->gate.state, memory_order_acquire);
}

/* ---- counting ---- */

static void add(_Atomic uint64_t *counter, uint64_t n)
{
	atomic_store_explicit(counter, atomic_load_explicit(counter, memory_order_relaxed) + n, memory_order_relaxed);
}

static uint64_t get(_Atomic uint64_t *counter)
{
	return atomic_load_explicit(counter, memory_order_relaxed);
}

static struct breaker_counts sum(struct breaker *b)
{
	struct breaker_counts s = {0};

	for (uint32_t i = 0; i < BREAKER_THREADS; i++) {
		/* failures first: a call must not fail before it is counted */
		s.failures += get(&b->tallies[i].failures);
		s.slow += get(&b->tallies[i].slow);
		s.calls += get(&b->tallies[i].calls);
	}
	return s;
}

/* ---- states; the lock is held ---- */

/* What the node's kind has instead of what holds for all. */
static struct breaker_settings settings_now(const struct breaker *b)
{
	struct breaker_settings s = b->settings;
	const struct breaker_kind *kind = NULL;

	switch (atomic_load_explicit(&b->node->sync, memory_order_relaxed)) {
	case NODE_SYNC_SYNC:
		kind = &s.sync;
		break;
	case NODE_SYNC_QUORUM:
		kind = &s.semisync;
		break;
	case NODE_SYNC_ASYNC:
	case NODE_SYNC_POTENTIAL:
		kind = &s.async;
		break;
	case NODE_SYNC_UNKNOWN:
		return s;
	}
	if (kind->failure_threshold)
		s.failure_threshold = kind->failure_threshold;
	if (kind->open)
		s.open = kind->open;
	return s;
}

static void become(struct breaker *b, enum breaker_state to, enum breaker_reason why)
{
	enum breaker_state from = state_of(b);
	usec_t now = clock_now();
	struct breaker_counts counts = sum(b);

	b->time_in[from] += clock_since(b->since, now);
	b->since = now;
	b->since_wall = clock_wall();
	b->history[b->transitions++ % BREAKER_HISTORY] =
		(struct breaker_change){.wall = b->since_wall, .from = from, .to = to, .why = why};
	b->opened += to == BREAKER_OPEN;
	b->good_probes = 0;
	atomic_store(&b->probes, 0);
	if (to == BREAKER_OPEN)
		atomic_store(&b->open_until, now + settings_now(b).open);
	if (to == BREAKER_HALF_OPEN)
		atomic_store(&b->round, MAX(atomic_load(&b->round) + 1, 1u));
	if (to == BREAKER_CLOSED) {
		breaker_window_begin(&b->window, now, &counts); /* what was before is not held against it */
		atomic_store(&b->node->ramp_since, now);
	}
	atomic_store_explicit(&b->gate.state, to, memory_order_release);
	changes_tell();
	log_event(to == BREAKER_OPEN        ? EVENT_BREAKER_OPENED
		  : to == BREAKER_HALF_OPEN ? EVENT_BREAKER_HALF_OPEN
					    : EVENT_BREAKER_CLOSED,
		  to == BREAKER_OPEN ? LOG_WARN : LOG_INFO, "circuit breaker", kv_str("node", b->node->name),
		  kv_str("state", breaker_state_name(to)), kv_str("reason", breaker_reason_text(why)));
}

static void half_open_if_due(struct breaker *b)
{
	if (state_of(b) == BREAKER_OPEN && clock_now() >= atomic_load(&b->open_until))
		become(b, BREAKER_HALF_OPEN, BREAKER_BECAUSE_TIME_OVER);
}

static void judge(struct breaker *b, bool failed)
{
	struct breaker_counts counts = sum(b);
	struct breaker_settings settings;
	usec_t now = clock_now();
	enum breaker_verdict verdict;

	if (state_of(b) != BREAKER_CLOSED)
		return;
	settings = settings_now(b);
	breaker_window_add(&b->window, &settings, now, &counts, failed);
	verdict = breaker_window_judge(&b->window, &settings, now, &counts);
	if (verdict == VERDICT_FAILS)
		become(b, BREAKER_OPEN, BREAKER_BECAUSE_FAILURES);
	else if (verdict == VERDICT_SLOW)
		become(b, BREAKER_OPEN, BREAKER_BECAUSE_SLOW);
}

/* ---- calls ---- */

static void reject(struct breaker *b, uint32_t thread)
{
	add(&b->tallies[thread].rejected, 1);
}

/* May one more probe go? Those that never came back are not waited for. */
static bool has_place(struct breaker *b)
{
	return atomic_load(&b->probes) < b->settings.max_probes ||
	       clock_since(atomic_load(&b->probed_at), clock_now()) > PROBES_FORGOTTEN;
}

bool breaker_is_due(const struct node *node)
{
	struct breaker *b = breaker_of(node);
	bool due;

	if (!b || state_of(b) == BREAKER_CLOSED)
		return true;
	if (state_of(b) == BREAKER_OPEN)
		return clock_now() >= atomic_load(&b->open_until);
	pthread_mutex_lock(&b->lock);
	due = has_place(b);
	pthread_mutex_unlock(&b->lock);
	return due;
}

static bool take_place(struct breaker *b, breaker_ticket *ret_ticket)
{
	half_open_if_due(b);
	switch (state_of(b)) {
	case BREAKER_CLOSED:
		return true;
	case BREAKER_OPEN:
		return false;
	case BREAKER_HALF_OPEN:
		break;
	}
	if (!has_place(b))
		return false;
	if (atomic_load(&b->probes) >= b->settings.max_probes)
		atomic_store(&b->probes, 0);
	atomic_fetch_add(&b->probes, 1);
	atomic_store(&b->probed_at, clock_now());
	*ret_ticket = atomic_load(&b->round);
	return true;
}

bool breaker_begin(struct node *node, uint32_t thread, breaker_ticket *ret_ticket)
{
	struct breaker *b = breaker_of(node);
	bool allowed;

	*ret_ticket = 0;
	if (likely(!b || state_of(b) == BREAKER_CLOSED))
		return true;
	if (state_of(b) == BREAKER_OPEN && clock_now() < atomic_load(&b->open_until)) {
		reject(b, thread);
		return false;
	}
	pthread_mutex_lock(&b->lock);
	allowed = take_place(b, ret_ticket);
	pthread_mutex_unlock(&b->lock);
	if (!allowed)
		reject(b, thread);
	return allowed;
}

breaker_ticket breaker_join(struct node *node)
{
	struct breaker *b = breaker_of(node);
	breaker_ticket ticket = 0;

	if (likely(!b || state_of(b) != BREAKER_HALF_OPEN))
		return 0;
	pthread_mutex_lock(&b->lock);
	(void)take_place(b, &ticket);
	pthread_mutex_unlock(&b->lock);
	return ticket;
}

/*
 * Of what ends while it is half open. A probe of an earlier time says nothing. What was not begun as a probe, on a
 * connection that is open, is as telling when it is good; when it failed, maybe of something that broke long ago.
 */
static void end_in_half_open(struct breaker *b, breaker_ticket ticket, bool good)
{
	bool is_probe;

	pthread_mutex_lock(&b->lock);
	is_probe = ticket && ticket == atomic_load(&b->round);
	if (state_of(b) == BREAKER_HALF_OPEN && (is_probe || (!ticket && good))) {
		if (is_probe && atomic_load(&b->probes) > 0)
			atomic_fetch_sub(&b->probes, 1);
		if (!good)
			become(b, BREAKER_OPEN, BREAKER_BECAUSE_PROBE_FAILED);
		else if (++b->good_probes >= b->settings.success_threshold)
			become(b, BREAKER_CLOSED, BREAKER_BECAUSE_PROBES_GOOD);
	}
	pthread_mutex_unlock(&b->lock);
}

/* The lock is held. */
static bool counts_as_failure(const struct breaker *b, enum breaker_failure failure)
{
	switch (failure) {
	case BREAKER_GOOD:
		return false;
	case BREAKER_CONNECTION:
		return b->settings.count_connection_errors;
	case BREAKER_TIMEOUT:
		return b->settings.count_timeouts;
	case BREAKER_ERROR_OF_NODE:
		break;
	}
	return true;
}

static bool note_failure(struct breaker *b, uint32_t thread, enum breaker_failure failure)
{
	bool counts;

	pthread_mutex_lock(&b->lock);
	counts = counts_as_failure(b, failure);
	if (counts) {
		add(&b->tallies[thread].failures, 1);
		judge(b, /* failed= */ true);
	}
	pthread_mutex_unlock(&b->lock);
	return counts;
}

static bool is_over(_Atomic usec_t *limit, usec_t took)
{
	usec_t l = atomic_load_explicit(limit, memory_order_relaxed);

	return l && took >= l;
}

void breaker_end(struct node *node, uint32_t thread, breaker_ticket ticket, enum breaker_failure failure, usec_t took)
{
	struct breaker *b = breaker_of(node);
	bool slow, failed;

	if (!b)
		return;
	slow = is_over(&b->slow_threshold, took);
	if (failure == BREAKER_GOOD && is_over(&b->timeout, took))
		failure = BREAKER_TIMEOUT;
	add(&b->tallies[thread].calls, 1);
	if (unlikely(slow))
		add(&b->tallies[thread].slow, 1);
	failed = unlikely(failure != BREAKER_GOOD) && note_failure(b, thread, failure);
	if (unlikely(state_of(b) == BREAKER_HALF_OPEN))
		end_in_half_open(b, ticket, !failed && !slow);
}

void breaker_give_up(struct node *node, breaker_ticket ticket)
{
	struct breaker *b = breaker_of(node);

	if (likely(!ticket || !b))
		return;
	pthread_mutex_lock(&b->lock);
	if (state_of(b) == BREAKER_HALF_OPEN && ticket == atomic_load(&b->round) && atomic_load(&b->probes) > 0)
		atomic_fetch_sub(&b->probes, 1);
	pthread_mutex_unlock(&b->lock);
}

/* ---- errors ---- */

enum error_kind { KIND_NEVER, KIND_CONNECTION, KIND_SERVER, KIND_TRANSIENT };

static const struct {
	const char *prefix;
	enum error_kind kind;
} error_kinds[] = {
#define BREAKER_ERROR(prefix, kind, meaning) {prefix, KIND_##kind},
#include "route/breaker_errors.def"
#undef BREAKER_ERROR
};

static enum error_kind kind_of(struct slice sqlstate)
{
	enum error_kind kind = KIND_NEVER;
	size_t best = 0;

	for (size_t i = 0; i < ARRAY_SIZE(error_kinds); i++) {
		size_t len = strlen(error_kinds[i].prefix);

		if (len > best && len <= sqlstate.len && memcmp(error_kinds[i].prefix, sqlstate.bytes, len) == 0) {
			kind = error_kinds[i].kind;
			best = len;
		}
	}
	return kind;
}

/* As error_codes says: a whole code, or the first characters of several. */
static bool is_listed(struct breakers *all, struct slice sqlstate, bool *ret_there_is_a_list)
{
	bool listed = false;

	pthread_mutex_lock(&all->lock);
	*ret_there_is_a_list = all->code_count > 0;
	for (uint32_t i = 0; i < all->code_count && !listed; i++) {
		size_t len = strlen(all->codes[i]);

		listed = len <= sqlstate.len && memcmp(all->codes[i], sqlstate.bytes, len) == 0;
	}
	pthread_mutex_unlock(&all->lock);
	return listed;
}

enum breaker_failure breaker_judge_error(const struct node *node, struct slice sqlstate)
{
	struct breaker *b = breaker_of(node);
	enum error_kind kind = b ? kind_of(sqlstate) : KIND_NEVER;
	bool there_is_a_list = false;

	if (!b)
		return BREAKER_GOOD;
	if (is_listed(b->all, sqlstate, &there_is_a_list))
		return kind == KIND_CONNECTION ? BREAKER_CONNECTION : BREAKER_ERROR_OF_NODE;
	if (kind == KIND_CONNECTION)
		return BREAKER_CONNECTION;
	if (kind == KIND_SERVER && !there_is_a_list)
		return BREAKER_ERROR_OF_NODE;
	if (kind == KIND_TRANSIENT && !atomic_load_explicit(&b->all->ignore_transient, memory_order_relaxed))
		return BREAKER_ERROR_OF_NODE;
	return BREAKER_GOOD;
}

/* ---- all of them ---- */

static void take_codes(struct breakers *all, const struct config_strings *codes)
{
	char(*fresh)[6] = codes->count ? calloc(codes->count, sizeof(*fresh)) : NULL;
	uint32_t count = fresh ? codes->count : 0;

	for (uint32_t i = 0; i < count; i++)
		for (uint32_t k = 0; k < 5 && codes->items[i][k]; k++) {
			char c = codes->items[i][k];

			fresh[i][k] = (char)(c >= 'a' && c <= 'z' ? c - 'a' + 'A' : c);
		}
	pthread_mutex_lock(&all->lock);
	free(all->codes);
	all->codes = fresh;
	all->code_count = count;
	pthread_mutex_unlock(&all->lock);
}

static struct breaker_settings settings_of(const struct config *config)
{
	const struct config_circuit_breaker *c = &config->circuit_breaker;

	return (struct breaker_settings){
		.enabled = c->enabled,
		.adaptive = c->adaptive_enabled,
		.count_connection_errors = c->count_connection_errors,
		.count_timeouts = c->count_timeouts,
		.ignore_transient = c->ignore_transient,
		.failure_threshold = c->failure_threshold,
		.failure_rate = c->failure_rate,
		.slow_rate = c->slow_call_rate,
		.minimum_calls = c->minimum_calls,
		.window_calls = c->window_calls,
		.success_threshold = c->success_threshold,
		.max_probes = c->half_open_max_probes,
		.window = c->failure_window,
		.open = c->open,
		.slow_threshold = c->slow_threshold,
		.timeout = c->timeout,
		.sync = {c->sync_threshold, c->sync_cooldown},
		.semisync = {c->semisync_threshold, c->semisync_cooldown},
		.async = {c->async_threshold, c->async_cooldown},
	};
}

static void take_settings(struct breaker *b, const struct breaker_settings *settings)
{
	pthread_mutex_lock(&b->lock);
	b->settings = *settings;
	atomic_store(&b->slow_threshold, settings->slow_threshold);
	atomic_store(&b->timeout, settings->timeout);
	if (!settings->enabled && state_of(b) != BREAKER_CLOSED)
		become(b, BREAKER_CLOSED, BREAKER_BECAUSE_DISABLED);
	pthread_mutex_unlock(&b->lock);
}

static bool add_breaker(struct breakers *all, struct node *node)
{
	struct breaker *b = aligned_alloc(64, (sizeof(*b) + 63) / 64 * 64);
	struct breaker_counts none = {0};

	if (!b)
		return false;
	memset(b, 0, sizeof(*b));
	b->all = all;
	b->node = node;
	b->since = clock_now();
	b->since_wall = clock_wall();
	pthread_mutex_init(&b->lock, NULL);
	breaker_window_begin(&b->window, b->since, &none);
	b->next = atomic_load(&all->first);
	atomic_store_explicit(&all->first, b, memory_order_release);
	atomic_store_explicit(&node->breaker, &b->gate, memory_order_release);
	return true;
}

void breakers_reload(struct breakers *all, const struct config *config)
{
	const struct node_set *nodes = node_list_now(all->nodes);
	struct breaker_settings settings = settings_of(config);

	take_codes(all, &config->circuit_breaker.error_codes);
	atomic_store(&all->ignore_transient, settings.ignore_transient);
	for (uint32_t i = 0; i < nodes->count; i++)
		if (!atomic_load(&nodes->nodes[i]->breaker) && !add_breaker(all, nodes->nodes[i]))
			log_error("no memory for the circuit breaker of a node: it has none",
				  kv_str("node", nodes->nodes[i]->name));
	for (struct breaker *b = atomic_load(&all->first); b; b = b->next)
		take_settings(b, &settings);
	atomic_store(&all->enabled, settings.enabled);
}

struct breakers *breakers_new(struct node_list *nodes, const struct config *config)
{
	struct breakers *all = calloc(1, sizeof(*all));

	if (!all)
		return NULL;
	all->nodes = nodes;
	pthread_mutex_init(&all->lock, NULL);
	breakers_reload(all, config);
	return all;
}

bool breakers_enabled(const struct breakers *all)
{
	return atomic_load_explicit(&((struct breakers *)(uintptr_t)all)->enabled, memory_order_relaxed);
}

void breakers_tick(struct breakers *all)
{
	if (!breakers_enabled(all))
		return;
	for (struct breaker *b = atomic_load_explicit(&all->first, memory_order_acquire); b; b = b->next) {
		struct breaker_counts counts;

		pthread_mutex_lock(&b->lock);
		half_open_if_due(b);
		judge(b, /* failed= */ false);
		counts = sum(b);
		if (state_of(b) == BREAKER_CLOSED)
			breaker_window_learn(&b->window, clock_now(), &counts);
		pthread_mutex_unlock(&b->lock);
	}
}

void breakers_free(struct breakers *all)
{
	struct breaker *b;

	if (!all)
		return;
	while ((b = atomic_load(&all->first))) {
		atomic_store(&all->first, b->next);
		atomic_store(&b->node->breaker, NULL);
		pthread_mutex_destroy(&b->lock);
		free(b);
	}
	pthread_mutex_destroy(&all->lock);
	free(all->codes);
	free(all);
}

/* ---- for people ---- */

bool breaker_look(const struct node *node, struct breaker_view *ret)
{
	struct breaker *b = breaker_of(node);
	usec_t now = clock_update(), until;

	if (!b)
		return false;
	*ret = (struct breaker_view){0};
	for (uint32_t i = 0; i < BREAKER_THREADS; i++)
		ret->rejected += get(&b->tallies[i].rejected);
	pthread_mutex_lock(&b->lock);
	ret->state = state_of(b);
	until = atomic_load(&b->open_until);
	ret->retry_in = ret->state == BREAKER_OPEN && until > now ? until - now : 0;
	ret->since_wall = b->since_wall;
	memcpy(ret->time_in, b->time_in, sizeof(ret->time_in));
	ret->time_in[ret->state] += clock_since(b->since, now);
	ret->opened = b->opened;
	ret->transitions = b->transitions;
	ret->total = sum(b);
	ret->window = breaker_window_counts(&b->window, &b->settings, now, &ret->total);
	ret->probes = atomic_load(&b->probes);
	ret->good_probes = b->good_probes;
	ret->usual = b->window.usual;
	ret->change_count = (uint32_t)MIN(b->transitions, (uint64_t)BREAKER_HISTORY);
	for (uint32_t i = 0; i < ret->change_count; i++)
		ret->changes[i] = b->history[(b->transitions - 1 - i) % BREAKER_HISTORY];
	pthread_mutex_unlock(&b->lock);
	return true;
}
