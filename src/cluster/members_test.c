/*
 * What the sources say together, by tables; the state of an operator and its file; nodes that come and go.
 *
 * A line of a source is "name=host:port" with what it says behind it: ! it leads, r takes no reads, d disabled,
 * wN weight, p role primary. Lists are separated by blanks.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/log.h"
#include "cluster/members_state.h"
#include "cluster/operation.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

struct test_case {
	const char *name, *provider, *configured, *manual, *patroni, *discovered;
	const char *expected; /* name@host:port, and: ! is named as the leader, r, d, w of it, s and its source's first
				 letter */
	bool named;
};

static const struct test_case cases[] = {
	{"the configuration alone", "postgres", "a=h1:1p b=h2:2w7", "", "", "", "a@h1:1w100sc b@h2:2w7sc", false},
	{"sources add what is not known", "postgres", "a=h1:1p", "x=h9:9", "", "=h5:5",
	 "a@h1:1w100sc x@h9:9w100sm @h5:5w100sd", false},
	{"the configuration's weight and name stay", "postgres", "a=h1:1pw5", "", "z=h1:1w9", "", "a@h1:1w5sc", false},
	{"the same by name: the configuration's address stays", "postgres", "a=h1:1p b=h2:2", "", "b=10.0.0.2:2r", "",
	 "a@h1:1w100sc b@h2:2w100rsc", false},
	{"host names know no case", "postgres", "a=Host:1p", "", "", "=hOST:1", "a@Host:1w100sc", false},
	{"who leads is what a source knows", "patroni", "", "", "a=h1:1 b=h2:2!", "", "a@h1:1w100sp b@h2:2w100!sp",
	 true},
	{"... of a configured node, too", "patroni", "a=h1:1p b=h2:2", "", "a=h1:1 b=h2:2!", "",
	 "a@h1:1w100sc b@h2:2w100!sc", true},
	{"one that knows of no leader", "patroni", "", "", "a=h1:1 b=h2:2 ?", "", "a@h1:1w100sp b@h2:2w100sp", false},
	{"the first source wins", "postgres", "", "x=h1:1w3", "y=h1:1w4", "=h1:1", "x@h1:1w3sm", false},
	{"a name that stands for an address", "postgres", "=h1:1p", "", "h1:1=h2:2", "", "@h1:1w100sc", false},
};

static const char *number(const char *at, uint32_t *ret)
{
	char *end;

	*ret = (uint32_t)strtoul(at, &end, 10);
	return end;
}

/* From a word of a list. */
static struct member member_of(const char *word)
{
	const char *at = strchr(word, '='), *colon = strchr(at, ':');
	struct member m;
	char host[64];
	uint32_t port;

	snprintf(host, sizeof(host), "%.*s", (int)(colon - at - 1), at + 1);
	at = number(colon + 1, &port);
	member_init(&m, host, (uint16_t)port);
	snprintf(m.name, sizeof(m.name), "%.*s", (int)(strchr(word, '=') - word), word);
	for (; *at; at++)
		if (*at == 'w') {
			at = number(at + 1, &m.weight) - 1;
		} else {
			m.leads |= *at == '!';
			m.spared |= *at == 'r';
			m.enabled &= *at != 'd';
			m.role = *at == 'p' ? NODE_PRIMARY : m.role;
		}
	return m;
}

static uint32_t members_of(const char *text, struct member *list, bool *ret_says_nothing)
{
	char copy[400], *rest = copy, *word;
	uint32_t count = 0;

	*ret_says_nothing = false;
	snprintf(copy, sizeof(copy), "%s", text);
	while ((word = strsep(&rest, " ")))
		if (strcmp(word, "?") == 0)
			*ret_says_nothing = true;
		else if (*word)
			list[count++] = member_of(word);
	return count;
}

static struct config *config_of(const char *provider, const char *nodes, const char *state_file)
{
	struct member list[8];
	bool unused;
	uint32_t count = members_of(nodes, list, &unused);
	struct config_report report;
	struct config *c = NULL;
	char text[2000];
	size_t len;

	len = (size_t)snprintf(text, sizeof(text),
			       "[health]\nuser = \"m\"\n[topology]\npatroni_urls = \"http://p:8008\"\nprovider = "
			       "\"%s\"\nstate_file = \"%s\"\nforget_secs = 10\n",
			       provider, state_file);
	for (uint32_t i = 0; i < MAX(count, 1);
	     i++) /* a configuration without any is refused in this test's provider */
		len += (size_t)snprintf(
			text + len, sizeof(text) - len,
			"[[nodes]]\nname = \"%s\"\nhost = \"%s\"\nport = %u\nrole = \"%s\"\nweight = %u\n",
			count ? list[i].name : "", count ? list[i].host : "unused", count ? list[i].port : 1,
			!count || list[i].role == NODE_PRIMARY ? "primary" : "standby", count ? list[i].weight : 1);
	config_report_init(&report, false);
	assert_int_equal(config_load_text(text, len, "test", &c, &report), 0);
	config_report_free(&report);
	if (!count)
		c->node_count = 0;
	return c;
}

static void offer(struct members *all, enum member_source source, const char *text)
{
	struct member list[8];
	bool says_nothing;
	uint32_t count = members_of(text, list, &says_nothing);

	if (count > 0)
		assert_int_equal(
			members_offer(all, source, list, count,
				      says_nothing || source == MEMBER_DISCOVERED ? LEADER_NOT_KNOWN : LEADER_IS_NAMED),
			0);
}

/* As in the tables. */
static const char *describe(struct members *all, bool *ret_named)
{
	static char text[1000];
	struct merged_members merged;
	size_t len = 0;

	*text = 0;
	assert_int_equal(members_merge(all, &merged), 0);
	for (uint32_t i = 0; i < merged.count; i++) {
		const struct member *m = &merged.list[i];
		char address[300];
		bool nameless;

		snprintf(address, sizeof(address), "%s:%u", m->host, m->port);
		nameless = strcmp(m->name, address) == 0; /* the configuration has put it there */
		len += (size_t)snprintf(text + len, sizeof(text) - len, "%s%s@%sw%u%s%s%ss%c", len ? " " : "",
					nameless ? "" : m->name, address, m->weight, m->leads ? "!" : "",
					m->spared ? "r" : "", m->enabled ? "" : "d", member_source_word(m->source)[0]);
	}
	if (ret_named)
		*ret_named = merged.leader == LEADER_IS_NAMED;
	members_applied(all, &merged);
	free(merged.list);
	return text;
}

static void sources_are_merged(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		const struct test_case *c = &cases[i];
		struct config *config = config_of(c->provider, c->configured, "");
		struct members *all = members_new(config, NULL, NULL);
		struct members_change change;
		struct member list[8];
		char why[MEMBERS_WHY_MAX];
		bool unused, named;
		uint32_t count = members_of(c->manual, list, &unused);

		for (uint32_t k = 0; k < count; k++)
			assert_int_equal(members_add(all, &list[k], &change, why), 0);
		offer(all, MEMBER_PATRONI, c->patroni);
		offer(all, MEMBER_DISCOVERED, c->discovered);
		if (strcmp(describe(all, &named), c->expected) != 0)
			fail_msg("%s: %s, not %s", c->name, describe(all, NULL), c->expected);
		/* whatever Patroni says of configured nodes it names a leader, or says that there is none */
		assert_int_equal(named, *c->patroni && !strchr(c->patroni, '?'));
		members_free(all);
		config_free(config);
	}
}

static int woken;

static void wake(void *argument)
{
	(void)argument;
	woken++;
}

static void the_gone_stay_for_a_while(void **state)
{
	struct config *config = config_of("patroni", "", "");
	struct members *all = members_new(config, wake, NULL);

	(void)state;
	clock_update();
	describe(all, NULL);
	woken = 0;
	offer(all, MEMBER_PATRONI, "a=h1:1! b=h2:2");
	assert_int_equal(woken, 1);
	describe(all, NULL);
	offer(all, MEMBER_PATRONI, "a=h1:1! b=h2:2");
	assert_int_equal(woken, 1); /* nothing new */
	assert_false(members_are_due(all));
	offer(all, MEMBER_PATRONI, "b=h2:2!");
	assert_string_equal(describe(all, NULL), "b@h2:2w100!sp a@h1:1w100sp");
	clock_advance(9 * USEC_PER_SEC);
	assert_false(members_are_due(all));
	offer(all, MEMBER_PATRONI, "b=h2:2!"); /* being away is counted from when it left */
	clock_advance(2 * USEC_PER_SEC);
	assert_true(members_are_due(all));
	assert_string_equal(describe(all, NULL), "b@h2:2w100!sp");
	members_withdraw(all, MEMBER_PATRONI);
	assert_string_equal(describe(all, NULL), "");
	members_free(all);
	config_free(config);
}

static void more_than_there_is_room_for(void **state)
{
	struct config *config = config_of("postgres", "a=h1:1p", "");
	struct members *all = members_new(config, NULL, NULL);
	struct member list[MEMBERS_MAX + 10];
	struct members_counts counts;

	(void)state;
	for (uint32_t i = 0; i < ARRAY_SIZE(list); i++)
		member_init(&list[i], "many", (uint16_t)(i + 1));
	assert_int_equal(members_offer(all, MEMBER_DISCOVERED, list, ARRAY_SIZE(list), LEADER_NOT_KNOWN), 0);
	describe(all, NULL);
	describe(all, NULL);
	members_count(all, &counts);
	assert_int_equal(counts.refused, 10 + 1); /* of the offer, and of the merge, once */
	assert_int_equal(counts.by_source[MEMBER_CONFIGURED], 1);
	assert_int_equal(counts.by_source[MEMBER_DISCOVERED], MEMBERS_MAX - 1);
	members_free(all);
	config_free(config);
}

/* ---- what an operator does ---- */

static char folder[] = "/tmp/members_test_XXXXXX", file[64];

static struct members *begin(struct config **config, const char *provider)
{
	*config = config_of(provider, "a=h1:1p b=h2:2", file);
	return members_new(*config, NULL, NULL);
}

static void changes_are_kept(void **state)
{
	struct config *config;
	struct members *all = begin(&config, "manual");
	struct members_change change;
	struct member m = member_of("c=h3:3w9");
	char why[MEMBERS_WHY_MAX];
	bool named;
	struct stat s;

	(void)state;
	assert_int_equal(members_load_state(all), 0); /* there is none */
	assert_int_equal(members_add(all, &m, &change, why), 0);
	assert_true(change.persisted);
	assert_int_equal(members_add(all, &m, &change, why), -EEXIST);
	m = member_of("b=h7:7");
	assert_int_equal(members_add(all, &m, &change, why), -EEXIST); /* by its name */
	assert_int_equal(members_enable(all, "h2", 2, false, &change, why), 0);
	assert_int_equal(members_name_primary(all, "h3", 3, &change, why), 0);
	assert_false(members_wait(all, change.number, 0));
	assert_string_equal(describe(all, &named), "a@h1:1w100sc b@h2:2w100dsc c@h3:3w9!sm");
	assert_true(named && members_wait(all, change.number, 0));
	members_free(all);
	config_free(config);
	assert_int_equal(stat(file, &s), 0);
	assert_int_equal(s.st_mode & 0777, 0600);

	all = begin(&config, "manual");
	assert_int_equal(members_load_state(all), 0);
	assert_string_equal(describe(all, &named), "a@h1:1w100sc b@h2:2w100dsc c@h3:3w9!sm");
	assert_true(named);
	assert_int_equal(members_enable(all, "h2", 2, true, &change, why), 0);
	assert_int_equal(members_remove(all, "h2", 2, &change, why), -ENOENT);
	assert_int_equal(members_remove(all, "h3", 3, &change, why), 0);
	/* who was named is gone: there is no primary, rather than some other one */
	assert_string_equal(describe(all, &named), "a@h1:1w100sc b@h2:2w100sc");
	assert_true(named);
	assert_int_equal(members_name_primary(all, NULL, 0, &change, why), 0);
	describe(all, &named);
	assert_false(named);
	members_free(all);
	config_free(config);
	assert_int_equal(unlink(file), 0);
}

static void only_with_provider_manual(void **state)
{
	struct config *config;
	struct members *all = begin(&config, "postgres");
	struct members_change change;
	char why[MEMBERS_WHY_MAX];

	(void)state;
	assert_int_equal(members_name_primary(all, "h1", 1, &change, why), -EPERM);
	assert_non_null(strstr(why, "provider"));
	assert_int_equal(access(file, F_OK), -1);
	members_free(all);
	config_free(config);
}

static void what_cannot_be_written_does_not_count(void **state)
{
	struct config *config = config_of("manual", "a=h1:1p", "/nowhere/at/all");
	struct members *all = members_new(config, NULL, NULL);
	struct member m = member_of("c=h3:3");
	struct members_change change;
	char why[MEMBERS_WHY_MAX];

	(void)state;
	assert_int_equal(members_add(all, &m, &change, why), -EIO);
	assert_non_null(strstr(why, "/nowhere/at/all"));
	assert_string_equal(describe(all, NULL), "a@h1:1w100sc");
	members_free(all);
	config_free(config);
}

static void write_file(const char *text)
{
	FILE *out = fopen(file, "we");

	assert_non_null(out);
	fputs(text, out);
	assert_int_equal(fclose(out), 0);
}

static void broken_files_stop_the_start(void **state)
{
	static const char *const broken[] = {
		"",
		"{",
		"[]",
		"{}",
		"{\"version\": 0}",
		"{\"version\": 2}",
		"{\"version\": 1, \"future\": 1}",
		"{\"version\": 1, \"version\": 1}",
		"{\"version\": 1, \"nodes\": {}}",
		"{\"version\": 1, \"nodes\": [1]}",
		"{\"version\": 1, \"nodes\": [{}]}",
		"{\"version\": 1, \"nodes\": [{\"host\": \"\"}]}",
		"{\"version\": 1, \"nodes\": [{\"host\": \"a b\"}]}",
		"{\"version\": 1, \"nodes\": [{\"host\": \"a\\u0000b\"}]}",
		"{\"version\": 1, \"nodes\": [{\"host\": \"a\", \"port\": 0}]}",
		"{\"version\": 1, \"nodes\": [{\"host\": \"a\", \"port\": 65536}]}",
		"{\"version\": 1, \"nodes\": [{\"host\": \"a\", \"port\": \"1\"}]}",
		"{\"version\": 1, \"nodes\": [{\"host\": \"a\", \"weight\": -1}]}",
		"{\"version\": 1, \"nodes\": [{\"host\": \"a\", \"role\": \"king\"}]}",
		"{\"version\": 1, \"nodes\": [{\"host\": \"a\", \"name\": \"a/b\"}]}",
		"{\"version\": 1, \"enabled\": [{\"host\": \"a\", \"port\": 1}]}",
		"{\"version\": 1, \"primary\": {\"host\": \"a\"}}",
		"{\"version\": 1} x",
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(broken); i++) {
		struct config *config;
		struct members *all;
		char kept[200] = "";
		FILE *in;

		write_file(broken[i]);
		all = begin(&config, "manual");
		if (members_load_state(all) != -EINVAL)
			fail_msg("was taken: %s", broken[i]);
		members_free(all);
		config_free(config);
		in = fopen(file, "re");
		assert_non_null(in);
		assert_true(fread(kept, 1, sizeof(kept) - 1, in) == strlen(broken[i]));
		fclose(in);
		assert_string_equal(kept, broken[i]);
	}
	assert_int_equal(unlink(file), 0);
}

/* ---- nodes ---- */

static void a_node_that_comes_back_is_the_same(void **state)
{
	struct config *config = config_of("postgres", "a=127.0.0.1:1p", "");
	struct node_list *nodes = node_list_new(config);
	struct member list[2];
	struct node *b = NULL;
	uint32_t made, sets, lives = 0;

	(void)state;
	member_from_config(&list[0], &config->nodes[0]);
	list[1] = member_of("b=127.0.0.2:2");
	for (int i = 0; i < 1000; i++) {
		assert_int_equal(node_list_take(nodes, list, 2, ""), 1);
		assert_true(!b || b == node_list_find(nodes, "b"));
		b = node_list_find(nodes, "b");
		assert_true(atomic_load(&b->enabled) && !atomic_load(&b->draining));
		assert_true(atomic_load(&b->lives) > lives);
		lives = atomic_load(&b->lives);
		atomic_store(&b->links, 1);
		assert_int_equal(node_list_take(nodes, list, 1, ""), 1);
		assert_false(atomic_load(&b->enabled));
		assert_true(atomic_load(&b->draining));
		assert_ptr_equal(node_list_find_leaving(nodes, "127.0.0.2:2"), b);
		node_list_settle(nodes);
		assert_true(atomic_load(&b->draining)); /* it has a link yet */
		atomic_store(&b->links, 0);
		node_list_passed(nodes);
		node_list_hold(nodes);
		node_list_passed(nodes);
		node_list_settle(nodes);
		assert_false(node_list_shuns(nodes));
		node_list_kept(nodes, &made, &sets);
		assert_int_equal(made, 2);
		assert_int_equal(sets, 3); /* somebody looks */
		node_list_release(nodes);
		node_list_settle(nodes);
		node_list_kept(nodes, &made, &sets);
		assert_int_equal(sets, 1);
	}
	node_list_free(nodes);
	config_free(config);
}

static void there_is_an_end_to_new_nodes(void **state)
{
	struct config *config = config_of("postgres", "a=127.0.0.1:1p", "");
	struct node_list *nodes = node_list_new(config);
	struct member list[2];
	uint32_t made, sets;

	(void)state;
	member_from_config(&list[0], &config->nodes[0]);
	for (uint32_t i = 0; i < NODES_EVER_MAX + 10; i++) {
		member_init(&list[1], "127.0.0.2", (uint16_t)(i + 1));
		list[1].source = MEMBER_MANUAL;
		assert_true(node_list_take(nodes, list, 2, "") >= 0);
		node_list_passed(nodes);
		node_list_settle(nodes);
	}
	node_list_kept(nodes, &made, &sets);
	assert_int_equal(made, NODES_EVER_MAX);
	assert_int_equal(node_list_count(nodes), 1); /* the last one was left out */
	node_list_free(nodes);
	config_free(config);
}

/* Whichever surface asks, and whatever it does to make a node leave. */
static void the_primary_stays_unless_forced(void **state)
{
	static const enum node_operation leaving[] = {OPERATION_DISABLE, OPERATION_DRAIN, OPERATION_REMOVE};
	struct config *config = config_of("postgres", "a=127.0.0.1:1p b=127.0.0.2:2", "");
	struct members *all = members_new(config, NULL, NULL);
	struct node_list *nodes = node_list_new(config);
	struct node *a = node_list_find(nodes, "a");

	(void)state;
	for (uint32_t i = 0; i < ARRAY_SIZE(leaving); i++) {
		struct operation o = {.what = leaving[i], .node = "a", .deadline = USEC_NEVER};
		bool not_by_hand = leaving[i] == OPERATION_REMOVE; /* which force does not change */

		assert_int_equal(operation_run(&o, nodes, all), not_by_hand ? -EPERM : -EBUSY);
		assert_non_null(strstr(o.why, not_by_hand ? "it can be disabled" : "is the primary"));
		assert_int_equal(o.change.number, 0);
		assert_false(atomic_load(&a->draining));
		o.force = true;
		assert_int_equal(operation_run(&o, nodes, all), not_by_hand ? -EPERM : 0);
		assert_true(atomic_load(&a->draining) == (leaving[i] == OPERATION_DRAIN));
		(void)node_undrain(a);
		snprintf(o.node, sizeof(o.node), "b");
		o.force = false;
		assert_int_equal(operation_run(&o, nodes, all), not_by_hand ? -EPERM : 0);
	}
	node_list_free(nodes);
	members_free(all);
	config_free(config);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(sources_are_merged),           cmocka_unit_test(the_gone_stay_for_a_while),
		cmocka_unit_test(more_than_there_is_room_for),  cmocka_unit_test(changes_are_kept),
		cmocka_unit_test(only_with_provider_manual),    cmocka_unit_test(what_cannot_be_written_does_not_count),
		cmocka_unit_test(broken_files_stop_the_start),  cmocka_unit_test(a_node_that_comes_back_is_the_same),
		cmocka_unit_test(there_is_an_end_to_new_nodes), cmocka_unit_test(the_primary_stays_unless_forced),
	};
	int failed;

	if (!mkdtemp(folder))
		return 1;
	snprintf(file, sizeof(file), "%s/state.json", folder);
	failed = cmocka_run_group_tests(tests, NULL, NULL);
	rmdir(folder);
	return failed;
}
