/* Reads pg_hba.conf: see hba.h. A line that can't be had as it is written is an error. */
#include "config/auth_lines.h"
#include "config/hba_priv.h"

#include <arpa/inet.h>
#include <ifaddrs.h>
#include <stdarg.h>

struct reader {
	struct hba *hba;
	struct arena *arena;
	struct config_report *report;
	const struct auth_line *line; /* the one being read */
	bool needs_interfaces;
	int result;
};

/* Always NULL and false in one, for `return refuse(...)`. */
static bool refuse(struct reader *r, const char *format, ...) PRINTF_LIKE(2, 3);

static bool refuse(struct reader *r, const char *format, ...)
{
	char text[256];
	va_list args;

	va_start(args, format);
	vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	report_add(r->report, REPORT_ERROR, r->line->file, r->line->line, 0, "%s", text);
	if (r->result == 0)
		r->result = -EINVAL;
	return false;
}

static bool no_memory(struct reader *r)
{
	r->result = -ENOMEM;
	return false;
}

/* -------------------------------------------------------------------------------------------- names */

static bool read_regex(struct reader *r, const char *pattern, struct hba_name *name)
{
	regex_t *regex;
	char why[160];
	int e = auth_regex_compile(pattern, r->arena, &regex, why, sizeof(why));

	if (e == -ENOMEM)
		return no_memory(r);
	if (e < 0)
		return refuse(r, "regular expression /%.80s: %s", pattern, why);
	name->kind = NAME_REGEX;
	name->regex = regex;
	return true;
}

static bool read_name(struct reader *r, const struct auth_token *token, bool is_database, struct hba_name *name)
{
	name->text = token->text;
	name->kind = NAME_EXACT;
	if (token->text[0] == '/')
		return read_regex(r, token->text + 1, name);
	if (token->quoted)
		return true;
	if (token->text[0] == '+')
		return refuse(r, "groups (%.80s) are not available: name the users", token->text);
	if (auth_token_is(token, "all")) {
		name->kind = NAME_ALL;
	} else if (is_database && auth_token_is(token, "sameuser")) {
		name->kind = NAME_SAME_USER;
	} else if (is_database && auth_token_is(token, "replication")) {
		name->kind = NAME_REPLICATION;
	} else if (is_database && (auth_token_is(token, "samerole") || auth_token_is(token, "samegroup"))) {
		return refuse(r, "%s is not available", token->text);
	}
	return true;
}

static bool read_names(struct reader *r, const struct auth_field *field, bool is_database, struct hba_name **end)
{
	if (!field)
		return refuse(r, "expected %s", is_database ? "databases" : "users");
	for (const struct auth_token *t = field->tokens; t; t = t->next) {
		struct hba_name *name = arena_zalloc(r->arena, sizeof(*name));

		if (!name)
			return no_memory(r);
		if (!read_name(r, t, is_database, name))
			return false;
		*end = name;
		end = &name->next;
	}
	return true;
}

/* ---------------------------------------------------------------------------------------- addresses */

static void set_mask(struct hba_block *block, uint32_t bits)
{
	for (uint32_t i = 0; i < block->len; i++, bits -= MIN(bits, 8u))
		block->mask[i] = (uint8_t)(0xff00u >> MIN(bits, 8u));
}

static bool parse_ip(const char *text, struct hba_block *ret)
{
	*ret = (struct hba_block){0};
	ret->len = strchr(text, ':') ? 16 : 4;
	return inet_pton(ret->len == 16 ? AF_INET6 : AF_INET, text, ret->bytes) == 1;
}

int hba_block_parse(const char *text, bool bare_is_host, struct hba_block *ret)
{
	const char *slash = strchr(text, '/');
	char ip[INET6_ADDRSTRLEN + 1];
	size_t len = slash ? (size_t)(slash - text) : strlen(text);
	char *end;
	unsigned long bits;

	if (len >= sizeof(ip))
		return -EINVAL;
	memcpy(ip, text, len);
	ip[len] = 0;
	if (!parse_ip(ip, ret))
		return -EINVAL;
	if (!slash) {
		if (bare_is_host)
			set_mask(ret, ret->len * 8);
		return 0;
	}
	if (slash[1] < '0' || slash[1] > '9')
		return -EINVAL;
	bits = strtoul(slash + 1, &end, 10);
	if (*end || bits > ret->len * 8ul)
		return -EINVAL;
	set_mask(ret, (uint32_t)bits);
	return 0;
}

/* Sets *at to the field behind the address. */
static bool read_address(struct reader *r, const struct auth_field **at, struct hba_entry *e)
{
	const struct auth_token *token = auth_field_single(*at), *mask_token;
	struct hba_block mask;

	if (!token)
		return refuse(r, *at ? "one line may have one address" : "expected an address");
	*at = (*at)->next;
	if (auth_token_is(token, "all")) {
		e->address = ADDRESS_ANY;
		return true;
	}
	if (auth_token_is(token, "samehost") || auth_token_is(token, "samenet")) {
		e->address = auth_token_is(token, "samehost") ? ADDRESS_SAME_HOST : ADDRESS_SAME_NET;
		r->needs_interfaces = true;
		return true;
	}
	e->address = ADDRESS_BLOCK;
	if (hba_block_parse(token->text, /* bare_is_host= */ false, &e->block) < 0)
		return refuse(r,
			      strpbrk(token->text, ":/") ? "\"%.80s\" is no address"
							 : "host names (%.80s) are not available: write an address",
			      token->text);
	if (strchr(token->text, '/'))
		return true;
	mask_token = auth_field_single(*at);
	if (!mask_token || !parse_ip(mask_token->text, &mask) || mask.len != e->block.len)
		return refuse(r, "address %.80s needs a mask: write %.80s/%u", token->text, token->text,
			      e->block.len * 8);
	*at = (*at)->next;
	memcpy(e->block.mask, mask.bytes, sizeof(mask.bytes));
	return true;
}

static bool read_interfaces(struct reader *r)
{
	struct ifaddrs *all;
	bool ok = true;

	if (getifaddrs(&all) < 0) {
		report_add(r->report, REPORT_ERROR, "", 0, 0, "the addresses of this machine can't be read: %s",
			   strerror(errno));
		r->result = -EINVAL;
		return false;
	}
	for (struct ifaddrs *i = all; i && ok; i = i->ifa_next) {
		struct hba_block address, mask, *block;

		if (!i->ifa_addr || !i->ifa_netmask || !hba_block_of(i->ifa_addr, &address) ||
		    !hba_block_of(i->ifa_netmask, &mask) || mask.len != address.len)
			continue;
		block = arena_zalloc(r->arena, sizeof(*block));
		if (!block) {
			ok = no_memory(r);
			break;
		}
		*block = address;
		memcpy(block->mask, mask.bytes, sizeof(mask.bytes));
		block->next = r->hba->interfaces;
		r->hba->interfaces = block;
	}
	freeifaddrs(all);
	return ok;
}

/* ------------------------------------------------------------------------------- method and options */

static bool read_method(struct reader *r, const struct auth_field *field, struct hba_entry *e)
{
	const struct auth_token *token = auth_field_single(field);

	if (!token)
		return refuse(r, "expected one method");
	for (int m = AUTH_TRUST; m <= AUTH_CERT; m++) {
		if (strcmp(auth_method_name((enum auth_method)m), token->text) == 0) {
			e->rule.method = (enum auth_method)m;
			if (m == AUTH_CERT && e->type != CONNECTION_TLS)
				return refuse(r, "method cert needs hostssl");
			if (m == AUTH_CERT)
				e->rule.client_cert = CLIENT_CERT_VERIFY_FULL;
			return true;
		}
	}
	return refuse(r, "method %.80s is not available (trust, reject, password, md5, scram-sha-256, cert)",
		      token->text);
}

static bool read_client_cert(struct reader *r, const char *value, struct hba_entry *e)
{
	if (e->type != CONNECTION_TLS)
		return refuse(r, "clientcert needs hostssl");
	if (strcmp(value, "verify-full") == 0)
		e->rule.client_cert = CLIENT_CERT_VERIFY_FULL;
	else if (strcmp(value, "verify-ca") != 0)
		return refuse(r, "clientcert must be verify-ca or verify-full");
	else if (e->rule.method == AUTH_CERT)
		return refuse(r, "method cert means clientcert=verify-full");
	else
		e->rule.client_cert = CLIENT_CERT_VERIFY_CA;
	return true;
}

static bool read_option(struct reader *r, const struct auth_token *token, struct hba_entry *e)
{
	const char *text = token->text, *value = strchr(text, '=');

	if (!value)
		return refuse(r, "expected name=value, not %.80s", text);
	value++;
	if (strncmp(text, "map=", 4) == 0) {
		if (e->rule.method != AUTH_CERT)
			return refuse(r, "map needs method cert");
		e->rule.map = value;
		return true;
	}
	if (strncmp(text, "clientcert=", 11) == 0)
		return read_client_cert(r, value, e);
	if (strncmp(text, "clientname=", 11) == 0) {
		if (e->type != CONNECTION_TLS)
			return refuse(r, "clientname needs hostssl");
		if (strcmp(value, "CN") != 0 && strcmp(value, "DN") != 0)
			return refuse(r, "clientname must be CN or DN");
		e->rule.client_name = value[0] == 'C' ? CLIENT_NAME_CN : CLIENT_NAME_DN;
		return true;
	}
	return refuse(r, "option %.80s is not available", text);
}

/* --------------------------------------------------------------------------------------------- lines */

static bool read_type(struct reader *r, const struct auth_field *field, struct hba_entry *e)
{
	static const struct {
		const char *name;
		enum hba_connection type;
	} types[] = {
		{"local", CONNECTION_LOCAL},     {"host", CONNECTION_HOST},        {"hostssl", CONNECTION_TLS},
		{"hostnossl", CONNECTION_PLAIN}, {"hostgssenc", CONNECTION_NEVER}, {"hostnogssenc", CONNECTION_HOST},
	};
	const struct auth_token *token = auth_field_single(field);

	for (size_t i = 0; token && i < ARRAY_SIZE(types); i++) {
		if (strcmp(types[i].name, token->text) == 0) {
			e->type = types[i].type;
			return true;
		}
	}
	return refuse(r, "a line begins with local, host, hostssl, hostnossl, hostgssenc or hostnogssenc");
}

static bool read_rule(struct reader *r, struct hba_entry *e)
{
	const struct auth_field *at = r->line->fields;

	if (!read_type(r, at, e))
		return false;
	at = at->next;
	if (!read_names(r, at, /* is_database= */ true, &e->databases))
		return false;
	at = at->next;
	if (!read_names(r, at, /* is_database= */ false, &e->users))
		return false;
	at = at->next;
	if (e->type != CONNECTION_LOCAL && !read_address(r, &at, e))
		return false;
	if (!read_method(r, at, e))
		return false;
	for (at = at->next; at; at = at->next)
		for (const struct auth_token *t = at->tokens; t; t = t->next)
			if (!read_option(r, t, e))
				return false;
	return true;
}

static int read_lines(const struct auth_line *lines, int result, struct arena *arena, struct config_report *report,
		      const struct hba **ret)
{
	struct reader r = {.hba = hba_new(arena), .arena = arena, .report = report, .result = result};

	if (!r.hba)
		return -ENOMEM;
	for (r.line = lines; r.line && r.result != -ENOMEM; r.line = r.line->next) {
		struct hba_entry *e = arena_zalloc(arena, sizeof(*e));

		if (!e)
			return -ENOMEM;
		e->rule = (struct hba_rule){.map = "", .file = r.line->file, .line = r.line->line};
		if (read_rule(&r, e))
			hba_add(r.hba, e);
	}
	if (r.result == 0 && r.needs_interfaces)
		read_interfaces(&r);
	if (r.result == 0)
		*ret = r.hba;
	return r.result;
}

int hba_load(const char *path, struct arena *arena, struct config_report *report, const struct hba **ret)
{
	struct auth_line *lines;
	int r = auth_lines_load(path, arena, report, &lines);

	return r == -ENOMEM ? r : read_lines(lines, r, arena, report, ret);
}

int hba_load_text(const char *text, size_t len, const char *name, bool may_include, struct arena *arena,
		  struct config_report *report, const struct hba **ret)
{
	struct auth_line *lines;
	int r = auth_lines_load_text(text, len, name, may_include, arena, report, &lines);

	return r == -ENOMEM ? r : read_lines(lines, r, arena, report, ret);
}
