/* What hba.c and hba_read.c share. */
#ifndef CONFIG_HBA_PRIV_H
#define CONFIG_HBA_PRIV_H

#include "config/hba.h"

#include <regex.h>

enum hba_name_kind {
	NAME_EXACT,
	NAME_ALL,
	NAME_REGEX,
	NAME_SAME_USER,   /* databases only */
	NAME_REPLICATION, /* databases only */
};

struct hba_name {
	struct hba_name *next;
	enum hba_name_kind kind;
	const char *text;
	const regex_t *regex;
};

enum hba_connection {
	CONNECTION_LOCAL,
	CONNECTION_HOST,  /* host, hostnogssenc */
	CONNECTION_TLS,   /* hostssl */
	CONNECTION_PLAIN, /* hostnossl */
	CONNECTION_NEVER, /* hostgssenc */
	CONNECTION_ANY,   /* admission rules: local ones too */
};

enum hba_address { ADDRESS_ANY, ADDRESS_BLOCK, ADDRESS_SAME_HOST, ADDRESS_SAME_NET };

struct hba_block { /* of addresses, or one address (mask not used) */
	struct hba_block *next;
	uint32_t len; /* 4 or 16 */
	uint8_t bytes[16], mask[16];
};

struct hba_entry {
	struct hba_entry *next;
	struct hba_rule rule;
	enum hba_connection type;
	struct hba_name *databases, *users;
	enum hba_address address;
	struct hba_block block;
};

struct hba {
	struct hba_entry *first, **end;
	uint32_t count;
	bool admits_by_default;
	struct hba_block *interfaces; /* of this machine, when a rule asks for them */
};

struct hba *hba_new(struct arena *arena);
void hba_add(struct hba *hba, struct hba_entry *entry);
/* False: neither IPv4 nor IPv6. A v4-mapped address is the v4 one. */
bool hba_block_of(const struct sockaddr *address, struct hba_block *ret);
/* "10.0.0.0/8" "::1/128"; without /length a host when bare_is_host, else *ret's mask is left empty. 0 or -EINVAL. */
int hba_block_parse(const char *text, bool bare_is_host, struct hba_block *ret) MUST_USE;

#endif
