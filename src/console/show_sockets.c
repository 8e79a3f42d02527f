/* Connections, of clients and to servers: each worker writes rows of its own. */
#include "console/console_priv.h"

#include <arpa/inet.h>
#include <inttypes.h>
#include <netinet/in.h>
#include <stdio.h>
#include <time.h>

/* What each kind of rows looks like. */
enum style { STYLE_SHORT, STYLE_DEBUG, STYLE_ACTIVE, STYLE_FDS };

struct writing {
	struct rows *rows;
	enum style style;
	usec_t now;
	uint64_t wall; /* the same moment */
};

/* ---- values ---- */

struct place {
	char host[INET6_ADDRSTRLEN];
	uint16_t port;
};

/* PgBouncer shows "unix" for a unix socket. */
static struct place place_of(const struct sockaddr_storage *a, bool known)
{
	struct place p = {.host = "unix"};

	if (known && a->ss_family == AF_INET) {
		inet_ntop(AF_INET, &((const struct sockaddr_in *)a)->sin_addr, p.host, sizeof(p.host));
		p.port = ntohs(((const struct sockaddr_in *)a)->sin_port);
	} else if (known && a->ss_family == AF_INET6) {
		inet_ntop(AF_INET6, &((const struct sockaddr_in6 *)a)->sin6_addr, p.host, sizeof(p.host));
		p.port = ntohs(((const struct sockaddr_in6 *)a)->sin6_port);
	}
	return p;
}

static struct place peer_of(const struct conn *conn)
{
	struct sockaddr_storage a;
	socklen_t len = sizeof(a);

	return place_of(&a, getpeername(conn->fd, (struct sockaddr *)&a, &len) == 0);
}

static struct place local_of(const struct conn *conn)
{
	struct sockaddr_storage a;
	socklen_t len = sizeof(a);

	return place_of(&a, getsockname(conn->fd, (struct sockaddr *)&a, &len) == 0);
}

static void put_time(const struct writing *w, usec_t ago)
{
	time_t at = (time_t)((w->wall - ago) / USEC_PER_SEC);
	char text[64];
	struct tm tm;

	localtime_r(&at, &tm);
	if (strftime(text, sizeof(text), "%Y-%m-%d %H:%M:%S %Z", &tm) == 0)
		text[0] = 0;
	row_text(w->rows, text);
}

/* PgBouncer shows addresses of its memory; what tells connections apart is enough. */
static void put_id(const struct writing *w, char kind, uint64_t id)
{
	char text[24] = "";

	if (id)
		snprintf(text, sizeof(text), "0x%c%" PRIx64, kind, id);
	row_text(w->rows, text);
}

static void put_debug(const struct writing *w, const struct conn *conn)
{
	if (w->style == STYLE_SHORT)
		return;
	row_number(w->rows, conn->kept_len);
	row_number(w->rows, 0);
	row_number(w->rows, 0);
	row_number(w->rows, 0);
	row_number(w->rows, 0);
	row_number(w->rows, conn->kept_len);
	row_number(w->rows, conn_queued(conn));
}

static bool is_wanted(const struct writing *w, const struct conn *conn)
{
	return w->style != STYLE_ACTIVE || conn->kept_len > 0 || conn_queued(conn) > 0;
}

/* No secrets, unlike PgBouncer: it hands its sockets to its successor by this, here SIGUSR2 does that. */
static void put_fd(const struct writing *w, const struct conn *conn, const char *task, const char *user,
		   const char *database)
{
	struct place peer = peer_of(conn);

	row_begin(w->rows);
	row_number(w->rows, (uint64_t)conn->fd);
	row_text(w->rows, task);
	row_text(w->rows, user);
	row_text(w->rows, database);
	row_text(w->rows, peer.host);
	row_number(w->rows, peer.port);
	for (int i = 0; i < 9; i++)
		row_null(w->rows);
	row_end(w->rows);
}

/* ---- clients ---- */

static const char *client_state(const struct writing *w, const struct session_view *v)
{
	bool brief = w->style == STYLE_SHORT;

	if (!v->logged_in)
		return "cl_login";
	if (v->waits)
		return brief ? "waiting" : "cl_waiting";
	if (v->link || v->replicates)
		return brief ? "active" : "cl_active";
	return "idle";
}

static void put_client(const struct session_view *v, void *to)
{
	const struct writing *w = to;
	usec_t wait = v->waits || v->runs ? v->state_us : 0;
	struct place peer, local;

	if (!conn_is_open(v->conn) || (!v->logged_in && w->style == STYLE_SHORT) || !is_wanted(w, v->conn))
		return;
	if (w->style == STYLE_FDS) {
		put_fd(w, v->conn, "client", v->user, v->database);
		return;
	}
	peer = peer_of(v->conn);
	local = local_of(v->conn);
	row_begin(w->rows);
	row_text(w->rows, "C");
	row_text(w->rows, *v->user ? v->user : "(nouser)");
	row_text(w->rows, *v->database ? v->database : "(nodb)");
	row_text(w->rows, v->replicates ? "logical" : "none");
	row_text(w->rows, client_state(w, v));
	row_text(w->rows, peer.host);
	row_number(w->rows, peer.port);
	row_text(w->rows, local.host);
	row_number(w->rows, local.port);
	put_time(w, v->connected_us);
	put_time(w, v->state_us);
	row_number(w->rows, wait / USEC_PER_SEC);
	row_number(w->rows, wait % USEC_PER_SEC);
	row_number(w->rows, 0);
	put_id(w, 'c', v->pid);
	put_id(w, 'd', v->link);
	row_number(w->rows, 0);
	row_text(w->rows, v->tls);
	row_text(w->rows, v->application);
	row_number(w->rows, v->statements);
	row_number(w->rows, v->pid);
	put_debug(w, v->conn);
	row_end(w->rows);
}

/* ---- servers ---- */

static const char *server_state(const struct writing *w, const struct link_view *v)
{
	static const char *const long_names[][2] = {
		{"active", "sv_active"}, {"idle", "sv_idle"}, {"tested", "sv_tested"}, {"new", "sv_login"}};

	for (size_t i = 0; w->style != STYLE_SHORT && i < ARRAY_SIZE(long_names); i++)
		if (strcmp(long_names[i][0], v->state) == 0)
			return long_names[i][1];
	return v->state;
}

static void put_server(const struct link_view *v, void *to)
{
	const struct writing *w = to;
	const struct conn *conn = &v->link->conn;
	struct place peer, local;

	if (!conn_is_open(conn) || !is_wanted(w, conn))
		return;
	if (w->style == STYLE_FDS) {
		put_fd(w, conn, "server", pool_user(v->pool), pool_database(v->pool));
		return;
	}
	peer = peer_of(conn);
	local = local_of(conn);
	row_begin(w->rows);
	row_text(w->rows, "S");
	row_text(w->rows, pool_user(v->pool));
	row_text(w->rows, pool_database(v->pool));
	row_text(w->rows, v->link->apart ? "logical" : "none");
	row_text(w->rows, server_state(w, v));
	row_text(w->rows, peer.host);
	row_number(w->rows, peer.port);
	row_text(w->rows, local.host);
	row_number(w->rows, local.port);
	put_time(w, clock_since(v->link->born, w->now));
	put_time(w, clock_since(MAX(v->link->used, v->link->lent), w->now));
	row_number(w->rows, 0);
	row_number(w->rows, 0);
	row_number(w->rows, v->leaves);
	put_id(w, 'd', v->link->id);
	put_id(w, 'c', v->client);
	row_number(w->rows, v->link->backend_pid);
	row_text(w->rows, conn_is_tls(conn) ? conn_tls_version(conn) : "");
	row_text(w->rows, v->application);
	row_number(w->rows, v->link->statements.count);
	row_number(w->rows, v->link->id);
	put_debug(w, conn);
	row_end(w->rows);
}

/* ---- visits: a page of clients each; behind them, or instead, all servers of the worker ---- */

static void write_page(struct worker *w, struct visit *visit, enum style style, bool clients, bool servers)
{
	struct writing writing = {.rows = &visit->rows, .style = style, .now = clock_now(), .wall = clock_wall()};

	if (clients)
		visit->next = worker_some_sessions(w, visit->next, PAGE_ROWS, put_client, &writing);
	if (servers && visit->next == 0)
		worker_each_link(w, put_server, &writing);
}

void show_clients(struct worker *w, struct visit *visit)
{
	write_page(w, visit, STYLE_SHORT, /* clients= */ true, /* servers= */ false);
}

void show_servers(struct worker *w, struct visit *visit)
{
	write_page(w, visit, STYLE_SHORT, /* clients= */ false, /* servers= */ true);
}

void show_sockets(struct worker *w, struct visit *visit)
{
	write_page(w, visit, STYLE_DEBUG, /* clients= */ true, /* servers= */ true);
}

void show_active_sockets(struct worker *w, struct visit *visit)
{
	write_page(w, visit, STYLE_ACTIVE, /* clients= */ true, /* servers= */ true);
}

void show_fds(struct worker *w, struct visit *visit)
{
	write_page(w, visit, STYLE_FDS, /* clients= */ true, /* servers= */ true);
}

/* ---- memory ---- */

static void put_slab(struct rows *rows, const char *name, uint32_t worker, const struct slab *slab)
{
	char text[64];

	snprintf(text, sizeof(text), "%s_%u", name, worker);
	row_begin(rows);
	row_text(rows, text);
	row_number(rows, slab->size);
	row_number(rows, slab->in_use);
	row_number(rows, slab->total - slab->in_use);
	row_number(rows, slab->total * slab->size);
	row_end(rows);
}

void show_memory(struct worker *w, struct visit *visit)
{
	put_slab(&visit->rows, "client_cache", w->pool_thread.index, &w->session_slab);
	visit->next = 0;
}
