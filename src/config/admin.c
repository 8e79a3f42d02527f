/* What can only be said of the settings of the admin API as a whole; its tokens, wherever they are given. */
#include "config/load_priv.h"
#include "config/read_file.h"
#include "config/units.h"

#include <openssl/crypto.h>
#include <openssl/evp.h>

#define TOKEN_MIN       16u /* bytes; a shorter one is warned of */
#define TOKEN_MAX       1024u
#define TOKENS_MAX      100u
#define CERTIFICATE_MAX 64u /* ub-common-name of RFC 5280 */

#define error_at(l, line, ...) report_add((l)->report, REPORT_ERROR, (l)->file, (line), 0, __VA_ARGS__)
#define warn_at(l, line, ...)  report_add((l)->report, REPORT_WARNING, (l)->file, (line), 0, __VA_ARGS__)

static uint32_t line_of(const struct loader *l, const char *section, const char *name)
{
	usec_t unit;

	return l->origins[key_index(key_find(section, name, &unit))].line;
}

/* false: out of memory. */
static bool make_digest(const char *token, size_t len, uint8_t ret[TOKEN_DIGEST])
{
	size_t digest_len = 0;

	return EVP_Q_digest(NULL, "SHA256", NULL, token, len, ret, &digest_len) == 1 && digest_len == TOKEN_DIGEST;
}

/* ---- who is it ---- */

static bool digests_equal(const struct config_admin_token *t, const uint8_t digest[TOKEN_DIGEST])
{
	return t->has_token && CRYPTO_memcmp(t->digest, digest, TOKEN_DIGEST) == 0;
}

/* All of them are compared, whichever it is; and digests, so that the time tells nothing of a token's bytes. */
const struct config_admin_token *config_admin_token_find(const struct config *c, const char *token)
{
	const struct config_admin_token *found = NULL;
	uint8_t digest[TOKEN_DIGEST];

	if (!make_digest(token, strlen(token), digest))
		return NULL;
	for (uint32_t i = 0; i < c->admin_token_count; i++)
		if (digests_equal(&c->admin_tokens[i], digest))
			found = &c->admin_tokens[i];
	if (digests_equal(&c->admin_token, digest))
		found = &c->admin_token;
	return found;
}

const struct config_admin_token *config_admin_certificate_find(const struct config *c, const char *name)
{
	for (uint32_t i = 0; i < c->admin_token_count; i++)
		if (name[0] && strcmp(c->admin_tokens[i].certificate, name) == 0)
			return &c->admin_tokens[i];
	return NULL;
}

/* ---- one token ---- */

static bool is_printable(const char *text)
{
	for (; *text; text++)
		if (*text <= ' ' || *text > '~')
			return false;
	return true;
}

static bool read_hex(const char *text, uint8_t digest[TOKEN_DIGEST])
{
	if (strlen(text) != 2 * (size_t)TOKEN_DIGEST || strspn(text, "0123456789abcdefABCDEF") != strlen(text))
		return false;
	for (uint32_t i = 0; i < TOKEN_DIGEST; i++) {
		char pair[3] = {text[2 * i], text[2 * i + 1], 0};

		digest[i] = (uint8_t)strtoul(pair, NULL, 16);
	}
	return true;
}

/* what: where it is from. */
static void take_token(struct loader *l, struct config_admin_token *t, const char *token, const char *what)
{
	size_t len = strlen(token);

	if (strcmp(token, "***") == 0) {
		error_at(l, t->line, "[admin_tokens.%s] %s is what --print-config writes in the place of a secret",
			 t->name, what);
		return;
	}
	if (!len || len > TOKEN_MAX || !is_printable(token)) {
		error_at(l, t->line, "[admin_tokens.%s] %s must be 1 to %u characters of ASCII without blanks", t->name,
			 what, TOKEN_MAX);
		return;
	}
	if (len < TOKEN_MIN)
		warn_at(l, t->line, "[admin_tokens.%s] %s is short, and may be guessed: openssl rand -hex 32 makes one",
			t->name, what);
	t->has_token = make_digest(token, len, t->digest);
	l->no_memory |= !t->has_token;
}

static void read_token_file(struct loader *l, struct config_admin_token *t)
{
	struct buf text = BUF_INIT(TOKEN_MAX + 4);
	mode_t mode = 0;
	int r = read_regular_file(t->token_file, &text, &mode);
	char *token;

	if (r < 0) {
		error_at(l, t->line, "[admin_tokens.%s] token_file %s: %s", t->name, t->token_file,
			 r == -EFBIG ? "this is too long to be a token" : read_file_error(r));
	} else {
		if (mode & 07)
			warn_at(l, t->line, "[admin_tokens.%s] token_file %s can be read by everybody: chmod 600",
				t->name, t->token_file);
		buf_add_char(&text, 0);
		token = text.failed ? NULL : (char *)text.bytes;
		l->no_memory |= !token;
		if (token) {
			token[strcspn(token, "\r\n")] = 0;
			take_token(l, t, token, "token_file");
		}
	}
	buf_free_secret(&text);
}

static bool check_forms(struct loader *l, const struct config_admin_token *t)
{
	uint32_t forms = (t->token[0] != 0) + (t->token_file[0] != 0) + (t->token_sha256[0] != 0);

	if (!t->name[0] || strlen(t->name) > ADMIN_TOKEN_NAME_MAX || !is_printable(t->name))
		error_at(l, t->line, "[admin_tokens.%s] the name must be 1 to %u characters of ASCII without blanks",
			 t->name, ADMIN_TOKEN_NAME_MAX);
	else if (forms > 1)
		error_at(l, t->line, "[admin_tokens.%s] give one of token, token_file and token_sha256", t->name);
	else if (forms == 0 && !t->certificate[0])
		error_at(l, t->line, "[admin_tokens.%s] needs token, token_file, token_sha256 or certificate", t->name);
	else if (strlen(t->certificate) > CERTIFICATE_MAX)
		error_at(l, t->line, "[admin_tokens.%s] certificate is longer than a common name can be", t->name);
	else if (t->certificate[0] && !l->config->admin.tls_ca_path[0])
		error_at(l, t->line, "[admin_tokens.%s] certificate needs [admin] tls_ca_path, who signs them",
			 t->name);
	else
		return true;
	return false;
}

static void finish_token(struct loader *l, struct config_admin_token *t)
{
	if (!check_forms(l, t))
		return;
	if (t->token[0])
		take_token(l, t, t->token, "token");
	else if (t->token_file[0])
		read_token_file(l, t);
	else if (t->token_sha256[0]) {
		t->has_token = read_hex(t->token_sha256, t->digest);
		if (!t->has_token)
			error_at(l, t->line,
				 "[admin_tokens.%s] token_sha256 must be 64 hex digits: "
				 "printf %%s TOKEN | sha256sum",
				 t->name);
	}
}

/* ---- all of them ---- */

static bool is_same_token(const struct config_admin_token *a, const struct config_admin_token *b)
{
	return a->has_token && b->has_token && memcmp(a->digest, b->digest, TOKEN_DIGEST) == 0;
}

/* Two of the same would leave it to chance whose role counts, and who is written to the log. */
static void check_unique(struct loader *l, const struct config_admin_token *t, const struct config_admin_token *before)
{
	if (strcmp(t->name, before->name) == 0)
		error_at(l, t->line, "admin token %s has two tables", t->name);
	else if (is_same_token(t, before))
		error_at(l, t->line, "[admin_tokens.%s] is the same token as %s", t->name, before->name);
	else if (t->certificate[0] && strcmp(t->certificate, before->certificate) == 0)
		error_at(l, t->line, "[admin_tokens.%s] has the same certificate as %s", t->name, before->name);
}

static void finish_tokens(struct loader *l)
{
	struct config *c = l->config;

	c->admin_token =
		(struct config_admin_token){.name = "admin_token", .role = ADMIN_ROLE_ADMIN, .certificate = ""};
	if (c->proxy.admin_token[0]) {
		c->admin_token.has_token =
			make_digest(c->proxy.admin_token, strlen(c->proxy.admin_token), c->admin_token.digest);
		l->no_memory |= !c->admin_token.has_token;
	}
	if (c->admin_token_count > TOKENS_MAX)
		error_at(l, c->admin_tokens[TOKENS_MAX].line, "more than %u admin tokens", TOKENS_MAX);
	for (uint32_t i = 0; i < MIN(c->admin_token_count, TOKENS_MAX); i++) {
		finish_token(l, &c->admin_tokens[i]);
		check_unique(l, &c->admin_tokens[i], &c->admin_token);
		for (uint32_t j = 0; j < i; j++)
			check_unique(l, &c->admin_tokens[i], &c->admin_tokens[j]);
	}
}

/* ---- the rest ---- */

static void check_socket(struct loader *l)
{
	const struct config_admin *a = &l->config->admin;
	size_t len = strlen(a->socket_mode);

	if (a->socket[0] && a->socket[0] != '/')
		error_at(l, line_of(l, "admin", "socket"), "[admin] socket must be a path that begins with /");
	if (len < 3 || len > 4 || strspn(a->socket_mode, "01234567") != len || (len == 4 && a->socket_mode[0] != '0'))
		error_at(l, line_of(l, "admin", "socket_mode"),
			 "[admin] socket_mode must be octal permissions, \"0660\" say");
}

static void check_admin_tls(struct loader *l)
{
	const struct config_admin *a = &l->config->admin;

	if ((a->tls_cert_path[0] != 0) != (a->tls_key_path[0] != 0))
		error_at(l, line_of(l, "admin", a->tls_cert_path[0] ? "tls_cert_path" : "tls_key_path"),
			 "[admin] tls_cert_path and tls_key_path need each other");
	else if (a->tls_ca_path[0] && !a->tls_cert_path[0])
		error_at(l, line_of(l, "admin", "tls_ca_path"), "[admin] tls_ca_path needs tls_cert_path");
	if (a->tls_require_client_cert && !a->tls_ca_path[0])
		error_at(l, line_of(l, "admin", "tls_require_client_cert"),
			 "[admin] tls_require_client_cert needs tls_ca_path, who signs them");
}

void config_finish_admin(struct loader *l)
{
	const struct config *c = l->config;

	finish_tokens(l);
	check_socket(l);
	check_admin_tls(l);
	if (config_admin_is_exposed(c))
		warn_at(l, line_of(l, "proxy", "admin_address"),
			"the admin API at %s can be reached by other machines and has no token: only its health checks "
			"answer; set admin_token, or admin_allow_insecure = true",
			c->proxy.admin_address);
	else if (config_admin_asks_for_tokens(c) && !c->admin.tls_cert_path[0] &&
		 address_is_exposed(c->proxy.admin_address))
		report_add(l->report, REPORT_NOTICE, l->file, line_of(l, "proxy", "admin_address"), 0,
			   "the admin API at %s is plain HTTP: tokens can be read on their way; set [admin] "
			   "tls_cert_path and "
			   "tls_key_path",
			   c->proxy.admin_address);
}
