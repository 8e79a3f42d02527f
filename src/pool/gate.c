/*
 * What operators do with a database: pause, reconnect, disable. Its pools get another destination, so that all links of
 * before are closed as they become free, by the same ways as after a reload; a paused one opens none. So nobody who
 * takes a link or gives one back has to ask.
 *
 * A gate is found by name when a pool is made, and given to those that are there already when it is.
 */
#include "pool/pool_priv.h"

#include "base/event.h"
#include "config/config.h"

struct gate *gate_find(struct pools *pools, const char *database)
{
	struct gate *gate = pools->gates;

	while (gate && strcmp(gate->name, database) != 0)
		gate = gate->next;
	return gate;
}

void gates_free(struct pools *pools)
{
	struct gate *gate;

	while ((gate = pools->gates)) {
		pools->gates = gate->next;
		free(gate->name);
		free(gate);
	}
}

static bool is_of(const struct pool *pool, const char *database)
{
	return !database || strcmp(pool->database, database) == 0;
}

/* The configuration serves it, or would once somebody asks. */
static bool exists(const struct pools *pools, const char *database)
{
	return pools->config->database_count == 0 || config_database_find(pools->config, database);
}

static int gate_make(struct pools *pools, const char *database, struct gate **ret)
{
	struct gate *gate = gate_find(pools, database);
	uint32_t count = 0;

	*ret = gate;
	if (gate)
		return 0;
	if (!exists(pools, database))
		return -ENOENT;
	for (gate = pools->gates; gate; gate = gate->next)
		count++;
	if (count >= GATES_MAX)
		return -ENOSPC;
	gate = calloc(1, sizeof(*gate));
	if (!gate || !(gate->name = strdup(database))) {
		free(gate);
		return -ENOMEM;
	}
	gate->next = pools->gates;
	pools->gates = gate;
	for (struct pool *p = pools->first; p; p = p->next)
		if (is_of(p, database))
			atomic_store(&p->gate, gate);
	*ret = gate;
	return 0;
}

/* Where there is no memory for it, links stay until they are given back for another reason. */
static int renew(struct pools *pools, const char *database)
{
	int r = 0;

	for (struct pool *p = pools->first; p; p = p->next)
		if (is_of(p, database) && destination_renew(p) < 0)
			r = -ENOMEM;
	return r;
}

int pools_pause(struct pools *pools, const char *database)
{
	struct gate *gate = NULL;
	int r = 0;

	pthread_mutex_lock(&pools->lock);
	if (database)
		r = gate_make(pools, database, &gate);
	if (r == 0 && atomic_exchange(gate ? &gate->paused : &pools->paused, true))
		r = -EALREADY;
	if (r == 0) /* behind the mark: who sees the new destination sees that, too */
		r = renew(pools, database);
	pthread_mutex_unlock(&pools->lock);
	if (r == 0)
		log_event(EVENT_DATABASE_PAUSED, LOG_INFO, "paused", kv_str("database", database));
	return r;
}

static void kick(struct pools *pools, const char *database)
{
	for (struct pool *p = pools->first; p; p = p->next)
		if (is_of(p, database))
			pool_kick_waiting(p, NULL);
}

static bool resume_all(struct pools *pools)
{
	bool any = atomic_exchange(&pools->paused, false);

	for (struct gate *gate = pools->gates; gate; gate = gate->next)
		any |= atomic_exchange(&gate->paused, false);
	return any;
}

int pools_resume(struct pools *pools, const char *database)
{
	struct gate *gate;
	int r = 0;

	pthread_mutex_lock(&pools->lock);
	if (!database) {
		r = resume_all(pools) ? 0 : -EALREADY;
	} else {
		gate = gate_find(pools, database);
		if (!gate && !exists(pools, database))
			r = -ENOENT;
		else if (!gate || !atomic_exchange(&gate->paused, false))
			r = -EALREADY;
	}
	if (r == 0)
		kick(pools, database);
	pthread_mutex_unlock(&pools->lock);
	if (r == 0)
		log_event(EVENT_DATABASE_RESUMED, LOG_INFO, "resumed", kv_str("database", database));
	return r;
}

int pools_reconnect(struct pools *pools, const char *database)
{
	int r = 0;

	pthread_mutex_lock(&pools->lock);
	if (database && !exists(pools, database))
		r = -ENOENT;
	else
		r = renew(pools, database);
	pthread_mutex_unlock(&pools->lock);
	if (r == 0)
		log_event(EVENT_DATABASE_RECONNECTED, LOG_INFO, "server connections are made anew",
			  kv_str("database", database));
	return r;
}

int pools_disable(struct pools *pools, const char *database, bool disabled)
{
	struct gate *gate;
	int r;

	pthread_mutex_lock(&pools->lock);
	r = gate_make(pools, database, &gate);
	if (r == 0)
		atomic_store(&gate->disabled, disabled);
	pthread_mutex_unlock(&pools->lock);
	if (r == 0)
		log_event(disabled ? EVENT_DATABASE_DISABLED : EVENT_DATABASE_ENABLED, LOG_INFO,
			  disabled ? "disabled: no new clients" : "enabled", kv_str("database", database));
	return r;
}

static uint32_t outdated_links(const struct pool *pool)
{
	uint32_t count = 0;

	for (struct destination *to = pool_destination(pool)->older; to; to = to->older)
		count += atomic_load(&to->links);
	return count;
}

uint32_t pools_links(struct pools *pools, const char *database, bool outdated)
{
	uint32_t count = 0;

	pthread_mutex_lock(&pools->lock);
	for (struct pool *p = pools->first; p; p = p->next)
		if (is_of(p, database))
			count += outdated ? outdated_links(p) : atomic_load(&p->links);
	pthread_mutex_unlock(&pools->lock);
	return count;
}

bool pools_are_paused(struct pools *pools)
{
	return atomic_load(&pools->paused);
}

bool pools_any_is_paused(struct pools *pools)
{
	bool any = atomic_load(&pools->paused);

	pthread_mutex_lock(&pools->lock);
	for (struct gate *gate = pools->gates; gate && !any; gate = gate->next)
		any = atomic_load(&gate->paused);
	pthread_mutex_unlock(&pools->lock);
	return any;
}

void pools_gate(struct pools *pools, const char *database, bool *ret_paused, bool *ret_disabled)
{
	const struct gate *gate;

	pthread_mutex_lock(&pools->lock);
	gate = gate_find(pools, database);
	*ret_paused = atomic_load(&pools->paused) || (gate && atomic_load(&((struct gate *)(uintptr_t)gate)->paused));
	*ret_disabled = gate && atomic_load(&((struct gate *)(uintptr_t)gate)->disabled);
	pthread_mutex_unlock(&pools->lock);
}

void pools_each_gate(struct pools *pools, void (*each)(const char *database, bool paused, bool disabled, void *to),
		     void *to)
{
	pthread_mutex_lock(&pools->lock);
	each("", atomic_load(&pools->paused), /* disabled= */ false, to);
	for (struct gate *gate = pools->gates; gate; gate = gate->next)
		each(gate->name, atomic_load(&gate->paused), atomic_load(&gate->disabled), to);
	pthread_mutex_unlock(&pools->lock);
}

bool pool_is_disabled(const struct pool *pool)
{
	struct gate *gate = atomic_load_explicit(&((struct pool *)(uintptr_t)pool)->gate, memory_order_acquire);

	return gate && atomic_load(&gate->disabled);
}
