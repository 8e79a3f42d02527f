/*
 * See console.h. The protocols: simple queries, and the extended messages that drivers send for any command. A
 * command's portal is run as a whole, whatever number of rows Execute asks for.
 * https://www.postgresql.org/docs/current/protocol-flow.html#PROTOCOL-FLOW-EXT-QUERY
 */
#include "console/console_priv.h"

#include "wire/frame.h"
#include "wire/reader.h"

#include <stdio.h>
#include <strings.h>

#define MESSAGE_MAX 65536u
#define KEPT_MAX    256u /* statements, and portals, of one client */

static const char parse_complete[] = "1\0\0\0\4", bind_complete[] = "2\0\0\0\4", close_complete[] = "3\0\0\0\4",
		  no_data[] = "n\0\0\0\4";

static void send_short(struct talk *t, const char *message)
{
	conn_send_ref(t->client.conn, message, 5);
}

/* ---- texts ---- */

const struct show *show_find(const char *name)
{
	for (uint32_t i = 0; i < show_count; i++)
		if (strcasecmp(shows[i].name, name) == 0)
			return &shows[i];
	return NULL;
}

static int read_command(struct slice text, struct command *ret)
{
	int r = command_read(text, ret);

	return r == 0 && ret->verb == COMMAND_SHOW && !show_find(ret->name) ? -EINVAL : r;
}

/* PgBouncer's words. */
static void say_why(int error, struct slice text, char *why, size_t size)
{
	if (error == -E2BIG)
		snprintf(why, size, "bad arguments");
	else
		snprintf(why, size, "invalid command '%.*s', use SHOW HELP;", (int)MIN(text.len, (size_t)200),
			 (const char *)text.bytes);
}

/* ---- the simple protocol ---- */

static void query(struct talk *t, struct slice text)
{
	struct bound b = {0};
	char why[300];
	int r = read_command(text, &b.command);

	if (r == 0) {
		talk_run(t, &b, /* simple= */ true);
		return;
	}
	say_why(r, text, why, sizeof(why));
	t->simple = true;
	talk_error(t, ERROR_CONSOLE_REFUSED, why);
}

/* ---- the extended protocol ---- */

static void refuse(struct talk *t, const char *why)
{
	t->simple = false;
	talk_error(t, ERROR_CONSOLE_REFUSED, why);
}

static void forget(struct map *map, struct slice name)
{
	free(map_remove(map, name));
}

static void forget_all(struct map *map)
{
	struct slice name;
	void *bound;

	for (uint32_t at = 0; map_next(map, &at, &name, &bound);)
		free(bound);
	map_free(map);
}

/* false: the session is over, or the client was told. */
static bool keep(struct talk *t, struct map *map, struct slice name, const struct bound *b)
{
	struct bound *copy;
	void *old = NULL;

	if (map->count >= KEPT_MAX && !map_get(map, name)) {
		refuse(t, "too many prepared statements or portals");
		return false;
	}
	copy = malloc(sizeof(*copy));
	if (copy)
		*copy = *b;
	if (!copy || map_put(map, name, copy, &old) < 0) {
		free(copy);
		console_client_out_of_memory(&t->client);
		return false;
	}
	free(old);
	return true;
}

static bool parse(struct talk *t, struct reader *r)
{
	struct slice name = read_cstring(r), text = read_cstring(r);
	struct bound b = {0};
	char why[300];
	int error;

	for (uint16_t types = read_u16(r); types > 0 && !r->failed; types--)
		read_u32(r);
	if (!reader_done(r))
		return false;
	error = read_command(text, &b.command);
	if (error < 0) {
		say_why(error, text, why, sizeof(why));
		refuse(t, why);
	} else if (name.len && map_get(&t->statements, name)) {
		refuse(t, "the prepared statement exists already");
	} else if (keep(t, &t->statements, name, &b)) {
		send_short(t, parse_complete);
	}
	return true;
}

/* None: text; one: for all; else one a column. */
static uint32_t read_formats(struct reader *r, bool *ret_fine)
{
	uint16_t count = read_u16(r);
	uint32_t binary = 0;

	for (uint16_t i = 0; i < count && !r->failed; i++) {
		uint16_t format = read_u16(r);

		*ret_fine = *ret_fine && format <= 1;
		if (i < COLUMNS_MAX)
			binary |= (uint32_t)(format & 1) << i;
	}
	return count == 1 && binary ? UINT32_MAX : binary;
}

static bool bind_portal(struct talk *t, struct reader *r)
{
	struct slice portal = read_cstring(r), name = read_cstring(r);
	const struct bound *statement = map_get(&t->statements, name);
	bool fine = true;
	struct bound b;
	uint16_t parameters;

	(void)read_formats(r, &fine);
	parameters = read_u16(r);
	if (!r->failed && parameters) {
		refuse(t, "commands of the console have no parameters");
		return true;
	}
	b = statement ? *statement : (struct bound){0};
	b.binary = read_formats(r, &fine);
	if (!reader_done(r))
		return false;
	if (!statement)
		refuse(t, "the prepared statement does not exist");
	else if (!fine)
		refuse(t, "a format is neither text nor binary");
	else if (keep(t, &t->portals, portal, &b))
		send_short(t, bind_complete);
	return true;
}

static void describe_rows(struct talk *t, const struct bound *b, struct buf *before)
{
	static const struct column one = {"?column?", 'i'};
	const struct show *show = b->command.verb == COMMAND_SHOW ? show_find(b->command.name) : NULL;
	struct rows rows;

	rows_init(&rows, show ? show->columns : &one, show ? show->column_count : 1, b->binary);
	buf_add(&rows.out, before->bytes, before->len);
	rows.out.failed |= before->failed;
	buf_free(before);
	if ((show && show->column_count) || b->command.verb == COMMAND_SELECT_ONE)
		rows_describe(&rows);
	else
		buf_add(&rows.out, no_data, 5);
	talk_send(t, &rows.out);
}

static bool describe(struct talk *t, struct reader *r)
{
	uint8_t what = read_u8(r);
	struct slice name = read_cstring(r);
	const struct bound *b = map_get(what == 'S' ? &t->statements : &t->portals, name);
	struct buf parameters = BUF_INIT(64);
	size_t at;

	if (!reader_done(r) || (what != 'S' && what != 'P'))
		return false;
	if (!b) {
		refuse(t, what == 'S' ? "the prepared statement does not exist" : "the portal does not exist");
		return true;
	}
	if (what == 'S') {
		at = message_begin(&parameters, 't');
		message_u16(&parameters, 0);
		message_end(&parameters, at);
	}
	describe_rows(t, b, &parameters);
	return true;
}

static bool execute(struct talk *t, struct reader *r)
{
	struct slice portal = read_cstring(r);
	const struct bound *b = map_get(&t->portals, portal);

	read_u32(r); /* how many rows: it gets all */
	if (!reader_done(r))
		return false;
	if (b)
		talk_run(t, b, /* simple= */ false);
	else
		refuse(t, "the portal does not exist");
	return true;
}

static bool close_named(struct talk *t, struct reader *r)
{
	uint8_t what = read_u8(r);
	struct slice name = read_cstring(r);

	if (!reader_done(r) || (what != 'S' && what != 'P'))
		return false;
	forget(what == 'S' ? &t->statements : &t->portals, name);
	send_short(t, close_complete);
	return true;
}

static void sync_batch(struct talk *t)
{
	struct buf out = BUF_INIT(64);

	t->skips = false;
	if (!t->in_transaction)
		forget_all(&t->portals);
	message_ready(&out, t->in_transaction ? 'T' : 'I');
	talk_send(t, &out);
}

static bool extended(struct talk *t, const struct frame *f)
{
	struct reader r = reader_make(f->body, f->body_len);

	switch (f->type) {
	case 'P':
		return parse(t, &r);
	case 'B':
		return bind_portal(t, &r);
	case 'D':
		return describe(t, &r);
	case 'E':
		return execute(t, &r);
	case 'C':
		return close_named(t, &r);
	default:
		return false;
	}
}

/* ---- messages ---- */

static void simple(struct talk *t, const struct frame *f)
{
	if (f->body_len == 0 || f->body[f->body_len - 1] != 0)
		console_client_broken(&t->client, "a query without its end");
	else
		query(t, slice_make(f->body, strlen((const char *)f->body)));
}

static void message(struct talk *t, const struct frame *f)
{
	switch (f->type) {
	case 'X':
		console_client_leave(&t->client);
		break;
	case 'S':
		sync_batch(t);
		break;
	case 'H': /* all is sent at the end of the turn */
	case 'd':
	case 'c':
	case 'f':
		break;
	case 'Q':
		if (!t->skips)
			simple(t, f);
		break;
	default:
		if (!t->skips && !extended(t, f))
			console_client_broken(&t->client, "unknown or malformed message");
		break;
	}
}

static size_t received(struct console_client *client, uint8_t *bytes, size_t len)
{
	struct talk *t = container_of(client, struct talk, client);
	size_t at = 0;
	struct frame f;

	while (!t->running && t->client.session && conn_queued(t->client.conn) <= CONN_HIGH_WATER) {
		enum frame_result r = frame_read(bytes + at, len - at, &f);

		if (r == FRAME_BAD || (r != FRAME_SHORT && f.body_len > MESSAGE_MAX)) {
			console_client_broken(&t->client, "invalid message length");
			return len;
		}
		if (r != FRAME_WHOLE)
			break;
		at += frame_size(&f);
		message(t, &f);
	}
	return at;
}

/* ---- a client comes and goes ---- */

static struct console_client *opened(void *argument)
{
	struct talk *t = calloc(1, sizeof(*t));

	if (!t)
		return NULL;
	t->console = argument;
	timer_init(&t->timer, NULL);
	atomic_fetch_add(&t->console->clients, 1);
	return &t->client;
}

static bool is_busy(const struct console_client *client)
{
	return container_of((struct console_client *)(uintptr_t)client, struct talk, client)->running;
}

static void drained(struct console_client *client)
{
	talk_drained(container_of(client, struct talk, client));
	if (client->session)
		conn_resume(client->conn);
}

static void cancelled(struct console_client *client)
{
	talk_cancelled(container_of(client, struct talk, client));
}

static void bury(struct loop_deferred *deferred)
{
	free(container_of(deferred, struct talk, deferred));
}

/* What runs in this turn may still look at it. */
static void closed(struct console_client *client)
{
	struct talk *t = container_of(client, struct talk, client);

	talk_stop(t);
	forget_all(&t->statements);
	forget_all(&t->portals);
	atomic_fetch_sub(&t->console->clients, 1);
	t->deferred.run = bury;
	loop_defer(t->client.worker->pool_thread.loop, &t->deferred);
}

static const struct console_ops ops = {.opened = opened,
				       .received = received,
				       .is_busy = is_busy,
				       .drained = drained,
				       .cancelled = cancelled,
				       .closed = closed};

struct console *console_new(const struct console_context *context)
{
	struct console *c = calloc(1, sizeof(*c));

	if (!c)
		return NULL;
	c->context = *context;
	context->sessions->console_argument = c;
	context->sessions->console = &ops;
	return c;
}

void console_free(struct console *console)
{
	free(console);
}
