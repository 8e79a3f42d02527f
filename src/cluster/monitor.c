/* See monitor.h. */
#include "cluster/monitor.h"

#include "base/log.h"
#include "cluster/changes.h"
#include "cluster/facts_heliosdb.h"
#include "cluster/heartbeat.h"
#include "wire/frame.h"
#include "wire/message.h"
#include "wire/reader.h"

#include <stdio.h>
#include <unistd.h>

#define QUESTION_MAX (64u << 10)
#define ANSWER_MAX   (64u << 10) /* of one message */
#define ROW_MAX      4096u

#define HEARTBEAT_MIN (100 * USEC_PER_MSEC)

static const char connect_query[] = "SET application_name = 'heliosdb-proxy monitor'";

enum monitor_state { MONITOR_IDLE, MONITOR_OPENING, MONITOR_ASKING, MONITOR_LOCATING, MONITOR_BEATING };

struct monitor {
	struct node *node;
	struct loop *loop;
	enum monitor_state state;
	const struct monitor_settings *settings; /* of the check under way */
	struct link *link;                       /* NULL: none */
	bool link_is_new;                        /* opened for this check */
	uint32_t moves;                          /* of the node, when the link was opened */
	struct timer timeout;
	usec_t deadline, asked;
	/* the answer, as far as it has come */
	uint32_t readies_due; /* ReadyForQuery that are to come */
	uint32_t results;     /* of facts_query: 1, its first one has begun; 2, its second one */
	bool told;            /* `coming` is whole */
	char refusal[200];    /* ErrorResponse to facts_query; "": none */
	struct node_facts facts, coming;
	/* the light question */
	struct facts_position position;
	struct monitor_place place;
	bool no_place; /* the last answer was an error: not again before the next check */
	bool no_place_is_told;
	bool clock_is_told;
	/* heartbeats */
	uint64_t seen_beat;
	struct monitor_beat beat;
	bool no_beat_is_told;
};

/* A clock that differs by so much is worth a line in the log; one by less than half of it is right again. */
#define CLOCK_SKEW_TOLD (10 * USEC_PER_SEC)

/* ---- settings ---- */

/* A name that is the same after a restart: heartbeats of one proxy are one row. NULL: out of memory. */
static char *name_of_this_proxy(const struct config *config)
{
	const struct config_strings *listen = &config->proxy.listen_address;
	char host[128] = "", text[384];

	(void)gethostname(host, sizeof(host) - 1);
	snprintf(text, sizeof(text), "%s/%s", host, listen->count ? listen->items[0] : "");
	return strdup(text);
}

struct monitor_settings *monitor_settings_new(const struct config *config, struct tls_context *server_tls)
{
	const struct config_health *h = &config->health;
	struct monitor_settings *s = calloc(1, sizeof(*s));

	if (!s)
		return NULL;
	s->health = *h;
	s->health.user = s->health.password = s->health.database = s->health.check_query = NULL;
	s->logs_in = *h->user != 0;
	s->loss.names_next = config->topology.provider == PROVIDER_PATRONI;
	s->loss.hold_for = s->logs_in ? config->proxy.write_timeout : 0;
	s->of_heliosdb = config->topology.provider == PROVIDER_HELIOSDB;
	s->user = strdup(h->user);
	s->database = strdup(h->database);
	s->check_query = strdup(h->check_query);
	s->heartbeat_table = strdup(config->lag_routing.heartbeat_table);
	s->heartbeat_interval =
		*config->lag_routing.heartbeat_table ? MAX(config->lag_routing.heartbeat_interval, HEARTBEAT_MIN) : 0;
	s->proxy = name_of_this_proxy(config);
	s->tls = tls_context_ref(server_tls);
	s->tls_mode = config->server_tls.mode;
	s->tls_direct = config->server_tls.direct;
	s->keepalive = config->proxy.tcp_keepalive;
	s->user_timeout = config->proxy.tcp_user_timeout;
	s->discovers = config->topology.discover && s->logs_in;
	s->discover_port = (uint16_t)config->topology.discover_port;
	s->discover_forget = config->topology.discover_forget;
	s->poll_interval = s->of_heliosdb ? 0 : config->lag_routing.poll_interval; /* its positions say nothing */
	s->refuses_contested = config->topology.when_contested == WHEN_CONTESTED_REFUSE;
	if (!s->user || !s->database || !s->check_query || !s->heartbeat_table || !s->proxy ||
	    secret_parse(h->password, &s->secret) < 0) {
		monitor_settings_free(s);
		return NULL;
	}
	secret_remember_keys(&s->secret);
	return s;
}

void monitor_settings_free(struct monitor_settings *s)
{
	if (!s)
		return;
	free(s->user);
	free(s->database);
	free(s->check_query);
	free(s->heartbeat_table);
	free(s->proxy);
	secret_wipe(&s->secret);
	tls_context_unref(s->tls);
	free(s);
}

bool monitor_settings_differ(const struct monitor_settings *a, const struct monitor_settings *b)
{
	return a->logs_in != b->logs_in || strcmp(a->user, b->user) != 0 || strcmp(a->database, b->database) != 0 ||
	       !secret_equal(&a->secret, &b->secret) || a->tls != b->tls || a->tls_mode != b->tls_mode ||
	       a->tls_direct != b->tls_direct;
}

/* ---- the position of the node ---- */

static void tell_position(struct monitor *m, const struct position *p)
{
	struct position before = {.kind = POSITION_NONE};
	bool was_known = position_read(&m->node->position, &before);

	position_publish(&m->node->position, p);
	if (was_known != (p->kind != POSITION_NONE) || before.kind != p->kind || before.timeline != p->timeline ||
	    before.lsn != p->lsn)
		changes_tell();
}

static void forget_position(struct monitor *m)
{
	tell_position(m, &(struct position){.kind = POSITION_NONE});
}

/* Of the role and on the timeline that its last check found. */
static void publish_position(struct monitor *m, uint64_t lsn, usec_t asked_at)
{
	const struct node_facts *f = &m->facts;
	struct position p = {.kind = f->in_recovery ? POSITION_REPLAY : POSITION_INSERT,
			     .timeline = f->timeline,
			     .lsn = lsn,
			     .asked_at = asked_at};

	if (lsn == 0)
		p.kind = POSITION_NONE;
	else if (p.kind == POSITION_INSERT)
		p.lsn = position_end_of_records(lsn, f->wal_block, f->wal_segment);
	tell_position(m, &p);
}

/* After a check. It does not ask for the insert position: what is known of that is still true if the history is the
 * same. */
static void renew_position(struct monitor *m)
{
	struct position known;

	if (m->facts.in_recovery)
		publish_position(m, m->facts.replay_lsn, m->asked);
	else if (!position_read(&m->node->position, &known) || known.kind != POSITION_INSERT ||
		 known.timeline != m->facts.timeline)
		forget_position(m);
}

/* ---- the end of a check ---- */

static void drop_link(struct monitor *m)
{
	struct link *link = m->link;

	m->link = NULL;
	forget_position(m);
	if (link)
		link_close(link);
}

/* Failures since a client's connection could log in, which says more than a check. */
static uint32_t failed_in_row(const struct monitor *m)
{
	return atomic_load(&m->node->answered_at) > m->facts.failed_at ? 0 : m->facts.failed_in_row;
}

static void end_check(struct monitor *m, enum check_result result, const char *error)
{
	struct node_facts *f = &m->facts;
	bool good = result != CHECK_FAILED, is_news = strcmp(f->error, error) != 0 || f->last != result;

	timer_cancel(&m->timeout);
	m->state = MONITOR_IDLE;
	m->no_place = false;
	if (result != CHECK_GOOD)
		forget_position(m);
	f->last = result;
	f->checked_at = clock_now();
	f->checked_wall = clock_wall();
	f->failed_in_row = good ? 0 : failed_in_row(m) + 1;
	f->good_in_row = good ? f->good_in_row + 1 : 0;
	if (!good)
		f->failed_at = f->checked_at;
	snprintf(f->error, sizeof(f->error), "%s", error);
	atomic_store(&m->node->failed_in_row, f->failed_in_row);
	atomic_store(&m->node->good_in_row, f->good_in_row);
	atomic_store(&m->node->last_check_wall, f->checked_wall);
	if (is_news && result == CHECK_REFUSED)
		log_warn("the node does not tell the monitor what it is: check [health] user, password and database",
			 kv_str("node", m->node->name), kv_str("user", m->settings->user), kv_str("reason", error));
	else if (is_news && result == CHECK_FAILED)
		log_info("a check of the node failed", kv_str("node", m->node->name), kv_str("reason", error));
}

static void fail_check(struct monitor *m, const char *why)
{
	drop_link(m);
	end_check(m, CHECK_FAILED, why);
}

static void end_beating(struct monitor *m, const char *error);

static void timed_out(struct timer *timer)
{
	struct monitor *m = container_of(timer, struct monitor, timeout);

	if (m->state == MONITOR_BEATING) { /* that may be the table's fault: a check will tell about the node */
		drop_link(m);
		end_beating(m, "no answer within check_timeout");
		node_in_doubt(m->node);
		return;
	}
	fail_check(container_of(timer, struct monitor, timeout), "no answer within check_timeout");
}

/* Nothing in the proxy goes by a node's clock; but who compares its logs, or has now() from several nodes, wants to
 * know. */
static void look_at_clock(struct monitor *m)
{
	int64_t skew = m->facts.clock_skew_us;
	usec_t off = (usec_t)(skew < 0 ? -skew : skew);

	if (!m->clock_is_told && off >= CLOCK_SKEW_TOLD)
		log_warn("the node's clock differs from the proxy's", kv_str("node", m->node->name),
			 kv_int("ahead_by_ms", skew / 1000));
	else if (m->clock_is_told && off < CLOCK_SKEW_TOLD / 2)
		log_info("the node's clock is right again", kv_str("node", m->node->name));
	else
		return;
	m->clock_is_told = !m->clock_is_told;
}

/* Everything has been answered. */
static void end_answer(struct monitor *m, char tx_status)
{
	m->facts.latency = clock_now() - m->asked;
	link_take_back(m->link);
	if (tx_status != 'I') /* a check_query that begins a transaction */
		drop_link(m);
	if (!m->told) {
		end_check(m, CHECK_REFUSED, *m->refusal ? m->refusal : "the answer makes no sense");
		return;
	}
	m->coming.latency = m->facts.latency;
	m->coming.known_at = clock_now();
	m->facts = m->coming;
	look_at_clock(m);
	renew_position(m);
	end_check(m, CHECK_GOOD, "");
}

/* The same of the light question. */
static void end_locating(struct monitor *m)
{
	timer_cancel(&m->timeout);
	link_take_back(m->link);
	m->state = MONITOR_IDLE;
	if (!m->told) {
		if (!m->no_place_is_told)
			log_warn("the node does not tell where it is in its log", kv_str("node", m->node->name),
				 kv_str("reason", *m->refusal ? m->refusal : "the answer makes no sense"));
		m->no_place = m->no_place_is_told = true;
		forget_position(m);
	} else if (m->position.in_recovery != m->facts.in_recovery) {
		forget_position(m);
		node_in_doubt(m->node);
	} else {
		m->no_place_is_told = false;
		m->place = (struct monitor_place){m->position, m->asked, clock_now()};
		publish_position(m, m->position.lsn, m->asked);
	}
}

/* Of a heartbeat; error: NULL: none. */
static void end_beating(struct monitor *m, const char *error)
{
	timer_cancel(&m->timeout);
	if (m->link)
		link_take_back(m->link);
	m->state = MONITOR_IDLE;
	m->beat.good = !error;
	m->beat.beat = m->seen_beat;
	m->beat.told_at = clock_now();
	if (error && !m->no_beat_is_told)
		log_warn("a heartbeat could not be written or read; lag is what positions in the log say",
			 kv_str("node", m->node->name), kv_str("table", m->settings->heartbeat_table),
			 kv_str("reason", error));
	m->no_beat_is_told = error != NULL;
	atomic_fetch_add_explicit(error ? &m->node->heartbeat_failures : &m->node->heartbeats, 1, memory_order_relaxed);
}

/* ---- the answer ---- */

static void error_text(const uint8_t *body, size_t len, char *text, size_t size)
{
	struct error_fields e = {0};

	if (!message_read_error(body, len, &e))
		e.message = SLICE_LITERAL("malformed error");
	snprintf(text, size, "%.*s%s%.*s (%.*s)", (int)MIN(e.message.len, 120u), (const char *)e.message.bytes,
		 e.detail.len ? ": " : "", (int)MIN(e.detail.len, 60u), (const char *)e.detail.bytes,
		 (int)e.sqlstate.len, (const char *)e.sqlstate.bytes);
}

/* The columns as C strings in `room`. Their number; 0: malformed, or too long. */
static uint32_t read_row(const struct frame *f, const char **columns, uint32_t max, char *room, size_t size)
{
	struct reader r = reader_make(f->body, f->body_len);
	uint32_t count = read_u16(&r);
	size_t at = 0;

	if (count > max || f->body_len + count > size)
		return 0;
	for (uint32_t i = 0; i < count; i++) {
		uint32_t len = read_u32(&r);
		struct slice value = read_slice(&r, len == UINT32_MAX ? 0 : len);

		columns[i] = len == UINT32_MAX ? NULL : room + at;
		if (len == UINT32_MAX)
			continue;
		memcpy(room + at, value.bytes, value.len);
		room[at + value.len] = 0;
		at += value.len + 1;
	}
	return reader_done(&r) ? count : 0;
}

static void take_heliosdb(struct monitor *m, const char *const *columns, uint32_t count)
{
	int r = -EPROTO;

	if (m->results == 1)
		r = facts_take_heliosdb(&m->coming, columns, count);
	else if (m->results == 2 && m->told)
		r = facts_take_heliosdb_sender(&m->coming, columns, count);
	m->told = r == 0;
	if (r == -ENOTSUP)
		snprintf(m->refusal, sizeof(m->refusal), "it is neither a primary nor a standby: no queries go there");
}

static void take_row(struct monitor *m, const struct frame *f)
{
	const char *columns[FACTS_NODE_COLUMNS];
	char room[ROW_MAX];
	uint32_t count = read_row(f, columns, FACTS_NODE_COLUMNS, room, sizeof(room));

	if (m->state == MONITOR_BEATING)
		m->told = facts_take_beat(&m->seen_beat, columns, count) == 0;
	else if (m->state == MONITOR_LOCATING)
		m->told = facts_take_position(&m->position, columns, count) == 0;
	else if (m->settings->of_heliosdb)
		take_heliosdb(m, columns, count);
	else if (m->results == 1)
		m->told = facts_take_node(&m->coming, columns, count, clock_wall(), clock_now() - m->asked) == 0;
	else if (m->results == 2 && m->told)
		m->told = facts_take_sender(&m->coming, columns, count) == 0;
}

/* false: the check has ended. */
static bool take_message(void *to, const struct frame *f)
{
	struct monitor *m = to;
	bool of_check_query = m->readies_due == 2;
	char text[200];

	switch (f->type) {
	case 'T':
		m->results += !of_check_query;
		return true;
	case 'D':
		if (!of_check_query)
			take_row(m, f);
		return true;
	case 'E':
		error_text(f->body, f->body_len, text, sizeof(text));
		if (of_check_query) {
			fail_check(m, text);
			return false;
		}
		m->told = false;
		snprintf(m->refusal, sizeof(m->refusal), "%s", text);
		return true;
	case 'S':
		if (link_parameter_status(m->link, f->body, f->body_len))
			return true;
		fail_check(m, "a malformed message");
		return false;
	case 'Z':
		if (--m->readies_due > 0)
			return true;
		if (m->state == MONITOR_BEATING)
			end_beating(m, *m->refusal ? m->refusal : NULL);
		else if (m->state == MONITOR_LOCATING)
			end_locating(m);
		else
			end_answer(m, f->body_len == 1 ? (char)f->body[0] : 'E');
		return false;
	case 'C':
	case 'I':
	case 'N':
	case 'A':
		return true;
	default:
		fail_check(m, "an unexpected message");
		return false;
	}
}

static size_t received(struct link *link, uint8_t *bytes, size_t len)
{
	size_t done;

	if (frames_take(bytes, len, ANSWER_MAX, take_message, link->user, &done))
		return done;
	fail_check(link->user, "a message with an impossible length");
	return len;
}

/* ---- the question ---- */

static void open_link(struct monitor *m);

static void lost_while_asking(struct link *link, int error)
{
	struct monitor *m = link->user;

	drop_link(m);
	if (m->state == MONITOR_LOCATING) {
		timer_cancel(&m->timeout);
		m->state = MONITOR_IDLE;
		node_in_doubt(m->node);
	} else if (m->state == MONITOR_BEATING) {
		end_beating(m, "the connection was lost");
		node_in_doubt(m->node);
	} else if (m->link_is_new)
		end_check(m, CHECK_FAILED, error ? strerror(-error) : "the server closed the connection");
	else
		open_link(m);
}

static const struct link_user_ops user_ops = {.received = received, .lost = lost_while_asking};

static void begin_question(struct monitor *m, enum monitor_state state)
{
	m->state = state;
	m->readies_due = 1;
	m->results = 0;
	m->told = false;
	m->refusal[0] = 0;
	m->asked = clock_update();
	link_lend(m->link, &user_ops, m);
	timer_set(loop_timers(m->loop), &m->timeout, m->deadline);
}

static void ask(struct monitor *m)
{
	const char *facts = m->settings->of_heliosdb ? facts_heliosdb_query : facts_query;
	struct buf question = BUF_INIT(QUESTION_MAX);

	begin_question(m, MONITOR_ASKING);
	m->coming = m->facts;
	if (*m->settings->check_query) {
		m->readies_due++;
		message_query(&question, slice_make(m->settings->check_query, strlen(m->settings->check_query)));
	}
	message_query(&question, slice_make(facts, strlen(facts)));
	if (question.failed)
		fail_check(m, "out of memory, or check_query is too long");
	else
		conn_send(&m->link->conn, question.bytes, question.len);
	buf_free(&question);
}

static void logged_in(struct link *link)
{
	struct monitor *m = link->owner;

	m->facts.latency = 0;
	ask(m);
}

/* As with the links of clients: an error about the user, the database or limits shows that the server works. */
static void login_failed(struct link *link, const struct link_failure *failure)
{
	struct monitor *m = link->owner;
	bool refused = failure->wants_password || (failure->from_server && strncmp(failure->sqlstate, "57", 2) != 0);
	char text[200] = "out of memory";

	m->link = NULL;
	if (failure->error_len > FRAME_HEADER)
		error_text(failure->error + FRAME_HEADER, failure->error_len - FRAME_HEADER, text, sizeof(text));
	end_check(m, refused ? CHECK_REFUSED : CHECK_FAILED, failure->tried ? failure->tried : text);
}

/* Between two checks: the next one, which is due at once, makes a new connection. */
static void lost_while_idle(struct link *link, int error)
{
	struct monitor *m = link->owner;

	(void)error;
	drop_link(m);
	node_in_doubt(m->node);
}

static const struct link_events link_events = {.logged_in = logged_in, .failed = login_failed, .lost = lost_while_idle};

static void open_link(struct monitor *m)
{
	const struct monitor_settings *s = m->settings;
	struct link_target target = {
		.host = m->node->host,
		.port = m->node->port,
		.user = s->user,
		.database = s->database,
		.connect_query = connect_query,
		.secret = s->secret.kind == SECRET_NONE ? NULL : &s->secret,
		.tls = s->tls,
		.tls_mode = s->tls_mode,
		.tls_direct = s->tls_direct,
		.keepalive = s->keepalive,
		.user_timeout = s->user_timeout,
		.deadline = m->deadline,
	};
	int r = -EHOSTUNREACH;

	timer_cancel(&m->timeout); /* the link has its own while it logs in */
	m->state = MONITOR_OPENING;
	m->link_is_new = true;
	m->moves = atomic_load(&m->node->moves); /* before the addresses are read: at worst it is opened anew */
	target.address_count = node_addresses(m->node, target.addresses, target.address_lens);
	if (target.address_count > 0)
		r = link_open(m->loop, &target, &link_events, m, &m->link);
	if (r < 0)
		end_check(m, CHECK_FAILED, target.address_count ? strerror(-r) : "its name has no address");
}

void monitor_check(struct monitor *m, const struct monitor_settings *settings)
{
	assert(!monitor_is_busy(m));
	m->settings = settings;
	m->deadline = clock_update() + settings->health.check_timeout;
	m->link_is_new = false;
	if (m->link && m->moves != atomic_load(&m->node->moves))
		drop_link(m); /* its name leads elsewhere: what is there now? */
	if (m->link)
		ask(m);
	else
		open_link(m);
}

bool monitor_may_locate(const struct monitor *m)
{
	return m->state == MONITOR_IDLE && m->link && m->moves == atomic_load(&m->node->moves) &&
	       m->facts.last == CHECK_GOOD && !m->no_place;
}

void monitor_locate(struct monitor *m, const struct monitor_settings *settings)
{
	struct buf question = BUF_INIT(QUESTION_MAX);

	assert(monitor_may_locate(m));
	m->settings = settings;
	m->deadline = clock_update() + settings->health.check_timeout;
	begin_question(m, MONITOR_LOCATING);
	atomic_fetch_add_explicit(&m->node->position_questions, 1, memory_order_relaxed);
	message_query(&question, slice_make(position_query, strlen(position_query)));
	if (question.failed)
		fail_check(m, "out of memory");
	else
		conn_send(&m->link->conn, question.bytes, question.len);
	buf_free(&question);
}

/* ---- heartbeats ---- */

bool monitor_may_beat(const struct monitor *m)
{
	return m->state == MONITOR_IDLE && m->link && m->moves == atomic_load(&m->node->moves) &&
	       m->facts.last == CHECK_GOOD;
}

void monitor_beat(struct monitor *m, const struct monitor_settings *settings, uint64_t beat)
{
	struct buf sql = BUF_INIT(QUESTION_MAX), question = BUF_INIT(QUESTION_MAX);
	bool reads = m->facts.in_recovery;

	assert(monitor_may_beat(m));
	m->settings = settings;
	m->deadline = clock_update() + settings->health.check_timeout;
	begin_question(m, MONITOR_BEATING);
	m->seen_beat = reads ? 0 : beat;
	m->beat = (struct monitor_beat){.is_write = !reads, .asked_at = m->asked};
	if (reads)
		heartbeat_read_sql(&sql, settings->heartbeat_table, settings->proxy);
	else
		heartbeat_write_sql(&sql, settings->heartbeat_table, settings->proxy, beat,
				    settings->health.check_timeout / 2);
	message_query(&question, slice_make(sql.bytes, sql.len));
	if (sql.failed || question.failed)
		fail_check(m, "out of memory");
	else
		conn_send(&m->link->conn, question.bytes, question.len);
	buf_free(&sql);
	buf_free(&question);
}

const struct monitor_beat *monitor_last_beat(const struct monitor *m)
{
	return &m->beat;
}

/* ---- the life of a monitor ---- */

struct monitor *monitor_new(struct node *node, struct loop *loop)
{
	struct monitor *m = calloc(1, sizeof(*m));

	if (!m)
		return NULL;
	*m = (struct monitor){.node = node, .loop = loop};
	m->facts.replay_age_us = -1;
	timer_init(&m->timeout, timed_out);
	return m;
}

bool monitor_is_busy(const struct monitor *m)
{
	return m->state != MONITOR_IDLE;
}

const struct node_facts *monitor_facts(const struct monitor *m)
{
	return &m->facts;
}

const struct monitor_place *monitor_place(const struct monitor *m)
{
	return &m->place;
}

struct node *monitor_node(const struct monitor *m)
{
	return m->node;
}

void monitor_close(struct monitor *m)
{
	timer_cancel(&m->timeout);
	m->state = MONITOR_IDLE;
	drop_link(m);
}

void monitor_forget(struct monitor *m)
{
	monitor_close(m);
	m->facts = (struct node_facts){.replay_age_us = -1};
	m->place = (struct monitor_place){0};
	m->no_place = m->no_place_is_told = false;
}

void monitor_free(struct monitor *m)
{
	free(m);
}
