/*
 * Where a session's next batch goes. A session without a link looks at all of its next batch before it takes one: by
 * what the texts in it do, its pool's links to the primary or those to some standby are where the link comes from
 * (s->source). While it has a link to a standby each further batch waits until that is given back, unless a transaction
 * block is open there; on the primary everything may follow.
 *
 * What is kept of a batch that went to a standby lets it be repeated on the primary, when the standby fails to answer
 * and nothing of the answer was passed on.
 */
#include "session/routing_priv.h"

#include "base/log.h"
#include "base/map.h"
#include "cluster/cluster.h"

#include <netinet/in.h>

/* A batch of which so much has come without its end goes to the primary. */
#define LOOK_MAX LINK_BATCH_MAX

struct batch {
	struct session *s;
	const struct known_catalog *known; /* NULL: there is no catalog */
	struct access access;
	struct route_wish wish; /* of the last text that has one */
	bool understood;        /* all of it so far */
	bool parses, simple, shows_lsn;
	struct slice parsed; /* the name of the last Parse */
};

enum look { LOOK_MORE, LOOK_DONE };

/* ---- configuration ---- */

void routing_end(struct worker *w)
{
	if (w->routing) {
		understandings_free(&w->routing->texts);
		free(w->routing->users);
	}
	free(w->routing);
	w->routing = NULL;
}

/* Users with rules of their own; out of memory: those of all are for them. */
static void take_users(struct routing *r, const struct config *config)
{
	free(r->users);
	r->user_count = 0;
	r->users = config->user_count ? calloc(config->user_count, sizeof(r->users[0])) : NULL;
	if (config->user_count && !r->users)
		log_error("no memory for the limits of lag of users: those of [lag_routing] are for all");
	for (uint32_t i = 0; r->users && i < config->user_count; i++) {
		struct routing_user *u = &r->users[r->user_count];

		*u = (struct routing_user){.name = config->users[i].name, .rules = r->rules};
		r->user_count += route_rules_for_user(&u->rules, &config->users[i]);
	}
}

/* Who has to be told of writes? Whoever was not, until now, can't know of those that were: all count as just written.
 */
static void take_scopes(struct worker *w)
{
	struct routing *r = w->routing;
	bool users = r->notes_users, anybody = r->notes_anybody;

	r->notes_users = r->notes_anybody = false;
	for (uint32_t i = 0; i <= r->user_count; i++) {
		const struct route_rules *rules = i < r->user_count ? &r->users[i].rules : &r->rules;

		r->notes_users |= route_heeds_others(rules) && rules->own_writes == READ_YOUR_WRITES_USER;
		r->notes_anybody |= route_heeds_others(rules) && rules->own_writes == READ_YOUR_WRITES_GLOBAL;
	}
	if ((r->notes_users && !users) || (r->notes_anybody && !anybody))
		writers_note_all(&w->shared->writers, clock_update());
}

bool routing_configure(struct worker *w, const struct config *config)
{
	const struct node_list *nodes = w->shared->nodes;
	uint32_t count = nodes ? node_list_now(nodes)->count : config->node_count;
	bool is_new = false;

	/* without these there is never a standby of which enough is known */
	if (!config->load_balancer.read_write_split || count < 2 || !*config->health.user) {
		routing_end(w);
		return false;
	}
	if (!w->routing) {
		w->routing = calloc(1, sizeof(*w->routing));
		if (!w->routing) {
			log_error("no memory to route reads to standbys: all queries go to the primary");
			return false;
		}
		w->routing->texts = UNDERSTANDINGS_INIT;
		is_new = true;
	}
	route_rules_from(config, &w->routing->rules);
	take_users(w->routing, config);
	take_scopes(w);
	w->routing->wants_loads = route_wants_loads(&w->routing->rules);
	memset(w->routing->fits, 0, sizeof(w->routing->fits));
	w->routing->hints = config->routing_hints.enabled;
	w->routing->logs = config->routing_hints.log_decisions;
	w->routing->sticks = config->load_balancer.sticky == STICKY_SESSION;
	w->routing->goes_the_long_way = w->routing->logs || w->routing->sticks;
	return is_new;
}

/* ---- what is known ---- */

const struct topology *routing_topology(const struct worker *w)
{
	const struct cluster *c = atomic_load_explicit(&w->shared->cluster, memory_order_acquire);

	return c ? cluster_now(c) : NULL;
}

const struct known_catalog *routing_catalog(struct session *s)
{
	struct catalogs *all = s->worker->shared->catalogs;

	if (unlikely(!s->catalog))
		s->catalog = catalogs_find(all, pool_server_database(session_pool(s)));
	return s->catalog ? catalogs_get(s->catalog, &s->worker->pool_thread, session_pool(s)) : NULL;
}

void routing_forget(struct session *s)
{
	catalogs_release(s->catalog);
	s->catalog = NULL;
	s->fit = NULL;
	s->last_standby = NULL;
	s->key = 0;
	params_assign(&s->told_settings, NULL);
	s->rules = NULL;
	s->replay_until = 0;
	if (s->state == SESSION_IDLE)
		s->source = s->shard; /* reads may not be split any more */
}

const struct route_rules *routing_rules_of(const struct routing *r, const char *user)
{
	for (uint32_t i = 0; i < r->user_count; i++)
		if (strcmp(r->users[i].name, user) == 0)
			return &r->users[i].rules;
	return &r->rules;
}

/* ---- looking at a batch ---- */

/* Who waits has been told before. */
static void tell_problem(void *to, const char *text)
{
	struct session *s = to;

	if (!s->replay_until)
		hinted_tell(s, text);
}

static void read_wishes(struct batch *b, const struct hints *hints)
{
	struct session *s = b->s;
	const struct wish_rights rights = wish_rights_of(s->worker->settings.config, pool_user(session_pool(s)));
	const struct wish_listener listener = {
		.problem = tell_problem, .to = s, .knows_settings = s->settings == s->told_settings};

	b->wish = s->rules->wish;
	wishes_read(s->settings, hints, s->worker->shared->nodes, &rights, &listener, &b->wish);
	params_assign(&s->told_settings, s->settings);
}

/* True: all it does is read, and nothing is wished. */
static bool add_text(struct batch *b, struct slice text)
{
	struct session *s = b->s;
	const struct understanding *u =
		understand(&s->worker->routing->texts, b->known ? b->known->catalog : NULL,
			   b->known ? b->known->number : 0, text, !(params_marks(s->reported) & PARAMS_BACKSLASHES));

	route_join(&b->access, &u->access);
	b->shows_lsn |= u->shows_lsn;
	if (unlikely(u->hints || params_marks(s->settings) & PARAMS_HELIOS) && s->worker->routing->hints) {
		read_wishes(b, u->hints);
		return false;
	}
	return b->known && route_is_plain_read(&u->access);
}

static void add_query(struct batch *b, const struct frame *f)
{
	b->simple = true;
	if (f->body_len == 0 || f->body[f->body_len - 1] != 0)
		b->understood = false; /* the protocol is violated, and that is told elsewhere */
	else if (add_text(b, slice_make(f->body, f->body_len - 1)))
		query_info_mark_reads(&b->s->worker->queries, slice_make(f->body, f->body_len - 1), b->known->number);
}

static void add_parse(struct batch *b, const struct frame *f)
{
	struct reader r = reader_make(f->body, f->body_len);
	struct slice parse, sql;
	struct statement_text *text;

	b->parsed = read_cstring(&r);
	parse = slice_make(r.at, reader_left(&r));
	sql = read_cstring(&r);
	b->parses = true;
	if (r.failed) {
		b->understood = false;
	} else if (add_text(b, sql)) {
		text = statement_table_find(b->s->worker->statements,
					    statement_id_make(parse, params_meaning(b->s->settings)));
		if (text)
			text->reads_as_of = b->known->number;
	}
}

static void add_bind(struct batch *b, const struct frame *f)
{
	struct reader r = reader_make(f->body, f->body_len);
	struct statement_text *text;
	struct slice name;

	read_cstring(&r);
	name = read_cstring(&r);
	if (b->parses && !r.failed && slice_equal(name, b->parsed))
		return; /* it was looked at; what had this name before is gone */
	text = r.failed ? NULL : prepared_find(b->s, name);
	if (text && add_text(b, statement_text_sql(text)))
		text->reads_as_of = b->known->number;
	else if (!text && !b->parses) /* else it was looked at */
		b->understood = false;
}

static enum look look_at_message(struct batch *b, const struct frame *f)
{
	switch (f->type) {
	case 'Q':
		add_query(b, f);
		return LOOK_DONE;
	case 'P':
		add_parse(b, f);
		return LOOK_MORE;
	case 'B':
		add_bind(b, f);
		return LOOK_MORE;
	case 'D':
	case 'E':
	case 'C':
		return LOOK_MORE;
	case 'S':
		return LOOK_DONE;
	default: /* a Flush: answers are wanted before the batch is whole */
		b->understood = false;
		return LOOK_DONE;
	}
}

/* LOOK_MORE: its end has not come yet, and what has come may go to a standby. */
static enum look look_at_batch(struct batch *b, const uint8_t *bytes, size_t len)
{
	size_t at = 0;
	struct frame f;

	while (b->understood && b->access.level <= ACCESS_READS) {
		enum frame_result r = frame_read(bytes + at, len - at, &f);

		if (r == FRAME_WHOLE) {
			at += frame_size(&f);
			if (look_at_message(b, &f) == LOOK_DONE)
				return LOOK_DONE;
			continue;
		}
		if (r == FRAME_BAD || len > LOOK_MAX || (r == FRAME_HEAD && f.body_len > LOOK_MAX) || b->s->ended)
			b->understood = false;
		else
			return LOOK_MORE;
	}
	return LOOK_DONE;
}

/* ---- deciding ---- */

/* May what is sent home change anything? */
static bool may_write(const struct batch *b)
{
	return !b->understood || !b->known || b->access.level > ACCESS_READS ||
	       route_opens_block(&b->access, /* read_only_session= */ false);
}

static void go_home(struct session *s, bool writes)
{
	s->source = s->shard;
	s->wrote = s->wrote || writes;
	s->leaves_nothing = false;
	s->routed = true;
}

static void go_to(struct session *s, struct node *node)
{
	struct pool *pool = pool_on(session_pool(s), node);
	struct shard *shard = pool ? pool_shard(pool, &s->worker->pool_thread) : NULL;

	go_home(s, /* writes= */ false);
	if (shard) /* else there is no memory, and the primary will do */
		s->source = shard;
	s->timed = session_is_away(s) && s->worker->routing->wants_loads;
}

/* A place for it: of one that is used no more. */
static struct routing_node *take_place(struct routing *r, const struct node *node)
{
	for (uint32_t i = 0; i < BALANCE_MAX; i++) {
		const struct node *old = r->nodes[i].node;

		if (old && atomic_load_explicit(&((struct node *)(uintptr_t)old)->enabled, memory_order_relaxed))
			continue;
		r->nodes[i] = (struct routing_node){.node = node};
		return &r->nodes[i];
	}
	return NULL;
}

/* Its place; NULL: there is none left. */
static struct routing_node *node_of(struct routing *r, const struct node *node)
{
	for (uint32_t i = 0; i < BALANCE_MAX; i++) {
		if (!r->nodes[i].node)
			r->nodes[i].node = node;
		if (r->nodes[i].node == node)
			return &r->nodes[i];
	}
	return take_place(r, node);
}

static void find_loads(struct session *s, const struct topology *t, struct route_load loads[BALANCE_MAX])
{
	for (uint32_t i = 0; i < MIN(t->count, BALANCE_MAX); i++) {
		const struct routing_node *n = node_of(s->worker->routing, t->nodes[i].node);
		struct pool *pool =
			t->nodes[i].node == t->primary ? session_pool(s) : pool_on(session_pool(s), t->nodes[i].node);

		loads[i] = (struct route_load){
			.active = pool ? pool_active(pool) : 0,
			.latency = n ? balance_latency_aged(n->latency, clock_now() - n->measured_at) : 0,
		};
	}
}

void routing_measure(struct session *s)
{
	struct routing_node *n = s->worker->routing ? node_of(s->worker->routing, link_node(s->link)) : NULL;

	s->timed = false;
	if (!n)
		return;
	n->latency = balance_latency(n->latency, clock_now() - s->link->lent);
	n->measured_at = clock_now();
}

void routing_refuse(struct session *s, enum proxy_error error)
{
	struct buf out = BUF_INIT(1024);

	s->routed = true; /* to where it is refused */
	error_message(&out, error, NULL);
	session_fail_request(s, out.bytes, out.len);
	buf_free(&out);
}

/* ---- what was written ---- */

static bool primary_position(const struct topology *t, struct position *ret)
{
	return t->primary && position_read(&t->primary->position, ret);
}

bool routing_find_own(struct session *s, const struct topology *t)
{
	struct position p;

	if (s->wrote_at && primary_position(t, &p) && position_is_after(&p, t->timeline, s->wrote_at)) {
		s->own_lsn = p.lsn;
		s->own_timeline = p.timeline;
		s->wrote_at = 0;
	}
	return s->wrote_at == 0;
}

uint32_t routing_cell(const struct session *s)
{
	if (likely(!route_heeds_others(s->rules)))
		return WRITERS_CELLS;
	return s->rules->own_writes == READ_YOUR_WRITES_GLOBAL ? WRITERS_ANYBODY
							       : writers_cell_of(pool_user(session_pool(s)));
}

/* What others have written up to now; once the batch waits, that is as if the session had written it: take_over(). */
static void find_others(struct session *s, const struct topology *t, struct route_ask *ask)
{
	uint32_t cell = routing_cell(s);
	struct writers_known *known;
	struct position p;
	usec_t last;

	if (likely(cell == WRITERS_CELLS) || s->replay_until)
		return;
	known = &s->worker->routing->known[cell];
	last = writers_last(&s->worker->shared->writers, cell);
	if (!writers_settle(known, last, primary_position(t, &p) ? &p : NULL, t->timeline)) {
		ask->wrote = true;
		ask->others.asked_at = last;
	} else if (known->lsn) {
		ask->others =
			(struct position){.kind = POSITION_INSERT, .timeline = known->timeline, .lsn = known->lsn};
	}
}

/* It waits for what was written up to now, and for no more: else who writes all the time would keep it for ever. */
static void take_over(struct session *s, const struct position *others)
{
	bool later =
		others->timeline > s->own_timeline || (others->timeline == s->own_timeline && others->lsn > s->own_lsn);

	if (others->kind == POSITION_NONE) {
		s->wrote_at = MAX(s->wrote_at, others->asked_at); /* 0: nothing was */
	} else if (later) {
		s->own_timeline = others->timeline;
		s->own_lsn = others->lsn;
	}
}

static void find_written(struct session *s, const struct topology *t, struct route_ask *ask)
{
	ask->wrote = !routing_find_own(s, t);
	find_others(s, t, ask);
	if (s->own_lsn)
		ask->own = (struct position){.kind = POSITION_INSERT, .timeline = s->own_timeline, .lsn = s->own_lsn};
}

static uint64_t hash_address(const struct session *s)
{
	struct sockaddr_storage address;
	const struct sockaddr_in6 *v6 = (const struct sockaddr_in6 *)&address;

	if (s->address)
		return hash_bytes(&s->address, sizeof(s->address));
	return session_address(s, &address) && address.ss_family == AF_INET6
		       ? hash_bytes(&v6->sin6_addr, sizeof(v6->sin6_addr))
		       : 0;
}

/* What the strategy hash goes by, where nothing was said. */
static uint64_t key_of(struct session *s)
{
	enum hash_key kind = s->worker->settings.config->load_balancer.hash_key;
	const char *name = kind == HASH_KEY_DATABASE ? pool_database(session_pool(s)) : pool_user(session_pool(s));

	if (s->key && s->key_kind == kind)
		return s->key;
	s->key_kind = (uint8_t)kind;
	s->key = kind == HASH_KEY_CLIENT_IP ? hash_address(s) : 0;
	if (!s->key)
		s->key = hash_bytes(name, strlen(name));
	return s->key;
}

static void log_decision(const struct batch *b, const struct route_choice *choice)
{
	const struct session *s = b->s;
	const struct node *node = choice->node ? choice->node : node_list_primary(s->worker->shared->nodes);

	log_debug(b->simple ? "routed simple query" : "routed extended batch",
		  kv_str("node", choice->refused || !node ? "none" : node->name),
		  kv_str("is_write", may_write(b) ? "true" : "false"),
		  kv_str("reason", route_reason_word(choice->reason)), kv_uint("pid", session_pid(s)));
}

void routing_note_write(struct session *s)
{
	const struct routing *r = s->worker->routing;
	struct writers *writers = &s->worker->shared->writers;
	usec_t now;

	if (likely(!r || !(r->notes_users || r->notes_anybody)))
		return;
	now = clock_update(); /* the time of this turn may be before the server's answer was sent */
	if (r->notes_users)
		writers_note(writers, writers_cell_of(pool_user(session_pool(s))), now);
	if (r->notes_anybody)
		writers_note(writers, WRITERS_ANYBODY, now);
}

/* ---- the decision ---- */

/* How long may it wait for a standby? */
static usec_t patience(const struct session *s, const struct route_choice *choice)
{
	usec_t limit = s->rules->wait;

	if (!choice->may_wait)
		return 0;
	if (choice->refused) /* there is nothing else for it */
		limit = session_settings(s)->query_wait_timeout ? session_settings(s)->query_wait_timeout : USEC_NEVER;
	return limit;
}

/* false: it waits, or fails. */
static bool decide(struct session *s, const struct batch *b, const struct topology *t)
{
	struct worker *w = s->worker;
	struct route_load loads[BALANCE_MAX];
	bool wants_loads = w->routing->wants_loads;
	struct route_ask ask = {
		.access = b->understood ? &b->access : NULL,
		.has_catalog = b->known != NULL,
		.read_only = params_marks(s->reported) & PARAMS_READ_ONLY,
		.isolated = (params_marks(s->settings) | params_marks(s->startup_settings)) & PARAMS_ISOLATION,
		.repeated = s->repeated,
		.waits = s->replay_until != 0,
		.wish = b->wish,
		.last = w->routing->sticks ? s->last_standby : NULL,
	};
	struct route_choice choice;
	usec_t limit;

	if (unlikely(w->routing->rules.balance.strategy == BALANCE_HASH))
		ask.key = key_of(s);
	find_written(s, t, &ask);
	if (b->known)
		ask.catalog =
			(struct position){.kind = POSITION_INSERT, .timeline = t->timeline, .lsn = b->known->position};
	if (unlikely(wants_loads))
		find_loads(s, t, loads);
	route_decide(s->rules, t, &ask, wants_loads ? loads : NULL, &w->routing->balance, clock_now(), &choice);
	if (unlikely(choice.may_wait) && (limit = patience(s, &choice))) {
		take_over(s, &ask.others);
		if (routing_wait(s, limit))
			return false;
	}
	s->replay_until = 0;
	s->repeated = false;
	s->once = b->wish.once;
	if (s->once)
		s->fit = NULL; /* the short way would not know */
	if (unlikely(w->routing->sticks) && choice.node && choice.reason != ROUTE_WISH_STANDBY)
		s->last_standby = choice.node;
	if (unlikely(w->routing->logs))
		log_decision(b, &choice);
	s->route_reason = (uint8_t)choice.reason;
	count_add(&session_counters(s)->routed[choice.reason], 1);
	if (choice.node)
		go_to(s, choice.node);
	else if (unlikely(choice.refused))
		routing_refuse(s, ERROR_NO_STANDBY);
	else
		go_home(s, may_write(b));
	return !s->fail_next;
}

/* It has a link. false: the batch waits until that is given back. */
static bool follow_link(struct session *s)
{
	const struct link *link = s->link;

	if (!session_is_away(s)) {
		s->wrote = true; /* or may have: it is not looked at */
		s->routed = true;
		return true;
	}
	if (link->expects.count > 0 || link->open_batch) {
		s->waits_for_route = true;
		return false;
	}
	s->routed = true;
	return true;
}

/* Is it worth to look at its batch? */
static bool may_go_away(const struct session *s, const struct topology *t)
{
	return t && !(params_marks(s->reported) & PARAMS_ENCODING) &&
	       (t->has_standby || s->worker->routing->rules.balance.primary_reads == PRIMARY_READS_NEVER);
}

bool routing_look(struct session *s, const uint8_t *bytes, size_t len)
{
	const struct topology *t;
	struct batch b = {.s = s, .understood = true};
	bool splits;

	if (s->link)
		return follow_link(s);
	s->route_reason = ROUTE_REASON_COUNT;
	splits = pool_follows_primary(session_pool(s)) && session_settings(s)->mode != POOL_MODE_SESSION;
	if (unlikely(!s->rules))
		s->rules = routing_rules_of(s->worker->routing, pool_user(session_pool(s)));
	s->fit = splits && s->rules == &s->worker->routing->rules && !route_heeds_others(s->rules)
			 ? &s->worker->routing->fits[((uintptr_t)s->shard >> 6) % ROUTING_FITS]
			 : NULL;
	if (!splits || s->pins || s->begin_state == BEGIN_FAILED) {
		go_home(s, /* writes= */ true);
		return true;
	}
	if (begin_comes(s, bytes, len)) {
		go_home(s, /* writes= */ false); /* it goes with the first statement behind it, wherever that will be */
		return true;
	}
	t = routing_topology(s->worker);
	if (!may_go_away(s, t)) {
		s->replay_until = 0;
		s->route_reason = t && t->has_standby ? ROUTE_NOT_UNDERSTOOD : ROUTE_NO_STANDBY;
		count_add(&session_counters(s)->routed[s->route_reason], 1);
		go_home(s, /* writes= */ true);
		return true;
	}
	b.wish = s->rules->wish;
	b.known = routing_catalog(s);
	cluster_want_positions(atomic_load_explicit(&s->worker->shared->cluster, memory_order_relaxed));
	if (begin_is_deferred(s))
		add_text(&b, slice_str(begin_text(s)));
	if (look_at_batch(&b, bytes, len) == LOOK_MORE)
		return false;
	return unlikely(b.shows_lsn) ? routing_show_lsn(s, t) : decide(s, &b, t);
}

void routing_wrote(struct session *s)
{
	s->wrote = false;
	s->wrote_at = clock_update(); /* the time of this turn may be before the server's answer was sent */
}

/* ---- when a standby fails ---- */

/* An error that says nothing of the batch, but of the standby. */
static bool is_standbys_own(struct slice sqlstate)
{
	static const char *const states[] = {
		"25006", /* read_only_sql_transaction: it was taken for a read, wrongly */
		"40001", /* canceled by recovery: rows that it needs were removed on the primary */
		"40P01", /* likewise, a deadlock with recovery */
		"57P01", "57P02", "57P03", "57P04", /* the database was dropped; the server stops, crashed, or starts */
		"0A000",                            /* serializable, by the server's own default */
	};

	for (size_t i = 0; i < ARRAY_SIZE(states); i++)
		if (slice_equal(sqlstate, slice_str(states[i])))
			return true;
	return false;
}

/* A whole batch, all there was, outside of a transaction block: and nothing of its answer was passed on. */
static bool can_be_repeated(const struct session *s)
{
	const struct link *link = s->link;
	const struct expects *e = &link->expects;

	return session_is_away(s) && !s->once && link->batch.len && link->tx_status == 'I' && !link->answering &&
	       s->left == 0 && link->left == 0 && s->state == SESSION_ACTIVE && e->count > 0 && e->answers == 1 &&
	       expect_ends_with_ready(expects_last(e));
}

bool routing_failed(struct session *s, struct slice sqlstate)
{
	if (!is_standbys_own(sqlstate) || !can_be_repeated(s))
		return false;
	s->repeated = true;
	conn_pause(&s->conn); /* nothing is to come between it and its repetition */
	return true;
}

const bool routing_prefaces[256] = {['1'] = true, ['2'] = true, ['3'] = true, ['t'] = true, ['T'] = true, ['n'] = true};

#define FORESEEN_MAX 65536u /* of what comes in front of the first row */

/* The message ends the batch with an error that is the standby's own. */
static NEVER_INLINE bool is_own_failure(struct session *s, const struct frame *f)
{
	struct error_fields e = {0};

	if (!message_read_error(f->body, f->body_len, &e) || !routing_failed(s, e.sqlstate))
		return false;
	pool_saw_error(s->link, e.sqlstate, slice_equal(e.severity, SLICE_LITERAL("FATAL")));
	return true;
}

size_t routing_foresee(struct session *s, const uint8_t *bytes, size_t len)
{
	struct frame f;
	size_t at = 0;

	for (;;) {
		enum frame_result r = frame_read(bytes + at, len - at, &f);

		if (r == FRAME_WHOLE) {
			at += frame_size(&f);
			if (routing_is_preface(f.type) || answer_is_farewell(&f))
				continue;
			return f.type == 'E' && !s->repeated && is_own_failure(s, &f) ? at : ROUTING_GO_ON;
		}
		if (r == FRAME_BAD || len > FORESEEN_MAX || (r == FRAME_HEAD && f.body_len > FORESEEN_MAX) ||
		    (r == FRAME_HEAD && f.type != 'E' && f.type != 'N' && !routing_is_preface(f.type)) ||
		    !can_be_repeated(s))
			return ROUTING_GO_ON;
		return 0;
	}
}

/* Takes what the batch has changed back, and shows its bytes again. */
bool routing_repeat(struct session *s)
{
	struct link *link = s->link;

	if (link->expects.count)
		s->came = expects_last(&link->expects)->began;
	for (uint32_t i = link->expects.count; i-- > 0;)
		prepared_undo(s, expects_at(&link->expects, i), /* failed= */ false);
	while (link->expects.count)
		answer_pop(s, /* skipped= */ true);
	if (!conn_unread(&s->conn, link->batch.bytes, link->batch.len)) {
		session_fatal(s, ERROR_OUT_OF_MEMORY, NULL);
		return false;
	}
	link->batch.len = 0;
	if (s->begin_state == BEGIN_SENT)
		s->begin_state = BEGIN_DEFERRED;
	s->repeated = true;
	s->routed = s->skip_to_sync = s->syncing = false;
	count_add(&session_counters(s)->batches_repeated_total, 1);
	conn_resume(&s->conn);
	return true;
}

bool routing_can_leave(const struct session *s)
{
	return !s->repeated && can_be_repeated(s);
}

bool routing_lost(struct session *s)
{
	return (s->repeated || can_be_repeated(s)) && routing_repeat(s);
}
