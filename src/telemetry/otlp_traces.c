/*
 * Spans. Names of attributes are OpenTelemetry's, where it has one
 * (https://opentelemetry.io/docs/specs/semconv/database/); our own begin with "helios.".
 */
#include "telemetry/otlp.h"

#include "sql/normalize.h"
#include "sql/summary.h"
#include "base/protobuf.h"

#include <sys/random.h>

#define SCHEMA_URL "https://opentelemetry.io/schemas/1.33.0"

enum span_kind { SPAN_INTERNAL = 1, SPAN_SERVER = 2, SPAN_CLIENT = 3 };
enum { SPAN_ATTRIBUTES = 9, SPAN_EVENTS = 11, SPAN_STATUS = 15, SPAN_FLAGS = 16, EVENT_ATTRIBUTES = 3 };

#define STATUS_ERROR       2u
#define FLAG_KNOWS_REMOTE  BIT(8)
#define FLAG_PARENT_REMOTE BIT(9)
#define FLAG_SAMPLED       BIT(0)

/* ---- the frame ---- */

void otlp_begin(struct otlp_message *m, const struct buf *resource, struct buf *to)
{
	size_t scope;

	m->to = to;
	m->all = pb_begin(to, 1);
	pb_bytes(to, 1, slice_make(resource->bytes, resource->len));
	m->scope = pb_begin(to, 2);
	scope = pb_begin(to, 1);
	pb_string(to, 1, "heliosdb-proxy");
	pb_string(to, 2, HELIOS_VERSION);
	pb_end(to, scope);
}

void otlp_end(struct otlp_message *m)
{
	pb_string(m->to, 3, SCHEMA_URL);
	pb_end(m->to, m->scope);
	pb_string(m->to, 3, SCHEMA_URL);
	pb_end(m->to, m->all);
}

/* ---- identities ---- */

/* Not to be guessed matters little, not to come twice matters. Of the thread that sends. */
static void make_id(uint8_t *to, size_t len)
{
	static uint8_t pool[256];
	static size_t left;

	if (left < len) {
		if (getrandom(pool, sizeof(pool), 0) != (ssize_t)sizeof(pool))
			memset(pool, 1, sizeof(pool)); /* cannot be, at this length */
		left = sizeof(pool);
	}
	left -= len;
	memcpy(to, pool + left, len);
	to[0] |= !to[0]; /* never all zero */
}

/* ---- a span ---- */

struct request {
	const struct trace_record *record;
	struct trace_strings s;
	struct sql_summary summary;
	int64_t wall_offset;
	uint8_t trace_id[16], span_id[8];
};

static uint64_t nanoseconds(const struct request *r, usec_t at)
{
	return (uint64_t)((int64_t)at + r->wall_offset) * 1000;
}

static size_t begin_span(struct buf *b, const struct request *r, const uint8_t id[8], const uint8_t *parent)
{
	size_t span = pb_begin(b, 2);

	pb_bytes(b, 1, slice_make(r->trace_id, 16));
	pb_bytes(b, 2, slice_make(id, 8));
	pb_bytes(b, 3, r->s.state);
	if (parent)
		pb_bytes(b, 4, slice_make(parent, 8));
	return span;
}

static void add_core(struct buf *b, const struct request *r, const char *name, enum span_kind kind, usec_t from,
		     usec_t to)
{
	pb_string(b, 5, name);
	pb_varint(b, 6, kind);
	pb_fixed64(b, 7, nanoseconds(r, from));
	pb_fixed64(b, 8, nanoseconds(r, MAX(from, to)));
}

static void add_if(struct buf *b, uint32_t field, const char *key, struct slice value)
{
	if (value.len)
		otlp_string(b, field, key, value);
}

static void end_span(struct buf *b, const struct request *r, size_t span, bool tells_error, uint32_t flags)
{
	const char *sqlstate = r->record->sqlstate;

	if (tells_error && *sqlstate) {
		size_t status;

		otlp_string(b, SPAN_ATTRIBUTES, "db.response.status_code", slice_str(sqlstate));
		otlp_string(b, SPAN_ATTRIBUTES, "error.type", slice_str(sqlstate));
		status = pb_begin(b, SPAN_STATUS);
		pb_varint(b, 3, STATUS_ERROR);
		pb_end(b, status);
	}
	pb_fixed32(b, SPAN_FLAGS, flags | FLAG_KNOWS_REMOTE);
	pb_end(b, span);
}

/* ---- the three of a request ---- */

static const char *name_of(const struct request *r)
{
	return r->summary.text[0] ? r->summary.text : "query";
}

static void add_query(struct buf *b, const struct request *r)
{
	otlp_string(b, SPAN_ATTRIBUTES, "db.system.name", SLICE_LITERAL("postgresql"));
	add_if(b, SPAN_ATTRIBUTES, "db.namespace", r->s.database);
	add_if(b, SPAN_ATTRIBUTES, "db.operation.name", slice_str(r->summary.operation));
	add_if(b, SPAN_ATTRIBUTES, "db.query.summary", slice_str(r->summary.text));
}

static void add_query_text(struct buf *b, const struct request *r)
{
	char text[TRACE_TEXT_MAX + 1];
	struct sql_normalized normalized;

	sql_normalize(r->s.text, /* standard_conforming_strings= */ true, text, sizeof(text), &normalized);
	if (normalized.len)
		otlp_string(b, SPAN_ATTRIBUTES, "db.query.text", slice_make(text, normalized.len));
	if (normalized.cut || r->record->text_is_cut)
		otlp_string(b, SPAN_ATTRIBUTES, "helios.query.text_is_cut", SLICE_LITERAL("true"));
}

static void add_route(struct buf *b, uint32_t field, const struct request *r)
{
	add_if(b, field, "helios.node", r->s.node);
	add_if(b, field, "helios.node.role", slice_str(r->record->role));
	add_if(b, field, "helios.route.reason", slice_str(r->record->reason));
}

static void add_own(struct buf *b, const struct request *r)
{
	const struct trace_record *record = r->record;
	size_t span = begin_span(b, r, r->span_id, record->has_parent ? record->parent_id : NULL), event;

	add_core(b, r, name_of(r), SPAN_SERVER, record->began, record->ended);
	add_query(b, r);
	add_if(b, SPAN_ATTRIBUTES, "user.name", r->s.user);
	add_if(b, SPAN_ATTRIBUTES, "helios.application", r->s.application);
	otlp_integer(b, SPAN_ATTRIBUTES, "helios.client.pid", record->pid);
	otlp_string(b, SPAN_ATTRIBUTES, "helios.protocol", slice_str(record->extended ? "extended" : "simple"));
	if (r->s.host.len) {
		event = pb_begin(b, SPAN_EVENTS);
		pb_fixed64(b, 1, nanoseconds(r, record->sent));
		pb_string(b, 2, "helios.routed");
		add_route(b, EVENT_ATTRIBUTES, r);
		pb_end(b, event);
	}
	end_span(b, r, span, /* tells_error= */ true,
		 record->flags | FLAG_SAMPLED | (record->has_parent ? FLAG_PARENT_REMOTE : 0));
}

static void add_wait(struct buf *b, const struct request *r)
{
	uint8_t id[8];
	size_t span;

	make_id(id, sizeof(id));
	span = begin_span(b, r, id, r->span_id);
	add_core(b, r, "wait for a server connection", SPAN_INTERNAL, r->record->began, r->record->sent);
	end_span(b, r, span, /* tells_error= */ false, r->record->flags | FLAG_SAMPLED);
}

static void add_server(struct buf *b, const struct request *r, bool query_text)
{
	uint8_t id[8];
	size_t span;

	make_id(id, sizeof(id));
	span = begin_span(b, r, id, r->span_id);
	add_core(b, r, name_of(r), SPAN_CLIENT, r->record->sent, r->record->ended);
	add_query(b, r);
	if (query_text)
		add_query_text(b, r);
	add_if(b, SPAN_ATTRIBUTES, "server.address", r->s.host);
	if (r->record->port && r->s.host.len && r->s.host.bytes[0] != '/')
		otlp_integer(b, SPAN_ATTRIBUTES, "server.port", r->record->port);
	add_route(b, SPAN_ATTRIBUTES, r);
	end_span(b, r, span, /* tells_error= */ true, r->record->flags | FLAG_SAMPLED);
}

uint32_t otlp_add_request(struct otlp_message *m, const struct trace_record *record, int64_t wall_offset,
			  bool query_text)
{
	struct request r = {.record = record, .wall_offset = wall_offset};
	bool waited = record->sent > record->began, sent = record->host_len > 0;

	trace_record_strings(record, &r.s);
	sql_summarize(r.s.text, &r.summary);
	make_id(r.span_id, sizeof(r.span_id));
	if (record->has_parent)
		memcpy(r.trace_id, record->trace_id, sizeof(r.trace_id));
	else
		make_id(r.trace_id, sizeof(r.trace_id));
	add_own(m->to, &r);
	if (waited)
		add_wait(m->to, &r);
	if (sent)
		add_server(m->to, &r, query_text);
	return 1u + waited + sent;
}

/* ---- the answer ---- */

void otlp_read_answer(struct slice body, struct otlp_refusal *ret)
{
	struct pb_reader all = pb_reader_make(body.bytes, body.len);
	struct pb_field field, part;

	*ret = (struct otlp_refusal){0};
	while (pb_next(&all, &field)) {
		struct pb_reader partial = pb_reader_make(field.bytes.bytes, field.bytes.len);

		if (field.number != 1 || !field.bytes.len)
			continue;
		while (pb_next(&partial, &part)) {
			if (part.number == 1)
				ret->rejected = part.value;
			else if (part.number == 2)
				ret->why = part.bytes;
		}
		if (partial.failed)
			all.failed = true;
	}
	if (all.failed || ret->rejected > INT64_MAX) /* rubbish */
		*ret = (struct otlp_refusal){0};
}
