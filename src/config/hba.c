/* See hba.h: the rules as data, and the look-up. Reading a file is hba_read.c. */
#include "config/hba_priv.h"

#include <netinet/in.h>

static bool name_matches(const struct hba_name *name, const char *text)
{
	switch (name->kind) {
	case NAME_ALL:
		return true;
	case NAME_EXACT:
		return strcmp(name->text, text) == 0;
	case NAME_REGEX:
		return regexec(name->regex, text, 0, NULL, 0) == 0;
	case NAME_SAME_USER:
	case NAME_REPLICATION:
		break;
	}
	return false;
}

static bool user_matches(const struct hba_name *list, const char *user)
{
	for (; list; list = list->next)
		if (name_matches(list, user))
			return true;
	return false;
}

/* Physical replication has no database: only the word replication means it, not even all. */
static bool database_matches(const struct hba_name *list, const struct hba_query *query)
{
	for (; list; list = list->next) {
		if (query->replication ? list->kind == NAME_REPLICATION
				       : (list->kind == NAME_SAME_USER ? strcmp(query->database, query->user) == 0
								       : name_matches(list, query->database)))
			return true;
	}
	return false;
}

bool hba_block_of(const struct sockaddr *address, struct hba_block *ret)
{
	*ret = (struct hba_block){0};
	if (address->sa_family == AF_INET) {
		ret->len = 4;
		memcpy(ret->bytes, &((const struct sockaddr_in *)(const void *)address)->sin_addr, 4);
		return true;
	}
	if (address->sa_family == AF_INET6) {
		const struct in6_addr *v6 = &((const struct sockaddr_in6 *)(const void *)address)->sin6_addr;

		ret->len = IN6_IS_ADDR_V4MAPPED(v6) ? 4 : 16;
		memcpy(ret->bytes, v6->s6_addr + 16 - ret->len, ret->len);
		return true;
	}
	return false;
}

static bool in_block(const struct hba_block *block, const struct hba_block *address)
{
	if (block->len != address->len)
		return false;
	for (uint32_t i = 0; i < block->len; i++)
		if ((block->bytes[i] ^ address->bytes[i]) & block->mask[i])
			return false;
	return true;
}

static bool in_blocks(const struct hba_block *block, const struct hba_block *address, bool exactly)
{
	for (; block; block = block->next) {
		if (exactly ? block->len == address->len && memcmp(block->bytes, address->bytes, block->len) == 0
			    : in_block(block, address))
			return true;
	}
	return false;
}

static bool connection_matches(const struct hba *hba, const struct hba_entry *e, const struct hba_query *query)
{
	struct hba_block address;
	bool is_host = query->address && hba_block_of(query->address, &address);

	if (e->type == CONNECTION_ANY && e->address == ADDRESS_ANY)
		return true;
	if (e->type == CONNECTION_LOCAL)
		return !is_host;
	if (!is_host || e->type == CONNECTION_NEVER)
		return false;
	if ((e->type == CONNECTION_TLS && !query->tls) || (e->type == CONNECTION_PLAIN && query->tls))
		return false;
	switch (e->address) {
	case ADDRESS_ANY:
		return true;
	case ADDRESS_BLOCK:
		return in_block(&e->block, &address);
	case ADDRESS_SAME_HOST:
		return in_blocks(hba->interfaces, &address, /* exactly= */ true);
	case ADDRESS_SAME_NET:
		return in_blocks(hba->interfaces, &address, /* exactly= */ false);
	}
	return false;
}

const struct hba_rule *hba_match(const struct hba *hba, const struct hba_query *query)
{
	static const struct hba_rule rejects = {.method = AUTH_REJECT, .map = "", .file = ""};
	static const struct hba_rule admits = {.method = AUTH_TRUST, .map = "", .file = ""};

	for (const struct hba_entry *e = hba->first; e; e = e->next)
		if (connection_matches(hba, e, query) && database_matches(e->databases, query) &&
		    user_matches(e->users, query->user))
			return &e->rule;
	return hba->admits_by_default ? &admits : &rejects;
}

uint32_t hba_rule_count(const struct hba *hba)
{
	return hba->count;
}

const struct hba_rule *hba_rule_next(const struct hba *hba, const struct hba_rule *rule)
{
	const struct hba_entry *next = rule ? container_of(rule, struct hba_entry, rule)->next : hba->first;

	return next ? &next->rule : NULL;
}

void hba_add(struct hba *hba, struct hba_entry *entry)
{
	*hba->end = entry;
	hba->end = &entry->next;
	hba->count++;
}

struct hba *hba_new(struct arena *arena)
{
	struct hba *hba = arena_zalloc(arena, sizeof(*hba));

	if (hba)
		hba->end = &hba->first;
	return hba;
}

struct hba *hba_admission_new(struct arena *arena)
{
	struct hba *hba = hba_new(arena);

	if (hba)
		hba->admits_by_default = true;
	return hba;
}

static struct hba_name *admission_name(struct arena *arena, const char *text)
{
	struct hba_name *name = arena_zalloc(arena, sizeof(*name));

	if (!name)
		return NULL;
	name->kind = strcmp(text, "all") == 0 ? NAME_ALL : NAME_EXACT;
	name->text = arena_strdup(arena, text);
	return name->text ? name : NULL;
}

int hba_admission_add(struct hba *hba, struct arena *arena, bool allow, const char *user, const char *database,
		      const char *address, const char *file, uint32_t line)
{
	struct hba_entry *e = arena_zalloc(arena, sizeof(*e));
	struct hba_name *replication = arena_zalloc(arena, sizeof(*replication));

	if (!e || !replication)
		return -ENOMEM;
	*e = (struct hba_entry){
		.rule = {.method = allow ? AUTH_TRUST : AUTH_REJECT, .map = "", .line = line},
		.type = CONNECTION_ANY,
		.users = admission_name(arena, user),
		.databases = admission_name(arena, database),
	};
	e->rule.file = arena_strdup(arena, file);
	if (!e->users || !e->databases || !e->rule.file)
		return -ENOMEM;
	if (strcmp(database, "all") == 0) { /* the reference's "all" means replication, too */
		replication->kind = NAME_REPLICATION;
		e->databases->next = replication;
	}
	if (strcmp(address, "all") != 0) {
		if (hba_block_parse(address, /* bare_is_host= */ true, &e->block) < 0)
			return -EINVAL;
		e->address = ADDRESS_BLOCK;
	}
	hba_add(hba, e);
	return 0;
}

const char *auth_method_name(enum auth_method method)
{
	switch (method) {
	case AUTH_TRUST:
		return "trust";
	case AUTH_REJECT:
		return "reject";
	case AUTH_PASSWORD:
		return "password";
	case AUTH_MD5:
		return "md5";
	case AUTH_SCRAM:
		return "scram-sha-256";
	case AUTH_CERT:
		return "cert";
	}
	return "";
}
