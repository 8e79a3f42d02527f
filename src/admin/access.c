/*
 * Who may. A request is asked, in this order: does a browser send it on behalf of another site? Has it a token (then
 * that counts, and nothing else)? Does it come by the unix socket from root, or from the proxy's own user? Has its
 * connection a certificate that stands for a token? Does the API ask for tokens at all?
 */
#include "admin/admin_priv.h"

#include "base/log.h"

#include <unistd.h>

#define ROLE_RIGHT(role) ((enum access_right)(ACCESS_READ + (unsigned)(role)))

_Static_assert(ROLE_RIGHT(ADMIN_ROLE_READ) == ACCESS_READ && ROLE_RIGHT(ADMIN_ROLE_OPERATE) == ACCESS_OPERATE &&
		       ROLE_RIGHT(ADMIN_ROLE_ADMIN) == ACCESS_ADMIN,
	       "roles and rights are in the same order");

const char *access_name(enum access_right right)
{
	static const char *const names[] = {"open", "read", "operate", "admin"};

	return names[right];
}

bool request_changes(const struct request *request)
{
	return strcmp(request->method, "GET") != 0 && strcmp(request->method, "HEAD") != 0;
}

static void grant(struct request *request, enum access_right right, const char *token, const char *proof)
{
	request->right = right;
	request->proof = proof;
	snprintf(request->token, sizeof(request->token), "%s", token);
}

/* ---- browsers ---- */

/*
 * A page of another site that the operator's browser shows could send requests in the operator's name. Browsers say
 * where a request comes from, in one of these headers or both; nobody else sends them. What a form can send is no JSON.
 */
static bool is_foreign(const struct request *request, struct answer *answer)
{
	const char *site = request_header(request, "Sec-Fetch-Site"),
		   *origin = request_header(request, MHD_HTTP_HEADER_ORIGIN),
		   *type = request_header(request, MHD_HTTP_HEADER_CONTENT_TYPE);

	if (!origin_is_host(origin, request_header(request, MHD_HTTP_HEADER_HOST)) ||
	    (site && strcmp(site, "same-origin") != 0 && strcmp(site, "none") != 0)) {
		answer_error(answer, MHD_HTTP_FORBIDDEN, "requests from pages of other sites are refused");
		return true;
	}
	if ((site || origin) && request->body.len > 0 && !type_is_json(type)) {
		answer_error(answer, MHD_HTTP_UNSUPPORTED_MEDIA_TYPE, "a page must send application/json");
		return true;
	}
	return false;
}

/* A foreign name that was made to lead here makes a foreign page the same site, for the browser. */
static bool is_called_by_known_name(const struct request *request)
{
	const char *host = request_header(request, MHD_HTTP_HEADER_HOST);
	const struct config_strings *hosts = &request->admin->context.config->admin.hosts;

	if (!host || host_is_local(host)) /* a browser always says it */
		return true;
	for (uint32_t i = 0; i < hosts->count; i++)
		if (host_is(host, hosts->items[i]))
			return true;
	return false;
}

/* ---- proofs ---- */

enum verdict { GRANTED, NO_PROOF, WRONG_TOKEN, MUST_WAIT, CLOSED, STRANGE_HOST };

struct finding {
	enum verdict verdict;
	usec_t wait;      /* MUST_WAIT */
	uint32_t strikes; /* WRONG_TOKEN: how many there were */
};

static struct finding check_token(struct request *request, const char *token)
{
	struct admin *admin = request->admin;
	const struct config_admin_token *found;
	const struct source *source = &request->client->source;
	struct finding f = {.verdict = MUST_WAIT};
	usec_t now = clock_update();

	f.wait = strikes_wait(&admin->strikes, source, now);
	if (f.wait)
		return f;
	found = config_admin_token_find(admin->context.config, token);
	if (found) {
		grant(request, ROLE_RIGHT(found->role), found->name, "token");
		f.verdict = GRANTED;
		return f;
	}
	strikes_add(&admin->strikes, source, now, &f.strikes);
	f.verdict = WRONG_TOKEN;
	return f;
}

static bool has_certificate(struct request *request, const char *name)
{
	const struct config_admin_token *found = config_admin_certificate_find(request->admin->context.config, name);

	if (found)
		grant(request, ROLE_RIGHT(found->role), found->name, "certificate");
	return found != NULL;
}

static enum verdict check_place(struct request *request)
{
	const struct config *c = request->admin->context.config;

	if (config_admin_asks_for_tokens(c))
		return NO_PROOF;
	if (request->client->source.family == AF_UNIX || (request->is_exposed && !c->proxy.admin_allow_insecure))
		return CLOSED;
	if (!request->is_exposed && !is_called_by_known_name(request))
		return STRANGE_HOST;
	grant(request, ACCESS_ADMIN, "", "none");
	return GRANTED;
}

/* Under the lock. certificate: its name; NULL: none. */
static struct finding find_out(struct request *request, const char *certificate)
{
	const struct client *client = request->client;
	const char *token = bearer_token(request_header(request, MHD_HTTP_HEADER_AUTHORIZATION));
	struct finding f = {.verdict = GRANTED};

	if (token && config_admin_asks_for_tokens(request->admin->context.config))
		return check_token(request, token);
	if (client->has_uid && (client->uid == 0 || client->uid == geteuid()))
		grant(request, ACCESS_ADMIN, "", "unix socket");
	else if (!certificate || !has_certificate(request, certificate))
		f.verdict = check_place(request);
	return f;
}

/* ---- answers ---- */

static void refuse_token(struct request *request, const struct finding *f, struct answer *answer)
{
	char client[80];

	request_client(request, client, sizeof(client));
	atomic_fetch_add(&request->admin->counts.tokens_refused, 1);
	log_warn("wrong token for the admin API", kv_str("admin_client", client), kv_uint("of_late", f->strikes));
	answer_error(answer, MHD_HTTP_UNAUTHORIZED, "missing or invalid admin bearer token");
}

static void refuse(struct request *request, const struct finding *f, struct answer *answer)
{
	switch (f->verdict) {
	case GRANTED:
		return;
	case NO_PROOF:
		answer_error(answer, MHD_HTTP_UNAUTHORIZED, "missing or invalid admin bearer token");
		return;
	case WRONG_TOKEN:
		refuse_token(request, f, answer);
		return;
	case MUST_WAIT:
		atomic_fetch_add(&request->admin->counts.tokens_delayed, 1);
		answer->retry_after = (unsigned)((f->wait + USEC_PER_SEC - 1) / USEC_PER_SEC);
		answer_error(answer, MHD_HTTP_TOO_MANY_REQUESTS,
			     "too many wrong tokens from this address: the next one is looked at in %u s",
			     answer->retry_after);
		return;
	case CLOSED:
		answer_error(answer, MHD_HTTP_FORBIDDEN,
			     request->is_exposed
				     ? "closed: other machines can reach this address and there is no admin_token"
				     : "closed to other users of this machine: there is no admin_token");
		return;
	case STRANGE_HOST:
		answer_error(
			answer, MHD_HTTP_FORBIDDEN,
			"without a token the API is called by an IP address, localhost, or a name in [admin] hosts");
		return;
	}
}

bool access_check(struct request *request, enum access_right needed, struct answer *answer)
{
	const union MHD_ConnectionInfo *info =
		MHD_get_connection_info(request->connection, MHD_CONNECTION_INFO_GNUTLS_SESSION);
	char name[TLS_NAME_MAX + 1];
	bool has_name;
	struct finding f;

	request->proof = "none";
	if (needed == ACCESS_OPEN)
		return true;
	if (request_changes(request) && is_foreign(request, answer))
		return false;
	has_name = request->client->tls && info && info->tls_session && admin_tls_client_name(info->tls_session, name);
	pthread_mutex_lock(&request->admin->lock);
	f = find_out(request, has_name ? name : NULL);
	pthread_mutex_unlock(&request->admin->lock);
	refuse(request, &f, answer);
	if (f.verdict == GRANTED && request->right < needed) {
		answer_error(answer, MHD_HTTP_FORBIDDEN, "this needs the role %s; %s has %s", access_name(needed),
			     request->token, access_name(request->right));
		f.verdict = NO_PROOF;
	}
	return f.verdict == GRANTED;
}
