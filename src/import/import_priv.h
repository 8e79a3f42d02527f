/* What a pgbouncer.ini was read to, and what the writer makes of each value. */
#ifndef IMPORT_IMPORT_PRIV_H
#define IMPORT_IMPORT_PRIV_H

#include "base/arena.h"
#include "base/map.h"
#include "config/keys.h"
#include "config/units.h"
#include "import/import.h"
#include "import/ini.h"

#define ENTRIES_MAX 10000u  /* databases, and users */
#define GIVEN_MAX   200000u /* settings */
#define WHY_MAX     400u
#define TOML_MAX    65536u /* of one value */

enum setting_id {
#define PGB_SETTING(name, ...) PGB_##name,
#include "import/pgbouncer.def"
	SETTING_COUNT
};

enum database_id {
#define PGB_DATABASE(name, ...) DB_##name,
#include "import/pgbouncer.def"
	DATABASE_COUNT
};

enum user_id {
#define PGB_USER(name, ...) USER_##name,
#include "import/pgbouncer.def"
	USER_COUNT
};

struct entry;
struct row;

/* A setting as a file has it. All hang in importer.given, in their order. */
struct value {
	struct value *next;
	const struct entry *entry; /* NULL: of [pgbouncer] */
	const struct row *row;
	uint32_t index; /* of the row in its table */
	const char *text;
	struct ini_place place;
};

/* A database or a user: for each row of its table what counts, or NULL. */
struct entry {
	struct entry *next;
	const char *name;
	bool is_user;
	struct ini_place place;
	const struct value *values[];
};

struct entries {
	struct entry *first, **end;
	struct map by_name;
	uint32_t count;
};

struct importer {
	const struct import_job *job;
	struct arena arena;
	const struct value *settings[SETTING_COUNT];
	struct entries databases, users;
	const char *of_all[DATABASE_COUNT]; /* what each database says in the same words; NULL: they don't */
	struct value *given, **given_end;
	uint32_t given_count;
	char section[16]; /* of the file, now; "": none yet */
	bool has_main_section;
	uint32_t wrong;
};

enum outcome { OUTCOME_WRITE, OUTCOME_PART, OUTCOME_NOTHING, OUTCOME_ABSENT, OUTCOME_WRONG };

struct conversion {
	const struct importer *im;
	const struct row *row;
	const struct entry *entry;    /* NULL: of [pgbouncer] */
	const char *text;             /* as the file has it, or the default */
	const struct config_key *key; /* NULL: this build has none */
	struct buf toml;              /* out: with OUTCOME_WRITE */
	char why[WHY_MAX];            /* out: with the others; with OUTCOME_WRITE a remark */
};

/* A line of pgbouncer.def. */
struct row {
	const char *name, *default_text, *conversion;
	enum outcome (*convert)(struct conversion *c);
	const char *section, *key, *remark;
};

extern const struct row setting_rows[SETTING_COUNT];
extern const struct row database_rows[DATABASE_COUNT];
extern const struct row user_rows[USER_COUNT];

/* Of [pgbouncer]: as given, else the default ("" when there is none). */
const char *setting_text(const struct importer *im, enum setting_id id);
/* The number in such a text; 0 when it is none. */
double number_of(const char *text);
/* Server connections that the pools of a database or a user (NULL: of any) may have, beside the reserve. */
double pool_size_of(const struct importer *im, const struct entry *entry);
/* Where a database leads. False: the value is none, and convert_host() says why. */
bool database_host(const struct importer *im, const struct entry *database, char host[HOST_MAX + 1]);
uint32_t database_port(const struct entry *database); /* 0: not a port */

/* One row. The caller frees c->toml. */
enum outcome convert(const struct importer *im, const struct row *row, const struct entry *entry, const char *text,
		     struct conversion *ret);

void toml_string(struct buf *out, const char *text);
void importer_tell(struct importer *im, enum import_verdict verdict, struct ini_place place, const char *format, ...)
	PRINTF_LIKE(4, 5);
/* All of it. What is wrong only now is told. */
void write_toml(struct importer *im, const char *name, struct buf *out);

#endif
