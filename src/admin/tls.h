/*
 * TLS of the admin API. libmicrohttpd brings GnuTLS, whose keys belong to its daemon for good; so each connection is
 * given ours when it begins: a reload takes effect for new connections and disturbs none. Sessions are
 * gnutls_session_t, which the library hands out as void *.
 */
#ifndef ADMIN_TLS_H
#define ADMIN_TLS_H

#include "config/config.h"

#define TLS_PRIORITIES "NORMAL:-VERS-ALL:+VERS-TLS1.3:+VERS-TLS1.2"
#define TLS_NAME_MAX   64u /* of RFC 5280's common names */

struct admin_tls;

/* For MHD_OPTION_HTTPS_CERT_CALLBACK: the library wants a key, or somebody who would have one. It is never called. */
void *admin_tls_no_key(void);

/* *ret: NULL when the configuration asks for none. false: why. */
bool admin_tls_new(const struct config_admin *settings, struct admin_tls **ret, char *why, size_t size) MUST_USE;
struct admin_tls *admin_tls_ref(struct admin_tls *tls); /* NULL is fine, as below */
void admin_tls_unref(struct admin_tls *tls);
/* Before the handshake. The session uses what is in there until its end. */
void admin_tls_use(struct admin_tls *tls, void *session);
/* The common name of the client's certificate, which was verified in the handshake. false: it has none (or not one). */
bool admin_tls_client_name(void *session, char name[TLS_NAME_MAX + 1]);

#endif
