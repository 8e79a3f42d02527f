/* See members.h. */
#include "cluster/members.h"

#include "base/log.h"
#include "cluster/members_state.h"

#include <stdio.h>
#include <time.h>

#define WEIGHT_USUAL 100u

struct offered { /* by a source */
	struct member member;
	usec_t gone_since; /* it named it no longer then; 0: it still does */
};

struct source {
	struct offered list[2 * MEMBERS_MAX]; /* also those that are gone, for a while */
	uint32_t count;
	enum members_leader leader;
};

struct members {
	void (*wake)(void *argument);
	void *wake_argument;
	pthread_mutex_t change_lock; /* an operator's changes, one after the other: held while the file is written */
	char *state_file;            /* NULL: none */
	pthread_mutex_t lock;        /* of what follows. Short */
	pthread_cond_t applied_now;
	struct source sources[MEMBER_SOURCE_COUNT];
	struct member *configured;
	uint32_t configured_count;
	enum topology_provider provider;
	usec_t forget;
	struct members_state state;
	uint64_t change, applied; /* of the operator */
	bool is_due;
	struct members_counts counts;
	bool refusal_told;
};

/* ---- one member ---- */

const char *member_source_word(enum member_source source)
{
	static const char *const words[] = {
#define X(name, word, meaning) word,
		MEMBER_SOURCES(X)
#undef X
	};

	return words[source];
}

void member_init(struct member *m, const char *host, uint16_t port)
{
	*m = (struct member){.port = port, .role = NODE_STANDBY, .weight = WEIGHT_USUAL, .enabled = true};
	snprintf(m->host, sizeof(m->host), "%s", host);
}

void member_from_config(struct member *m, const struct config_node *node)
{
	member_init(m, node->host, (uint16_t)node->port);
	snprintf(m->name, sizeof(m->name), "%s", node->name ? node->name : "");
	snprintf(m->zone, sizeof(m->zone), "%s", node->zone ? node->zone : "");
	m->role = node->role;
	m->weight = node->weight;
	m->max_lag = node->max_lag;
	m->sync = node->sync;
	m->enabled = node->enabled;
	m->source = MEMBER_CONFIGURED;
}

bool member_is_at(const struct member *m, const char *host, uint16_t port)
{
	return m->port == port && strcasecmp(m->host, host) == 0;
}

/* By name, or by the "host:port" that stands for one. */
static bool is_called(const struct member *m, const char *name)
{
	char address[MEMBER_HOST_MAX + 8];

	snprintf(address, sizeof(address), "%s:%u", m->host, m->port);
	return *name && (strcmp(m->name, name) == 0 || strcmp(address, name) == 0);
}

static bool are_same(const struct member *a, const struct member *b)
{
	return member_is_at(a, b->host, b->port) || is_called(a, b->name);
}

/* Without what may lie behind the ends of its texts: copies can be compared. */
static struct member copy_of(const struct member *m, enum member_source source)
{
	struct member copy;

	memset(&copy, 0, sizeof(copy));
	snprintf(copy.name, sizeof(copy.name), "%s", m->name);
	snprintf(copy.host, sizeof(copy.host), "%s", m->host);
	snprintf(copy.zone, sizeof(copy.zone), "%s", m->zone);
	copy.port = m->port;
	copy.role = m->role;
	copy.weight = m->weight;
	copy.max_lag = m->max_lag;
	copy.sync = m->sync;
	copy.enabled = m->enabled;
	copy.spared = m->spared;
	copy.leads = m->leads;
	copy.source = source;
	return copy;
}

/* ---- sources ---- */

/* The lock is held; true: the control thread is to be woken, once the lock is free. */
static bool is_due_now(struct members *all)
{
	bool was_due = all->is_due;

	all->is_due = true;
	return !was_due;
}

static void wake_control(struct members *all, bool needed)
{
	if (needed && all->wake)
		all->wake(all->wake_argument);
}

static bool is_in(const struct offered *list, uint32_t count, const struct member *m)
{
	for (uint32_t i = 0; i < count; i++)
		if (member_is_at(&list[i].member, m->host, m->port))
			return true;
	return false;
}

/* Those that are named no longer are kept for a while, as far as there is room. */
static void keep_the_gone(struct source *fresh, const struct source *old, usec_t now)
{
	uint32_t named = fresh->count;

	for (uint32_t i = 0; i < old->count && fresh->count < ARRAY_SIZE(fresh->list); i++) {
		struct offered *kept = &fresh->list[fresh->count];

		if (is_in(fresh->list, named, &old->list[i].member))
			continue;
		*kept = old->list[i];
		kept->member.leads = false;
		kept->gone_since = kept->gone_since ? kept->gone_since : now;
		fresh->count++;
	}
}

static bool is_news(const struct source *a, const struct source *b)
{
	if (a->count != b->count || a->leader != b->leader)
		return true;
	for (uint32_t i = 0; i < a->count; i++)
		if (memcmp(&a->list[i].member, &b->list[i].member, sizeof(struct member)) != 0)
			return true;
	return false;
}

int members_offer(struct members *all, enum member_source source, const struct member *list, uint32_t count,
		  enum members_leader leader)
{
	struct source *fresh = calloc(1, sizeof(*fresh)), *now = &all->sources[source];
	bool due = false;

	if (!fresh)
		return -ENOMEM;
	fresh->leader = leader;
	for (uint32_t i = 0; i < MIN(count, MEMBERS_MAX); i++)
		if (!is_in(fresh->list, fresh->count, &list[i]))
			fresh->list[fresh->count++].member = copy_of(&list[i], source);
	pthread_mutex_lock(&all->lock);
	if (count > MEMBERS_MAX)
		all->counts.refused += count - MEMBERS_MAX;
	if (source != MEMBER_DISCOVERED && all->forget > 0)
		keep_the_gone(fresh, now, clock_update());
	if (is_news(now, fresh))
		due = is_due_now(all);
	*now = *fresh;
	pthread_mutex_unlock(&all->lock);
	free(fresh);
	wake_control(all, due);
	return 0;
}

void members_withdraw(struct members *all, enum member_source source)
{
	struct source *s = &all->sources[source];
	bool due = false;

	pthread_mutex_lock(&all->lock);
	if (s->count > 0 || s->leader != LEADER_NOT_KNOWN)
		due = is_due_now(all);
	s->count = 0;
	s->leader = LEADER_NOT_KNOWN;
	pthread_mutex_unlock(&all->lock);
	wake_control(all, due);
}

/* The lock is held. True: some were dropped. */
static bool drop_the_forgotten(struct source *s, usec_t forget)
{
	uint32_t kept = 0, count = s->count;
	usec_t now = clock_update();

	for (uint32_t i = 0; i < count; i++)
		if (!s->list[i].gone_since || now < s->list[i].gone_since + forget)
			s->list[kept++] = s->list[i];
	s->count = kept;
	return kept != count;
}

bool members_are_due(struct members *all)
{
	bool due;

	pthread_mutex_lock(&all->lock);
	for (uint32_t i = 0; i < MEMBER_SOURCE_COUNT; i++)
		if (drop_the_forgotten(&all->sources[i], all->forget))
			all->is_due = true;
	due = all->is_due;
	pthread_mutex_unlock(&all->lock);
	return due;
}

/* ---- merging ---- */

static struct member *find_same(struct merged_members *to, const struct member *m)
{
	for (uint32_t i = 0; i < to->count; i++)
		if (are_same(&to->list[i], m))
			return &to->list[i];
	return NULL;
}

static struct member *find_at(struct merged_members *to, const char *host, uint16_t port)
{
	for (uint32_t i = 0; i < to->count; i++)
		if (member_is_at(&to->list[i], host, port))
			return &to->list[i];
	return NULL;
}

/* names_leader: this source's word on that counts. */
static void merge_one(struct members *all, struct merged_members *to, const struct member *m, bool names_leader)
{
	struct member *same = find_same(to, m);

	if (!same && to->count >= MEMBERS_MAX && m->source != MEMBER_CONFIGURED) {
		all->counts.left_out++;
		return;
	}
	if (same) {
		same->spared |= m->spared;
	} else {
		same = &to->list[to->count++];
		*same = *m;
		same->leads = false;
	}
	same->leads |= names_leader && m->leads;
}

static void merge_source(struct members *all, struct merged_members *to, enum member_source source)
{
	const struct source *s = &all->sources[source];
	bool names_leader = s->leader == LEADER_IS_NAMED && to->leader == LEADER_NOT_KNOWN;

	for (uint32_t i = 0; i < s->count; i++)
		merge_one(all, to, &s->list[i].member, names_leader);
	if (!names_leader)
		return;
	to->leader = LEADER_IS_NAMED;
	to->leader_source = member_source_word(source);
}

static void merge_state(struct members *all, struct merged_members *to)
{
	const struct members_state *state = &all->state;
	struct member *m;

	for (uint32_t i = 0; i < state->count; i++)
		merge_one(all, to, &state->list[i], /* names_leader= */ false);
	if (all->provider != PROVIDER_MANUAL || !*state->primary_host)
		return;
	to->leader = LEADER_IS_NAMED;
	to->leader_source = member_source_word(MEMBER_MANUAL);
	m = find_at(to, state->primary_host, state->primary_port);
	if (m)
		m->leads = true;
	else
		log_error("the node that was named as the primary is no member: there is no primary",
			  kv_str("host", state->primary_host), kv_uint("port", state->primary_port));
}

static void turn_switches(const struct members_state *state, struct merged_members *to)
{
	for (uint32_t i = 0; i < state->switch_count; i++) {
		struct member *m = find_at(to, state->switches[i].host, state->switches[i].port);

		if (m)
			m->enabled = state->switches[i].enabled;
	}
}

static void tell_refused(struct members *all, uint32_t before)
{
	if (all->counts.left_out > before)
		all->counts.refused += all->counts.left_out - before;
	if (all->counts.left_out > 0 && !all->refusal_told)
		log_error("there are more members than are allowed: those that came last are not used",
			  kv_uint("allowed", MEMBERS_MAX), kv_uint("left_out", all->counts.left_out));
	all->refusal_told = all->counts.left_out > 0;
}

int members_merge(struct members *all, struct merged_members *ret)
{
	uint32_t left_out;

	*ret = (struct merged_members){0};
	pthread_mutex_lock(&all->lock);
	ret->list = calloc(all->configured_count + MEMBERS_MAX, sizeof(*ret->list));
	if (!ret->list) {
		pthread_mutex_unlock(&all->lock);
		return -ENOMEM;
	}
	left_out = all->counts.left_out;
	all->counts.left_out = 0;
	for (uint32_t i = 0; i < all->configured_count; i++)
		merge_one(all, ret, &all->configured[i], /* names_leader= */ false);
	merge_state(all, ret);
	for (uint32_t i = MEMBER_MANUAL + 1; i < MEMBER_SOURCE_COUNT; i++)
		merge_source(all, ret, (enum member_source)i);
	turn_switches(&all->state, ret);
	tell_refused(all, left_out);
	ret->change = all->change;
	all->is_due = false;
	pthread_mutex_unlock(&all->lock);
	return 0;
}

void members_applied(struct members *all, const struct merged_members *merged)
{
	pthread_mutex_lock(&all->lock);
	memset(all->counts.by_source, 0, sizeof(all->counts.by_source));
	for (uint32_t i = 0; i < merged->count; i++)
		all->counts.by_source[merged->list[i].source]++;
	all->applied = MAX(all->applied, merged->change);
	pthread_cond_broadcast(&all->applied_now);
	pthread_mutex_unlock(&all->lock);
}

bool members_wait(struct members *all, uint64_t change, unsigned milliseconds)
{
	struct timespec until;
	bool applied;

	clock_gettime(CLOCK_MONOTONIC, &until);
	until.tv_sec += milliseconds / 1000;
	pthread_mutex_lock(&all->lock);
	while (all->applied < change)
		if (pthread_cond_timedwait(&all->applied_now, &all->lock, &until) == ETIMEDOUT)
			break;
	applied = all->applied >= change;
	pthread_mutex_unlock(&all->lock);
	return applied;
}

/* ---- what an operator does ---- */

#define complain(why, ...) snprintf(why, MEMBERS_WHY_MAX, __VA_ARGS__)

/* A copy of the state to be changed; the lock of changes is held until end_change(). NULL: out of memory. */
static struct members_state *begin_change(struct members *all, char *why)
{
	struct members_state *fresh = malloc(sizeof(*fresh));

	pthread_mutex_lock(&all->change_lock);
	if (fresh)
		*fresh = all->state; /* nobody else changes it */
	else
		complain(why, "out of memory");
	return fresh;
}

/* It counts when it is in the file. r < 0: it is given up. */
static int end_change(struct members *all, struct members_state *fresh, int r, struct members_change *ret, char *why)
{
	bool due = false;

	if (r == 0 && all->state_file && members_state_save(all->state_file, fresh, why) < 0)
		r = -EIO;
	if (r == 0) {
		pthread_mutex_lock(&all->lock);
		all->state = *fresh;
		*ret = (struct members_change){.persisted = all->state_file != NULL, .number = ++all->change};
		due = is_due_now(all);
		pthread_mutex_unlock(&all->lock);
	}
	free(fresh);
	pthread_mutex_unlock(&all->change_lock);
	wake_control(all, due);
	return r;
}

/* Among the configured ones, or in what was added by hand? By the names, too. */
static bool is_taken(struct members *all, const struct members_state *state, const struct member *m)
{
	bool taken = false;

	pthread_mutex_lock(&all->lock);
	for (uint32_t i = 0; i < all->configured_count; i++)
		taken |= are_same(&all->configured[i], m);
	pthread_mutex_unlock(&all->lock);
	for (uint32_t i = 0; i < state->count; i++)
		taken |= are_same(&state->list[i], m);
	return taken;
}

int members_add(struct members *all, const struct member *member, struct members_change *ret, char why[MEMBERS_WHY_MAX])
{
	struct members_state *fresh = begin_change(all, why);
	int r = fresh ? 0 : -ENOMEM;

	if (fresh && is_taken(all, fresh, member)) {
		complain(why, "there is a node of this address or name");
		r = -EEXIST;
	} else if (fresh && fresh->count == MEMBERS_MAX) {
		complain(why, "there are %u nodes that were added already", MEMBERS_MAX);
		r = -ENOSPC;
	} else if (fresh) {
		fresh->list[fresh->count++] = copy_of(member, MEMBER_MANUAL);
	}
	return end_change(all, fresh, r, ret, why);
}

static void forget_switch(struct members_state *state, const char *host, uint16_t port)
{
	for (uint32_t i = 0; i < state->switch_count; i++)
		if (state->switches[i].port == port && strcasecmp(state->switches[i].host, host) == 0)
			state->switches[i--] = state->switches[--state->switch_count];
}

int members_remove(struct members *all, const char *host, uint16_t port, struct members_change *ret,
		   char why[MEMBERS_WHY_MAX])
{
	struct members_state *fresh = begin_change(all, why);
	uint32_t i = 0;

	while (fresh && i < fresh->count && !member_is_at(&fresh->list[i], host, port))
		i++;
	if (!fresh)
		return end_change(all, fresh, -ENOMEM, ret, why);
	if (i == fresh->count) {
		complain(why, "the node was not added by hand");
		return end_change(all, fresh, -ENOENT, ret, why);
	}
	memmove(&fresh->list[i], &fresh->list[i + 1], (--fresh->count - i) * sizeof(fresh->list[0]));
	forget_switch(fresh, host, port);
	return end_change(all, fresh, 0, ret, why);
}

/* What the configuration, or who added it, says of it: then no switch is needed. */
static bool is_enabled_anyway(struct members *all, const struct members_state *state, const char *host, uint16_t port)
{
	bool enabled = true;

	for (uint32_t i = 0; i < state->count; i++)
		if (member_is_at(&state->list[i], host, port))
			enabled = state->list[i].enabled;
	pthread_mutex_lock(&all->lock);
	for (uint32_t i = 0; i < all->configured_count; i++)
		if (member_is_at(&all->configured[i], host, port))
			enabled = all->configured[i].enabled;
	pthread_mutex_unlock(&all->lock);
	return enabled;
}

int members_enable(struct members *all, const char *host, uint16_t port, bool enabled, struct members_change *ret,
		   char why[MEMBERS_WHY_MAX])
{
	struct members_state *fresh = begin_change(all, why);
	struct member_switch *s;
	int r = fresh ? 0 : -ENOMEM;

	if (fresh)
		forget_switch(fresh, host, port);
	if (fresh && is_enabled_anyway(all, fresh, host, port) != enabled) {
		if (fresh->switch_count == MEMBERS_MAX) {
			complain(why, "too many nodes were enabled or disabled by hand");
			return end_change(all, fresh, -ENOSPC, ret, why);
		}
		s = &fresh->switches[fresh->switch_count++];
		memset(s, 0, sizeof(*s));
		snprintf(s->host, sizeof(s->host), "%s", host);
		s->port = port;
		s->enabled = enabled;
	}
	return end_change(all, fresh, r, ret, why);
}

int members_name_primary(struct members *all, const char *host, uint16_t port, struct members_change *ret,
			 char why[MEMBERS_WHY_MAX])
{
	struct members_state *fresh = begin_change(all, why);
	int r = fresh ? 0 : -ENOMEM;

	pthread_mutex_lock(&all->lock);
	if (all->provider != PROVIDER_MANUAL) {
		complain(why,
			 "who is the primary is not for the operator to say: [topology] provider is not \"manual\"");
		r = -EPERM;
	}
	pthread_mutex_unlock(&all->lock);
	if (fresh) {
		memset(fresh->primary_host, 0, sizeof(fresh->primary_host));
		snprintf(fresh->primary_host, sizeof(fresh->primary_host), "%s", host ? host : "");
		fresh->primary_port = port;
	}
	return end_change(all, fresh, r, ret, why);
}

/* ---- configuration, the end ---- */

void members_reload(struct members *all, const struct config *config)
{
	struct member *fresh = calloc(config->node_count + 1, sizeof(*fresh)), *old;

	if (!fresh) {
		log_error("out of memory; keeping the old nodes");
		return;
	}
	for (uint32_t i = 0; i < config->node_count; i++)
		member_from_config(&fresh[i], &config->nodes[i]);
	pthread_mutex_lock(&all->lock);
	old = all->configured;
	all->configured = fresh;
	all->configured_count = config->node_count;
	all->provider = config->topology.provider;
	all->forget = config->topology.forget;
	all->is_due = true;
	pthread_mutex_unlock(&all->lock);
	free(old);
}

int members_load_state(struct members *all)
{
	struct members_state *state;
	char why[MEMBERS_WHY_MAX] = "out of memory";
	int r = -ENOMEM;

	if (!all->state_file)
		return 0;
	state = calloc(1, sizeof(*state));
	if (state)
		r = members_state_load(all->state_file, state, why);
	if (r == 0)
		all->state = *state;
	else if (r != -ENOENT)
		log_error("[topology] state_file cannot be used, and is not overwritten: mend it, or move it away",
			  kv_str("file", all->state_file), kv_str("reason", why));
	free(state);
	return r == -ENOENT ? 0 : r;
}

char *members_hand_on(struct members *all)
{
	char *text;

	pthread_mutex_lock(&all->change_lock); /* under which alone the state changes */
	text = members_state_text(&all->state);
	pthread_mutex_unlock(&all->change_lock);
	return text;
}

int members_take_over(struct members *all, const char *text)
{
	struct members_state *state;
	char why[MEMBERS_WHY_MAX] = "out of memory";
	int r = -ENOMEM;

	if (all->state_file)
		return 0;
	state = calloc(1, sizeof(*state));
	if (state)
		r = members_state_parse(text, strlen(text), state, why);
	if (r == 0)
		all->state = *state;
	else
		log_error("what was changed of the nodes in the process before this one can't be taken over",
			  kv_str("reason", why));
	free(state);
	return r;
}

struct members *members_new(const struct config *config, void (*wake)(void *argument), void *argument)
{
	struct members *all = calloc(1, sizeof(*all));
	pthread_condattr_t monotonic;

	if (!all)
		return NULL;
	all->wake = wake;
	all->wake_argument = argument;
	pthread_mutex_init(&all->change_lock, NULL);
	pthread_mutex_init(&all->lock, NULL);
	pthread_condattr_init(&monotonic);
	pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
	pthread_cond_init(&all->applied_now, &monotonic);
	pthread_condattr_destroy(&monotonic);
	if (*config->topology.state_file)
		all->state_file = strdup(config->topology.state_file);
	members_reload(all, config);
	if (all->configured && (all->state_file || !*config->topology.state_file))
		return all;
	members_free(all);
	return NULL;
}

void members_free(struct members *all)
{
	if (!all)
		return;
	pthread_cond_destroy(&all->applied_now);
	pthread_mutex_destroy(&all->lock);
	pthread_mutex_destroy(&all->change_lock);
	free(all->state_file);
	free(all->configured);
	free(all);
}

void members_count(struct members *all, struct members_counts *ret)
{
	pthread_mutex_lock(&all->lock);
	*ret = all->counts;
	pthread_mutex_unlock(&all->lock);
}
