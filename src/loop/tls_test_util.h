/* For the tests of TLS: certificates made here (a CA, a server's and a client's), and two ends of a connection. */
#ifndef LOOP_TLS_TEST_UTIL_H
#define LOOP_TLS_TEST_UTIL_H

#include "loop/loop_test_util.h"
#include "loop/tls_priv.h"

#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>

#define ALPN "\x0apostgresql"

static char dir[] = "/tmp/tls_test_XXXXXX";
static char ca_path[64], cert_path[64], key_path[64], client_cert_path[64], client_key_path[64], sha1_cert_path[64];
static uint8_t server_digest[32];
static struct loop *loop;

/* ---- certificates ---- */

struct identity {
	X509 *certificate;
	EVP_PKEY *key;
};

static inline void add_extension(X509 *certificate, int nid, const char *value)
{
	X509_EXTENSION *extension = X509V3_EXT_conf_nid(NULL, NULL, nid, value);

	assert_non_null(extension);
	X509_add_ext(certificate, extension, -1);
	X509_EXTENSION_free(extension);
}

static inline struct identity make_identity(const char *cn, const char *san, const struct identity *issuer,
					    const EVP_MD *md)
{
	struct identity id = {.certificate = X509_new(), .key = EVP_EC_gen("P-256")};
	X509_NAME *name = X509_get_subject_name(id.certificate);
	static long serial = 1;

	X509_set_version(id.certificate, X509_VERSION_3);
	ASN1_INTEGER_set(X509_get_serialNumber(id.certificate), serial++);
	X509_gmtime_adj(X509_getm_notBefore(id.certificate), -3600);
	X509_gmtime_adj(X509_getm_notAfter(id.certificate), 86400);
	X509_NAME_add_entry_by_txt(name, "O", MBSTRING_UTF8, (const uint8_t *)"Helios", -1, -1, 0);
	X509_NAME_add_entry_by_txt(name, "CN", MBSTRING_UTF8, (const uint8_t *)cn, -1, -1, 0);
	X509_set_issuer_name(id.certificate, X509_get_subject_name(issuer ? issuer->certificate : id.certificate));
	X509_set_pubkey(id.certificate, id.key);
	if (!issuer)
		add_extension(id.certificate, NID_basic_constraints, "critical,CA:TRUE");
	if (san)
		add_extension(id.certificate, NID_subject_alt_name, san);
	assert_true(X509_sign(id.certificate, issuer ? issuer->key : id.key, md) > 0);
	return id;
}

static inline void save(const struct identity *id, char *certificate_to, char *key_to, const char *name)
{
	FILE *file;

	snprintf(certificate_to, 64, "%s/%s.crt", dir, name);
	file = fopen(certificate_to, "w");
	assert_int_equal(PEM_write_X509(file, id->certificate), 1);
	fclose(file);
	if (!key_to)
		return;
	snprintf(key_to, 64, "%s/%s.key", dir, name);
	file = fopen(key_to, "w");
	assert_int_equal(PEM_write_PrivateKey(file, id->key, NULL, NULL, 0, NULL, NULL), 1);
	fclose(file);
}

static inline void identity_free(struct identity *id)
{
	X509_free(id->certificate);
	EVP_PKEY_free(id->key);
}

static inline int make_certificates(void **state UNUSED)
{
	struct identity ca, server, client, old;
	unsigned int len;

	if (!mkdtemp(dir))
		return -1;
	ca = make_identity("Test CA", NULL, NULL, EVP_sha256());
	server = make_identity("localhost", "DNS:db.test,IP:127.0.0.1", &ca, EVP_sha256());
	client = make_identity("alice", NULL, &ca, EVP_sha256());
	old = make_identity("old", NULL, &ca, EVP_sha1());
	X509_digest(server.certificate, EVP_sha256(), server_digest, &len);
	save(&ca, ca_path, NULL, "ca");
	save(&server, cert_path, key_path, "server");
	save(&client, client_cert_path, client_key_path, "client");
	save(&old, sha1_cert_path, NULL, "old");
	identity_free(&ca);
	identity_free(&server);
	identity_free(&client);
	identity_free(&old);
	return 0;
}

static inline int remove_certificates(void **state UNUSED)
{
	const char *paths[] = {ca_path, cert_path, key_path, client_cert_path, client_key_path, sha1_cert_path};

	for (size_t i = 0; i < ARRAY_SIZE(paths); i++)
		unlink(paths[i]);
	return rmdir(dir);
}

/* ---- two ends ---- */

static struct probe client, server;
static struct tls_context *client_context, *server_context;
static struct tls_settings client_settings, server_settings;

static inline int begin(void **state UNUSED)
{
	loop = new_loop();
	client_settings = (struct tls_settings){.mode = TLS_REQUIRE};
	server_settings = (struct tls_settings){.cert_path = cert_path, .key_path = key_path};
	client_context = server_context = NULL;
	probe_init(&client);
	probe_init(&server);
	return 0;
}

static inline int end(void **state UNUSED)
{
	probe_end(&client);
	probe_end(&server);
	tls_context_unref(client_context);
	tls_context_unref(server_context);
	loop_free(loop);
	return 0;
}

static inline void make_contexts(void)
{
	char why[256] = "";

	server_context = tls_server_context_new(&server_settings, why, sizeof(why));
	assert_string_equal(why, "");
	client_context = tls_client_context_new(&client_settings, why, sizeof(why));
	assert_string_equal(why, "");
}

static inline struct slice alpn_of(const char *wire)
{
	return slice_str(wire);
}

/* Opens both ends and begins the handshake. */
static inline void start(const char *host, const char *server_alpn, const char *client_alpn)
{
	int fds[2];

	if (!server_context)
		make_contexts();
	socket_pair(fds);
	assert_int_equal(conn_open(&client.conn, loop, fds[0]), 0);
	assert_int_equal(conn_open(&server.conn, loop, fds[1]), 0);
	client.ready = server.ready = client.closed = server.closed = 0;
	assert_int_equal(conn_start_tls(&server.conn, server_context, true, NULL, alpn_of(server_alpn)), 0);
	assert_int_equal(conn_start_tls(&client.conn, client_context, false, host, alpn_of(client_alpn)), 0);
	assert_int_equal(client.ready + server.ready, 0);
}

static inline void start_and_wait(const char *host)
{
	start(host, ALPN, ALPN);
	run_until(loop, (client.ready && server.ready) || client.closed || server.closed);
	assert_string_equal(client.tls_error, "");
	assert_string_equal(server.tls_error, "");
	assert_int_equal(client.ready + server.ready, 2);
}

static inline void talk(void)
{
	buf_clear(&client.got);
	buf_clear(&server.got);
	conn_send(&client.conn, "question", 8);
	run_until(loop, probe_got(&server, "question"));
	conn_send(&server.conn, "answer", 6);
	run_until(loop, probe_got(&client, "answer"));
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, begin, end)

#endif
