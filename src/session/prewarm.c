/* See prewarm.h. */
#include "session/session_priv.h"

#include "base/log.h"
#include "session/candidates.h"

#define STEP        16u /* statements under way at a time */
#define LOOK_LINKS  8u  /* in use, and as many idle ones: what others do is no different */
#define LOOK_EACH   64u
#define TEXT_MAX    (16u << 10)           /* candidates are kept, even when no client has them any more */
#define STEP_TIME   (100 * USEC_PER_MSEC) /* from then on whoever waits does not wait for its end */
#define MESSAGE_MAX 65536u
#define CANCEL_TIME (5 * USEC_PER_SEC)

/* What is known of a pool in this thread. */
struct prewarm_pool {
	struct list node;
	struct shard *shard; /* with a reference to its pool */
	struct candidates candidates;
	usec_t seen; /* its links were used */
};

/* A link that is being prepared. */
struct warming {
	struct list node;
	struct worker *worker;
	struct link *link;
	struct timer timer;
	usec_t deadline;
	const struct params *settings; /* put onto the link first */
	bool settings_under_way, failed, cancelled;
	uint32_t count, answered, sent; /* texts[answered .. sent) are under way */
	struct statement_text *texts[];
};

static struct prewarm_pool *known(struct shard *shard)
{
	return *shard_warm_slot(shard);
}

static const struct config_pool *settings_of(const struct shard *shard)
{
	return pool_settings(shard_pool(shard));
}

static bool is_on(const struct shard *shard)
{
	const struct config_pool *s = settings_of(shard);

	return s->prewarm_statements > 0 && s->mode != POOL_MODE_SESSION && s->reset != RESET_ALWAYS;
}

/* ---- what links use ---- */

struct look {
	struct worker *worker;
	struct shard *shard;
	bool any;
};

/* NULL: out of memory. */
static struct prewarm_pool *pool_new(struct worker *w, struct shard *shard)
{
	struct prewarm_pool *p = calloc(1, sizeof(*p));

	if (!p)
		return NULL;
	p->shard = shard;
	candidates_init(&p->candidates, w->statements);
	pool_ref(shard_pool(shard));
	list_push_back(&w->prewarm.pools, &p->node);
	*shard_warm_slot(shard) = p;
	return p;
}

static void pool_forget(struct prewarm_pool *p)
{
	*shard_warm_slot(p->shard) = NULL;
	list_remove(&p->node);
	candidates_clear(&p->candidates);
	pool_unref(shard_pool(p->shard));
	free(p);
}

static void saw(const struct look *look, struct statement_text *text, const struct params *settings)
{
	struct prewarm_pool *p = known(look->shard);

	if (!p)
		p = pool_new(look->worker, look->shard);
	/* twice as many as are prepared: else those at the end could never show that they are used more than once */
	if (p && candidates_limit(&p->candidates, 2 * settings_of(look->shard)->prewarm_statements) == 0)
		candidates_saw(&p->candidates, text, settings);
	if (p)
		p->seen = clock_now();
}

/* Neither is put onto a link unasked: a change of role has its own rules. */
static bool has_role(const struct params *settings)
{
	return params_get(settings, "role") || params_get(settings, "session_authorization");
}

static void look_at_link(struct link *link, void *to)
{
	struct statement_id ids[LOOK_EACH];
	struct look *look = to;
	uint32_t count = statement_set_look(&link->statements, ids, LOOK_EACH);

	look->any = look->any || count > 0;
	if (has_role(link->settings))
		return;
	for (uint32_t i = 0; i < count; i++) {
		struct statement_text *text = statement_table_find(look->worker->statements, ids[i]);

		if (text && text->len <= TEXT_MAX)
			saw(look, text, link->settings);
	}
}

/* True: something was used since the last look. */
static bool look_at_pool(struct worker *w, struct shard *shard)
{
	struct look look = {.worker = w, .shard = shard};

	pool_each_recent(shard, LOOK_LINKS, look_at_link, &look);
	return look.any;
}

static void tick(struct pool_thread *thread, struct shard *shard)
{
	struct worker *w = container_of(thread, struct worker, pool_thread);

	if (is_on(shard) && look_at_pool(w, shard) && known(shard))
		candidates_fade(&known(shard)->candidates);
}

/* ---- preparing ---- */

static void warming_free(struct warming *warming)
{
	timer_cancel(&warming->timer);
	list_remove(&warming->node);
	for (uint32_t i = 0; i < warming->count; i++)
		statement_text_unref(warming->worker->statements, warming->texts[i]);
	params_unref(warming->settings);
	free(warming);
}

static void finish(struct warming *warming)
{
	struct link *link = warming->link;

	warming_free(warming);
	pool_give_back(link);
}

static void close_link(struct warming *warming)
{
	warming->link->close_when_free = true;
	finish(warming);
}

static void forget(const struct warming *warming, uint32_t index)
{
	struct prewarm_pool *p = known(link_shard(warming->link));

	if (p)
		candidates_forget(&p->candidates, warming->texts[index]->id);
}

static void step_takes_long(struct timer *timer)
{
	struct warming *warming = container_of(timer, struct warming, timer);

	if (!warming->cancelled && !pool_wants_back(warming->link, 0) && clock_now() < warming->deadline) {
		timer_set(loop_timers(warming->worker->pool_thread.loop), timer, clock_now() + STEP_TIME);
		return;
	}
	if (warming->cancelled || pool_cancel(warming->link, NULL, NULL) < 0) {
		close_link(warming);
		return;
	}
	warming->cancelled = true;
	timer_set(loop_timers(warming->worker->pool_thread.loop), timer, clock_now() + CANCEL_TIME);
}

/* The next few, behind the settings if those are not on the link yet. False: out of memory, nothing was sent. */
static bool send_step(struct warming *warming)
{
	struct link *link = warming->link;
	struct counters *counters = &warming->worker->pool_thread.counters;
	struct buf sql = BUF_INIT(1u << 20), out = BUF_INIT(2u << 20);
	uint32_t count = MIN(STEP, warming->count - warming->answered);
	bool settings = link->settings != warming->settings, fine;

	if (settings) {
		settings_difference(warming->worker, &sql, link->settings, warming->settings);
		message_query(&out, slice_make(sql.bytes, sql.len));
	}
	for (uint32_t i = 0; i < count; i++)
		prepared_add_parse(warming->worker, &out, warming->texts[warming->answered + i]);
	message_sync(&out);
	fine = !sql.failed && !out.failed;
	if (fine) {
		conn_send(&link->conn, out.bytes, out.len);
		warming->settings_under_way = settings;
		warming->sent = warming->answered + count;
		count_add(&counters->statements_prepared_total, count);
		count_add(&counters->parameter_syncs_total, settings);
		timer_set(loop_timers(warming->worker->pool_thread.loop), &warming->timer, clock_now() + STEP_TIME);
	}
	buf_free(&sql);
	buf_free(&out);
	return fine;
}

/* ---- the answers; false: they make no sense ---- */

struct warming_answer {
	struct warming *warming;
	bool fine, over;
};

static bool parse_complete(struct warming *warming)
{
	const struct statement_text *text;

	if (warming->settings_under_way || warming->failed || warming->answered == warming->sent)
		return false;
	text = warming->texts[warming->answered++];
	count_add(&warming->worker->pool_thread.counters.statements_prewarmed_total, 1);
	return statement_set_add_unused(&warming->link->statements, text->id) == 0;
}

static bool error(struct warming *warming, const struct frame *f)
{
	struct error_fields e = {0};

	if (warming->failed || !message_read_error(f->body, f->body_len, &e))
		return false;
	log_debug("a statement could not be prepared ahead", kv_uint("link", warming->link->id),
		  kv_slice("sqlstate", e.sqlstate), kv_slice("message", e.message));
	/* FATAL: the link is lost in a moment, and what is under way is judged then */
	if (warming->settings_under_way || warming->answered == warming->sent ||
	    !slice_equal(e.severity, SLICE_LITERAL("ERROR")))
		return false;
	warming->failed = true;
	forget(warming, warming->answered);
	return true;
}

/* True: the step is over. */
static bool ready(struct warming *warming, const struct frame *f, bool *ret_fine)
{
	*ret_fine = f->body_len == 1 && f->body[0] == 'I' &&
		    (warming->settings_under_way || warming->failed || warming->answered == warming->sent);
	if (!*ret_fine || !warming->settings_under_way)
		return true;
	warming->settings_under_way = false;
	params_assign(&warming->link->settings, warming->settings);
	return false;
}

static void step_is_over(struct warming *warming)
{
	struct link *link = warming->link;

	warming->answered += warming->failed; /* that one is left out */
	warming->failed = false;
	if (warming->cancelled || warming->answered == warming->count || pool_wants_back(link, 0) ||
	    link->statements_epoch != pool_statements_epoch(shard_pool(link_shard(link))) || !send_step(warming))
		finish(warming);
}

/* Within the answer to settings: rows of set_config(). */
static bool other_message(struct warming *warming, const struct frame *f)
{
	switch (f->type) {
	case 'N':
	case 'A':
		return true;
	case 'S':
		return link_parameter_status(warming->link, f->body, f->body_len);
	case 'T':
	case 'D':
	case 'C':
		return warming->settings_under_way;
	default:
		return false;
	}
}

/* Nobody knows which of those under way it was (the server sends their answers at the end): none is tried again. */
static void lost(struct link *link, int error_number)
{
	struct warming *warming = link->user;

	log_debug("a server connection was lost while statements were prepared ahead", kv_uint("link", link->id),
		  kv_str("reason", error_number ? strerror(-error_number) : "closed by the server"));
	for (uint32_t i = warming->answered; i < warming->sent; i++)
		forget(warming, i);
	close_link(warming);
}

/* false: the step is over, or this makes no sense. */
static bool take_message(void *to, const struct frame *f)
{
	struct warming_answer *answer = to;
	struct warming *warming = answer->warming;

	switch (f->type) {
	case 'Z':
		answer->over = ready(warming, f, &answer->fine);
		break;
	case '1':
		answer->fine = parse_complete(warming);
		break;
	case 'E':
		answer->fine = error(warming, f);
		break;
	default:
		answer->fine = other_message(warming, f);
	}
	return answer->fine && !answer->over;
}

static size_t received(struct link *link, uint8_t *bytes, size_t len)
{
	struct warming_answer answer = {.warming = link->user, .fine = true};
	size_t done;

	if (!frames_take(bytes, len, MESSAGE_MAX, take_message, &answer, &done) || !answer.fine) {
		lost(link, -EPROTO);
		return len;
	}
	if (!answer.over)
		return done;
	if (done < len) /* behind the last answer there is nothing */
		close_link(answer.warming);
	else
		step_is_over(answer.warming);
	return len;
}

static const struct link_user_ops warming_ops = {.received = received, .lost = lost};

/* ---- the pool opens links ---- */

static struct warming *warming_new(struct worker *w, struct link *link, struct candidates *candidates, uint32_t max)
{
	struct warming *warming = calloc(1, sizeof(*warming) + max * sizeof(warming->texts[0]));

	if (!warming)
		return NULL;
	warming->worker = w;
	warming->link = link;
	timer_init(&warming->timer, step_takes_long);
	warming->deadline = clock_now() + settings_of(link_shard(link))->connect_timeout;
	list_push_back(&w->prewarm.warming, &warming->node);
	warming->count = candidates_best(candidates, warming->texts, max, &warming->settings);
	return warming;
}

static bool opened(struct pool_thread *thread, struct link *link)
{
	struct worker *w = container_of(thread, struct worker, pool_thread);
	struct shard *shard = link_shard(link);
	const struct config_pool *s = settings_of(shard);
	struct warming *warming;

	if (!is_on(shard) || w->closing || prepared_schema_is_changing())
		return false;
	(void)look_at_pool(w, shard); /* what came since the last tick counts, too */
	if (!known(shard) || known(shard)->candidates.count == 0)
		return false;
	warming = warming_new(w, link, &known(shard)->candidates,
			      MIN(s->prewarm_statements, MAX(1u, s->max_prepared_statements)));
	if (!warming)
		return false;
	link->statements_epoch = pool_statements_epoch(shard_pool(shard)); /* before the server looks at its tables */
	link_lend(link, &warming_ops, warming);
	if (settings_are_known(shard, warming->settings) && send_step(warming))
		return true;
	link_take_back(link);
	warming_free(warming);
	return false;
}

void prewarm_init(struct worker *w)
{
	static const struct pool_warmer warmer = {.opened = opened, .tick = tick};

	list_init(&w->prewarm.pools);
	list_init(&w->prewarm.warming);
	w->pool_thread.warmer = &warmer;
}

void prewarm_tick(struct worker *w)
{
	list_for_each (node, &w->prewarm.pools) {
		struct prewarm_pool *p = list_entry(node, struct prewarm_pool, node);

		usec_t timeout = settings_of(p->shard)->pool_idle_timeout;

		if (!is_on(p->shard) || (timeout && clock_now() - p->seen > timeout))
			pool_forget(p);
	}
}

void prewarm_end(struct worker *w)
{
	struct list *node;

	while ((node = list_first(&w->prewarm.warming)))
		close_link(list_entry(node, struct warming, node));
	while ((node = list_first(&w->prewarm.pools)))
		pool_forget(list_entry(node, struct prewarm_pool, node));
	w->pool_thread.warmer = NULL; /* what is opened now is closed at once */
}
