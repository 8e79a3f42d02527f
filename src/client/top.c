/*
 * heliosdb-proxy top: looks at the proxy again and again. One thread: it waits for keys, for signals and for the next
 * look, and while a request is under way keys are taken all the same. A key that makes the answer useless (another
 * view, the end) gives the request up.
 */
#include "client/top_priv.h"

#include "client/text.h"

#include <poll.h>
#include <signal.h>
#include <sys/signalfd.h>
#include <unistd.h>

#define TIMEOUT     (10 * USEC_PER_SEC)
#define DELAY       (2 * USEC_PER_SEC)
#define DELAY_LEAST (USEC_PER_SEC / 5)
#define DELAY_MOST  (3600 * USEC_PER_SEC)
#define FRAME_MAX   (64u << 20)
#define BATCH_WIDTH 160u

static const char help[] =
	"heliosdb-proxy top: shows what a running proxy does, again and again\n"
	"\n"
	"Usage: heliosdb-proxy top [OPTION...]\n"
	"\n"
	"      --view NAME          begins with pools, queries, nodes, sessions, events or statements (pools)\n"
	"  -d, --delay SECONDS      between two looks (2)\n"
	"  -b, --batch              plain text on standard output, without keys; also when that is no terminal\n"
	"  -n, --count N            looks N times, then ends (with --batch)\n" TARGET_HELP "\n"
	"Keys: h shows them. Exit status: 0 ended as asked, 1 refused by the proxy, 2 wrong usage, 3 not reachable (1 "
	"and 3\n"
	"with --batch only: on a terminal it tries again).\n";

static const struct option options[] = {
	TARGET_OPTIONS,
	{"view", required_argument, NULL, 'v'},
	{"delay", required_argument, NULL, 'd'},
	{"batch", no_argument, NULL, 'b'},
	{"count", required_argument, NULL, 'n'},
	{"help", no_argument, NULL, 'h'},
	{0},
};

/* ---- beginning and end ---- */

static sigset_t watched_signals(void)
{
	const int numbers[] = {SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGWINCH, SIGTSTP, SIGCONT};
	sigset_t set;

	sigemptyset(&set);
	for (size_t i = 0; i < ARRAY_SIZE(numbers); i++)
		sigaddset(&set, numbers[i]);
	return set;
}

static bool handle_events(void *argument);

/* false: it was said why not. */
static bool begin(struct top *top, const struct target_options *where)
{
	sigset_t set = watched_signals();

	top->unicode = client_locale();
	memcpy(top->orders, top_default_orders, sizeof(top->orders));
	if (!target_find(where, &top->target, /* quiet= */ false))
		return false;
	signal(SIGPIPE, SIG_IGN);
	sigprocmask(SIG_BLOCK, &set, NULL);
	top->signals = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
	if (top->signals < 0 || !api_open(&top->target, &top->api)) {
		client_say("top", "out of memory or descriptors");
		return false;
	}
	top->api.timeout = TIMEOUT;
	top->api.fds[0] = top->signals;
	top->api.ready = handle_events;
	top->api.argument = top;
	return true;
}

static void end(struct top *top)
{
	terminal_close(&top->terminal);
	api_close(&top->api);
	if (top->signals >= 0)
		close(top->signals);
	json_decref(top->status);
	json_decref(top->load);
	top_clear(top);
	arena_destroy(&top->list.arena);
	target_free(&top->target);
}

/* ---- the screen ---- */

static void keep_selected_in_sight(struct top *top)
{
	size_t room = top_room(top), selected = top_selected(top);

	if (selected < top->first)
		top->first = selected;
	else if (selected >= top->first + room)
		top->first = selected - room + 1;
	if (top->first + room > top->list.count)
		top->first = top->list.count > room ? top->list.count - room : 0;
}

static void draw(struct top *top)
{
	struct buf frame = BUF_INIT(FRAME_MAX);

	if (!top->terminal.is_open)
		return;
	keep_selected_in_sight(top);
	top_draw(top, &frame);
	if (!terminal_write(&top->terminal, &frame))
		top->is_over = true;
	buf_free(&frame);
}

static void measure(struct top *top)
{
	terminal_size(&top->columns, &top->lines);
	top->columns = MAX(top->columns, 20u);
	top->lines = MAX(top->lines, 4u);
}

/* ---- keys ---- */

static void select_row(struct top *top, size_t row)
{
	if (row < top->list.count)
		snprintf(top->selected, sizeof(top->selected), "%s", top->list.rows[row].id);
}

static void move(struct top *top, uint32_t key)
{
	size_t at = top_selected(top), room = top_room(top), last = top->list.count ? top->list.count - 1 : 0;

	switch (key) {
	case KEY_UP:
		at -= at > 0;
		break;
	case KEY_DOWN:
		at += at < last;
		break;
	case KEY_PAGE_UP:
		at -= MIN(at, room);
		break;
	case KEY_PAGE_DOWN:
		at = MIN(at + room, last);
		break;
	case KEY_HOME:
		at = 0;
		break;
	default:
		at = last;
		break;
	}
	select_row(top, at);
}

static void switch_view(struct top *top, enum top_view view)
{
	if (view == top->view)
		return;
	top->view = view;
	top->note[0] = 0;
	top_clear(top);
	top_arrange(top);
	top->is_due = true;
}

static void change_order(struct top *top, uint32_t key)
{
	struct top_order *o = &top->orders[top->view];

	if (key == 'R')
		o->is_reversed = !o->is_reversed;
	else if (key == '>')
		o->column = (o->column + 1) % top->list.column_count;
	else
		o->column = (o->column + top->list.column_count - 1) % top->list.column_count;
	top->is_due |= top->view == VIEW_STATEMENTS; /* others may be the greatest */
	top_arrange(top);
}

static void change_delay(struct top *top, bool longer)
{
	top->delay = longer ? MIN(top->delay * 2, DELAY_MOST) : MAX(top->delay / 2, DELAY_LEAST);
	top->next_at = MIN(top->next_at, clock_update() + top->delay);
	snprintf(top->message, sizeof(top->message), "looks every %.3g s", (double)top->delay / USEC_PER_SEC);
}

static void look_key(struct top *top, uint32_t key)
{
	top->message[0] = 0;
	switch (key) {
	case 'q':
		top->is_over = true;
		break;
	case '1' ... '0' + VIEW_COUNT:
		switch_view(top, (enum top_view)(key - '1'));
		break;
	case KEY_TAB:
	case KEY_RIGHT:
		switch_view(top, (top->view + 1) % VIEW_COUNT);
		break;
	case KEY_BACK_TAB:
	case KEY_LEFT:
		switch_view(top, (top->view + VIEW_COUNT - 1) % VIEW_COUNT);
		break;
	case KEY_UP ... KEY_END:
		move(top, key);
		break;
	case '<':
	case '>':
	case 'R':
		change_order(top, key);
		break;
	case '/':
		top->mode = MODE_FILTER;
		break;
	case KEY_ESCAPE:
		top->filter[0] = 0;
		top_arrange(top);
		break;
	case ' ':
		top->is_paused = !top->is_paused;
		top->is_due = !top->is_paused;
		break;
	case 'g':
		top->is_due = true;
		break;
	case '+':
	case '-':
		change_delay(top, key == '+');
		break;
	case 'h':
	case '?':
		top->mode = MODE_HELP;
		break;
	default:
		if (top_action_of(top, key))
			top->mode = MODE_CONFIRM;
		break;
	}
}

/* A whole character less. */
static void cut_filter(char *filter)
{
	size_t len = strlen(filter);

	while (len > 0 && ((uint8_t)filter[len - 1] & 0xc0) == 0x80)
		filter[--len] = 0;
	if (len > 0)
		filter[len - 1] = 0;
}

/* bytes: of the character. */
static void filter_key(struct top *top, uint32_t key, struct slice bytes)
{
	size_t len = strlen(top->filter);

	if (key == KEY_ENTER) {
		top->mode = MODE_LOOK;
	} else if (key == KEY_ESCAPE) {
		top->mode = MODE_LOOK;
		top->filter[0] = 0;
	} else if (key == KEY_BACKSPACE) {
		cut_filter(top->filter);
	} else if (key != KEY_NONE && key < KEY_UP && len + bytes.len < TOP_FILTER_MAX) {
		memcpy(top->filter + len, bytes.bytes, bytes.len);
		top->filter[len + bytes.len] = 0;
	}
	top_arrange(top);
}

static void take_key(struct top *top, uint32_t key, struct slice bytes)
{
	switch (top->mode) {
	case MODE_LOOK:
		look_key(top, key);
		break;
	case MODE_FILTER:
		filter_key(top, key, bytes);
		break;
	case MODE_CONFIRM:
		top->has_action = key == 'y' || key == 'Y';
		snprintf(top->message, sizeof(top->message), "%s", top->has_action ? "asking" : "not done");
		top->mode = MODE_LOOK;
		break;
	case MODE_HELP:
		top->mode = MODE_LOOK;
		break;
	}
}

static void read_keys(struct top *top)
{
	char bytes[512];
	ssize_t len = read(STDIN_FILENO, bytes, sizeof(bytes));
	const char *at = bytes, *end = bytes + MAX(len, 0);

	if (len == 0 || (len < 0 && errno != EINTR && errno != EAGAIN))
		top->is_over = true; /* the terminal is gone */
	while (at < end && !top->is_over) {
		const char *begin = at;
		uint32_t key = key_next(&at, end);

		take_key(top, key, slice_make(begin, (size_t)(at - begin)));
	}
}

/* ---- signals ---- */

static void sleep_until_continued(struct top *top)
{
	terminal_close(&top->terminal);
	(void)raise(SIGSTOP);
	if (!terminal_open(&top->terminal))
		top->is_over = true;
	measure(top);
}

static void read_signals(struct top *top)
{
	struct signalfd_siginfo info;

	while (read(top->signals, &info, sizeof(info)) == sizeof(info)) {
		if (info.ssi_signo == SIGWINCH)
			measure(top);
		else if (info.ssi_signo == SIGTSTP && top->terminal.is_open)
			sleep_until_continued(top);
		else if (info.ssi_signo != SIGCONT && info.ssi_signo != SIGTSTP)
			top->is_over = true;
	}
}

/* Keys and signals that are there. false: a request under way is not wanted any more. */
static bool handle_events(void *argument)
{
	struct top *top = argument;
	struct pollfd fds[] = {{.fd = top->signals, .events = POLLIN}, {.fd = STDIN_FILENO, .events = POLLIN}};

	if (poll(fds, top->terminal.is_open ? 2 : 1, 0) > 0) {
		if (fds[0].revents)
			read_signals(top);
		if (top->terminal.is_open && fds[1].revents)
			read_keys(top);
		draw(top);
	}
	return !top->is_over && !top->is_due && !top->has_action;
}

/* Until something happens, or it is time for the next look. */
static void wait_for_events(struct top *top)
{
	struct pollfd fds[] = {{.fd = top->signals, .events = POLLIN}, {.fd = STDIN_FILENO, .events = POLLIN}};
	usec_t now = clock_update(), left = top->next_at > now ? top->next_at - now : 0;
	int ms = top->is_paused ? -1 : (int)MIN(left / USEC_PER_MSEC + 1, 3600000u);

	if (poll(fds, top->terminal.is_open ? 2 : 1, ms) > 0)
		(void)handle_events(top);
}

/* ---- actions ---- */

static void act(struct top *top)
{
	struct api_answer answer;
	int status;

	top->has_action = false;
	status = api_call(&top->api, top->action.method, top->action.path, NULL, &answer);
	if (answer.http.was_stopped)
		snprintf(top->message, sizeof(top->message), "%s: not waited for", top->action.ask);
	else
		snprintf(top->message, sizeof(top->message), "%s: %s", top->action.ask,
			 status == CLIENT_OK ? "done" : answer.why);
	api_answer_free(&answer);
	top->is_due = true;
}

/* ---- the loops ---- */

static int run_on_terminal(struct top *top)
{
	measure(top);
	top->api.fds[1] = STDIN_FILENO;
	top->is_due = true;
	top_arrange(top);
	draw(top);
	while (!top->is_over) {
		if (top->has_action)
			act(top);
		if (top->is_due || (!top->is_paused && clock_update() >= top->next_at)) {
			top->is_due = false;
			(void)top_fetch(top);
			top->next_at = clock_update() + top->delay;
			draw(top);
			continue; /* keys that came meanwhile */
		}
		wait_for_events(top);
	}
	return CLIENT_OK;
}

static bool print_once(struct top *top)
{
	struct buf text = BUF_INIT(FRAME_MAX);
	bool written;

	top_print(top, &text);
	written = fwrite(text.bytes, 1, text.len, stdout) == text.len && fflush(stdout) == 0;
	buf_free(&text);
	return written;
}

/* count 0: until a signal. */
static int run_batch(struct top *top, unsigned long count)
{
	const char *columns = getenv("COLUMNS");
	int status = CLIENT_OK;

	top->columns = columns ? (unsigned)strtoul(columns, NULL, 10) : 0;
	top->columns = top->columns ? MIN(MAX(top->columns, 20u), 1000u) : BATCH_WIDTH;
	for (unsigned long i = 0; !top->is_over && (count == 0 || i < count); i++) {
		status = top_fetch(top);
		if (status == CLIENT_OK && !print_once(top))
			break;
		if (status > CLIENT_OK)
			client_say("top", "%s", top->trouble);
		top->next_at = clock_update() + top->delay;
		while (!top->is_over && i + 1 != count && clock_update() < top->next_at)
			wait_for_events(top);
	}
	return MAX(status, CLIENT_OK);
}

/* ---- the command line ---- */

struct top_options {
	struct target_options target;
	enum top_view view;
	double delay;
	unsigned long count;
	bool batch;
};

static int usage_error(const char *text)
{
	client_say("top", "%s", text);
	fprintf(stderr, "Try heliosdb-proxy top --help.\n");
	return CLIENT_USAGE;
}

static bool find_view(const char *name, enum top_view *ret)
{
	for (unsigned v = 0; v < VIEW_COUNT; v++) {
		if (strcmp(name, top_view_names[v]) != 0)
			continue;
		*ret = (enum top_view)v;
		return true;
	}
	return false;
}

/* An enum client_exit, or -1: go on. */
static int take_options(int argc, char **argv, struct top_options *o)
{
	int option;
	char *end;

	while ((option = getopt_long(argc, argv, "c:d:bn:h", options, NULL)) != -1) {
		if (target_option(&o->target, option, optarg))
			continue;
		switch (option) {
		case 'v':
			if (!find_view(optarg, &o->view))
				return usage_error(
					"--view takes pools, queries, nodes, sessions, events or statements");
			break;
		case 'd':
			o->delay = strtod(optarg, &end);
			if (*end || end == optarg || !(o->delay >= 0.2 && o->delay <= 3600))
				return usage_error("--delay takes seconds, from 0.2 to 3600");
			break;
		case 'b':
			o->batch = true;
			break;
		case 'n':
			o->count = strtoul(optarg, &end, 10);
			if (*end || end == optarg || *optarg == '-' || o->count == 0)
				return usage_error("--count takes a number");
			break;
		case 'h':
			fputs(help, stdout);
			return CLIENT_OK;
		default:
			return usage_error("unknown option");
		}
	}
	return optind < argc ? usage_error("unexpected argument") : -1;
}

int top_command(int argc, char **argv)
{
	struct top_options o = {.delay = (double)DELAY / USEC_PER_SEC};
	struct top top = {.signals = -1};
	int status = take_options(argc, argv, &o);

	if (status >= 0)
		return status;
	top.view = o.view;
	top.delay = (usec_t)(o.delay * USEC_PER_SEC);
	arena_init(&top.list.arena, 64u << 10);
	if (!begin(&top, &o.target))
		status = CLIENT_USAGE;
	else if (!o.batch && terminal_open(&top.terminal))
		status = run_on_terminal(&top);
	else
		status = run_batch(&top, o.count);
	end(&top);
	return status;
}
