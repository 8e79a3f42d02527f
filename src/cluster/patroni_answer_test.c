/* Answers of Patroni to GET /cluster, as its versions write them, and what is none. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "cluster/patroni_answer.h"

#include <stdio.h>

/* Recorded from 3.0.2; the lists of others are those that their manuals show, with addresses of ours. */
static const char version_2[] =
	"{\"members\": [{\"name\": \"a\", \"role\": \"leader\", \"state\": \"running\", \"api_url\": "
	"\"http://10.0.0.1:8008/patroni\", \"host\": \"10.0.0.1\", \"port\": 5432, \"timeline\": 5, \"tags\": "
	"{\"clonefrom\": "
	"true}}, {\"name\": \"b\", \"role\": \"replica\", \"state\": \"running\", \"api_url\": "
	"\"http://10.0.0.2:8008/patroni\", \"host\": \"10.0.0.2\", \"port\": 5433, \"timeline\": 5, \"lag\": 0}], "
	"\"scheduled_switchover\": {\"at\": \"2019-09-24T10:36:00+02:00\", \"from\": \"a\"}}";
static const char version_3[] =
	"{\"members\": [{\"name\": \"p1\", \"role\": \"leader\", \"state\": \"running\", \"api_url\": "
	"\"http://127.0.0.1:21008/patroni\", \"host\": \"127.0.0.1\", \"port\": 21001, \"timeline\": 1}, {\"name\": "
	"\"p2\", "
	"\"role\": \"sync_standby\", \"state\": \"streaming\", \"api_url\": \"http://127.0.0.1:21009/patroni\", "
	"\"host\": "
	"\"127.0.0.1\", \"port\": 21002, \"timeline\": 1, \"tags\": {\"noloadbalance\": true, \"nofailover\": \"yes\", "
	"\"replicatefrom\": \"p1\"}, \"lag\": \"unknown\"}, {\"name\": \"p3\", \"role\": \"replica\", \"state\": "
	"\"creating "
	"replica\"}], \"pause\": true, \"scope\": \"demo\"}";
static const char version_4[] =
	"{\"members\":[{\"name\":\"x\",\"role\":\"replica\",\"state\":\"streaming\",\"api_url\":\"https://"
	"[fd00::6]:8008/"
	"patroni\",\"host\":\"fd00::6\",\"port\":5433,\"timeline\":7,\"tags\":{},\"receive_lag\":0,\"receive_lsn\":\"0/"
	"4000060\",\"replay_lag\":0,\"replay_lsn\":\"0/4000060\",\"lag\":12,\"lsn\":\"0/"
	"4000060\"},{\"name\":\"y\",\"role\":"
	"\"quorum_standby\",\"state\":\"in archive "
	"recovery\",\"host\":\"db-2.example\",\"port\":5432,\"lag\":0}],\"scope\":"
	"\"demo\",\"scheduled_switchover\":{\"at\":\"2030-09-24T10:36:00+02:00\",\"from\":\"p\",\"to\":\"q\"}}";
static const char standby_cluster[] = "{\"members\": [{\"name\": \"s\", \"role\": \"standby_leader\", \"state\": "
				      "\"streaming\", \"host\": \"10.1.0.1\", "
				      "\"port\": 5432, \"timeline\": 2}]}";

static struct patroni_answer a;

static int parse(const char *text, char why[200])
{
	why[0] = 0;
	return patroni_answer_parse(text, strlen(text), &a, why, 200);
}

static void old_and_new(void **state)
{
	char why[200], url[100];

	assert_int_equal(parse(version_2, why), 0);
	assert_int_equal(a.count, 2);
	assert_string_equal(patroni_answer_leader(&a)->name, "a");
	assert_string_equal(a.members[1].host, "10.0.0.2");
	assert_int_equal(a.members[1].port, 5433);
	assert_int_equal(a.members[1].role, PATRONI_REPLICA);
	assert_true(a.members[1].knows_lag && a.members[1].lag == 0);
	assert_false(a.paused || a.members[0].knows_lag || a.members[0].no_load_balance);
	assert_true(a.has_switchover);
	assert_string_equal(a.switchover_at, "2019-09-24T10:36:00+02:00");
	assert_string_equal(a.switchover_from, "a");
	assert_string_equal(a.switchover_to, "");
	assert_true(patroni_member_base_url(&a.members[0], url, sizeof(url)));
	assert_string_equal(url, "http://10.0.0.1:8008");

	assert_int_equal(parse(version_3, why), 0);
	assert_int_equal(a.count, 2); /* the third has no address yet */
	assert_int_equal(a.left_out, 1);
	assert_true(a.paused && !a.has_switchover);
	assert_string_equal(a.scope, "demo");
	assert_int_equal(a.members[1].role, PATRONI_SYNC_STANDBY);
	assert_string_equal(a.members[1].state, "streaming");
	assert_true(a.members[1].no_load_balance && a.members[1].no_failover);
	assert_string_equal(a.members[1].replicate_from, "p1");
	assert_false(a.members[1].knows_lag);

	assert_int_equal(parse(version_4, why), 0);
	assert_null(patroni_answer_leader(&a));
	assert_int_equal(a.members[0].lag, 12);
	assert_string_equal(a.switchover_to, "q");
	assert_true(patroni_member_base_url(&a.members[0], url, sizeof(url)));
	assert_string_equal(url, "https://[fd00::6]:8008");
	assert_false(patroni_member_base_url(&a.members[1], url, sizeof(url)));
	assert_int_equal(a.members[1].role, PATRONI_QUORUM_STANDBY);

	assert_int_equal(parse(standby_cluster, why), 0);
	assert_int_equal(patroni_answer_leader(&a)->role, PATRONI_STANDBY_LEADER);
}

/* A role that is not known yet is no leader. */
static void a_new_role(void **state)
{
	char why[200];

	assert_int_equal(parse("{\"members\":[{\"name\":\"a\",\"host\":\"h\",\"port\":1,\"role\":\"witness\"}]}", why),
			 0);
	assert_int_equal(a.members[0].role, PATRONI_OTHER);
	assert_string_equal(a.members[0].role_text, "witness");
	assert_null(patroni_answer_leader(&a));
}

static void no_answers(void **state)
{
	static const char *const texts[] = {
		"",
		"<html>",
		"[]",
		"null",
		"{}",
		"{\"members\":{}}",
		"{\"members\":\"x\"}",
		"{\"members\":[]",
		"{\"members\":[]}x",
		"{\"members\":[],\"members\":[]}",
		("{\"members\":[{\"name\":\"a\",\"host\":\"h\",\"port\":1,\"role\":\"leader\"},"
		 "{\"name\":\"b\",\"host\":\"i\",\"port\":1,\"role\":\"leader\"}]}"),
	};
	char why[200];

	for (size_t i = 0; i < ARRAY_SIZE(texts); i++) {
		assert_int_equal(parse(texts[i], why), -EPROTO);
		assert_true(*why);
	}
	assert_int_equal(parse("{\"members\":[]}", why), 0); /* a cluster that has none yet */
	assert_int_equal(a.count, 0);
}

static void members_of_no_use(void **state)
{
	static const char *const members[] = {
		"1",
		"null",
		"{}",
		"{\"name\":\"\",\"host\":\"h\",\"port\":1}",
		"{\"name\":\"a\",\"port\":1}",
		"{\"name\":\"a\",\"host\":\"\",\"port\":1}",
		"{\"name\":\"a\",\"host\":\"h\",\"port\":0}",
		"{\"name\":\"a\",\"host\":\"h\",\"port\":65536}",
		"{\"name\":\"a\",\"host\":\"h\",\"port\":\"5432\"}",
		"{\"name\":\"a\",\"host\":\"h i\",\"port\":1}",
		"{\"name\":\"a\",\"host\":\"/tmp\",\"port\":1}",
		"{\"name\":[],\"host\":\"h\",\"port\":1}",
		"{\"name\":\"good\",\"host\":\"other\",\"port\":5}", /* there twice */
		"{\"name\":\"other\",\"host\":\"good.example\",\"port\":5}",
	};
	char why[200], text[400];

	for (size_t i = 0; i < ARRAY_SIZE(members); i++) {
		snprintf(text, sizeof(text),
			 "{\"members\":[{\"name\":\"good\",\"host\":\"good.example\",\"port\":5},%s]}", members[i]);
		assert_int_equal(parse(text, why), 0);
		assert_int_equal(a.count, 1);
		assert_int_equal(a.left_out, 1);
	}
}

/* A name that is too long is refused, not cut: it would be another one. Other texts are left out. */
static void long_texts(void **state)
{
	char long_one[2 * PATRONI_URL_MAX], text[3 * PATRONI_URL_MAX], why[200];

	memset(long_one, 'x', sizeof(long_one) - 1);
	long_one[sizeof(long_one) - 1] = 0;
	snprintf(text, sizeof(text), "{\"members\":[{\"name\":\"%s\",\"host\":\"h\",\"port\":1}]}", long_one);
	assert_int_equal(parse(text, why), 0);
	assert_int_equal(a.count, 0);
	snprintf(text, sizeof(text),
		 "{\"members\":[{\"name\":\"n\",\"host\":\"h\",\"port\":1,\"role\":\"leader\",\"state\":\"%s\"}]}",
		 long_one);
	assert_int_equal(parse(text, why), 0);
	assert_int_equal(a.count, 1);
	assert_string_equal(a.members[0].state, "");
}

static void too_many(void **state)
{
	static char text[200 * 60];
	size_t len = 0;
	char why[200];

	len += (size_t)snprintf(text, sizeof(text), "{\"members\":[");
	for (int i = 0; i < 100; i++)
		len += (size_t)snprintf(text + len, sizeof(text) - len,
					"%s{\"name\":\"n%d\",\"host\":\"h\",\"port\":%d}", i ? "," : "", i, i + 1);
	snprintf(text + len, sizeof(text) - len, "]}");
	assert_int_equal(parse(text, why), 0);
	assert_int_equal(a.count, PATRONI_MEMBERS_MAX);
	assert_int_equal(a.left_out, 100 - PATRONI_MEMBERS_MAX);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(old_and_new),       cmocka_unit_test(a_new_role), cmocka_unit_test(no_answers),
		cmocka_unit_test(members_of_no_use), cmocka_unit_test(long_texts), cmocka_unit_test(too_many),
	};

	return cmocka_run_group_tests_name("patroni_answer", tests, NULL, NULL);
}
