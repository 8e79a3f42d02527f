/* What the two HTTP clients of services/ share. */
#ifndef SERVICES_HTTP_PRIV_H
#define SERVICES_HTTP_PRIV_H

#include "base/common.h"

#include <curl/curl.h>

/* In a function with `bool failed`. */
#define SET(easy, option, value) (failed |= curl_easy_setopt((easy), (option), (value)) != CURLE_OK)

/* Where a request may go, whom it believes, and the certificate that it shows. "": the system's authorities; none; with
 * the certificate. False: out of memory. */
bool http_set_trust(CURL *easy, const char *ca_path, const char *cert_path, const char *key_path) MUST_USE;

#endif
