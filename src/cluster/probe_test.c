/* Health of nodes: thresholds, and probes that find out by connecting. The clock is moved, nothing waits for time-outs.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "cluster/probe.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdio.h>
#include <unistd.h>

#define TURNS_MAX 200

struct fixture {
	struct config *config;
	struct node_list *nodes;
	struct node *node;
	struct probes *probes;
	struct loop *loop;
};

static int listen_anywhere(uint16_t *ret_port)
{
	struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	socklen_t len = sizeof(a);
	int fd = socket(AF_INET, SOCK_STREAM, 0);

	assert_true(fd >= 0);
	assert_int_equal(bind(fd, (struct sockaddr *)&a, sizeof(a)), 0);
	assert_int_equal(listen(fd, 16), 0);
	assert_int_equal(getsockname(fd, (struct sockaddr *)&a, &len), 0);
	*ret_port = ntohs(a.sin_port);
	return fd;
}

static struct fixture begin(uint16_t port)
{
	struct config_report report;
	struct fixture f = {0};
	char text[300];

	snprintf(text, sizeof(text),
		 "[health]\ncheck_interval = \"5s\"\ncheck_timeout = \"2s\"\nfailure_threshold = 3\nsuccess_threshold "
		 "= 2\n"
		 "[[nodes]]\nhost = \"127.0.0.1\"\nport = %u\nrole = \"primary\"\n",
		 port);
	config_report_init(&report, false);
	assert_int_equal(config_load_text(text, strlen(text), "test", &f.config, &report), 0);
	config_report_free(&report);
	f.nodes = node_list_new(f.config);
	f.node = node_list_at(f.nodes, 0);
	assert_int_equal(node_resolve(f.node), 0);
	f.probes = probes_new(f.nodes);
	assert_int_equal(loop_new("auto", NULL, &f.loop), 0);
	return f;
}

static void end(struct fixture *f)
{
	probes_stop(f->probes);
	loop_free(f->loop);
	probes_free(f->probes);
	node_list_free(f->nodes);
	config_free(f->config);
}

static uint32_t checks(const struct fixture *f)
{
	return atomic_load(&f->node->failed_in_row) + atomic_load(&f->node->good_in_row);
}

static void tick_after(struct fixture *f, usec_t by)
{
	clock_advance(by);
	loop_run_turn(f->loop, 0);
	probes_tick(f->probes, f->loop, &f->config->health);
}

/* The next check and its end. */
static void check(struct fixture *f)
{
	uint64_t before = atomic_load(&f->node->last_check_wall);

	usleep(1000); /* last_check_wall is the wall's clock: it must differ */
	tick_after(f, 6 * USEC_PER_SEC);
	for (int i = 0; i < TURNS_MAX && atomic_load(&f->node->last_check_wall) == before; i++)
		loop_run_turn(f->loop, 10 * USEC_PER_MSEC);
	assert_true(atomic_load(&f->node->last_check_wall) != before);
}

static void a_node_that_stops_is_noticed(void **state)
{
	uint16_t port;
	int fd = listen_anywhere(&port);
	struct fixture f = begin(port);

	probes_tick(f.probes, f.loop, &f.config->health);
	assert_int_equal(checks(&f), 0); /* not at once */
	check(&f);
	check(&f);
	assert_int_equal(atomic_load(&f.node->good_in_row), 2);
	close(fd);
	check(&f);
	check(&f);
	assert_true(node_is_healthy(f.node));
	check(&f);
	assert_false(node_is_healthy(f.node));
	assert_int_equal(atomic_load(&f.node->failed_in_row), 3);
	end(&f);
}

static void doubt_hastens_the_check(void **state)
{
	uint16_t port;
	int fd = listen_anywhere(&port);
	struct fixture f = begin(port);

	tick_after(&f, 0);
	tick_after(&f, USEC_PER_SEC);
	loop_run_turn(f.loop, 10 * USEC_PER_MSEC);
	assert_int_equal(checks(&f), 0);
	node_in_doubt(f.node);
	tick_after(&f, USEC_PER_SEC);
	for (int i = 0; i < TURNS_MAX && checks(&f) == 0; i++)
		loop_run_turn(f.loop, 10 * USEC_PER_MSEC);
	assert_int_equal(checks(&f), 1);
	close(fd);
	end(&f);
}

static void a_login_tells_more_than_checks(void **state)
{
	struct fixture f = begin(1);

	for (int i = 0; i < 3; i++)
		node_checked(f.node, /* good= */ false, &f.config->health);
	assert_false(node_is_healthy(f.node));
	node_checked(f.node, /* good= */ true, &f.config->health);
	assert_false(node_is_healthy(f.node));
	node_answered(f.node);
	assert_true(node_is_healthy(f.node));
	assert_int_equal(atomic_load(&f.node->failed_in_row), 0);
	end(&f);
}

static struct sockaddr_storage address_of(const char *text, uint16_t port)
{
	struct sockaddr_storage storage = {0};
	struct sockaddr_in *in = (struct sockaddr_in *)&storage;

	in->sin_family = AF_INET;
	in->sin_port = htons(port);
	assert_int_equal(inet_pton(AF_INET, text, &in->sin_addr), 1);
	return storage;
}

/* The node's name leads to these. */
static void set_addresses(struct node *node, const struct sockaddr_storage *list, uint32_t count)
{
	for (uint32_t i = 0; i < count; i++) {
		node->addresses[i] = list[i];
		node->address_lens[i] = sizeof(struct sockaddr_in);
	}
	node->address_count = count;
}

static uint32_t first_of(struct node *node)
{
	struct sockaddr_storage list[NODE_ADDRESSES_MAX];
	socklen_t lens[NODE_ADDRESSES_MAX];

	assert_int_equal(node_addresses(node, list, lens), node->address_count);
	return ntohl(((struct sockaddr_in *)&list[0])->sin_addr.s_addr);
}

/* One address refuses, one may be silent (nothing lives there), one works: they are tried in turn, each in its share of
 * the time, and the one that worked goes first from then on, also when the name is resolved anew. */
static void addresses_are_tried_in_turn(void **state)
{
	uint16_t port;
	int fd = listen_anywhere(&port);
	struct fixture f = begin(port);
	const struct sockaddr_storage list[] = {address_of("127.0.0.2", port), address_of("192.0.2.1", port),
						address_of("127.0.0.1", port)};

	set_addresses(f.node, list, 3);
	assert_int_equal(first_of(f.node), 0x7f000002);
	tick_after(&f, 0);
	tick_after(&f, 6 * USEC_PER_SEC);
	for (int i = 0; i < TURNS_MAX && checks(&f) == 0; i++) {
		clock_advance(20 * USEC_PER_MSEC);
		loop_run_turn(f.loop, 10 * USEC_PER_MSEC);
	}
	assert_int_equal(atomic_load(&f.node->good_in_row), 1);
	assert_int_equal(first_of(f.node), INADDR_LOOPBACK);
	assert_int_equal(node_resolve(f.node), 0);
	assert_int_equal(first_of(f.node), INADDR_LOOPBACK);
	set_addresses(f.node, list, 2);
	f.node->preferred = 0;
	close(fd);
	tick_after(&f, 6 * USEC_PER_SEC);
	for (int i = 0; i < TURNS_MAX && atomic_load(&f.node->failed_in_row) == 0; i++) {
		clock_advance(20 * USEC_PER_MSEC);
		loop_run_turn(f.loop, 10 * USEC_PER_MSEC);
	}
	assert_int_equal(atomic_load(&f.node->failed_in_row), 1);
	end(&f);
}

/* Ends while a check is under way: nothing of it is left. */
static void stops_in_the_middle(void **state)
{
	uint16_t port;
	int fd = listen_anywhere(&port);
	struct fixture f = begin(port);

	tick_after(&f, 0);
	tick_after(&f, 6 * USEC_PER_SEC);
	probes_stop(f.probes);
	tick_after(&f, 60 * USEC_PER_SEC);
	loop_run_turn(f.loop, 0);
	assert_int_equal(checks(&f), 0);
	close(fd);
	end(&f);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_node_that_stops_is_noticed),
		cmocka_unit_test(doubt_hastens_the_check),
		cmocka_unit_test(a_login_tells_more_than_checks),
		cmocka_unit_test(addresses_are_tried_in_turn),
		cmocka_unit_test(stops_in_the_middle),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
