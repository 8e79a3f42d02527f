/* See routing_explain.h. Nothing is counted, and nobody loses his turn. */
#include "session/routing_explain.h"

#include "base/map.h"
#include "cluster/cluster.h"
#include "session/routing_priv.h"

static void keep_notice(void *to, const char *text)
{
	struct routing_explanation *e = to;

	if (e->notice_count < HINT_PROBLEMS_MAX)
		snprintf(e->notices[e->notice_count++], WISH_PROBLEM_MAX, "%s", text);
}

static void explain_hints(const struct worker *w, const struct routing_question *q, const struct hints *hints,
			  struct routing_explanation *ret, struct route_wish *ret_wish)
{
	const struct wish_rights rights = wish_rights_of(w->settings.config, q->user);
	const struct wish_listener listener = {.problem = keep_notice, .to = ret};
	uint32_t told = 0;

	wishes_tell_of(hints, &rights, &listener, &told);
	wishes_read(NULL, hints, w->shared->nodes, &rights, &listener, ret_wish);
}

static void explain(struct worker *w, const struct routing_question *q, const struct topology *t,
		    const struct known_catalog *known, struct routing_explanation *ret)
{
	struct balance_state state = w->routing->balance;
	const struct understanding *u = understand(&w->routing->texts, known ? known->catalog : NULL,
						   known ? known->number : 0, slice_str(q->text),
						   /* standard_conforming_strings= */ true);
	struct route_ask ask = {
		.access = &ret->access, .has_catalog = known != NULL, .read_only = q->read_only, .wrote = q->wrote};

	if (w->routing->rules.balance.strategy == BALANCE_HASH) {
		const char *key =
			w->settings.config->load_balancer.hash_key == HASH_KEY_DATABASE ? q->database : q->user;

		ask.key = hash_bytes(key, strlen(key));
	}
	ret->routes = true;
	ret->rules = *routing_rules_of(w->routing, q->user);
	ask.wish = ret->rules.wish;
	ret->has_catalog = known != NULL;
	ret->access = u->access;
	if (known)
		ask.catalog =
			(struct position){.kind = POSITION_INSERT, .timeline = t->timeline, .lsn = known->position};
	if (u->hints && w->routing->hints)
		explain_hints(w, q, u->hints, ret, &ask.wish);
	if (q->lsn)
		ask.wish.lsn = q->lsn;
	route_decide(&ret->rules, t, &ask, NULL, &state, clock_now(), &ret->choice);
	ret->count = MIN(t->count, BALANCE_MAX);
	for (uint32_t i = 0; i < ret->count; i++)
		ret->nodes[i] = (struct routing_verdict){.node = t->nodes[i].node,
							 .why_not = route_why_not(&ret->rules, t, &ask, i)};
}

int routing_explain(struct worker *w, const struct routing_question *q, struct routing_explanation *ret)
{
	struct cluster *c = atomic_load_explicit(&w->shared->cluster, memory_order_acquire);
	struct catalog_entry *entry;
	struct pool *pool;
	int r = pool_find(w->pool_thread.pools, q->database, q->user, &pool);

	*ret = (struct routing_explanation){0};
	if (r < 0)
		return r;
	if (w->routing && c && pool_follows_primary(pool) && pool_settings(pool)->mode != POOL_MODE_SESSION) {
		cluster_want_positions(c);
		entry = catalogs_find(w->shared->catalogs, pool_server_database(pool));
		explain(w, q, cluster_now(c), entry ? catalogs_get(entry, &w->pool_thread, pool) : NULL, ret);
		catalogs_release(entry);
	}
	pool_unref(pool);
	return 0;
}
