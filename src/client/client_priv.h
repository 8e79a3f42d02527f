/*
 * What the files of client/ share. Who does what:
 *   target.c    which proxy, with what proof    api.c        a request, and what its answer means
 *   verbs.c     the table of verbs              output.c     tables, CSV, JSON
 *   ctl.c       one verb                        follow.c     streams
 *   complete.c  completion of both shells       pages.c      pages made from the table
 *   top.c       the loop and the keys           top_rows.c   what is shown: fetched, sorted, filtered
 *   top_draw.c  a frame                         terminal.c   raw mode, and back
 *   text.c      texts that others chose         sse.c        events out of bytes
 */
#ifndef CLIENT_CLIENT_PRIV_H
#define CLIENT_CLIENT_PRIV_H

#include "base/buf.h"
#include "base/clock.h"
#include "client/client.h"
#include "services/http_call.h"

#include <getopt.h>
#include <jansson.h>

enum client_exit {
	CLIENT_OK,
	CLIENT_REFUSED,     /* the proxy said no */
	CLIENT_USAGE,       /* the command line is wrong */
	CLIENT_UNREACHABLE, /* no answer, or none that makes sense */
};

/* ---- target.c ---- */
struct target {
	char *url; /* without a slash at the end */
	char *socket_path, *token;
	const char *ca_path, *cert_path, *key_path; /* of the command line */
	char note[400]; /* why the configuration does not say where; "": it did, or was not needed */
};

struct target_options {
	const char *url, *socket_path, *token_file, *config_path, *ca_path, *cert_path, *key_path;
};

enum { OPT_URL = 512, OPT_SOCKET, OPT_TOKEN_FILE, OPT_CACERT, OPT_CERT, OPT_KEY };

#define TARGET_OPTIONS \
	{"url", required_argument, NULL, OPT_URL}, {"socket", required_argument, NULL, OPT_SOCKET}, \
		{"token-file", required_argument, NULL, OPT_TOKEN_FILE}, {"config", required_argument, NULL, 'c'}, \
		{"cacert", required_argument, NULL, OPT_CACERT}, {"cert", required_argument, NULL, OPT_CERT}, \
	{ \
		"key", required_argument, NULL, OPT_KEY \
	}

#define TARGET_HELP \
	"      --url URL            the admin API (HELIOS_ADMIN_URL; else as the configuration says)\n" \
	"      --socket PATH        its unix socket\n" \
	"      --token-file FILE    file with the token (else HELIOS_ADMIN_TOKEN, else the configuration's)\n" \
	"  -c, --config FILE        the proxy's configuration (/etc/heliosproxy/proxy.toml)\n" \
	"      --cacert FILE        authorities of the API's certificate, in place of the system's\n" \
	"      --cert FILE, --key FILE   a certificate for the API, and its key\n"

/* false: it is none of TARGET_OPTIONS. */
bool target_option(struct target_options *o, int option, const char *value);
/* false: it was said on standard error why not (unless quiet). */
bool target_find(const struct target_options *o, struct target *ret, bool quiet);
void target_free(struct target *target);

/* ---- api.c ---- */
struct api {
	const struct target *target;
	struct http_caller *caller;
	usec_t timeout;
	/* watched while a request is under way, see struct http_call */
	int fds[HTTP_CALL_FDS];
	bool (*ready)(void *argument);
	void *argument;
};

struct api_answer {
	struct http_call_answer http;
	json_t *json;  /* NULL: the body is none */
	char why[600]; /* of what is not CLIENT_OK: for people, clean */
};

bool api_open(const struct target *target, struct api *ret); /* false: out of memory */
void api_close(struct api *api);
/* path: below the target's URL, as it is to be sent. An enum client_exit. ret is always set. */
int api_call(struct api *api, const char *method, const char *path, const char *body, struct api_answer *ret);
void api_answer_free(struct api_answer *answer);
/* What an answer that is there means: fills json, why. */
int api_judge(const struct api *api, struct api_answer *answer);

/* ---- verbs.c ---- */
enum verb_argument {
	ARGUMENT_NONE,
	ARGUMENT_NODE,
	ARGUMENT_NODE_OR_NONE,
	ARGUMENT_PID,
	ARGUMENT_DATABASE,
	ARGUMENT_ADDRESS,
	ARGUMENT_CONFIG_KEY, /* may be absent */
	ARGUMENT_QUERY,
	ARGUMENT_PATH, /* a body may follow */
};

enum verb_flags { VERB_ASKS = 1, VERB_BODY = 2, VERB_FOLLOWS = 4, VERB_RAW = 8, VERB_WHOLE = 16 };

struct verb {
	const char *words, *keys, *method, *path, *rows, *help;
	enum verb_argument argument;
	unsigned flags;
};

struct verb_key {
	char name[32];
	char type;      /* 's' text, 'n' number, 'b' truth, 'w' one of words */
	char words[96]; /* "one|other" */
};

extern const struct verb verbs[];
extern const size_t verb_count;

/* The longest verb that these words begin with; *ret_used of them are its own. NULL: none. */
const struct verb *verb_find(char *const *words, int count, int *ret_used);
const char *verb_argument_name(enum verb_argument argument); /* "NODE"; "": none */
/* The next key of a verb's; *at begins as its keys. false: no more. */
bool verb_next_key(const char **at, struct verb_key *ret);
bool verb_find_key(const struct verb *verb, const char *name, size_t len, struct verb_key *ret);
/* The verb nearest to a word that is none; NULL: nothing is near. */
const char *verb_near(const char *word);

/* ---- columns ---- */
enum column_format { FORMAT_TEXT, FORMAT_NUMBER, FORMAT_MS, FORMAT_BYTES, FORMAT_BOOL, FORMAT_TIME };

struct column {
	const char *list, *key, *title;
	enum column_format format;
	unsigned width;
};

extern const struct column client_columns[];
extern const size_t client_column_count;
/* The first of a list's; *ret_count follow each other. NULL: no such list. */
const struct column *columns_of(const char *list, size_t *ret_count);
/* "a.b" is b in the object a. NULL: not there. */
json_t *json_member(const json_t *object, const char *key);

/* ---- output.c ---- */
enum output_format { OUTPUT_TABLE, OUTPUT_JSON, OUTPUT_CSV };

struct output {
	FILE *to;
	enum output_format format;
	bool is_terminal, unicode;
};

void output_init(struct output *o, FILE *to);
/* A value as text: strings as they are, null as "", the rest as JSON. */
void buf_add_value(struct buf *b, const json_t *value);
void output_json(const struct output *o, const json_t *json);
/* A list's items, or an object's members. rows: "" or a list of columns.def. whole: what stands beside the items, too.
 */
void output_answer(const struct output *o, const json_t *json, const char *rows, bool whole);
/* One item of a stream; the header is written before the first. */
void output_item(const struct output *o, const json_t *item, const char *rows, bool is_first);
/* What POST /sql answers. */
void output_result(const struct output *o, const json_t *json);
/* Bytes as they came; on a terminal without what would control it. */
void output_raw(const struct output *o, const char *bytes, size_t len);

/* ---- follow.c ---- */
/* Until it is interrupted or refused. An enum client_exit. */
int follow_stream(const struct target *target, const char *path, const char *rows, const struct output *o);

/* Is the terminal's character set UTF-8? Sets the locale of characters. */
bool client_locale(void);
/* A line on standard error, clean: "heliosdb-proxy ctl: ..." */
void client_say(const char *command, const char *format, ...) PRINTF_LIKE(2, 3);

#endif
