/*
 * A stream of the admin API, line by line, until it is interrupted. When the connection ends it is opened again, and
 * goes on behind the last event that was seen.
 */
#include "client/client_priv.h"

#include "client/sse.h"

#include <signal.h>
#include <sys/signalfd.h>
#include <unistd.h>

#define RETRY_S 1

struct follow {
	const struct output *output;
	const char *rows;
	struct sse sse;
	uint64_t told;
	int signals;
	bool is_over, too_long;
};

static bool tell(void *argument, const struct sse *sse)
{
	struct follow *f = argument;
	struct buf text = sse->data;
	json_t *item = json_loadb((const char *)text.bytes, text.len, JSON_DECODE_ANY | JSON_ALLOW_NUL, NULL);

	if (item)
		output_item(f->output, item, f->rows, f->told++ == 0);
	json_decref(item);
	return !ferror(f->output->to);
}

static bool take(void *argument, const char *bytes, size_t len)
{
	struct follow *f = argument;

	f->too_long = !sse_read(&f->sse, bytes, len);
	return !f->too_long;
}

/* A signal: enough. */
static bool interrupted(void *argument)
{
	struct follow *f = argument;

	f->is_over = true;
	return false;
}

static int open_signals(void)
{
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, SIGINT);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGHUP);
	sigaddset(&set, SIGPIPE);
	sigprocmask(SIG_BLOCK, &set, NULL);
	return signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
}

/* An enum client_exit, or -1: again. */
static int follow_once(struct follow *f, struct api *api, const char *url)
{
	char header[100];
	struct http_call call = {.method = "GET",
				 .url = url,
				 .header = f->sse.id[0] ? header : NULL,
				 .piece = take,
				 .fds = {f->signals, -1},
				 .ready = interrupted,
				 .argument = f};
	struct api_answer answer = {0};
	int status;

	snprintf(header, sizeof(header), "Last-Event-ID: %s", f->sse.id);
	sse_begin(&f->sse);
	http_call(api->caller, &call, &answer.http);
	status = api_judge(api, &answer);
	if (f->is_over || ferror(f->output->to))
		status = CLIENT_OK;
	else if (f->too_long)
		client_say("ctl", "an event is too long");
	else if (status == CLIENT_REFUSED && answer.http.status != 503)
		client_say("ctl", "%s", answer.why);
	else if (status == CLIENT_UNREACHABLE && !f->told && !f->sse.id[0])
		client_say("ctl", "%s", answer.why);
	else {
		if (*answer.why)
			client_say("ctl", "%s; trying again", answer.why);
		status = -1;
	}
	api_answer_free(&answer);
	return status;
}

static bool pause_before_next(struct follow *f)
{
	struct timespec wait = {.tv_sec = RETRY_S};
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, SIGINT);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGHUP);
	f->is_over |= sigtimedwait(&set, NULL, &wait) > 0;
	return !f->is_over;
}

int follow_stream(const struct target *target, const char *path, const char *rows, const struct output *o)
{
	struct follow f = {.output = o, .rows = rows, .signals = open_signals()};
	struct buf url = BUF_INIT(64u << 10);
	struct api api;
	int status;

	buf_printf(&url, "%s%s", target->url, path);
	sse_init(&f.sse, tell, &f);
	if (f.signals < 0 || url.failed || !api_open(target, &api)) {
		client_say("ctl", "out of memory or descriptors");
		status = CLIENT_UNREACHABLE;
	} else {
		do
			status = follow_once(&f, &api, buf_cstr(&url));
		while (status < 0 && pause_before_next(&f));
		status = MAX(status, CLIENT_OK);
		api_close(&api);
	}
	if (f.signals >= 0)
		close(f.signals);
	buf_free(&url);
	sse_free(&f.sse);
	return status;
}
