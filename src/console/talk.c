/*
 * Running one command of a client. Rows go to the client a page at a time: the next one is asked for when the last was
 * taken. What has to be waited for is looked at in intervals, so whoever brings it about need not know of it.
 */
#include "console/console_priv.h"

#include <stdarg.h>
#include <stdio.h>

#define LOOK_INTERVAL (20 * USEC_PER_MSEC)

static void go_on(struct talk *t);

/* ---- answers ---- */

void talk_send(struct talk *t, struct buf *out)
{
	if (out->failed) {
		buf_free(out);
		console_client_out_of_memory(&t->client);
		return;
	}
	conn_send(t->client.conn, out->bytes, out->len);
	count_add(&t->client.worker->pool_thread.counters.bytes_sent_total, out->len);
	buf_free(out);
}

/* The command is over, its answer is in out. */
static void finish(struct talk *t, struct buf *out)
{
	t->running = false;
	timer_cancel(&t->timer);
	console_job_leave(t);
	if (t->simple)
		message_ready(out, t->in_transaction ? 'T' : 'I');
	conn_resume(t->client.conn);
	talk_send(t, out);
}

void talk_complete(struct talk *t, const char *tag)
{
	struct buf out = BUF_INIT(1024);

	message_command_complete(&out, tag);
	finish(t, &out);
}

void talk_error(struct talk *t, enum proxy_error error, const char *argument)
{
	struct buf out = BUF_INIT(4096);

	error_message(&out, error, NULL, argument);
	t->skips = !t->simple;
	count_add(&t->client.worker->pool_thread.counters.query_errors_total, 1);
	finish(t, &out);
}

void talk_refuse(struct talk *t, const char *format, ...)
{
	char text[400];
	va_list args;

	va_start(args, format);
	vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	talk_error(t, ERROR_CONSOLE_REFUSED, text);
}

/* ---- other workers ---- */

static void visit_free(struct visit *v)
{
	buf_free(&v->rows.out);
	free(v);
}

static void visit_returns(struct loop_message *message, void *thread)
{
	struct visit *v = container_of(message, struct visit, message);
	struct talk *t = v->talk;

	(void)thread;
	if (!t) {
		visit_free(v);
		return;
	}
	t->visit = NULL;
	t->found += v->found;
	t->next = v->next;
	if (v->next == 0)
		t->worker++;
	if (v->rows.out.failed) {
		visit_free(v);
		console_client_out_of_memory(&t->client);
		return;
	}
	if (v->rows.out.len) {
		conn_send(t->client.conn, v->rows.out.bytes, v->rows.out.len);
		count_add(&t->client.worker->pool_thread.counters.bytes_sent_total, v->rows.out.len);
	}
	visit_free(v);
	go_on(t);
}

static void visit_arrives(struct loop_message *message, void *thread)
{
	struct visit *v = container_of(message, struct visit, message);

	v->work(thread, v);
	v->message.run = visit_returns;
	loop_post(v->home->pool_thread.loop, &v->message);
}

static const struct show *show_of(const struct talk *t)
{
	return t->now.command.verb == COMMAND_SHOW ? show_find(t->now.command.name) : NULL;
}

static void visit_next(struct talk *t)
{
	const struct sessions_shared *sessions = t->console->context.sessions;
	const struct show *show = show_of(t);
	struct visit *v = calloc(1, sizeof(*v));

	if (!v) {
		console_client_out_of_memory(&t->client);
		return;
	}
	*v = (struct visit){.message.run = visit_arrives, .talk = t, .home = t->client.worker, .next = t->next};
	v->at = sessions->workers[t->worker];
	v->work = t->ask;
	v->number = t->mark;
	memcpy(v->name, t->now.command.name, sizeof(v->name));
	if (show)
		rows_init(&v->rows, show->columns, show->column_count, t->now.binary);
	t->visit = v;
	loop_post(v->at->pool_thread.loop, &v->message);
}

/* All workers were asked, or the next one is, unless the client must take first what there is. */
static void go_on(struct talk *t)
{
	if (t->visit || !t->running)
		return;
	if (t->worker < t->console->context.sessions->worker_count) {
		if (conn_queued(t->client.conn) <= CONN_HIGH_WATER)
			visit_next(t);
		return;
	}
	if (t->over)
		t->over(t);
	else
		talk_complete(t, t->now.command.tag);
}

void talk_ask_all(struct talk *t, void (*work)(struct worker *, struct visit *), void (*over)(struct talk *))
{
	t->ask = work;
	t->over = over;
	t->worker = t->next = 0;
	t->found = 0;
	go_on(t);
}

void talk_drained(struct talk *t)
{
	if (t->running && t->ask)
		go_on(t);
}

/* ---- waiting ---- */

static void look(struct timer *timer)
{
	struct talk *t = container_of(timer, struct talk, timer);

	if (!t->is_done(t))
		timer_set(loop_timers(t->client.conn->loop), timer, clock_now() + LOOK_INTERVAL);
	else if (t->running)
		talk_complete(t, t->now.command.tag);
}

void talk_wait(struct talk *t, bool (*is_done)(struct talk *))
{
	t->is_done = is_done;
	timer_init(&t->timer, look);
	t->timer.always = true; /* SUSPEND is waited for so */
	look(&t->timer);
}

void talk_cancelled(struct talk *t)
{
	if (!t->running || !t->is_done)
		return;
	operate_cancelled(t);
	talk_error(t, ERROR_CANCELED_WAITING, NULL);
}

void talk_stop(struct talk *t)
{
	t->running = false;
	timer_cancel(&t->timer);
	console_job_leave(t);
	if (t->visit)
		t->visit->talk = NULL;
}

/* ---- commands ---- */

static void show(struct talk *t)
{
	const struct show *s = show_of(t);
	struct rows rows;

	if (s->admin_only && !t->client.is_admin) {
		talk_refuse(t, "admin access needed");
		return;
	}
	rows_init(&rows, s->columns, s->column_count, t->now.binary);
	if (t->simple && s->column_count)
		rows_describe(&rows);
	if (s->rows)
		s->rows(t->console, t->client.worker, &rows);
	talk_send(t, &rows.out);
	if (!t->client.session)
		return; /* out of memory */
	if (s->visit)
		talk_ask_all(t, s->visit, NULL);
	else
		talk_complete(t, t->now.command.tag);
}

static void select_one(struct talk *t)
{
	static const struct column column = {"?column?", 'i'};
	struct rows rows;

	rows_init(&rows, &column, 1, t->now.binary);
	if (t->simple)
		rows_describe(&rows);
	row_begin(&rows);
	row_number(&rows, 1);
	row_end(&rows);
	talk_send(t, &rows.out);
	if (t->client.session)
		talk_complete(t, t->now.command.tag);
}

static void empty(struct talk *t)
{
	static const uint8_t nothing[] = {'I', 0, 0, 0, 4};
	struct buf out = BUF_INIT(64);

	buf_add(&out, nothing, sizeof(nothing));
	finish(t, &out);
}

void talk_run(struct talk *t, const struct bound *command, bool simple)
{
	const struct command *c = &command->command;

	t->now = *command;
	t->running = true;
	t->simple = simple;
	t->is_done = NULL;
	t->ask = NULL;
	count_add(&t->client.worker->pool_thread.counters.console_commands_total, 1);
	switch (c->verb) {
	case COMMAND_EMPTY:
		empty(t);
		break;
	case COMMAND_SHOW:
		show(t);
		break;
	case COMMAND_SELECT_ONE:
		select_one(t);
		break;
	case COMMAND_BEGIN:
	case COMMAND_COMMIT:
	case COMMAND_ROLLBACK:
		t->in_transaction = c->verb == COMMAND_BEGIN;
		talk_complete(t, c->tag);
		break;
	case COMMAND_IDLE:
		talk_complete(t, c->tag);
		break;
	default:
		operate(t, c);
		break;
	}
}
