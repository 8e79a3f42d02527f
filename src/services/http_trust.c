/* See http_priv.h. */
#include "services/http_priv.h"

bool http_set_trust(CURL *easy, const char *ca_path, const char *cert_path, const char *key_path)
{
	bool failed = false;

	SET(easy, CURLOPT_PROTOCOLS_STR, "http,https");
	SET(easy, CURLOPT_FOLLOWLOCATION, 0l);
	SET(easy, CURLOPT_PROXY, "");
	SET(easy, CURLOPT_SSL_VERIFYPEER, 1l);
	SET(easy, CURLOPT_SSL_VERIFYHOST, 2l);
	if (*ca_path) {
		SET(easy, CURLOPT_CAINFO, ca_path);
		SET(easy, CURLOPT_CAPATH, NULL); /* these, and not the system's as well */
	}
	if (*cert_path) {
		SET(easy, CURLOPT_SSLCERT, cert_path);
		SET(easy, CURLOPT_SSLKEY, *key_path ? key_path : cert_path);
	}
	return !failed;
}
