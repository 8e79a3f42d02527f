/* Where the links of a pool lead, and what a reload changes of it. See struct destination. */
#include "pool/pool_priv.h"

#include "config/userlist.h"

static const char *or_else(const char *text, const char *otherwise)
{
	return text && *text ? text : otherwise;
}

/* Somebody is going to say which node is the primary: Patroni, or the nodes themselves. */
static bool will_be_known(const struct pools *pools)
{
	const struct node_set *set = node_list_now(pools->nodes);

	if (pools->config->topology.provider == PROVIDER_PATRONI)
		return true;
	for (uint32_t i = 0; *pools->config->health.user && i < set->count; i++)
		if (node_takes_new(set->nodes[i]))
			return true;
	return false;
}

/* The primary; while it is not known yet: a node that stands for it. */
static struct node *primary_of(const struct pools *pools)
{
	struct node *primary = node_list_primary(pools->nodes);

	return primary || !will_be_known(pools) ? primary : node_list_unknown(pools->nodes);
}

/* The node of the database by the configuration, or else the primary; NULL: none is enabled that would do. */
static struct node *node_for(const struct pool *pool, const struct config_database *d, bool *ret_follows)
{
	*ret_follows = !pool->node && !(d && *or_else(d->node, ""));
	if (pool->node)
		return pool->node;
	return *ret_follows ? primary_of(pool->pools) : node_list_find(pool->pools->nodes, d->node);
}

void destination_free(struct pools *pools, struct destination *to)
{
	if (!to)
		return;
	budget_unref(&pools->databases, to->database_budget);
	budget_unref(&pools->users, to->user_budget);
	secret_wipe(&to->forced);
	free(to->database);
	free(to->user);
	free(to);
}

/* Names and secret. 0, -EINVAL, -ENOMEM. */
static int fill(struct destination *to, const struct pool *pool, const struct config_database *d,
		const struct destination *old)
{
	bool is_gone = !d && old && pool->pools->config->database_count > 0; /* its clients stay until they leave */
	int r;

	to->database = strdup(is_gone ? old->database : or_else(d ? d->dbname : NULL, pool->database));
	to->user = strdup(is_gone ? old->user : or_else(d ? d->user : NULL, pool->user));
	if (!to->database || !to->user)
		return -ENOMEM;
	r = is_gone ? secret_copy(&old->forced, &to->forced) : secret_parse(d ? d->password : NULL, &to->forced);
	secret_remember_keys(&to->forced);
	return r;
}

int destination_new(struct pools *pools, const struct pool *pool, const struct destination *old,
		    struct destination **ret)
{
	const struct config_database *d = config_database_find(pools->config, pool->database);
	struct destination *to = calloc(1, sizeof(*to));
	int r = -ENOMEM;

	if (!to)
		return r;
	to->node = node_for(pool, d, &to->follows);
	if (!to->node && old)
		to->node = old->node; /* it is enabled no more, and no link to it can be opened */
	if (!to->node) {
		r = -EHOSTDOWN;
		goto out;
	}
	to->moves = atomic_load(&to->node->moves);
	r = fill(to, pool, d, old);
	if (r < 0)
		goto out;
	to->database_budget = budget_ref(&pools->databases, to->database);
	to->user_budget = budget_ref(&pools->users, to->user);
	r = to->database_budget && to->user_budget ? 0 : -ENOMEM;
	if (r < 0)
		goto out;
	*ret = to;
	to = NULL;
out:
	destination_free(pools, to);
	return r;
}

/* ---- reload ---- */

static bool same(const struct destination *a, const struct destination *b)
{
	return a->node == b->node && a->moves == b->moves && a->follows == b->follows &&
	       strcmp(a->database, b->database) == 0 && strcmp(a->user, b->user) == 0 &&
	       secret_equal(&a->forced, &b->forced);
}

/* What clients have shown is the old user's: in its place comes what is stored of the new one, if anything. */
static void change_secret(struct pool *pool, const char *user)
{
	const struct secret *stored = userlist_get(pool->pools->config->userlist, user);

	secret_wipe(&pool->secret);
	if (stored && secret_copy(stored, &pool->secret) == 0)
		secret_remember_keys(&pool->secret);
}

/* What was learned is of another server, database or user. */
static void forget_what_was_learned(struct pool *pool, bool of_another_user)
{
	pthread_mutex_lock(&pool->lock);
	while (pool->welcome_count > 0) {
		struct welcome *w = &pool->welcomes[--pool->welcome_count];

		params_unref(w->settings);
		params_unref(w->reported);
		*w = (struct welcome){0};
	}
	if (of_another_user)
		change_secret(pool, pool_destination(pool)->user);
	pool->retry_at = 0;
	pthread_mutex_unlock(&pool->lock);
	atomic_store(&pool->login, POOL_LOGIN_UNKNOWN);
}

int destination_renew(struct pool *pool)
{
	struct destination *old = pool_destination(pool), *to;
	int r = destination_new(pool->pools, pool, old, &to);

	if (r < 0)
		return r;
	to->older = old;
	atomic_store(&pool->destination, to);
	pool_tell_renewed(pool);
	return 0;
}

bool destination_follow(struct pool *pool)
{
	struct destination *old = pool_destination(pool), *to;

	if (destination_new(pool->pools, pool, old, &to) < 0)
		return false; /* no memory: it stays as it is */
	if (same(old, to)) {
		destination_free(pool->pools, to);
		return false;
	}
	to->older = old;
	atomic_store(&pool->destination, to);
	forget_what_was_learned(pool, strcmp(old->user, to->user) != 0);
	pool_tell_moved(pool);
	return true;
}
