/*
 * What the files of admin/ share. Who does what:
 *   admin.c      the beginning and the end
 *   transport.c  HTTP over a listening socket
 *   clients.c    its connections: how many, whose, since when
 *   tls.c        what it needs for HTTPS
 *   access.c     who may
 *   strikes.c    wrong tokens, by where they came from
 *   dispatch.c   which handler
 *   routes.c     the table of endpoints
 *   answer.c     what a handler answers
 *   round.c      asking all workers something
 *   sampler.c    what was counted, by the second
 *   history.c    rows of that
 *   text.c       pure helpers
 *   provider.c   what Patroni says
 *   queries.c    statistics of queries, collected
 *   streams.c    streams of events and of log lines
 *   endpoints_*  the handlers
 *   metrics_*    what GET /metrics shows, see metrics.h
 */
#ifndef ADMIN_ADMIN_PRIV_H
#define ADMIN_ADMIN_PRIV_H

#include "admin/admin.h"
#include "admin/clients.h"
#include "admin/strikes.h"
#include "admin/text.h"
#include "admin/tls.h"
#include "base/arena.h"
#include "cluster/operation.h"

#include <jansson.h>
#include <microhttpd.h>

#define STATUS_CLASSES 5u /* 1xx to 5xx */

struct admin_counts {
	_Atomic uint64_t answers[STATUS_CLASSES];
	_Atomic uint64_t tokens_refused, tokens_delayed, connections_refused, connections_late;
};

struct admin {
	struct admin_context context;                      /* config: under the lock */
	struct transport *transports[ADMIN_LISTENERS_MAX]; /* written at the start only, under the lock */
	int listen_fds[ADMIN_LISTENERS_MAX];
	uint32_t transport_count;
	struct sql_runner *sql; /* statements that are run */
	_Atomic bool draining;
	pthread_mutex_t lock;  /* of all below but the counts, and of context.config. Short: no waiting, no callback */
	struct admin_tls *tls; /* for new connections; NULL: HTTP */
	struct admin_tls *next_tls; /* of admin_prepare(); the control thread's */
	struct strikes strikes;
	struct admin_counts counts;
	struct running_config *running; /* see endpoints_v1_config.c; NULL: out of memory */
	struct streams *streams;
	struct round *ping;           /* the last one, see endpoint_live(); NULL: none yet */
	pthread_mutex_t queries_lock; /* of whoever collects statistics of queries */
	struct sampler *sampler;      /* from before the transports until after them; NULL: there is none */
};

/* ---- transport.c ---- */
struct transport;

/* The listening socket stays the caller's, and open until the end. 0 or -errno. */
int transport_start(struct admin *admin, const struct admin_listener *listener, struct transport **ret) MUST_USE;
/* Closes connections that have kept us waiting; how many. */
uint32_t transport_tick(struct transport *t, usec_t now);
uint32_t transport_clients(struct transport *t); /* connections */
/* See admin_quiesce(). */
void transport_quiesce(struct transport *t);
void transport_stop(struct transport *t); /* NULL is fine */

/* ---- a request and its answer ---- */
/* Who may use an endpoint; each may what those above may. */
enum access_right { ACCESS_OPEN, ACCESS_READ, ACCESS_OPERATE, ACCESS_ADMIN };

struct request {
	struct admin *admin;
	struct MHD_Connection *connection;
	const char *method, *path;
	struct slice body;
	char argument[256]; /* what stands in the place of {name}; "" */
	struct client *client;
	bool is_exposed; /* it came by an address that other machines can reach */
	/* Who asks, from dispatch() on: what they may (ACCESS_OPEN: it was not looked at), the name of their token
	 * ("": they needed none), and what they showed. */
	enum access_right right;
	char token[ADMIN_TOKEN_NAME_MAX + 1];
	const char *proof;     /* "token", "certificate", "unix socket", "none" */
	struct upload *upload; /* the transport's own */
};

struct answer {
	unsigned status;
	/* of what is part of the program */
	bool body_is_static;
	char etag[40];        /* "": it is not to be kept */
	const char *encoding; /* NULL: none */
	const char *policy;   /* of its content; NULL: it may load nothing */
	const char *type;     /* Content-Type */
	char *body;           /* malloc'd; NULL: out of memory */
	size_t len;
	struct MHD_Response *response; /* instead of a body: the handler's own; NULL: none */
	unsigned retry_after;          /* seconds; 0: not said */
	char allow[64];                /* "": none */
	bool closes;                   /* the connection ends with it */
	bool is_late;                  /* it comes later: see request_later() */
	bool tells_problems;           /* errors are problem details (RFC 9457), not the reference's {"error": text} */
};

const char *request_header(const struct request *request, const char *name);    /* NULL: not given */
const char *request_parameter(const struct request *request, const char *name); /* of the query string; likewise */
/* Who asks, for the log. */
void request_client(const struct request *request, char *text, size_t size);
/* One log line about something that an operator did over HTTP. */
void request_log(const struct request *request, const char *message, const char *key, uint64_t value);

/* Address and port, or "unix". */
void request_client(const struct request *request, char *text, size_t size);

void request_log_node(const struct request *request, const char *message, const struct node *node);

/* The members were changed. */
void request_log_change(const struct request *request, const char *message, const char *node, bool persisted);

void answer_json(struct answer *answer, unsigned status, json_t *json); /* takes the reference */
void answer_error(struct answer *answer, unsigned status, const char *format, ...) PRINTF_LIKE(3, 4);
/* The same with a word of its own for programs to tell it by, such as "no_such_node": stable, see docs/admin-api.md. */
void answer_problem(struct answer *answer, unsigned status, const char *code, const char *format, ...)
	PRINTF_LIKE(4, 5);
/* The same with further members, whose reference it takes. */
void answer_problem_with(struct answer *answer, unsigned status, const char *code, const char *detail, json_t *more);
/* Takes the bytes over. */
void answer_text(struct answer *answer, const char *type, struct buf *text);
/* A JSON string of any bytes; NULL becomes null. */
json_t *json_text(const char *s);
json_t *json_text_or_null(const char *s); /* "" becomes null, too */
static inline void json_put(json_t *object, const char *key, json_t *value)
{
	(void)json_object_set_new(object, key, value);
}

/*
 * An answer that comes later, from any thread: the handler asks for it, leaves its own answer alone and returns. What
 * is asked for must be answered before the transport stops. Until later_send() the client may hang up unheard: whoever
 * works for it may poll its socket.
 */
struct later;
struct later *request_later(struct request *request, struct answer *answer); /* NULL: out of memory */
int later_client_fd(const struct later *later);
struct answer *later_answer(struct later *later); /* to be filled in */
void later_send(struct later *later);             /* `later` is gone */

/* ---- access.c ---- */
/* May it be? False: it was answered. From then on request->right, token and proof are there. */
bool access_check(struct request *request, enum access_right needed, struct answer *answer) MUST_USE;
bool request_changes(const struct request *request); /* its method is one of those that change something */

/* ---- dispatch.c ---- */
/* On a thread of the transport; the body is there. */
void dispatch(struct request *request, struct answer *answer);
/* The answer is there, now or later: it is counted, and what was asked for is written down. */
void dispatch_end(const struct request *request, struct answer *answer);
/* An answer that comes later is sent now. */
void dispatch_count(struct admin *admin, const struct answer *answer);
const char *access_name(enum access_right right); /* "open", "read", "operate", "admin": the roles' names, too */

/* ---- routes.c ---- */
struct route {
	const char *method; /* NULL: all */
	const char *path, *help;
	void (*handler)(struct request *request, struct answer *answer); /* NULL: not in this build */
	enum access_right access;
};

extern const struct route routes[];
extern const size_t route_count;

/* Is it of the versioned API? What that lacks is not found, rather than "not in this build". */
bool path_is_versioned(const char *path);
/* NULL: none; then allow says which methods the path has ("": there is no such path). */
const struct route *route_find(const char *method, const char *path, struct slice *ret_argument, char *allow,
			       size_t allow_size);

#define ENDPOINT(method, path, access, name, help) void endpoint_##name(struct request *request, struct answer *answer);
#include "admin/endpoints.def"

/* ---- round.c ---- */
/*
 * Something asked of all workers at once. A part each; a worker fills its own on its thread. Whoever asks waits for at
 * most ROUND_WAIT and then looks at the parts that are there; a late worker does its part when it comes to it, and the
 * last one that holds the round frees it.
 */
#define ROUND_WAIT_MS 2000

struct round_part {
	struct loop_message message;
	struct round *round;
	bool is_done; /* under the round's lock */
	/* the worker's answer */
	struct arena arena; /* of rows */
	struct session_row *rows;
	uint32_t row_count, matched;             /* matched: rows there would be without a limit */
	struct routing_explanation *explanation; /* NULL: none */
	struct query_part *queries;              /* in the arena, likewise; see queries.c */
	bool found;
	enum cancel_verdict verdict;
	const char *node; /* in the arena; NULL: none */
};

struct session_row {
	struct session_row *next;
	struct session_view view;
};

typedef void round_work(struct worker *worker, struct round_part *part, uint64_t argument);

/* NULL: out of memory. A reference for the caller. work NULL: only to see that they answer. */
struct round *round_begin(struct sessions_shared *sessions, round_work *work, uint64_t argument);
struct round *round_ref(struct round *round);
void round_unref(struct round *round); /* NULL is fine */
/* The same with a copy of `size` bytes that lives as long as the round; its address is the work's argument. */
struct round *round_begin_with(struct sessions_shared *sessions, round_work *work, const void *data, size_t size);
/* Until all are done, or ROUND_WAIT_MS after its begin. True: all are done. */
bool round_wait(struct round *round);
uint32_t round_late(struct round *round); /* workers that have not answered */
uint64_t round_age_ms(const struct round *round);
uint32_t round_count(const struct round *round);
const struct round_part *round_part(struct round *round, uint32_t index); /* NULL: not done yet */

/* ---- sampler.c ---- */
void admin_sum_counters(const struct admin *admin, struct counters *ret);
void admin_sum_latencies(const struct admin *admin, struct latency_totals ret[LATENCY_COUNT]);

struct history_row;
/* NULL: there will be no history. */
struct sampler *sampler_start(struct admin *admin);
void sampler_stop(struct sampler *s); /* NULL is fine, here and below */
/* The last rows, at most so many, oldest first. How many. */
uint32_t sampler_copy(struct sampler *s, uint32_t most, struct history_row *rows);

/* ---- what endpoints show in more than one place ---- */
struct pool_row {
	struct pool_row *next;
	struct pool_view view;
};

/* Copies, since clients that log in would have to wait for the registry's lock. */
struct pool_rows {
	struct arena arena;
	struct pool_row *first, **end;
	bool failed; /* out of memory */
};

bool pool_rows_collect(struct pool_rows *rows, struct pools *pools) MUST_USE;
void pool_rows_free(struct pool_rows *rows);

/* NULL: nobody looks after the nodes. */
const struct topology *admin_hold_topology(struct admin *admin);
void admin_release_topology(const struct topology *topology); /* NULL is fine */

const char *role_name(enum node_role role);
json_t *time_json(uint64_t wall_us);               /* 0: null */
json_t *drain_json(struct node *node);             /* null: it does not drain */
const char *circuit_name(const struct node *node); /* state of its circuit breaker; NULL: it has none */

/* NULL: it was answered that there is no such node. */
struct node *request_node(struct request *request, struct answer *answer);
/* false: it was answered that the parameter deadline_secs makes no sense. */
bool request_deadline(struct request *request, struct answer *answer, usec_t *ret);
/* "true" or "1", "false" or "0", or not given; false: it was answered that it is something else. */
bool request_flag(struct request *request, struct answer *answer, const char *parameter, bool *ret) MUST_USE;
bool node_is_primary(struct admin *admin, const struct node *node);
/* The parameters of what makes links leave: deadline_secs and force. false: it was answered that one makes no sense. */
bool request_leaving(struct request *request, struct answer *answer, struct operation *o);
/* With the node that the path names. false: it was answered why not, behind `refusal`. */
bool request_operate(struct request *request, struct answer *answer, struct operation *o, const char *refusal);
/* Of what members_add() and the like, or operation_run(), return. */
unsigned operation_status(int r);
/* Links of nodes that drain leave now. */
void request_tell_workers(struct request *request);

/* provider.c */
json_t *patroni_json(struct admin *admin); /* null: it is not asked */

/* Enabled nodes that are not known to be unhealthy. */
uint32_t nodes_healthy(const struct node_list *nodes);
/* May clients be sent here? message: why (not). */
bool admin_is_ready(struct admin *admin, const char **ret_message);

#endif
