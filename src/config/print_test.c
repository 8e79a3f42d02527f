/* What is written of a configuration: the whole of it, how it differs from another one, and the references. */
#include "config/hba.h"
#include "config/reference.h"
#include "config/test.h"

#include <jansson.h>

static char *print(const struct config *config)
{
	size_t len;
	char *text;
	FILE *out = open_memstream(&text, &len);

	assert_non_null(out);
	config_print(config, out);
	assert_int_equal(fclose(out), 0);
	return text;
}

static void count_difference(void *argument, const char *path, const char *old_value, const char *new_value,
			     bool reloads)
{
	(*(uint32_t *)argument)++;
}

static const char rich[] =
	"[pool]\nmax_connections = 10\nreset_query = \"a \\\"b\\\" \\\\ \\n c\"\ntrack_parameters = [\"a\", \"b\"]\n"
	"[databases.\"a.b\"]\nmax_connections = 20\nquery_timeout_ms = 1500\n"
	"[users.u]\nmode = \"statement\"\n"
	"[[hba]]\naction = \"reject\"\naddress = \"10.0.0.0/8\"\n"
	"[[nodes]]\nhost = \"h\"\nsync = true\n";

static void what_is_printed_loads_the_same(void **state)
{
	struct fixture f, again;
	uint32_t differences = 0;
	char *text;

	load(&f, rich);
	text = print(f.config);
	assert_non_null(strstr(text, "max_connections = 10"));
	assert_non_null(strstr(text, "# t.toml:2\n"));
	assert_non_null(strstr(text, "# default\n"));
	load(&again, text);
	config_diff(f.config, again.config, count_difference, &differences);
	assert_int_equal(differences, 0);
	assert_int_equal(hba_rule_count(again.config->admission), 1);
	free(text);
	end(&again);
	end(&f);
}

static void secrets_are_not_printed(void **state)
{
	struct fixture f;
	char *text;

	load(&f, NODE "[proxy]\nadmin_token = \"hidden1\"\n[users.u]\npassword = \"hidden2\"\n"
		      "[databases.d]\nuser = \"u\"\npassword = \"hidden3\"\n"
		      "[admin_tokens.t]\ntoken = \"hidden-0123456789\"\n");
	text = print(f.config);
	assert_null(strstr(text, "hidden"));
	assert_non_null(strstr(text, "admin_token = \"***\""));
	free(text);
	end(&f);
}

struct expected_difference {
	const char *path;
	bool reloads, seen;
};

static void expect_difference(void *argument, const char *path, const char *old_value, const char *new_value,
			      bool reloads)
{
	for (struct expected_difference *e = argument; e->path; e++) {
		if (strcmp(e->path, path) == 0 && e->reloads == reloads) {
			e->seen = true;
			assert_null(strstr(new_value, "hidden"));
			return;
		}
	}
	fail_msg("%s: %s -> %s", path, old_value, new_value);
}

static void differences_are_named(void **state)
{
	struct expected_difference expected[] = {
		{"proxy.workers", false, false},
		{"proxy.admin_token", true, false},
		{"pool.mode", true, false},
		{"nodes", true, false},
		{"databases.a", true, false},
		{"databases.b", true, false},
		{"databases.c", true, false},
		{"users.u", true, false},
		{"hba", true, false},
		{"admin_tokens.t", true, false},
		{"admin_tokens.u", true, false},
		{"admin_tokens.v", true, false},
		{0},
	};
	struct fixture a, b;

	load(&a, NODE "[databases.a]\nmode = \"session\"\n[databases.b]\n[databases.same]\nuser = "
		      "\"x\"\n[users.u]\npassword = \"x\"\n[admin_tokens.t]\ntoken = \"0123456789abcdef\"\n"
		      "[admin_tokens.u]\ntoken = \"0123456789abcdeg\"\n"
		      "[admin_tokens.same]\ntoken = \"0123456789abcdeh\"\n");
	load(&b,
	     NODE "weight = 5\n[proxy]\nworkers = 3\nadmin_token = \"hidden\"\n[pool]\nmode = \"statement\"\n"
		  "[databases.a]\nmode = \"transaction\"\n[databases.c]\n[databases.same]\nuser = \"x\"\n"
		  "[users.u]\npassword = \"hidden\"\n[[hba]]\naction = \"allow\"\n"
		  "[admin_tokens.t]\ntoken = \"hidden-0123456789\"\n[admin_tokens.v]\ntoken = \"0123456789abcdeg\"\n"
		  "[admin_tokens.same]\ntoken = \"0123456789abcdeh\"\n");
	config_diff(a.config, b.config, expect_difference, expected);
	for (struct expected_difference *e = expected; e->path; e++)
		if (!e->seen)
			fail_msg("%s", e->path);
	end(&a);
	end(&b);
}

static void references_are_made(void **state)
{
	json_error_t error;
	json_t *schema;
	size_t len;
	char *text;
	FILE *out;

	out = open_memstream(&text, &len);
	assert_int_equal(reference_schema(out), 0);
	fclose(out);
	schema = json_loads(text, 0, &error);
	assert_non_null(schema);
	assert_non_null(json_object_get(
		json_object_get(json_object_get(json_object_get(schema, "properties"), "pool"), "properties"),
		"idle_timeout_secs"));
	json_decref(schema);
	free(text);

	out = open_memstream(&text, &len);
	reference_markdown(out);
	reference_errors(out);
	fclose(out);
	assert_non_null(strstr(text, "| `max_connections` |"));
	assert_non_null(strstr(text, "## `[[nodes]]`"));
	free(text);

	out = open_memstream(&text, &len);
	reference_man(out);
	fclose(out);
	assert_non_null(strstr(text, ".B max_connections"));
	free(text);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(what_is_printed_loads_the_same),
		cmocka_unit_test(secrets_are_not_printed),
		cmocka_unit_test(differences_are_named),
		cmocka_unit_test(references_are_made),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
