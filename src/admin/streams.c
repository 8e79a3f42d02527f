/*
 * See streams.h. The parts:
 *   feed    the entries of a journal as text (frames), as long as somebody listens; the journal's numbers are its own
 *   stream  what the HTTP server asks for the next bytes (read_stream), on its threads
 *   hub     the thread that takes what is new from the journals and wakes streams, sends heartbeats, and notices
 *           clients that have left (the HTTP server doesn't look at a suspended connection)
 *
 * One lock. Under it a stream is suspended or not, so no wake-up is lost: it suspends itself only when it has seen that
 * there is nothing, and what comes later finds it suspended. It is resumed without the lock: who is suspended can't go.
 */
#include "admin/streams.h"

#include "base/buf.h"
#include "base/clock.h"
#include "base/list.h"
#include "base/log.h"

#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#define HEARTBEAT   (15 * USEC_PER_SEC)
#define GATHER_US   50000u /* what comes within this is sent together */
#define LOOK_MS     1000   /* for heartbeats that are due */
#define FRAME_MAX   (128u << 10)
#define BLOCK_SIZE  4096u
#define STUCK       (30 * USEC_PER_SEC) /* whoever takes nothing for so long is given up */
#define TIMEOUT_S   60u                 /* the library's, should the hub's clock stand still */
#define SEND_BUFFER (64 << 10)          /* of the kernel, which would keep megabytes for each slow reader */
#define END_MS      500                 /* how long streams may take to end */
#define WAKE        UINT64_MAX

struct frame {
	uint32_t references; /* under the lock */
	unsigned kind;
	enum log_level level;
	size_t len;
	char text[];
};

struct feed {
	enum feed_kind kind;
	uint32_t streams;
	struct journal_reader *reader; /* NULL: nobody listens */
	/* first <= next, next - first <= max: frame n is at frames[n % max]; NULL: it was gone, or there was no memory
	 */
	uint64_t first, next;
	size_t max;
	struct frame **frames;
};

struct stream {
	struct list node;
	struct streams *all;
	struct feed *feed;
	struct feed_filter filter;
	struct MHD_Connection *connection;
	int fd;      /* the connection's; -1: not known */
	uint64_t id; /* of this process; who it is in the hub's epoll */
	uint64_t next;
	bool is_suspended, has_left, unknown_gap; /* unknown_gap: what it asked for is not of this process */
	usec_t spoke_at;                          /* when it last had bytes to send */
	usec_t asked_at;                          /* when the server last wanted some, or was told to */
	struct frame *frame;                      /* that it sends; NULL: none */
	size_t sent;                              /* of the frame */
	struct stream *wake_next;
};

struct streams {
	pthread_mutex_t lock;
	pthread_cond_t left; /* a stream has */
	struct feed feeds[FEED_COUNT];
	struct list list;
	uint32_t max, count;
	uint64_t last_id, opened, refused, missed;
	bool ending;
	int epoll_fd, wake_fd;
	_Atomic bool told; /* the hub will look */
	pthread_t hub;
	bool hub_runs;
};

/* ---- frames ---- */

static struct frame *frame_new(size_t size)
{
	struct frame *frame = malloc(sizeof(*frame) + size);

	if (frame)
		*frame = (struct frame){.references = 1};
	return frame;
}

static void frame_unref(struct frame *frame)
{
	if (frame && --frame->references == 0)
		free(frame);
}

static struct frame *frame_of(enum feed_kind feed, const struct journal_entry *e)
{
	json_t *json = feed_entry_json(feed, e);
	char *text = json ? json_dumps(json, JSON_COMPACT) : NULL;
	size_t size = text ? strlen(text) + 128 : 0;
	struct frame *frame = text && size <= FRAME_MAX ? frame_new(size) : NULL;

	if (frame) {
		frame->kind = e->kind;
		frame->level = e->level;
		frame->len = (size_t)snprintf(frame->text, size, "id: %" PRIu64 "\nevent: %s\ndata: %s\n\n", e->number,
					      feed == FEED_EVENTS ? event_info((enum event_kind)e->kind)->name : "log",
					      text);
	}
	free(text);
	json_decref(json);
	return frame;
}

static struct frame *frame_of_text(const char *text)
{
	size_t len = strlen(text);
	struct frame *frame = frame_new(len);

	if (frame)
		memcpy(frame->text, text, frame->len = len);
	return frame;
}

/* missed 0: nobody knows how many. */
static struct frame *frame_of_gap(uint64_t missed, uint64_t next)
{
	char number[24] = "null", text[200];

	if (missed)
		snprintf(number, sizeof(number), "%" PRIu64, missed);
	snprintf(text, sizeof(text), "id: %" PRIu64 "\nevent: gap\ndata: {\"missed\":%s,\"next\":%" PRIu64 "}\n\n",
		 next - 1, number, next);
	return frame_of_text(text);
}

/* ---- feeds ---- */

static struct frame **slot(const struct feed *f, uint64_t number)
{
	return &f->frames[number % f->max];
}

static void add_frame(struct feed *f, struct frame *frame)
{
	if (f->next - f->first == f->max) {
		frame_unref(*slot(f, f->first));
		f->first++;
	}
	*slot(f, f->next) = frame;
	f->next++;
}

/* What is new in the journal. */
static void feed_follow(struct feed *f)
{
	struct journal_entry e;

	if (!f->reader)
		return;
	while (journal_next(f->reader, &e)) {
		while (f->next < e.number)
			add_frame(f, NULL);
		add_frame(f, frame_of(f->kind, &e));
	}
}

/* Runs under the journal's lock, on whatever thread has added to it. */
static void tell_hub(void *streams)
{
	struct streams *all = streams;

	if (!atomic_exchange(&all->told, true))
		(void)!write(all->wake_fd, &(uint64_t){1}, sizeof(uint64_t));
}

static void feed_close(struct feed *f)
{
	journal_watch(feed_journal(f->kind), NULL, NULL);
	for (; f->first < f->next; f->first++)
		frame_unref(*slot(f, f->first));
	free(f->frames);
	free(f->reader);
	f->frames = NULL;
	f->reader = NULL;
}

static int feed_open(struct feed *f, struct streams *all)
{
	struct journal *journal = feed_journal(f->kind);
	uint64_t first, next;

	f->max = journal_entries_max(journal);
	f->frames = calloc(f->max, sizeof(struct frame *));
	f->reader = malloc(sizeof(*f->reader));
	if (!f->frames || !f->reader) {
		free(f->frames);
		free(f->reader);
		f->reader = NULL;
		return -ENOMEM;
	}
	journal_span(journal, &first, &next);
	journal_read(f->reader, journal, first);
	f->first = f->next = first;
	journal_watch(journal, tell_hub, all);
	return 0;
}

/* ---- streams ---- */

/* What it is to send next, a reference of its own. NULL: there is nothing, or no memory (*ret_failed). */
static struct frame *next_frame(struct stream *s, bool *ret_failed)
{
	struct feed *f = s->feed;
	uint64_t missed = 0;
	struct frame *frame;

	if (s->next < f->first) {
		missed = f->first - s->next;
		s->next = f->first;
	}
	for (; s->next < f->next && !*slot(f, s->next); s->next++)
		missed++;
	if (missed || s->unknown_gap) {
		frame = frame_of_gap(s->unknown_gap ? 0 : missed, s->next);
		s->unknown_gap = false;
		s->all->missed += missed;
		*ret_failed = !frame;
		return frame;
	}
	for (; s->next < f->next; s->next++) {
		frame = *slot(f, s->next);
		if (!frame)
			return next_frame(s, ret_failed); /* once: a hole is told at once */
		if (feed_matches(&s->filter, frame->level, frame->kind)) {
			s->next++;
			frame->references++;
			return frame;
		}
	}
	return NULL;
}

/* Passes by what is not for it. */
static bool has_news(struct stream *s)
{
	struct feed *f = s->feed;

	if (s->frame || s->unknown_gap || s->next < f->first)
		return true;
	for (; s->next < f->next; s->next++) {
		const struct frame *frame = *slot(f, s->next);

		if (!frame || feed_matches(&s->filter, frame->level, frame->kind))
			return true;
	}
	return false;
}

static size_t take_bytes(struct stream *s, char *to, size_t room)
{
	size_t len = MIN(room, s->frame->len - s->sent);

	memcpy(to, s->frame->text + s->sent, len);
	s->sent += len;
	if (s->sent == s->frame->len) {
		frame_unref(s->frame);
		s->frame = NULL;
		s->sent = 0;
	}
	return len;
}

static ssize_t read_locked(struct stream *s, char *to, size_t room)
{
	usec_t now = clock_update();
	bool failed = false;
	size_t len = 0;

	s->asked_at = now;
	while (len < room && !failed) {
		if (!s->frame)
			s->frame = next_frame(s, &failed);
		if (!s->frame && len == 0 && !failed && now - s->spoke_at >= HEARTBEAT)
			s->frame = frame_of_text(": heartbeat\n\n");
		if (!s->frame)
			break;
		len += take_bytes(s, to + len, room - len);
	}
	if (failed || s->has_left)
		return MHD_CONTENT_READER_END_WITH_ERROR;
	if (len > 0) {
		s->spoke_at = now;
		return (ssize_t)len;
	}
	if (s->all->ending)
		return MHD_CONTENT_READER_END_OF_STREAM;
	s->is_suspended = true;
	MHD_suspend_connection(s->connection);
	return 0;
}

static ssize_t read_stream(void *stream, uint64_t position, char *to, size_t room)
{
	struct stream *s = stream;
	ssize_t len;

	(void)position;
	pthread_mutex_lock(&s->all->lock);
	len = read_locked(s, to, room);
	pthread_mutex_unlock(&s->all->lock);
	return len;
}

static void end_stream(void *stream)
{
	struct stream *s = stream;
	struct streams *all = s->all;

	pthread_mutex_lock(&all->lock);
	list_remove(&s->node);
	all->count--;
	frame_unref(s->frame);
	if (--s->feed->streams == 0)
		feed_close(s->feed);
	pthread_cond_broadcast(&all->left);
	pthread_mutex_unlock(&all->lock);
	free(s);
}

/* Where it begins. With the lock held. */
static void set_out(struct stream *s, const struct stream_wish *wish)
{
	struct journal *journal = feed_journal(wish->feed);
	uint64_t first, next;

	journal_span(journal, &first, &next);
	s->next = next;
	if (!wish->resumes)
		return;
	if (wish->after == 0) { /* whatever there is */
		s->next = first;
	} else if (wish->after < journal_born(journal) - 1 || wish->after >= next) {
		s->next = first;
		s->unknown_gap = true;
	} else {
		s->next = wish->after + 1;
	}
}

static int add_stream(struct streams *all, struct stream *s, const struct stream_wish *wish)
{
	struct feed *f = s->feed;

	if (all->ending)
		return -ESHUTDOWN;
	if (all->count >= all->max) {
		all->refused++;
		return -EAGAIN;
	}
	if (f->streams == 0 && feed_open(f, all) < 0)
		return -ENOMEM;
	set_out(s, wish);
	f->streams++;
	all->count++;
	all->opened++;
	s->id = ++all->last_id;
	list_push_back(&all->list, &s->node);
	tell_hub(all); /* what was there before */
	return 0;
}

static int socket_of(struct MHD_Connection *connection)
{
	const union MHD_ConnectionInfo *info = MHD_get_connection_info(connection, MHD_CONNECTION_INFO_CONNECTION_FD);

	if (!info)
		return -1;
	(void)MHD_set_connection_option(connection, MHD_CONNECTION_OPTION_TIMEOUT, TIMEOUT_S);
	(void)setsockopt(info->connect_fd, SOL_SOCKET, SO_SNDBUF, &(int){SEND_BUFFER}, sizeof(int));
	return info->connect_fd;
}

/* That its client leaves. The registration goes with the socket, which may have been a stream's before. */
static void watch_client(const struct stream *s)
{
	struct epoll_event event = {.events = EPOLLRDHUP | EPOLLET, .data.u64 = s->id};

	if (s->fd >= 0 && epoll_ctl(s->all->epoll_fd, EPOLL_CTL_ADD, s->fd, &event) < 0)
		(void)epoll_ctl(s->all->epoll_fd, EPOLL_CTL_MOD, s->fd, &event);
}

int streams_open(struct streams *all, struct MHD_Connection *connection, const struct stream_wish *wish,
		 struct MHD_Response **ret)
{
	struct stream *s = calloc(1, sizeof(*s));
	struct MHD_Response *response;
	int r = -ENOMEM;

	if (!s)
		return r;
	s->all = all;
	s->feed = &all->feeds[wish->feed];
	s->filter = wish->filter;
	s->connection = connection;
	s->fd = socket_of(connection);
	s->spoke_at = s->asked_at = clock_update();
	s->frame = frame_of_text("retry: 2000\n\n"); /* also sends the head on its way */
	if (s->frame) {
		pthread_mutex_lock(&all->lock);
		r = add_stream(all, s, wish);
		pthread_mutex_unlock(&all->lock);
	}
	if (r < 0) {
		free(s->frame);
		free(s);
		return r;
	}
	watch_client(s);
	response = MHD_create_response_from_callback(MHD_SIZE_UNKNOWN, BLOCK_SIZE, read_stream, s, end_stream);
	if (!response) {
		end_stream(s);
		return -ENOMEM;
	}
	MHD_add_response_header(response, "X-Accel-Buffering", "no");
	*ret = response;
	return 0;
}

/* ---- the hub ---- */

static void client_left(struct streams *all, uint64_t id)
{
	list_for_each (node, &all->list) {
		struct stream *s = list_entry(node, struct stream, node);

		if (s->id == id) {
			s->has_left = true;
			return;
		}
	}
}

/* Those that are to be resumed, linked; they are no longer marked as suspended. One that is not has bytes to send:
 * those whose client takes none are given up. With the lock held. */
static struct stream *take_those_to_wake(struct streams *all)
{
	struct stream *first = NULL;
	usec_t now = clock_update();

	list_for_each (node, &all->list) {
		struct stream *s = list_entry(node, struct stream, node);

		if (!s->is_suspended && now - s->asked_at >= STUCK && s->fd >= 0)
			(void)shutdown(s->fd, SHUT_RDWR);
		if (!s->is_suspended || (!s->has_left && !all->ending && now - s->spoke_at < HEARTBEAT && !has_news(s)))
			continue;
		s->is_suspended = false;
		s->asked_at = now;
		s->wake_next = first;
		first = s;
	}
	return first;
}

static void wake(struct stream *s)
{
	while (s) {
		struct stream *next = s->wake_next; /* once it is resumed it may go at any time */

		MHD_resume_connection(s->connection);
		s = next;
	}
}

/* True: something was written down. */
static bool wait_for_news(struct streams *all, bool nobody_listens)
{
	struct epoll_event events[64];
	int n = epoll_wait(all->epoll_fd, events, ARRAY_SIZE(events), nobody_listens ? -1 : LOOK_MS);
	bool news = false;
	uint64_t unused;

	for (int i = 0; i < n; i++) {
		if (events[i].data.u64 != WAKE) {
			pthread_mutex_lock(&all->lock);
			client_left(all, events[i].data.u64);
			pthread_mutex_unlock(&all->lock);
			continue;
		}
		(void)!read(all->wake_fd, &unused, sizeof(unused));
		news = true;
	}
	return news;
}

static void *run_hub(void *streams)
{
	struct streams *all = streams;
	bool ending = false, nobody_listens = true;

	while (!ending) {
		struct stream *woken;

		if (wait_for_news(all, nobody_listens))
			usleep(GATHER_US);
		atomic_store(&all->told, false); /* ahead of the look: what comes now is told again */
		pthread_mutex_lock(&all->lock);
		for (unsigned i = 0; i < FEED_COUNT; i++)
			feed_follow(&all->feeds[i]);
		ending = all->ending; /* from then on none suspends itself */
		nobody_listens = all->count == 0;
		woken = take_those_to_wake(all);
		pthread_mutex_unlock(&all->lock);
		wake(woken);
	}
	return NULL;
}

/* ---- beginning and end ---- */

static int start_hub(struct streams *all)
{
	struct epoll_event event = {.events = EPOLLIN, .data.u64 = WAKE};
	sigset_t signals, before;
	int r;

	all->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	all->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (all->epoll_fd < 0 || all->wake_fd < 0 || epoll_ctl(all->epoll_fd, EPOLL_CTL_ADD, all->wake_fd, &event) < 0)
		return -errno;
	sigfillset(&signals);
	pthread_sigmask(SIG_SETMASK, &signals, &before);
	r = pthread_create(&all->hub, NULL, run_hub, all);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	all->hub_runs = r == 0;
	return -r;
}

int streams_new(uint32_t max, struct streams **ret)
{
	struct streams *all = calloc(1, sizeof(*all));
	pthread_condattr_t attributes;
	int r;

	if (!all)
		return -ENOMEM;
	all->epoll_fd = all->wake_fd = -1;
	all->max = max;
	list_init(&all->list);
	for (unsigned i = 0; i < FEED_COUNT; i++)
		all->feeds[i].kind = (enum feed_kind)i;
	pthread_mutex_init(&all->lock, NULL);
	pthread_condattr_init(&attributes);
	pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
	pthread_cond_init(&all->left, &attributes);
	pthread_condattr_destroy(&attributes);
	r = start_hub(all);
	if (r < 0) {
		streams_free(all);
		return r;
	}
	*ret = all;
	return 0;
}

void streams_end(struct streams *all)
{
	struct timespec until;

	if (!all->hub_runs)
		return;
	pthread_mutex_lock(&all->lock);
	for (unsigned i = 0; i < FEED_COUNT; i++) /* whoever ends has sent what there was */
		feed_follow(&all->feeds[i]);
	all->ending = true;
	tell_hub(all);
	pthread_mutex_unlock(&all->lock);
	pthread_join(all->hub, NULL);
	all->hub_runs = false;
	clock_gettime(CLOCK_MONOTONIC, &until);
	until.tv_nsec += END_MS * 1000000L;
	until.tv_sec += until.tv_nsec / 1000000000L;
	until.tv_nsec %= 1000000000L;
	pthread_mutex_lock(&all->lock);
	while (all->count > 0)
		if (pthread_cond_timedwait(&all->left, &all->lock, &until) == ETIMEDOUT)
			break;
	pthread_mutex_unlock(&all->lock);
}

void streams_free(struct streams *all)
{
	if (!all)
		return;
	streams_end(all);
	assert(all->count == 0);
	if (all->epoll_fd >= 0)
		close(all->epoll_fd);
	if (all->wake_fd >= 0)
		close(all->wake_fd);
	pthread_cond_destroy(&all->left);
	pthread_mutex_destroy(&all->lock);
	free(all);
}

void streams_count(struct streams *all, struct streams_counts *ret)
{
	pthread_mutex_lock(&all->lock);
	*ret = (struct streams_counts){
		.max = all->max, .opened = all->opened, .refused = all->refused, .missed = all->missed};
	for (unsigned i = 0; i < FEED_COUNT; i++)
		ret->open[i] = all->feeds[i].streams;
	pthread_mutex_unlock(&all->lock);
}
