/* See sse.h. */
#include "client/sse.h"

#include <stdio.h>

void sse_init(struct sse *s, bool (*tell)(void *argument, const struct sse *sse), void *argument)
{
	*s = (struct sse){
		.line = BUF_INIT(SSE_LINE_MAX), .data = BUF_INIT(SSE_EVENT_MAX), .tell = tell, .argument = argument};
}

void sse_free(struct sse *s)
{
	buf_free(&s->line);
	buf_free(&s->data);
}

void sse_begin(struct sse *s)
{
	buf_clear(&s->line);
	buf_clear(&s->data);
	s->event[0] = 0;
	s->after_cr = false;
}

static bool end_of_event(struct sse *s)
{
	bool goes_on = true;

	if (s->data.failed)
		return false;
	if (s->data.len > 0) {
		s->data.len--; /* the last line break */
		goes_on = s->tell(s->argument, s);
	}
	buf_clear(&s->data);
	s->event[0] = 0;
	return goes_on;
}

/* "name: value"; a line that begins with a colon is a comment. */
static bool end_of_line(struct sse *s)
{
	char *line = (char *)(uintptr_t)buf_cstr(&s->line), *value;

	if (s->line.failed)
		return false;
	if (s->line.len == 0)
		return end_of_event(s);
	value = strchr(line, ':');
	if (value) {
		*value++ = 0;
		value += *value == ' ';
	} else {
		value = line + strlen(line);
	}
	if (strcmp(line, "data") == 0) {
		buf_add_str(&s->data, value);
		buf_add_char(&s->data, '\n');
	} else if (strcmp(line, "event") == 0) {
		snprintf(s->event, sizeof(s->event), "%s", value);
	} else if (strcmp(line, "id") == 0) {
		snprintf(s->id, sizeof(s->id), "%s", value);
	}
	buf_clear(&s->line);
	return true;
}

/* A line ends with LF, CR, or both. */
bool sse_read(struct sse *s, const char *bytes, size_t len)
{
	for (size_t i = 0; i < len; i++) {
		bool is_pair = s->after_cr && bytes[i] == '\n';

		s->after_cr = bytes[i] == '\r';
		if (is_pair)
			continue;
		if (bytes[i] != '\n' && bytes[i] != '\r')
			buf_add_char(&s->line, bytes[i]);
		else if (!end_of_line(s))
			return false;
	}
	return !s->line.failed;
}
