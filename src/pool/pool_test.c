/*
 * The registry of pools and the limits over them. Limits are taken and given back by threads that race: none may ever
 * be seen above its maximum, and in the end all room is free again.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "cluster/changes.h"
#include "pool/pool_priv.h"

#include <stdio.h>

#define NODE(port) "[[nodes]]\nhost = \"127.0.0.1\"\nport = " #port "\nrole = \"primary\"\n"
#define THREADS    4
#define ROUNDS     5000

static struct config *make_config(const char *text)
{
	struct config_report report;
	struct config *config = NULL;

	config_report_init(&report, false);
	assert_int_equal(config_load_text(text, strlen(text), "test", &config, &report), 0);
	config_report_free(&report);
	return config;
}

struct fixture {
	struct config *config;
	struct node_list *nodes;
	struct pools *pools;
};

static struct fixture begin(const char *text)
{
	struct fixture f = {.config = make_config(text)};

	f.nodes = node_list_new(f.config);
	assert_non_null(f.nodes);
	f.pools = pools_new(f.config, f.nodes, NULL);
	assert_non_null(f.pools);
	return f;
}

static void end(struct fixture *f)
{
	pools_free(f->pools);
	node_list_free(f->nodes);
	config_free(f->config);
}

static struct pool *find(struct fixture *f, const char *database, const char *user)
{
	struct pool *pool = NULL;

	assert_int_equal(pool_find(f->pools, database, user, &pool), 0);
	return pool;
}

static uint32_t count_pools(const struct fixture *f)
{
	uint32_t count = 0;

	for (const struct pool *p = f->pools->first; p; p = p->next)
		count++;
	return count;
}

static uint32_t count_budgets(const struct budget *b)
{
	uint32_t count = 0;

	for (; b; b = b->next)
		count++;
	return count;
}

/* ---- limits ---- */

static const char limited[] = NODE(5432) "[pool]\nmax_connections = 5\nmax_database_connections = 7\n"
					 "max_user_connections = 8\nmax_node_connections = 9\n";

struct racer {
	struct pool *const *pools; /* of two databases and two users: four */
	struct node *node;
	unsigned seed;
	uint32_t taken, refused, passed; /* passed: a limit was seen to be */
};

static bool any_is_passed(const struct racer *r, const struct pool *p)
{
	return atomic_load(&p->links) > 5 || atomic_load(&pool_destination(p)->database_budget->used) > 7 ||
	       atomic_load(&pool_destination(p)->user_budget->used) > 8 || atomic_load(&r->node->links) > 9;
}

static void *race(void *argument)
{
	struct racer *r = argument;
	struct pool *mine[4];

	for (int round = 0; round < ROUNDS; round++) {
		uint32_t have = 0, wanted = 1 + (uint32_t)rand_r(&r->seed) % 4;

		for (uint32_t i = 0; i < wanted; i++) {
			struct pool *p = r->pools[rand_r(&r->seed) % 4];

			if (budget_take(p, pool_destination(p), false))
				mine[have++] = p;
			else if (!budget_want(p, pool_destination(p), 1 + (usec_t)round) ||
				 !budget_take(p, pool_destination(p), false))
				r->refused++;
			else
				mine[have++] = p;
			r->passed += any_is_passed(r, p);
		}
		r->taken += have;
		while (have-- > 0)
			budget_give(mine[have], pool_destination(mine[have]), USEC_NEVER);
	}
	return NULL;
}

static void limits_hold_in_a_race(void **state)
{
	struct fixture f = begin(limited);
	struct pool *pools[] = {find(&f, "a", "u"), find(&f, "a", "v"), find(&f, "b", "u"), find(&f, "b", "v")};
	struct racer racers[THREADS];
	pthread_t threads[THREADS];
	uint32_t taken = 0;

	for (unsigned i = 0; i < THREADS; i++) {
		racers[i] = (struct racer){.pools = pools, .node = node_list_at(f.nodes, 0), .seed = i + 1};
		assert_int_equal(pthread_create(&threads[i], NULL, race, &racers[i]), 0);
	}
	for (unsigned i = 0; i < THREADS; i++) {
		pthread_join(threads[i], NULL);
		assert_int_equal(racers[i].passed, 0);
		taken += racers[i].taken;
	}
	assert_true(taken > 0);
	for (size_t i = 0; i < ARRAY_SIZE(pools); i++) {
		assert_int_equal(atomic_load(&pools[i]->links), 0);
		assert_int_equal(atomic_load(&pool_destination(pools[i])->database_budget->used), 0);
		assert_int_equal(atomic_load(&pool_destination(pools[i])->user_budget->used), 0);
		pool_unref(pools[i]);
	}
	assert_int_equal(atomic_load(&node_list_at(f.nodes, 0)->links), 0);
	end(&f);
}

static void a_limit_takes_all_or_nothing(void **state)
{
	struct fixture f =
		begin(NODE(5432) "[pool]\nmax_connections = 3\nmax_node_connections = 2\nreserve_connections = 2\n");
	struct pool *a = find(&f, "a", "u"), *b = find(&f, "b", "v");
	struct node *node = node_list_at(f.nodes, 0);

	assert_true(budget_take(a, pool_destination(a), false));
	assert_true(budget_take(a, pool_destination(a), false));
	assert_false(budget_take(a, pool_destination(a),
				 /* use_reserve= */ true)); /* the reserve is the pool's, not the node's */
	assert_false(budget_take(b, pool_destination(b), false));
	assert_int_equal(atomic_load(&b->links), 0);
	assert_int_equal(atomic_load(&pool_destination(b)->database_budget->used), 0);
	assert_int_equal(atomic_load(&pool_destination(b)->user_budget->used), 0);
	assert_int_equal(atomic_load(&node->links), 2);
	budget_give(a, pool_destination(a), USEC_NEVER);
	assert_true(budget_take(b, pool_destination(b), false));
	budget_give(a, pool_destination(a), USEC_NEVER);
	budget_give(b, pool_destination(b), USEC_NEVER);
	pool_unref(a);
	pool_unref(b);
	end(&f);
}

static void what_others_have_is_wanted(void **state)
{
	struct fixture f = begin(NODE(5432) "[pool]\nmax_database_connections = 1\n");
	struct pool *a = find(&f, "shop", "u"), *b = find(&f, "shop", "v"), *c = find(&f, "else", "u");

	assert_true(budget_take(a, pool_destination(a), false));
	assert_false(budget_want(a, pool_destination(a), 5)); /* it is its own: its waiters get that link */
	assert_int_equal(budget_wanted_since(pool_destination(a)), USEC_NEVER);
	assert_true(budget_want(b, pool_destination(b), 7));
	assert_true(budget_want(b, pool_destination(b), 6));
	assert_true(budget_want(b, pool_destination(b), 8)); /* the oldest counts */
	assert_int_equal(budget_wanted_since(pool_destination(a)), 6);
	assert_int_equal(budget_wanted_since(pool_destination(c)), USEC_NEVER);
	budget_want_end(b, 7, 0); /* not the one */
	assert_int_equal(budget_wanted_since(pool_destination(a)), 6);
	budget_want_end(b, 6, 8);
	assert_int_equal(budget_wanted_since(pool_destination(a)), 8);
	budget_give(a, pool_destination(a), USEC_NEVER); /* and the answer to it */
	assert_int_equal(budget_wanted_since(pool_destination(a)), USEC_NEVER);
	pool_unref(a);
	pool_unref(b);
	pool_unref(c);
	end(&f);
}

/* ---- the registry ---- */

static void pools_are_found_again(void **state)
{
	struct fixture f = begin(NODE(5432));
	struct pool *a = find(&f, "ab", "c"), *b = find(&f, "a", "bc"), *c = find(&f, "ab", "c");

	assert_ptr_equal(a, c);
	assert_ptr_not_equal(a, b);
	assert_int_equal(count_pools(&f), 2);
	pool_unref(a);
	pool_unref(b);
	pool_unref(c);
	end(&f);
}

/* Names that nobody ever logged in to a server with must not fill the memory. */
static void strangers_do_not_pile_up(void **state)
{
	uint64_t changes;
	struct fixture f = begin(NODE(5432));
	struct pool *proven = find(&f, "shop", "app"), *used = find(&f, "shop", "waits");

	atomic_store(&proven->proven, true);
	atomic_fetch_sub(&f.pools->unproven, 1);
	pool_unref(proven);
	for (int i = 0; i < 5000; i++) {
		char name[32];

		snprintf(name, sizeof(name), "stranger%d", i);
		pool_unref(find(&f, name, name));
		assert_true(count_pools(&f) <= POOLS_UNPROVEN_MAX + 2);
	}
	assert_true(count_budgets(f.pools->users) <= POOLS_UNPROVEN_MAX + 2);
	assert_ptr_equal(used, find(&f, "shop", "waits"));
	clock_advance(POOL_UNPROVEN_TIMEOUT + USEC_PER_SEC);
	pools_sweep(f.pools);
	assert_int_equal(count_pools(&f), 2); /* the one that is in use, and the one that was right */
	assert_int_equal(count_budgets(f.pools->databases), 1);
	pool_unref(used);
	pool_unref(used);
	clock_advance(3601 * USEC_PER_SEC); /* pool_idle_timeout */
	clock_update();
	changes = changes_now();
	pools_sweep(f.pools);
	assert_int_equal(count_pools(&f), 0);
	assert_true(changes_now() > changes); /* whoever remembers one by its address is to forget it */
	assert_int_equal(count_budgets(f.pools->databases) + count_budgets(f.pools->users), 0);
	end(&f);
}

static void reload(struct fixture *f, const char *text)
{
	struct config *fresh = make_config(text);
	struct config_pool **old;

	assert_true(node_list_reload(f->nodes, fresh) >= 0);
	pools_reload(f->pools, fresh, NULL, &old);
	for (size_t i = 0; old && old[i]; i++)
		free(old[i]);
	free(old);
	config_free(f->config);
	f->config = fresh;
}

static void pools_follow_the_nodes(void **state)
{
	struct fixture f = begin(NODE(1001));
	struct pool *pool = find(&f, "a", "u");
	struct node *first = pool_destination(pool)->node;

	assert_int_equal(first->port, 1001);
	reload(&f, NODE(1001) "weight = 7\n");
	assert_ptr_equal(pool_destination(pool)->node, first);
	reload(&f, NODE(1002));
	assert_int_equal(pool_destination(pool)->node->port, 1002);
	assert_int_equal(node_list_count(f.nodes), 1);
	assert_false(atomic_load(&first->enabled));
	assert_true(pool_destination(pool)->node->address_count > 0);
	reload(&f, NODE(1002) "name = \"main\"\n[[nodes]]\nname = \"b\"\nhost = \"127.0.0.1\"\nport = 1001\nrole = "
			      "\"standby\"\n"
			      "[databases.a]\nnode = \"b\"\n[databases.\"*\"]\n");
	assert_int_equal(pool_destination(pool)->node->port, 1001);
	reload(&f, NODE(1001)); /* by its old name it is the old one */
	assert_ptr_equal(pool_destination(pool)->node, first);
	assert_true(atomic_load(&first->enabled));
	pool_unref(pool);
	end(&f);
}

static void assert_destination(const struct pool *pool, const char *database, const char *user, const char *password)
{
	const struct destination *to = pool_destination(pool);

	assert_string_equal(to->database, database);
	assert_string_equal(to->user, user);
	assert_string_equal(to->database_budget->name, database);
	assert_string_equal(to->user_budget->name, user);
	assert_int_equal(to->forced.kind, password ? SECRET_PLAIN : SECRET_NONE);
	if (password)
		assert_string_equal(to->forced.text, password);
}

static void assert_secret(struct pool *pool, const char *password)
{
	struct secret secret;

	assert_int_equal(pool_copy_secret(pool, &secret), password != NULL);
	if (password) {
		assert_string_equal(secret.text, password);
		assert_non_null(secret.memory);
	}
	secret_wipe(&secret);
}

static void show_secret(struct pool *pool, const char *password)
{
	struct secret secret;

	assert_int_equal(secret_parse(password, &secret), 0);
	pool_offer_secret(pool, &secret);
	secret_wipe(&secret);
}

/* A link counts where it leads, until it is given back. */
static void pools_follow_their_databases(void **state)
{
	struct fixture f = begin(NODE(1001) "[databases.a]\n");
	struct pool *pool = find(&f, "a", "u");
	struct destination *first = pool_destination(pool);

	assert_destination(pool, "a", "u", NULL);
	show_secret(pool, "shown");
	assert_secret(pool, "shown");
	assert_true(budget_take(pool, first, false));
	reload(&f, NODE(1001) "[databases.a]\n[pool]\nmax_connections = 7\n");
	assert_ptr_equal(pool_destination(pool), first);
	reload(&f, NODE(1001) "[databases.a]\ndbname = \"x\"\npassword = \"forced\"\n");
	assert_destination(pool, "x", "u", "forced");
	assert_secret(pool, "forced");
	assert_int_equal(atomic_load(&first->database_budget->used), 1);
	assert_int_equal(atomic_load(&pool_destination(pool)->database_budget->used), 0);
	budget_give(pool, first, USEC_NEVER);
	assert_int_equal(atomic_load(&first->database_budget->used), 0);
	reload(&f, NODE(1001) "[databases.a]\ndbname = \"x\"\n");
	assert_secret(pool, "shown"); /* the same user's still */
	reload(&f, NODE(1001) "[databases.a]\nuser = \"v\"\n[users.v]\npassword = \"stored\"\n");
	assert_destination(pool, "a", "v", NULL);
	assert_secret(pool, "stored");
	reload(&f, NODE(1001) "[databases.b]\n"); /* gone: who is there stays */
	assert_destination(pool, "a", "v", NULL);
	assert_int_equal(pool_find(f.pools, "a", "u", &pool), -ENOENT);
	reload(&f, NODE(1001) "[databases.a]\n");
	assert_destination(pool, "a", "u", NULL);
	assert_secret(pool, NULL);
	pool_unref(pool);
	end(&f);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(limits_hold_in_a_race),        cmocka_unit_test(a_limit_takes_all_or_nothing),
		cmocka_unit_test(what_others_have_is_wanted),   cmocka_unit_test(pools_are_found_again),
		cmocka_unit_test(strangers_do_not_pile_up),     cmocka_unit_test(pools_follow_the_nodes),
		cmocka_unit_test(pools_follow_their_databases),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
