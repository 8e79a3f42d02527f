/* TLS on connections. */
#include "loop/tls_test_util.h"

#include <pthread.h>

static void both_sides_shake_hands(void **state UNUSED)
{
	uint8_t ours[64], theirs[64];

	start_and_wait("db.test");
	assert_true(conn_is_tls(&client.conn));
	assert_string_equal(conn_tls_version(&server.conn), "TLSv1.3");
	assert_string_equal(conn_tls_cipher(&client.conn), conn_tls_cipher(&server.conn));
	assert_true(conn_tls_has_alpn(&client.conn));
	assert_true(conn_tls_has_alpn(&server.conn));
	assert_int_equal(conn_tls_end_point(&server.conn, ours, sizeof(ours)), 32);
	assert_int_equal(conn_tls_end_point(&client.conn, theirs, sizeof(theirs)), 32);
	assert_memory_equal(ours, theirs, 32);
	assert_memory_equal(ours, server_digest, 32);
	assert_int_equal(conn_tls_end_point(&server.conn, ours, 32), 0);
	talk();
	conn_close(&client.conn);
	run_until(loop, server.closed);
	assert_int_equal(server.error, 0);
}

static void words_of_the_handshake_wait(void **state UNUSED)
{
	start("db.test", "", "");
	conn_send(&client.conn, "startup", 7);
	run_until(loop, probe_got(&server, "startup"));
	assert_false(conn_tls_has_alpn(&server.conn));
}

static void alpn_must_be_ours_when_there_is_one(void **state UNUSED)
{
	start("db.test", ALPN, "\x08http/1.1");
	run_until(loop, client.closed && server.closed);
	assert_int_equal(client.error, -EPROTO);
	assert_int_equal(server.error, -EPROTO);
	assert_non_null(strstr(client.tls_error, "no application protocol"));
	assert_int_equal(client.ready + server.ready, 0);
	start("db.test", ALPN, ""); /* none offered: fine */
	run_until(loop, client.ready && server.ready);
	assert_false(conn_tls_has_alpn(&server.conn));
	conn_close(&client.conn);
	conn_close(&server.conn);
	start("db.test", ALPN, "\x08http/1.1" ALPN); /* ours is among them */
	run_until(loop, client.ready && server.ready);
	assert_true(conn_tls_has_alpn(&server.conn));
}

static void hosts_are_verified(void **state UNUSED)
{
	static const struct {
		const char *host;
		enum tls_mode mode;
		bool passes;
	} cases[] = {
		{"db.test", TLS_VERIFY_FULL, true},
		{"127.0.0.1", TLS_VERIFY_FULL, true},
		{"other.test", TLS_VERIFY_FULL, false},
		{"127.0.0.2", TLS_VERIFY_FULL, false},
		{"localhost", TLS_VERIFY_FULL, false},
		{"other.test", TLS_VERIFY_CA, true},
		{NULL, TLS_VERIFY_CA, true},
		{"other.test", TLS_REQUIRE, true},
	};

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		client_settings.ca_path = ca_path;
		client_settings.mode = cases[i].mode;
		start(cases[i].host, "", "");
		run_until(loop, (client.ready && server.ready) || (client.closed && server.closed));
		assert_int_equal(client.ready, cases[i].passes);
		if (!cases[i].passes) {
			assert_int_equal(client.error, -EPROTO);
			assert_non_null(strstr(client.tls_error, "certificate verify failed: "));
		}
		end(NULL);
		begin(NULL);
	}
}

static void an_unknown_ca_is_refused(void **state UNUSED)
{
	client_settings.ca_path = client_cert_path; /* not the issuer */
	client_settings.mode = TLS_VERIFY_CA;
	start("db.test", "", "");
	run_until(loop, client.closed && server.closed);
	assert_int_equal(client.error, -EPROTO);
	assert_string_not_equal(server.tls_error, "");
}

static void a_name_is_needed_to_verify_it(void **state UNUSED)
{
	int fds[2];

	client_settings.ca_path = ca_path;
	client_settings.mode = TLS_VERIFY_FULL;
	make_contexts();
	socket_pair(fds);
	assert_int_equal(conn_open(&client.conn, loop, fds[0]), 0);
	assert_int_equal(conn_start_tls(&client.conn, client_context, false, NULL, alpn_of("")), -EINVAL);
	assert_false(conn_is_tls(&client.conn));
	close(fds[1]);
}

static void clients_show_certificates(void **state UNUSED)
{
	char name[64];

	client_settings.cert_path = client_cert_path;
	client_settings.key_path = client_key_path;
	server_settings.ca_path = ca_path;
	server_settings.require_client_cert = true;
	start_and_wait("db.test");
	assert_int_equal(conn_tls_peer_cn(&server.conn, name, sizeof(name)), 5);
	assert_string_equal(name, "alice");
	assert_true(conn_tls_peer_dn(&server.conn, name, sizeof(name)) > 0);
	assert_string_equal(name, "CN=alice,O=Helios");
	assert_int_equal(conn_tls_peer_cn(&server.conn, name, 5), 0);
	/* What wasn't verified has no name. */
	assert_int_equal(conn_tls_peer_cn(&client.conn, name, sizeof(name)), 0);
}

static void a_missing_client_certificate_is_refused(void **state UNUSED)
{
	char name[64];

	server_settings.ca_path = ca_path;
	server_settings.require_client_cert = true;
	start("db.test", "", "");
	run_until(loop, server.closed);
	assert_int_equal(server.error, -EPROTO);
	assert_non_null(strstr(server.tls_error, "certificate"));
	end(NULL);
	begin(NULL);
	server_settings.ca_path = ca_path;
	server_settings.request_client_cert = true;
	start_and_wait("db.test");
	assert_int_equal(conn_tls_peer_cn(&server.conn, name, sizeof(name)), 0);
}

static void sessions_are_resumed(void **state UNUSED)
{
	static const char *const versions[] = {"TLSv1.3", "TLSv1.2"};

	for (size_t i = 0; i < ARRAY_SIZE(versions); i++) {
		uint8_t digest[64];

		server_settings.min_version = versions[i];
		make_contexts();
		if (i == 1)
			SSL_CTX_set_max_proto_version(tls_context_ssl(server_context), TLS1_2_VERSION);
		start_and_wait("db.test");
		talk(); /* the ticket of TLS 1.3 comes with the first answer */
		assert_string_equal(conn_tls_version(&client.conn), versions[i]);
		assert_false(conn_tls_resumed(&client.conn));
		conn_close(&client.conn);
		run_until(loop, server.closed);
		start_and_wait("db.test");
		assert_true(conn_tls_resumed(&client.conn));
		assert_true(conn_tls_resumed(&server.conn));
		assert_int_equal(conn_tls_end_point(&client.conn, digest, sizeof(digest)), 32);
		assert_memory_equal(digest, server_digest, 32);
		talk();
		conn_close(&client.conn);
		run_until(loop, server.closed);
		start_and_wait("another.test");
		assert_false(conn_tls_resumed(&client.conn));
		end(NULL);
		begin(NULL);
	}
}

static void resume_source(struct probe *p)
{
	conn_resume(p->argument);
}

static void stop_and_go(struct probe *p, int *at)
{
	/* Now and then the reader is slow, and so the writer's socket full. */
	if (++*at % 8 == 0)
		conn_resume(&p->conn);
	else
		conn_pause(&p->conn);
}

static void a_large_stream_in_odd_pieces(void **state UNUSED)
{
	enum { TOTAL = 6 << 20 };
	uint8_t *bytes = pattern(TOTAL);
	size_t sent = 0;
	int at = 0;

	start_and_wait("db.test");
	for (size_t step = 1; sent < TOTAL; step = step * 7 % 400009) {
		size_t len = MIN(step, TOTAL - sent);

		if (conn_queued(&client.conn) < (1 << 20)) {
			if (len > 4) { /* in several pieces, to be put together */
				conn_send_ref(&client.conn, bytes + sent, 1);
				conn_send(&client.conn, bytes + sent + 1, 2);
				conn_send_ref(&client.conn, bytes + sent + 3, len - 3);
			} else {
				conn_send(&client.conn, bytes + sent, len);
			}
			sent += len;
		}
		stop_and_go(&server, &at);
		loop_run_turn(loop, 0);
	}
	conn_resume(&server.conn);
	run_until(loop, server.got.len == TOTAL);
	assert_memory_equal(server.got.bytes, bytes, TOTAL);
	assert_null(client.conn.out);
	free(bytes);
}

static void partial_frames_over_tls(void **state UNUSED)
{
	uint8_t *bytes = pattern(100000);

	start_and_wait("db.test");
	server.unit = 50000; /* three records and a bit */
	conn_send_ref(&client.conn, bytes, 100000);
	run_until(loop, server.got.len == 100000);
	assert_memory_equal(server.got.bytes, bytes, 100000);
	assert_null(server.conn.kept);
	free(bytes);
}

static void pause_now(struct probe *p)
{
	conn_pause(&p->conn);
}

/* What OpenSSL holds is shown after a resume, though no event tells of it; so is the end. */
static void bytes_within_openssl_are_not_forgotten(void **state UNUSED)
{
	uint8_t *bytes = pattern(200000);

	start_and_wait("db.test");
	server.on_received = pause_now;
	conn_send_ref(&client.conn, bytes, 200000);
	loop_run_turn(loop, 0);
	conn_finish(&client.conn, USEC_PER_SEC);
	for (int i = 0; i < 1000 && server.got.len < 200000; i++) {
		settle(loop);
		assert_int_equal(server.closed, 0);
		conn_resume(&server.conn);
	}
	run_until(loop, server.closed || (conn_resume(&server.conn), false));
	assert_int_equal(server.got.len, 200000);
	assert_memory_equal(server.got.bytes, bytes, 200000);
	assert_int_equal(server.error, 0);
	free(bytes);
}

static void forwarding_from_tls_to_tls(void **state UNUSED)
{
	enum { TOTAL = 4 << 20 };
	struct probe second, reader;
	uint8_t *bytes = pattern(TOTAL);
	size_t sent = 0;
	int fds[2];

	start_and_wait("db.test");
	probe_init(&second);
	probe_init(&reader);
	socket_pair(fds);
	assert_int_equal(conn_open(&second.conn, loop, fds[0]), 0);
	assert_int_equal(conn_open(&reader.conn, loop, fds[1]), 0);
	assert_int_equal(conn_start_tls(&second.conn, server_context, true, NULL, alpn_of("")), 0);
	assert_int_equal(conn_start_tls(&reader.conn, client_context, false, NULL, alpn_of("")), 0);
	run_until(loop, second.ready && reader.ready);
	server.to = &second.conn;
	server.unit = 11;
	second.on_drained = resume_source;
	second.argument = &server.conn;
	for (int i = 0; reader.got.len < TOTAL / 11 * 11 && i < 100000; i++) {
		if (sent < TOTAL && conn_queued(&client.conn) < 300000) {
			size_t len = MIN((size_t)100000, TOTAL - sent);

			conn_send_ref(&client.conn, bytes + sent, len);
			sent += len;
		}
		if (i % 4)
			conn_pause(&reader.conn);
		else
			conn_resume(&reader.conn);
		loop_run_turn(loop, 0);
	}
	conn_resume(&reader.conn);
	run_until(loop, reader.got.len == TOTAL / 11 * 11);
	assert_memory_equal(reader.got.bytes, bytes, reader.got.len);
	assert_true(second.drained > 0);
	free(bytes);
	probe_end(&second);
	probe_end(&reader);
}

/* ---- what comes before ---- */

static size_t answer_ssl_request(struct conn *conn, uint8_t *bytes UNUSED, size_t len)
{
	assert_true(len >= 8);
	conn_send_ref(conn, "S", 1);
	assert_int_equal(conn_start_tls(conn, server_context, true, NULL, alpn_of("")), 0);
	return 8;
}

static const struct conn_ops asks_for_tls = {
	.received = answer_ssl_request, .closed = probe_closed, .ready = probe_ready};

static void the_s_is_written_in_plain(void **state UNUSED)
{
	int fds[2];

	make_contexts();
	socket_pair(fds);
	assert_int_equal(conn_open(&client.conn, loop, fds[0]), 0);
	assert_int_equal(conn_open(&server.conn, loop, fds[1]), 0);
	server.conn.ops = &asks_for_tls;
	conn_send_ref(&client.conn, "12345678", 8);
	run_until(loop, probe_got(&client, "S"));
	assert_int_equal(conn_start_tls(&client.conn, client_context, false, "db.test", alpn_of("")), 0);
	run_until(loop, client.ready && server.ready);
	server.conn.ops = &probe_ops;
	talk();
}

static void bytes_ahead_of_the_handshake_are_refused(void **state UNUSED)
{
	int fds[2];

	make_contexts();
	socket_pair(fds);
	assert_int_equal(conn_open(&client.conn, loop, fds[0]), 0);
	assert_int_equal(conn_open(&server.conn, loop, fds[1]), 0);
	server.conn.ops = &asks_for_tls;
	conn_send_ref(&client.conn, "12345678injected", 16);
	run_until(loop, server.closed);
	assert_int_equal(server.error, -EPROTO);
	assert_string_equal(server.tls_error, "bytes were sent ahead of the TLS handshake");
}

static void garbage_is_no_handshake(void **state UNUSED)
{
	int fds[2];

	make_contexts();
	socket_pair(fds);
	assert_int_equal(conn_open(&client.conn, loop, fds[0]), 0);
	assert_int_equal(conn_open(&server.conn, loop, fds[1]), 0);
	assert_int_equal(conn_start_tls(&server.conn, server_context, true, NULL, alpn_of("")), 0);
	conn_send_ref(&client.conn, "GET / HTTP/1.0\r\n\r\n", 18);
	run_until(loop, server.closed);
	assert_int_equal(server.error, -EPROTO);
	assert_string_not_equal(server.tls_error, "");
}

static void closing_during_the_handshake(void **state UNUSED)
{
	start("db.test", "", "");
	conn_close(&client.conn);
	run_until(loop, server.closed);
	assert_int_equal(server.error, -EPROTO);
	assert_non_null(strstr(server.tls_error, "closed during"));
}

/* ---- settings ---- */

static void settings_are_checked(void **state UNUSED)
{
	const struct {
		bool server;
		struct tls_settings settings;
		const char *why; /* a part of it; NULL: they are fine */
	} cases[] = {
		{true, {.cert_path = cert_path, .key_path = key_path, .min_version = "TLSv1.3"}, NULL},
		{true, {.cert_path = cert_path, .key_path = key_path, .ktls = true}, NULL},
		{true, {.cert_path = cert_path}, "one is missing"},
		{true, {.min_version = ""}, "are needed"},
		{true, {.cert_path = "/nonexistent", .key_path = key_path}, "No such file"},
		{true, {.cert_path = cert_path, .key_path = client_key_path}, "key"},
		{true, {.cert_path = cert_path, .key_path = key_path, .min_version = "TLSv1.9"}, "TLSv1.9"},
		{true, {.cert_path = cert_path, .key_path = key_path, .ciphers = "NONSENSE"}, "NONSENSE"},
		{true, {.cert_path = cert_path, .key_path = key_path, .ciphersuites = "NONSENSE"}, "NONSENSE"},
		{true, {.cert_path = cert_path, .key_path = key_path, .require_client_cert = true}, "CA"},
		{true, {.cert_path = cert_path, .key_path = key_path, .ca_path = key_path}, "CA"},
		{false, {.mode = TLS_REQUIRE}, NULL},
		{false, {.mode = TLS_VERIFY_CA}, "CA"},
		{false, {.mode = TLS_VERIFY_FULL, .ca_path = "system"}, NULL},
		{false, {.mode = TLS_REQUIRE, .key_path = client_key_path}, "one is missing"},
	};

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		char why[256] = "";
		struct tls_context *context = cases[i].server
						      ? tls_server_context_new(&cases[i].settings, why, sizeof(why))
						      : tls_client_context_new(&cases[i].settings, why, sizeof(why));

		if (cases[i].why) {
			assert_null(context);
			if (!strstr(why, cases[i].why))
				fail_msg("case %zu says: %s", i, why);
		} else {
			assert_string_equal(why, "");
			assert_non_null(context);
		}
		tls_context_unref(tls_context_ref(context));
		tls_context_unref(context);
	}
}

/* A digest of SHA-1 becomes SHA-256 (RFC 5929): checked on a certificate that OpenSSL wouldn't serve by itself. */
static void sha1_binds_as_sha256(void **state UNUSED)
{
	struct tls_context *context = NULL;
	unsigned int len = 0;
	uint8_t expected[32], got[64];
	FILE *file = fopen(sha1_cert_path, "r");
	X509 *old = PEM_read_X509(file, NULL, NULL, NULL);
	int nid = 0;

	fclose(file);
	assert_int_equal(X509_get_signature_info(old, &nid, NULL, NULL, NULL), 1);
	assert_int_equal(nid, NID_sha1);
	X509_digest(old, EVP_sha256(), expected, &len);
	make_contexts();
	context = server_context;
	SSL_CTX_set_security_level(tls_context_ssl(context), 0);
	SSL_CTX_set_security_level(tls_context_ssl(client_context), 0);
	assert_int_equal(SSL_CTX_use_certificate(tls_context_ssl(context), old), 1);
	X509_free(old);
	{
		struct conn_tls tls = {.ssl = SSL_new(tls_context_ssl(context)), .accepting = true};
		struct conn conn = {.tls = &tls};

		assert_int_equal(conn_tls_end_point(&conn, got, sizeof(got)), 32);
		assert_memory_equal(got, expected, 32);
		SSL_free(tls.ssl);
	}
}

/* ---- kernel TLS: works with it or without ---- */

static void with_kernel_tls_asked_for(void **state UNUSED)
{
	server_settings.ktls = client_settings.ktls = true;
	start_and_wait("db.test");
	talk();
}

/* ---- from thread to thread ---- */

struct move {
	struct loop_message message;
	struct loop *loop;
	struct probe *probe;
	int result;
};

static void attach_here(struct loop_message *message, void *thread UNUSED)
{
	struct move *move = container_of(message, struct move, message);

	move->result = conn_attach(&move->probe->conn, move->loop);
}

static void echo_and_stop(struct probe *p)
{
	if (probe_got(p, "over there?")) {
		conn_send(&p->conn, "yes", 3);
		loop_stop(p->conn.loop);
	}
}

static void *run_loop(void *argument)
{
	loop_run(argument);
	loop_run_turn(argument, 0);
	return NULL;
}

static void moving_to_another_thread(void **state UNUSED)
{
	struct loop *second = new_loop();
	struct move move = {.message.run = attach_here, .loop = second, .probe = &server};
	pthread_t thread;

	start_and_wait("db.test");
	talk();
	conn_send(&server.conn, "x", 1);
	assert_int_equal(conn_detach(&server.conn), -EBUSY);
	run_until(loop, conn_detach(&server.conn) == 0);
	buf_clear(&server.got);
	buf_clear(&client.got);
	server.on_received = echo_and_stop;
	assert_int_equal(pthread_create(&thread, NULL, run_loop, second), 0);
	loop_post(second, &move.message);
	conn_send(&client.conn, "over there?", 11);
	loop_run_turn(loop, 0);
	pthread_join(thread, NULL);
	assert_int_equal(move.result, 0);
	run_until(loop, probe_got(&client, "yes") || probe_got(&client, "xyes"));
	conn_close(&server.conn);
	loop_free(second);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		TEST(both_sides_shake_hands),
		TEST(words_of_the_handshake_wait),
		TEST(alpn_must_be_ours_when_there_is_one),
		TEST(hosts_are_verified),
		TEST(an_unknown_ca_is_refused),
		TEST(a_name_is_needed_to_verify_it),
		TEST(clients_show_certificates),
		TEST(a_missing_client_certificate_is_refused),
		TEST(sessions_are_resumed),
		TEST(a_large_stream_in_odd_pieces),
		TEST(partial_frames_over_tls),
		TEST(bytes_within_openssl_are_not_forgotten),
		TEST(forwarding_from_tls_to_tls),
		TEST(the_s_is_written_in_plain),
		TEST(bytes_ahead_of_the_handshake_are_refused),
		TEST(garbage_is_no_handshake),
		TEST(closing_during_the_handshake),
		TEST(settings_are_checked),
		TEST(sha1_binds_as_sha256),
		TEST(with_kernel_tls_asked_for),
		TEST(moving_to_another_thread),
	};

	choose_backend(argc, argv);
	return cmocka_run_group_tests(tests, make_certificates, remove_certificates);
}
