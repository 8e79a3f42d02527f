/* See tls.h. */
#include "admin/tls.h"

#include <gnutls/abstract.h>
#include <gnutls/x509.h>
#include <stdatomic.h>

struct admin_tls {
	_Atomic uint32_t refs;
	gnutls_certificate_credentials_t credentials;
	gnutls_certificate_request_t request; /* of a client's certificate */
};

static int no_key(gnutls_session_t session, const gnutls_datum_t *names, int name_count,
		  const gnutls_pk_algorithm_t *algorithms, int algorithm_count, gnutls_pcert_st **certificates,
		  unsigned *count, gnutls_privkey_t *key)
{
	return -1;
}

void *admin_tls_no_key(void)
{
	return (void *)(uintptr_t)no_key;
}

static bool failed(const char *what, const char *path, int r, char *why, size_t size)
{
	snprintf(why, size, "[admin] %s %s: %s", what, path, gnutls_strerror(r));
	return false;
}

static bool load(struct admin_tls *tls, const struct config_admin *s, char *why, size_t size)
{
	int r = gnutls_certificate_allocate_credentials(&tls->credentials);

	if (r < 0)
		return failed("tls_cert_path", s->tls_cert_path, r, why, size);
	r = gnutls_certificate_set_x509_key_file(tls->credentials, s->tls_cert_path, s->tls_key_path,
						 GNUTLS_X509_FMT_PEM);
	if (r < 0)
		return failed("tls_cert_path, tls_key_path", s->tls_cert_path, r, why, size);
	tls->request = GNUTLS_CERT_IGNORE;
	if (!s->tls_ca_path[0])
		return true;
	tls->request = s->tls_require_client_cert ? GNUTLS_CERT_REQUIRE : GNUTLS_CERT_REQUEST;
	r = gnutls_certificate_set_x509_trust_file(tls->credentials, s->tls_ca_path, GNUTLS_X509_FMT_PEM);
	if (r > 0)
		return true;
	return failed("tls_ca_path", s->tls_ca_path, r < 0 ? r : GNUTLS_E_NO_CERTIFICATE_FOUND, why, size);
}

bool admin_tls_new(const struct config_admin *settings, struct admin_tls **ret, char *why, size_t size)
{
	struct admin_tls *tls;

	*ret = NULL;
	if (!settings->tls_cert_path[0])
		return true;
	tls = calloc(1, sizeof(*tls));
	if (!tls) {
		snprintf(why, size, "out of memory");
		return false;
	}
	atomic_store(&tls->refs, 1);
	if (!load(tls, settings, why, size)) {
		admin_tls_unref(tls);
		return false;
	}
	*ret = tls;
	return true;
}

struct admin_tls *admin_tls_ref(struct admin_tls *tls)
{
	if (tls)
		atomic_fetch_add(&tls->refs, 1);
	return tls;
}

void admin_tls_unref(struct admin_tls *tls)
{
	if (!tls || atomic_fetch_sub(&tls->refs, 1) > 1)
		return;
	if (tls->credentials)
		gnutls_certificate_free_credentials(tls->credentials);
	free(tls);
}

/* 0: go on with the handshake. Who has no certificate and must have one does not get here. */
static int verify(gnutls_session_t session)
{
	char purpose[] = GNUTLS_KP_TLS_WWW_CLIENT;
	gnutls_typed_vdata_st data = {.type = GNUTLS_DT_KEY_PURPOSE_OID, .data = (unsigned char *)purpose};
	unsigned status = 0, count = 0;
	int r;

	if (!gnutls_certificate_get_peers(session, &count))
		return 0;
	r = gnutls_certificate_verify_peers(session, &data, 1, &status);
	return r < 0 || status != 0 ? GNUTLS_E_CERTIFICATE_ERROR : 0;
}

void admin_tls_use(struct admin_tls *tls, void *session)
{
	(void)gnutls_credentials_set(session, GNUTLS_CRD_CERTIFICATE, tls->credentials);
	gnutls_certificate_server_set_request(session, tls->request);
	if (tls->request != GNUTLS_CERT_IGNORE)
		gnutls_session_set_verify_function(session, verify);
}

/* Of two names it would be chance which one counts, and one with a NUL inside looks like another. */
static bool the_common_name(gnutls_x509_crt_t certificate, char name[TLS_NAME_MAX + 1])
{
	size_t len = TLS_NAME_MAX + 1, second_len = 0;

	return gnutls_x509_crt_get_dn_by_oid(certificate, GNUTLS_OID_X520_COMMON_NAME, 0, 0, name, &len) == 0 &&
	       len > 0 && strlen(name) == len &&
	       gnutls_x509_crt_get_dn_by_oid(certificate, GNUTLS_OID_X520_COMMON_NAME, 1, 0, NULL, &second_len) ==
		       GNUTLS_E_REQUESTED_DATA_NOT_AVAILABLE;
}

bool admin_tls_client_name(void *session, char name[TLS_NAME_MAX + 1])
{
	unsigned count = 0;
	const gnutls_datum_t *chain = gnutls_certificate_get_peers(session, &count);
	gnutls_x509_crt_t certificate;
	bool found;

	if (!chain || count == 0 || gnutls_x509_crt_init(&certificate) < 0)
		return false;
	found = gnutls_x509_crt_import(certificate, &chain[0], GNUTLS_X509_FMT_DER) == 0 &&
		the_common_name(certificate, name);
	gnutls_x509_crt_deinit(certificate);
	return found;
}
