/*
 * Who may connect, and how they prove who they are: rules in PostgreSQL's pg_hba.conf format.
 * https://www.postgresql.org/docs/current/auth-pg-hba-conf.html
 * What isn't available is an error in the file, never a rule that silently doesn't match: host names, groups (+name,
 * samerole), methods other than those of enum auth_method. hostgssenc rules are read and never match. Regular
 * expressions are POSIX's extended ones, of bounded size.
 */
#ifndef CONFIG_HBA_H
#define CONFIG_HBA_H

#include "base/arena.h"
#include "config/report.h"
#include "wire/scram.h"

#include <sys/socket.h>

enum hba_client_cert { CLIENT_CERT_NONE, CLIENT_CERT_VERIFY_CA, CLIENT_CERT_VERIFY_FULL };
enum hba_client_name { CLIENT_NAME_CN, CLIENT_NAME_DN };

/* The outcome of a rule; what it matches is hba.c's own. */
struct hba_rule {
	enum auth_method method;
	const char *map;                  /* of the ident file; "": the names must be equal */
	enum hba_client_cert client_cert; /* AUTH_CERT: always CLIENT_CERT_VERIFY_FULL */
	enum hba_client_name client_name; /* what of the certificate is compared */
	const char *file;
	uint32_t line;
};

struct hba_query {
	const struct sockaddr *address; /* AF_INET, AF_INET6 (v4-mapped ones count as v4); NULL or AF_UNIX: local */
	bool tls;
	bool replication; /* physical (replication=true), not replication=database */
	const char *database, *user;
};

struct hba;

/* Reads a file and what it includes; all is kept in the arena. Mistakes go to the report. 0, -EINVAL, -ENOMEM. */
int hba_load(const char *path, struct arena *arena, struct config_report *report, const struct hba **ret) MUST_USE;
/* From text; may_include: @file and include are followed, relative to the directory of `name`, else they are errors. */
int hba_load_text(const char *text, size_t len, const char *name, bool may_include, struct arena *arena,
		  struct config_report *report, const struct hba **ret) MUST_USE;

/* Admission rules of the reference's [[hba]], one at a time. user and database: a name or "all"; address: "all", an
 * IP address or a CIDR block. 0, -EINVAL when the address can't be read, -ENOMEM. */
struct hba *hba_admission_new(struct arena *arena);
int hba_admission_add(struct hba *hba, struct arena *arena, bool allow, const char *user, const char *database,
		      const char *address, const char *file, uint32_t line) MUST_USE;

/* The first rule that matches. None: a static rule that rejects (line 0); of admission rules one that trusts. */
const struct hba_rule *hba_match(const struct hba *hba, const struct hba_query *query);
uint32_t hba_rule_count(const struct hba *hba);
/* Walks all: NULL gives the first, and is given behind the last. */
const struct hba_rule *hba_rule_next(const struct hba *hba, const struct hba_rule *rule);

/* The names of pg_hba.conf: "trust", "reject", "password", "md5", "scram-sha-256", "cert". */
const char *auth_method_name(enum auth_method method);

#endif
