/*
 * The whole admin API over HTTP, with two workers: one runs, the other hangs until it is let go. What a worker is late
 * with must come to no harm, and must not make other endpoints late.
 */
#include "admin/admin.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <time.h>
#include <unistd.h>
#include <cmocka.h>

struct fixture {
	struct config *config;
	struct node_list *nodes;
	struct pools *pools;
	struct sessions_shared shared;
	struct worker workers[2];
	pthread_t threads[2];
	bool runs[2];
	struct admin *admin;
	struct sockaddr_in address;
	int reload_result;
};

static struct fixture fixture;

static const char settings[] = "[proxy]\nadmin_address = \"127.0.0.1:9090\"\nadmin_token = \"%s\"\n"
			       "[[nodes]]\nname = \"main\"\nhost = \"127.0.0.1\"\nport = 5999\nrole = \"primary\"\n";

static struct config *make_config(const char *token)
{
	struct config *config = NULL;
	struct config_report report;
	char text[512];
	int len = snprintf(text, sizeof(text), settings, token);

	config_report_init(&report, /* strict= */ false);
	assert_int_equal(config_load_text(text, (size_t)len, "test", &config, &report), 0);
	config_report_free(&report);
	return config;
}

static void *run_worker(void *worker)
{
	loop_run(((struct worker *)worker)->pool_thread.loop);
	return NULL;
}

static void start_worker(uint32_t i)
{
	assert_int_equal(pthread_create(&fixture.threads[i], NULL, run_worker, &fixture.workers[i]), 0);
	fixture.runs[i] = true;
}

static void make_worker(uint32_t i)
{
	struct worker *w = &fixture.workers[i];

	w->pool_thread.index = i;
	w->settings.config = fixture.config;
	assert_int_equal(loop_new("epoll", &w->pool_thread, &w->pool_thread.loop), 0);
	assert_int_equal(worker_init(w, &fixture.shared, fixture.pools), 0);
	fixture.shared.workers[i] = w;
	fixture.shared.worker_count = i + 1;
}

static int reload(void *server)
{
	return ((struct fixture *)server)->reload_result;
}

static int listen_somewhere(void)
{
	socklen_t len = sizeof(fixture.address);
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	fixture.address = (struct sockaddr_in){.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	assert_int_equal(bind(fd, (struct sockaddr *)&fixture.address, sizeof(fixture.address)), 0);
	assert_int_equal(listen(fd, 16), 0);
	assert_int_equal(getsockname(fd, (struct sockaddr *)&fixture.address, &len), 0);
	return fd;
}

static int setup(void **state)
{
	struct admin_context context = {.test_clock = true, .started_wall = 1, .reload = reload, .server = &fixture};

	fixture = (struct fixture){0};
	fixture.config = make_config("secret");
	fixture.nodes = node_list_new(fixture.config);
	fixture.pools = pools_new(fixture.config, fixture.nodes, NULL);
	make_worker(0);
	make_worker(1);
	start_worker(0);
	context.pools = fixture.pools;
	context.nodes = fixture.nodes;
	context.sessions = &fixture.shared;
	context.config = fixture.config;
	assert_int_equal(
		admin_start(&context, &(struct admin_listener){listen_somewhere(), "127.0.0.1:0"}, 1, &fixture.admin),
		0);
	return 0;
}

static int teardown(void **state)
{
	admin_stop(fixture.admin);
	for (uint32_t i = 0; i < 2; i++) {
		if (fixture.runs[i]) {
			loop_stop(fixture.workers[i].pool_thread.loop);
			pthread_join(fixture.threads[i], NULL);
		}
		worker_destroy(&fixture.workers[i]);
	}
	pools_free(fixture.pools);
	for (uint32_t i = 0; i < 2; i++)
		loop_free(fixture.workers[i].pool_thread.loop); /* runs what the hung one was sent */
	node_list_free(fixture.nodes);
	config_free(fixture.config);
	return 0;
}

/* ---- a small client ---- */

static char received[256 << 10];

static int connect_client(void)
{
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	if (connect(fd, (struct sockaddr *)&fixture.address, sizeof(fixture.address)) < 0) {
		close(fd);
		return -1;
	}
	return fd;
}

/* The status; head and body are in `received`. headers: each with its \r\n. */
static int ask(const char *method, const char *path, const char *headers)
{
	char request[2048];
	int fd = connect_client(), status = -1;
	size_t len = 0;
	ssize_t n;

	assert_true(fd >= 0);
	n = snprintf(request, sizeof(request), "%s %s HTTP/1.1\r\nHost: proxy:9090\r\nConnection: close\r\n%s\r\n",
		     method, path, headers);
	assert_int_equal(write(fd, request, (size_t)n), n);
	while (len < sizeof(received) - 1 && (n = read(fd, received + len, sizeof(received) - 1 - len)) > 0)
		len += (size_t)n;
	received[len] = 0;
	close(fd);
	assert_int_equal(sscanf(received, "HTTP/1.1 %d", &status), 1);
	return status;
}

#define TOKEN "Authorization: Bearer secret\r\n"

static void assert_received(const char *text)
{
	if (!strstr(received, text))
		fail_msg("no %s in %s", text, received);
}

static double seconds(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

/* ---- tests ---- */

static void test_access(void **state)
{
	assert_int_equal(ask("GET", "/health", ""), 200);
	assert_received("{\"status\":\"ok\"}");
	assert_received("Content-Type: application/json\r\n");
	assert_int_equal(ask("HEAD", "/health", ""), 200);
	assert_null(strstr(received, "{"));
	assert_int_equal(ask("GET", "/endpoints", ""), 200);
	assert_received("<code>/pools</code>");
	assert_int_equal(ask("GET", "/", ""), 200);
	assert_received("script-src 'self'");
	assert_int_equal(ask("GET", "/pools", ""), 401);
	assert_received("WWW-Authenticate: Bearer");
	assert_int_equal(ask("GET", "/pools", "Authorization: Bearer wrong\r\n"), 401);
	assert_int_equal(ask("GET", "/pools", TOKEN), 200);
	assert_int_equal(ask("POST", "/health", ""), 401);
	assert_int_equal(ask("GET", "/no/such/thing", ""), 401);
	assert_int_equal(ask("GET", "/no/such/thing", TOKEN), 404);
	assert_received("{\"error\":\"Not found\"}");
	assert_int_equal(ask("POST", "/pools", TOKEN), 405);
	assert_received("Allow: GET, HEAD\r\n");
	assert_int_equal(ask("PUT", "/sessions/1", TOKEN), 405);
	assert_received("Allow: DELETE\r\n");
	assert_int_equal(ask("POST", "/failover", TOKEN), 501);
	assert_int_equal(ask("POST", "/nodes/main/enable", TOKEN), 501);
	assert_int_equal(ask("POST", "/reload", TOKEN "Origin: http://evil.example\r\n"), 403);
	assert_int_equal(ask("POST", "/reload", TOKEN "Content-Length: 70000\r\n"), 413);
}

static void test_reload(void **state)
{
	struct config *fresh = make_config("another"), *old = fixture.config;

	assert_int_equal(ask("POST", "/reload", TOKEN "Origin: http://proxy:9090\r\n"), 200);
	fixture.reload_result = -EINVAL;
	assert_int_equal(ask("POST", "/reload", TOKEN), 409);
	assert_true(admin_prepare(fixture.admin, fresh));
	admin_reload(fixture.admin, fresh);
	assert_int_equal(ask("GET", "/config", TOKEN), 401);
	assert_int_equal(ask("GET", "/config", "Authorization: Bearer another\r\n"), 200);
	admin_reload(fixture.admin, old);
	config_free(fresh);
	assert_int_equal(ask("GET", "/config", TOKEN), 200);
}

static void test_nodes(void **state)
{
	struct node *node = node_list_at(fixture.nodes, 0);
	struct config_health health = {.failure_threshold = 2, .success_threshold = 2};

	assert_int_equal(ask("GET", "/nodes/main", TOKEN), 200);
	assert_received("\"address\":\"127.0.0.1:5999\"");
	assert_int_equal(ask("GET", "/nodes/127.0.0.1:5999", TOKEN), 200);
	assert_int_equal(ask("GET", "/nodes/none", TOKEN), 404);
	assert_int_equal(ask("GET", "/readyz", ""), 200);
	node_checked(node, /* good= */ false, &health);
	assert_int_equal(ask("GET", "/readyz", ""), 200);
	node_checked(node, /* good= */ false, &health);
	assert_int_equal(ask("GET", "/readyz", ""), 503);
	assert_int_equal(ask("GET", "/nodes/main", TOKEN), 200);
	assert_received("\"failure_count\":2");
	assert_int_equal(ask("GET", "/topology", TOKEN), 200);
	assert_received("\"healthyNodes\":0,\"unhealthyNodes\":1,\"totalNodes\":1");
	node_checked(node, /* good= */ true, &health);
	assert_int_equal(ask("GET", "/readyz", ""), 503);
	node_checked(node, /* good= */ true, &health);
	assert_int_equal(ask("GET", "/readyz", ""), 200);
	node_checked(node, /* good= */ false, &health);
	node_checked(node, /* good= */ false, &health);
	node_answered(node); /* a login tells more than a check */
	assert_int_equal(ask("GET", "/readyz", ""), 200);
	atomic_store(&node->enabled, false);
	assert_int_equal(ask("GET", "/readyz", ""), 503);
	atomic_store(&node->enabled, true);
	admin_set_draining(fixture.admin);
	assert_int_equal(ask("GET", "/health/ready", ""), 503);
	assert_received("\"ready\":false");
}

static void test_draining(void **state)
{
	struct node *node = node_list_at(fixture.nodes, 0);

	start_worker(1);
	assert_int_equal(ask("POST", "/nodes/main/drain", ""), 401);
	assert_int_equal(ask("PUT", "/nodes/main/drain", TOKEN), 405);
	assert_received("Allow: POST");
	assert_int_equal(ask("POST", "/nodes/none/drain?force=true", TOKEN), 404);
	assert_received("Node not found");
	assert_int_equal(ask("POST", "/nodes/main/drain?force=true&deadline_secs=soon", TOKEN), 400);
	assert_int_equal(ask("POST", "/nodes/main/drain", TOKEN), 409); /* the primary */
	assert_int_equal(ask("POST", "/nodes/main/drain?force=no", TOKEN), 400);
	assert_int_equal(ask("POST", "/nodes/main/drain?force=false", TOKEN), 409);
	assert_true(node_takes_new(node));
	assert_int_equal(ask("POST", "/nodes/127.0.0.1:5999/drain?force=true", TOKEN), 200);
	assert_received("\"deadline_in_ms\":null,\"links_left\":0,\"done\":true");
	assert_false(node_takes_new(node));
	assert_int_equal(ask("GET", "/readyz", ""), 503);
	assert_received("being drained");
	assert_int_equal(ask("POST", "/nodes/main/drain?force=1&deadline_secs=60", TOKEN), 200); /* a deadline, now */
	assert_null(strstr(received, "\"deadline_in_ms\":null"));
	assert_int_equal(ask("POST", "/nodes/main/undrain", TOKEN), 200);
	assert_received("\"status\":\"undrained\"");
	assert_int_equal(ask("POST", "/nodes/main/undrain", TOKEN), 200);
	assert_received("\"status\":\"not draining\"");
	assert_int_equal(ask("GET", "/readyz", ""), 200);
	assert_int_equal(ask("GET", "/api/circuit", TOKEN), 200);
	assert_received("{\"enabled\":false,\"circuits\":[{\"node\":\"127.0.0.1:5999\",\"name\":\"main\",\"state\":"
			"\"closed\"}]}");
}

static void test_pools_and_metrics(void **state)
{
	struct pool *pool;

	assert_int_equal(pool_find(fixture.pools, "shop", "\xff\"\n", &pool), 0);
	count_add(&fixture.workers[1].pool_thread.counters.queries_total, 7);
	assert_int_equal(ask("GET", "/pools", TOKEN), 200);
	assert_received("\"user\":\"\xef\xbf\xbd\\\"\\n\"");
	assert_int_equal(ask("GET", "/metrics", TOKEN), 200);
	assert_received("Content-Type: text/plain; version=0.0.4");
	assert_received("heliosdb_proxy_queries_total 7\n");
	assert_received(
		"heliosdb_proxy_pool_links_max{database=\"shop\",user=\"\xef\xbf\xbd\\\"\\n\",node=\"main\"} 100\n");
	assert_received("heliosdb_proxy_loop_turns_total{worker=\"1\"} 0\n");
	assert_int_equal(ask("GET", "/metrics", TOKEN "Accept: application/json\r\n"), 200);
	assert_received("\"queries_processed\":7");
	assert_int_equal(ask("GET", "/metrics/prometheus", TOKEN "Accept: application/json\r\n"), 200);
	assert_received("{\"text\":\"# HELP");
	pool_unref(pool);
}

static void test_hung_worker(void **state)
{
	double began = seconds();

	assert_int_equal(ask("GET", "/livez", ""), 503);
	assert_received("\"alive\":false");
	assert_true(seconds() - began >= 1.9);
	began = seconds();
	assert_int_equal(ask("GET", "/livez", ""), 503);
	assert_true(seconds() - began < 1); /* it is known by now */
	assert_int_equal(ask("GET", "/sessions", TOKEN), 200);
	assert_received("\"workers_late\":1,\"sessions\":[]");
	assert_int_equal(ask("DELETE", "/sessions/12", TOKEN), 503);
	start_worker(1);
	while (ask("GET", "/livez", "") != 200)
		assert_true(seconds() - began < 60);
	assert_int_equal(ask("GET", "/sessions?limit=0", TOKEN), 200);
	assert_received("\"workers_late\":0");
	assert_int_equal(ask("DELETE", "/sessions/12", TOKEN), 404);
	assert_int_equal(ask("DELETE", "/sessions/4294967296", TOKEN), 400);
	assert_int_equal(ask("GET", "/sessions?limit=-1", TOKEN), 400);
	assert_int_equal(ask("POST", "/debug/clock?advance_ms=10", TOKEN), 200);
	assert_received("\"settled\":true");
	assert_int_equal(ask("POST", "/debug/clock?advance_ms=x", TOKEN), 400);
}

/* The admin API ends while a worker still owes it answers. */
static void test_stop_while_late(void **state)
{
	assert_int_equal(ask("GET", "/sessions", TOKEN), 200);
	admin_quiesce(fixture.admin);
	admin_stop(fixture.admin);
	fixture.admin = NULL;
	assert_int_equal(connect_client(), -1);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
	const struct CMUnitTest tests[] = {
		TEST(test_access),
		TEST(test_reload),
		TEST(test_nodes),
		TEST(test_draining),
		TEST(test_pools_and_metrics),
		TEST(test_hung_worker),
		TEST(test_stop_while_late),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
