/*
 * The configuration: one immutable value made from proxy.toml (or from flags), checked as a whole. A reload makes a
 * new one. The structs of the sections come from directives.def; everything a config points to lives in its arena.
 * Strings are never NULL ("" when not given), and hold no NUL.
 */
#ifndef CONFIG_CONFIG_H
#define CONFIG_CONFIG_H

#include "base/arena.h"
#include "base/clock.h"
#include "base/log.h"
#include "config/report.h"
#include "loop/tls.h"

#include <stdio.h>

enum config_io { IO_AUTO, IO_EPOLL, IO_URING };
enum config_spin { SPIN_AUTO, SPIN_OFF };
enum pool_mode { POOL_MODE_SESSION, POOL_MODE_TRANSACTION, POOL_MODE_STATEMENT };
enum pool_reset { RESET_NEVER, RESET_WHEN_CHANGED, RESET_ALWAYS };
enum pool_share { SHARE_OFF, SHARE_AUTOCOMMIT, SHARE_AUTO };
enum simple_query { SIMPLE_QUERY_ALLOW, SIMPLE_QUERY_SINGLE, SIMPLE_QUERY_REFUSE };
enum pool_session_state { SESSION_STATE_PIN, SESSION_STATE_REFUSE, SESSION_STATE_LOG };
enum auth_mode {
	AUTH_MODE_PASSTHROUGH,
	AUTH_MODE_TRUST,
	AUTH_MODE_PASSWORD,
	AUTH_MODE_MD5,
	AUTH_MODE_SCRAM,
	AUTH_MODE_CERT
};
enum node_role { NODE_PRIMARY, NODE_STANDBY, NODE_REPLICA };
enum balance_strategy {
	BALANCE_ROUND_ROBIN,
	BALANCE_LEAST_CONNECTIONS,
	BALANCE_LATENCY,
	BALANCE_RANDOM,
	BALANCE_PRIMARY_ONLY,
	BALANCE_HASH
};
enum topology_provider { PROVIDER_POSTGRES, PROVIDER_MANUAL, PROVIDER_PATRONI, PROVIDER_HELIOSDB };
enum hash_key { HASH_KEY_USER, HASH_KEY_DATABASE, HASH_KEY_CLIENT_IP };
enum sticky { STICKY_NONE, STICKY_SESSION };
enum read_target { READ_TARGET_STANDBY, READ_TARGET_PRIMARY, READ_TARGET_ANY };
enum write_target { WRITE_TARGET_PRIMARY };
enum consistency { CONSISTENCY_BOUNDED, CONSISTENCY_STRONG, CONSISTENCY_EVENTUAL };
enum hint_rights { HINT_RIGHTS_ALL, HINT_RIGHTS_NO_NODE, HINT_RIGHTS_NONE };
enum primary_reads { PRIMARY_READS_NEVER, PRIMARY_READS_LAST_RESORT, PRIMARY_READS_EQUAL };
enum read_your_writes { /* inherit: of a user, as of all */
			READ_YOUR_WRITES_INHERIT,
			READ_YOUR_WRITES_OFF,
			READ_YOUR_WRITES_SESSION,
			READ_YOUR_WRITES_USER,
			READ_YOUR_WRITES_GLOBAL
};
enum when_contested { WHEN_CONTESTED_HOLD, WHEN_CONTESTED_REFUSE };
enum admin_role { ADMIN_ROLE_READ, ADMIN_ROLE_OPERATE, ADMIN_ROLE_ADMIN };
enum compression { COMPRESSION_NONE, COMPRESSION_GZIP };
enum hba_action { HBA_ALLOW, HBA_REJECT };

#define RATIO_UNSAID (-1.0)

struct config_strings {
	const char *const *items;
	uint32_t count;
};

/* The C type of each type in directives.def. */
typedef bool config_type_bool;
typedef uint32_t config_type_uint;
typedef uint64_t config_type_size; /* bytes */
typedef usec_t config_type_duration;
typedef double config_type_ratio; /* RATIO_UNSAID: "" */
typedef const char *config_type_string;
typedef const char *config_type_secret;
typedef const char *config_type_address;
typedef struct config_strings config_type_strings;
typedef struct config_strings config_type_addresses;
typedef enum config_io config_type_enum_io;
typedef enum config_spin config_type_enum_spin;
typedef enum pool_mode config_type_enum_pool_mode;
typedef enum pool_reset config_type_enum_reset;
typedef enum pool_share config_type_enum_share;
typedef enum simple_query config_type_enum_simple_query;
typedef enum pool_session_state config_type_enum_session_state;
typedef enum tls_mode config_type_enum_tls_mode;
typedef enum auth_mode config_type_enum_auth_mode;
typedef enum log_level config_type_enum_log_level;
typedef enum log_format config_type_enum_log_format;
typedef enum node_role config_type_enum_node_role;
typedef enum balance_strategy config_type_enum_balance_strategy;
typedef enum topology_provider config_type_enum_provider;
typedef enum primary_reads config_type_enum_primary_reads;
typedef enum hash_key config_type_enum_hash_key;
typedef enum sticky config_type_enum_sticky;
typedef enum hint_rights config_type_enum_hint_rights;
typedef enum read_target config_type_enum_read_target;
typedef enum write_target config_type_enum_write_target;
typedef enum consistency config_type_enum_consistency;
typedef enum read_your_writes config_type_enum_read_your_writes;
typedef enum read_your_writes config_type_enum_user_read_your_writes;
typedef enum when_contested config_type_enum_when_contested;
typedef enum admin_role config_type_enum_admin_role;
typedef enum compression config_type_enum_compression;
typedef enum hba_action config_type_enum_hba_action;

/* struct config_proxy, struct config_pool ...: a field for each key. A SECTION row ends one struct, begins the next. */
/* clang-format off */
struct config_before_the_first {
	bool unused;
#define SECTION(name, help)                                            \
};                                                                     \
struct config_##name {                                                 \
	bool given; /* the file has this table */
#define KEY(section, key, type, ...) config_type_##type key;
#include "config/directives.def"
};
/* clang-format on */

/* A [pool] key that a [databases.X] or [users.Y] table sets; value points to the field's C type. */
struct config_override {
	const struct config_key *key;
	const void *value;
	uint32_t line;
};

/* Is it of this [pool] key? */
bool config_override_is(const struct config_override *override, const char *key);

struct config_node {
	const char *name; /* as given, else host:port */
	const char *host; /* name, IP address, or the directory of a unix socket (begins with '/') */
	uint32_t port, http_port;
	enum node_role role;
	uint32_t weight;
	const char *zone; /* "": none */
	usec_t max_lag;   /* 0: as [lag_routing] says */
	bool enabled, sync;
	uint32_t line;
};

struct config_database {
	const char *name;            /* as clients ask for it; "*": all that have no table of their own */
	const char *dbname;          /* on the node; "": the same */
	const char *user, *password; /* forced server credentials; "": the client's */
	const char *node;            /* name of the one node to use; "": by role */
	const char *connect_query;   /* run on each new server connection; "": none */
	const struct config_override *overrides;
	uint32_t override_count, line;
};

struct config_user {
	const char *name;
	const char *password; /* plain, "md5..." or a SCRAM verifier; "": not given here */
	enum hint_rights routing_hints;
	usec_t max_lag; /* 0: as for all; likewise below */
	uint64_t max_lag_bytes;
	enum read_your_writes read_your_writes;
	const struct config_override *overrides;
	uint32_t override_count, line;
};

struct config_node_alias {
	const char *name;
	struct config_strings nodes; /* by name */
	uint32_t line;
};

struct config_hba { /* a [[hba]] table of the reference */
	enum hba_action action;
	const char *user, *database, *address;
	uint32_t line;
};

#define ADMIN_TOKEN_NAME_MAX 63u
#define TOKEN_DIGEST         32u /* SHA-256 */

struct config_admin_token {
	const char *name;
	enum admin_role role;
	const char *token, *token_file, *token_sha256; /* one of them, or none; see digest */
	const char *certificate;                       /* "": none */
	bool has_token;
	uint8_t digest[TOKEN_DIGEST]; /* of the token, wherever it is from */
	uint32_t line;
};

struct hba;      /* config/hba.h */
struct ident;    /* config/ident.h */
struct userlist; /* config/userlist.h */

struct config {
#define SECTION(name, help) struct config_##name name;
#include "config/directives.def"
	struct slice text; /* of the file, as it was read; see config_load_settings() */
	const struct config_node *nodes;
	uint32_t node_count;
	const struct config_database *databases;
	uint32_t database_count;
	const struct config_user *users;
	uint32_t user_count;
	struct config_admin_token *admin_tokens;
	uint32_t admin_token_count;
	struct config_admin_token admin_token; /* [proxy] admin_token as one of them; has_token: it is given */
	const struct config_node_alias *node_aliases;
	uint32_t node_alias_count;
	const struct config_hba *hba_rules;
	uint32_t hba_rule_count;
	const struct hba *admission; /* from [[hba]]: who may connect at all; no match admits. NULL: everybody */
	const struct hba
		*hba; /* from auth.hba_file: the method of each connection; no match rejects. NULL: auth.mode */
	const struct ident *ident;       /* from auth.ident_file; NULL: none */
	const struct userlist *userlist; /* auth.auth_file and [users]; never NULL */

	const char *path;                    /* of the file; "" when made from flags */
	const struct config_origin *origins; /* of each key, see keys.h */
	struct arena arena;                  /* holds all of it, this struct too */
};

/* What the command line says where there is no file. Absent: NULL or 0. */
struct config_flags {
	const char *listen, *admin;  /* host:port */
	const char *primary;         /* host:port */
	const char *const *standbys; /* each host:port[,host:port...] */
	uint32_t standby_count;
	const char *log_level; /* these two count beside a file as well: config_apply_flags() */
	bool json_logs;
};

/*
 * Read, substitute ${...}, parse, check, load the files it names. All that is wrong is in the report, not only the
 * first. 0, or -EINVAL (errors are in the report), -ENOMEM, or another -errno when the file can't be read (it is in the
 * report, too). With report->strict what this build can't do is an error rather than a notice.
 */
int config_load(const char *path, struct config **ret, struct config_report *report) MUST_USE;
/* The same from text; `name` stands for the path in messages. */
int config_load_text(const char *text, size_t len, const char *name, struct config **ret,
		     struct config_report *report) MUST_USE;
int config_from_flags(const struct config_flags *flags, struct config **ret, struct config_report *report) MUST_USE;
/* A value for a key of directives.def, given while the proxy runs. section, name: as in the file, aliases as well. */
struct config_setting {
	const char *section, *name, *value;
};
/* What base was read from, read again (not the file), with these values on top of it: only of keys that a reload
 * applies, and that no flag has. base->text.len is 0 where there was no file. As config_load(). */
int config_load_settings(const struct config *base, const struct config_setting *settings, uint32_t count,
			 const struct config_flags *flags, struct config **ret, struct config_report *report) MUST_USE;
/* Puts those flags on top that count beside a file (log_level, json_logs). Before the config is published. */
int config_apply_flags(struct config *c, const struct config_flags *flags, struct config_report *report) MUST_USE;
void config_free(struct config *c); /* NULL is fine */

/* [pool] <- [databases.NAME], else [databases."*"] <- [users.NAME]. What *ret points to lives as long as the config. */
void config_pool_for(const struct config *c, const char *database, const char *user, struct config_pool *ret);
/* The table of a database, else that of "*", else NULL. */
const struct config_database *config_database_find(const struct config *c, const char *name);
/* Is it one of the console's names, and no database that has a table? */
bool config_is_console(const struct config *c, const char *database);
/* What takes that long is a slow query; 0: nothing. */
usec_t config_slow_query(const struct config *c);
const struct config_user *config_user_find(const struct config *c, const char *name);
/* By name, or by "host:port". NULL: none. */
const struct config_node *config_node_find(const struct config *c, const char *name);
/* NULL: none. */
const struct config_node_alias *config_node_alias_find(const struct config *c, const char *name);
/* [proxy] admin_token among them; takes as long for a wrong token as for a right one. NULL: none. */
const struct config_admin_token *config_admin_token_find(const struct config *c, const char *token);
/* By the common name of a certificate. NULL: none. */
const struct config_admin_token *config_admin_certificate_find(const struct config *c, const char *name);
/* Somebody has a token, or a certificate that stands for one: without one nobody gets in. */
bool config_admin_asks_for_tokens(const struct config *c);
/* Other machines can reach the admin API, there is no token, and admin_allow_insecure is false. */
bool config_admin_is_exposed(const struct config *c);

/* Effective configuration as TOML, a comment at each value says where it is from. Secrets are "***". */
void config_print(const struct config *c, FILE *out);

/* Each key of the sections. Values are texts for people; secrets "***". */
struct config_value_view {
	const char *section, *key, *value, *default_text, *help;
	const char *origin; /* "default", "file", "environment", "command line" */
	uint32_t line;      /* of the file; 0: from elsewhere */
	bool reloads;
};
void config_each_value(const struct config *c, void (*each)(const struct config_value_view *view, void *to), void *to);

/* One call for each difference. path: "pool.mode", "nodes", "databases.shop", "hba". reloads: follows SIGHUP. Values
 * are texts for people ("" where there is none; secrets "***"). */
typedef void config_diff_fn(void *argument, const char *path, const char *old_value, const char *new_value,
			    bool reloads);
void config_diff(const struct config *old, const struct config *new, config_diff_fn *tell, void *argument);

#endif
