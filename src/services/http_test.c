/* The HTTP client, against a real server on this machine. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "services/http.h"

#include <arpa/inet.h>
#include <microhttpd.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <sys/socket.h>
#include <unistd.h>

#define TURNS_MAX 1000

static struct MHD_Daemon *daemon_;
static unsigned port;
static char big[HTTP_BODY_MAX + 1];

/* ---- the server ---- */

static enum MHD_Result reply(struct MHD_Connection *connection, unsigned status, const char *body, size_t len,
			     const char *header, const char *value)
{
	struct MHD_Response *response =
		MHD_create_response_from_buffer(len, (void *)(uintptr_t)body, MHD_RESPMEM_MUST_COPY);
	enum MHD_Result result;

	if (header)
		MHD_add_response_header(response, header, value);
	result = MHD_queue_response(connection, status, response);
	MHD_destroy_response(response);
	return result;
}

/* Answers with a header and the body that were posted. */
static enum MHD_Result take_post(struct MHD_Connection *connection, const char *upload, size_t *upload_size,
				 void **state)
{
	static char posted[200];
	const char *header = MHD_lookup_connection_value(connection, MHD_HEADER_KIND, "X-Test");

	if (!*state) {
		*state = posted;
		snprintf(posted, sizeof(posted), "%s:", header ? header : "none");
		return MHD_YES;
	}
	if (*upload_size == 0)
		return reply(connection, 503, posted, strlen(posted), "Retry-After", "7");
	strncat(posted, upload, MIN(*upload_size, 100u));
	*upload_size = 0;
	return MHD_YES;
}

static enum MHD_Result handle(void *argument, struct MHD_Connection *connection, const char *url, const char *method,
			      const char *version, const char *upload, size_t *upload_size, void **state)
{
	const char *proof = MHD_lookup_connection_value(connection, MHD_HEADER_KIND, "Authorization");

	if (strcmp(method, "POST") == 0)
		return take_post(connection, upload, upload_size, state);
	if (strcmp(url, "/ok") == 0)
		return reply(connection, 200, "fine", 4, NULL, NULL);
	if (strcmp(url, "/empty") == 0)
		return reply(connection, 200, "", 0, NULL, NULL);
	if (strcmp(url, "/largest") == 0)
		return reply(connection, 200, big, HTTP_BODY_MAX, NULL, NULL);
	if (strcmp(url, "/larger") == 0)
		return reply(connection, 200, big, sizeof(big), NULL, NULL);
	if (strcmp(url, "/elsewhere") == 0)
		return reply(connection, 302, "gone", 4, "Location", "/ok");
	if (strcmp(url, "/proof") == 0)
		return reply(connection, 200, proof ? proof : "none", strlen(proof ? proof : "none"), NULL, NULL);
	return reply(connection, 503, "no", 2, NULL, NULL);
}

static int start(void **state)
{
	daemon_ = MHD_start_daemon(MHD_USE_INTERNAL_POLLING_THREAD, 0, NULL, NULL, handle, NULL, MHD_OPTION_END);
	if (!daemon_)
		return -1;
	port = MHD_get_daemon_info(daemon_, MHD_DAEMON_INFO_BIND_PORT)->port;
	memset(big, 'x', sizeof(big));
	return 0;
}

static int stop(void **state)
{
	MHD_stop_daemon(daemon_);
	return 0;
}

/* ---- asking ---- */

struct got {
	uint32_t calls;
	unsigned status;
	char body[64], error[300];
	size_t len;
	bool timed_out;
	usec_t retry_after;
};

static void take(void *argument, const struct http_answer *answer)
{
	struct got *got = argument;

	got->calls++;
	got->status = answer->status;
	got->len = answer->len;
	got->timed_out = answer->timed_out;
	got->retry_after = answer->retry_after;
	snprintf(got->error, sizeof(got->error), "%s", answer->error);
	snprintf(got->body, sizeof(got->body), "%s", answer->body ? answer->body : "");
}

static struct http *client(const char *user, usec_t timeout)
{
	struct http *http = NULL;

	assert_int_equal(http_new(&(struct http_settings){.user = user,
							  .password = "a:b ü",
							  .ca_path = "",
							  .cert_path = "",
							  .key_path = "",
							  .timeout = timeout},
				  &http),
			 0);
	return http;
}

static void ask(struct http *http, const char *path, struct got *got)
{
	char url[200];

	memset(got, 0, sizeof(*got));
	snprintf(url, sizeof(url), "http://127.0.0.1:%u%s", port, path);
	assert_int_equal(http_get(http, url, take, got), 0);
	for (int i = 0; i < TURNS_MAX && got->calls == 0; i++)
		http_turn(http, USEC_PER_SEC);
	assert_int_equal(got->calls, 1);
	assert_int_equal(http_under_way(http), 0);
}

static void answers(void **state)
{
	static const struct {
		const char *path;
		unsigned status;
		size_t len;
	} cases[] = {
		{"/ok", 200, 4},   {"/empty", 200, 0},     {"/largest", 200, HTTP_BODY_MAX},
		{"/none", 503, 2}, {"/elsewhere", 302, 4}, /* not followed */
	};
	struct http *http = client("", 30 * USEC_PER_SEC);
	struct got got;

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		ask(http, cases[i].path, &got);
		assert_int_equal(got.status, cases[i].status);
		assert_int_equal(got.len, cases[i].len);
		assert_string_equal(got.error, "");
	}
	ask(http, "/larger", &got);
	assert_int_equal(got.status, 0);
	assert_non_null(strstr(got.error, "too long"));
	ask(http, "/ok", &got); /* the client is none the worse */
	assert_string_equal(got.body, "fine");
	http_free(http);
}

static void posts(void **state)
{
	static const char *const headers[] = {"X-Test: yes", "Content-Type: application/x", NULL};
	const struct http_post post = {.headers = headers, .body = "what\0ever", .len = 4};
	struct http *http = client("", 30 * USEC_PER_SEC);
	struct got got = {0};
	char url[100];

	snprintf(url, sizeof(url), "http://127.0.0.1:%u/", port);
	assert_int_equal(http_post(http, url, &post, take, &got), 0);
	for (int i = 0; i < TURNS_MAX && got.calls == 0; i++)
		http_turn(http, USEC_PER_SEC);
	assert_int_equal(got.status, 503);
	assert_string_equal(got.body, "yes:what");
	assert_int_equal(got.retry_after, 7 * USEC_PER_SEC);
	ask(http, "/ok", &got); /* a get is none the worse */
	assert_string_equal(got.body, "fine");
	assert_int_equal(got.retry_after, 0);
	http_free(http);
}

static void proofs(void **state)
{
	struct http *http = client("", 30 * USEC_PER_SEC);
	struct got got;

	ask(http, "/proof", &got);
	assert_string_equal(got.body, "none");
	http_free(http);
	http = client("me", 30 * USEC_PER_SEC);
	ask(http, "/proof", &got); /* with the first request, without being asked for it */
	assert_string_equal(got.body, "Basic bWU6YTpiIMO8");
	http_free(http);
}

/* A socket that takes connections and never answers. */
static int silent_socket(unsigned *ret_port)
{
	struct sockaddr_in in = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	socklen_t len = sizeof(in);
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	assert_true(fd >= 0 && bind(fd, (struct sockaddr *)&in, sizeof(in)) == 0 && listen(fd, 8) == 0 &&
		    getsockname(fd, (struct sockaddr *)&in, &len) == 0);
	*ret_port = ntohs(in.sin_port);
	return fd;
}

static void no_answer(void **state)
{
	struct http *http = client("", 50 * USEC_PER_MSEC);
	struct got got;
	unsigned good = port;
	int fd = silent_socket(&port);

	ask(http, "/", &got);
	assert_int_equal(got.status, 0);
	assert_true(got.timed_out);
	close(fd);
	ask(http, "/", &got); /* nobody listens there any more */
	assert_int_equal(got.status, 0);
	assert_false(got.timed_out);
	assert_true(*got.error);
	port = good;
	http_free(http);
}

/* Whoever has asked is told when the client ends, and that does not wait. */
static void end_with_a_request_under_way(void **state)
{
	struct http *http = client("", 3600 * USEC_PER_SEC);
	struct got got = {0};
	char url[100];
	unsigned silent;
	int fd = silent_socket(&silent);

	snprintf(url, sizeof(url), "http://127.0.0.1:%u/", silent);
	assert_int_equal(http_get(http, url, take, &got), 0);
	http_turn(http, USEC_PER_MSEC);
	assert_int_equal(http_under_way(http), 1);
	http_free(http);
	assert_int_equal(got.calls, 1);
	assert_int_equal(got.status, 0);
	close(fd);
}

static void *wake(void *argument)
{
	http_wake(argument);
	return NULL;
}

/* A turn that would last an hour. */
static void woken(void **state)
{
	struct http *http = client("", USEC_PER_SEC);
	pthread_t thread;

	assert_int_equal(pthread_create(&thread, NULL, wake, http), 0);
	http_turn(http, 3600 * USEC_PER_SEC);
	pthread_join(thread, NULL);
	http_free(http);
}

static void no_other_schemes(void **state)
{
	static const char *const bad[] = {
		"",        "ftp://127.0.0.1/",      "file:///etc/passwd",     "127.0.0.1:8008",
		"http://", "http://u:p@127.0.0.1/", "http://127.0.0.1:99999/"};
	static const char *const good[] = {"http://127.0.0.1:8008", "https://a.example", "http://[::1]:8008/x"};
	struct http *http = client("", USEC_PER_SEC);
	struct got got = {0};

	for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
		assert_false(http_url_is_good(bad[i]));
	for (size_t i = 0; i < ARRAY_SIZE(good); i++)
		assert_true(http_url_is_good(good[i]));
	assert_true(http_url_is_secret("HTTPS://a") && !http_url_is_secret("http://https://"));
	assert_int_equal(http_get(http, "file:///etc/passwd", take, &got), 0);
	for (int i = 0; i < TURNS_MAX && got.calls == 0; i++)
		http_turn(http, USEC_PER_SEC);
	assert_int_equal(got.status, 0);
	assert_true(*got.error);
	http_free(http);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(answers),
		cmocka_unit_test(proofs),
		cmocka_unit_test(posts),
		cmocka_unit_test(no_answer),
		cmocka_unit_test(end_with_a_request_under_way),
		cmocka_unit_test(woken),
		cmocka_unit_test(no_other_schemes),
	};

	return cmocka_run_group_tests_name("http", tests, start, stop);
}
