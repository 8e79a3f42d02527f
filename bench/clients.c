/*
 * Many clients in one thread, at little cost for each: what pgbench can't do. The last line of each is JSON.
 *
 *     clients storm PORT N [tls]                 N clients connect at once: time until each could send its first query
 *     clients hold PORT N [tls]                  N clients log in and wait. On a line on standard input each sends a
 *                                                query, at its end they leave
 *     clients load PORT N SECONDS DEPTH SQL      each client sends DEPTH queries in one packet, again and again, and
 *                                                waits for their answers: latencies, also of each client
 *     clients fixed PORT N SECONDS BYTES         40 bytes there, BYTES back: what the kernel asks for, and nobody else
 *
 * Only loopback; source addresses are 127.0.0.1 and, for each further 20,000 clients, the next one. The user is
 * "bench", the database "bench", and no password is asked for. Certificates are not looked at.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <openssl/ssl.h>
#include <poll.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { EVENTS = 512, BUFFER = 256 * 1024, PER_ADDRESS = 20000, PATIENCE = 60 };

#ifndef IP_BIND_ADDRESS_NO_PORT
#define IP_BIND_ADDRESS_NO_PORT 24
#endif

enum state { CONNECTING, ASKED_FOR_TLS, HANDSHAKE, LOGIN, READY, BUSY, GONE };

struct client {
	int fd;
	enum state state;
	SSL *ssl;
	unsigned char head[5]; /* of a message that has not come whole */
	unsigned head_len;
	size_t body_left;
	unsigned answers_left; /* ReadyForQuery, or bytes with `fixed` */
	double began, total;
	unsigned rounds;
};

static struct client *clients;
static int client_count, port, epoll, ready_count, gone_count;
static bool tls, fixed;
static SSL_CTX *context;
static char buffer[BUFFER];
static char *request;
static size_t request_len;
static unsigned depth = 1;
static bool again; /* who has its answers asks at once for more */
static float *samples;
static size_t sample_count, sample_room;
static double epoch;

static void fail(const char *what)
{
	perror(what);
	exit(1);
}

static double now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static void sample_add(double seconds)
{
	if (sample_count == sample_room) {
		sample_room = sample_room ? 2 * sample_room : 1 << 16;
		samples = realloc(samples, sample_room * sizeof(*samples));
		if (!samples)
			fail("clients");
	}
	samples[sample_count++] = (float)(seconds * 1e3);
}

static void client_gone(struct client *c, const char *why)
{
	static int told;

	if (c->state == GONE)
		return;
	if (told++ < 3)
		fprintf(stderr, "client %d: %s\n", (int)(c - clients), why);
	ready_count -= c->state >= READY;
	gone_count++;
	c->state = GONE;
	SSL_free(c->ssl);
	c->ssl = NULL;
	close(c->fd);
}

static void client_watch(struct client *c, unsigned events, int how)
{
	struct epoll_event event = {.events = events, .data.ptr = c};

	if (epoll_ctl(epoll, how, c->fd, &event))
		fail("clients: epoll_ctl");
}

static bool client_open(struct client *c)
{
	struct sockaddr_in from = {.sin_family = AF_INET},
			   to = {.sin_family = AF_INET, .sin_port = htons((unsigned short)port)};
	int on = 1;

	to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	from.sin_addr.s_addr = htonl(INADDR_LOOPBACK + (unsigned)(c - clients) / PER_ADDRESS);
	c->fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (c->fd < 0)
		fail("clients: socket");
	(void)setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
	(void)setsockopt(c->fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &on, sizeof(on));
	c->state = CONNECTING;
	c->began = now();
	client_watch(c, EPOLLOUT, EPOLL_CTL_ADD);
	if (bind(c->fd, (struct sockaddr *)&from, sizeof(from)))
		fail("clients: bind");
	if (connect(c->fd, (struct sockaddr *)&to, sizeof(to)) && errno != EINPROGRESS) {
		client_gone(c, strerror(errno));
		return false;
	}
	return true;
}

/* All that is ever sent is short, and the socket's buffer is empty then. */
static void client_send(struct client *c, const void *data, size_t len)
{
	bool sent = c->ssl ? SSL_write(c->ssl, data, (int)len) == (int)len
			   : send(c->fd, data, len, MSG_NOSIGNAL) == (ssize_t)len;

	if (!sent)
		client_gone(c, "could not send");
}

static void client_login(struct client *c)
{
	static const char startup[] = "\0\0\0\x23\0\3\0\0user\0bench\0database\0bench\0";

	c->state = LOGIN;
	c->answers_left = 1;
	client_send(c, startup, sizeof(startup));
}

static void client_ask(struct client *c)
{
	c->state = BUSY;
	c->answers_left = depth;
	c->began = now();
	client_send(c, request, request_len);
}

static void client_answered(struct client *c)
{
	double taken = now();

	if (c->state == LOGIN) {
		ready_count++;
		sample_add(taken - epoch);
	} else {
		taken -= c->began;
		c->total += taken;
		c->rounds++;
		sample_add(taken);
	}
	c->state = READY;
	if (again)
		client_ask(c);
}

/* Looks for the ends of messages only, and counts ReadyForQuery. */
static void client_parse(struct client *c, const char *data, size_t len)
{
	while (len > 0 && c->state != GONE) {
		if (c->head_len < 5) {
			c->head[c->head_len++] = (unsigned char)*data++;
			len--;
			if (c->head_len < 5)
				continue;
			c->body_left = ((size_t)c->head[1] << 24 | (size_t)c->head[2] << 16 | (size_t)c->head[3] << 8 |
					c->head[4]) -
				       4;
			if (c->head[0] == 'E') {
				client_gone(c, "ErrorResponse");
				return;
			}
		}
		size_t take = len < c->body_left ? len : c->body_left;

		c->body_left -= take;
		data += take;
		len -= take;
		if (c->body_left)
			return;
		c->head_len = 0;
		if (c->head[0] == 'Z' && --c->answers_left == 0)
			client_answered(c);
	}
}

static void client_receive(struct client *c)
{
	for (;;) {
		ssize_t got = c->ssl ? SSL_read(c->ssl, buffer, BUFFER) : recv(c->fd, buffer, BUFFER, 0);

		if (got <= 0) {
			if (c->ssl ? SSL_get_error(c->ssl, (int)got) != SSL_ERROR_WANT_READ
				   : got == 0 || errno != EAGAIN)
				client_gone(c, "the connection was closed");
			return;
		}
		if (!fixed)
			client_parse(c, buffer, (size_t)got);
		else if ((c->answers_left -= (unsigned)got) == 0)
			client_answered(c);
		if (c->state == GONE || !c->ssl)
			return;
	}
}

static void client_handshake(struct client *c)
{
	int result = SSL_connect(c->ssl), wants = SSL_get_error(c->ssl, result);

	if (result == 1)
		client_login(c);
	else if (wants != SSL_ERROR_WANT_READ)
		client_gone(c, "TLS handshake");
}

static void client_connected(struct client *c)
{
	static const char ask_for_tls[] = {0, 0, 0, 8, 0x04, (char)0xd2, 0x16, 0x2f};
	int error = 0;
	socklen_t len = sizeof(error);

	(void)getsockopt(c->fd, SOL_SOCKET, SO_ERROR, &error, &len);
	if (error) {
		client_gone(c, strerror(error));
		return;
	}
	client_watch(c, EPOLLIN, EPOLL_CTL_MOD);
	if (tls) {
		c->state = ASKED_FOR_TLS;
		client_send(c, ask_for_tls, sizeof(ask_for_tls));
	} else if (fixed) {
		c->state = READY;
		ready_count++;
	} else {
		client_login(c);
	}
}

static void client_event(struct client *c)
{
	char answer;

	switch (c->state) {
	case CONNECTING:
		client_connected(c);
		return;
	case ASKED_FOR_TLS:
		if (recv(c->fd, &answer, 1, 0) != 1 || answer != 'S') {
			client_gone(c, "no TLS");
			return;
		}
		c->state = HANDSHAKE;
		c->ssl = SSL_new(context);
		SSL_set_fd(c->ssl, c->fd);
		client_handshake(c);
		return;
	case HANDSHAKE:
		client_handshake(c);
		return;
	default:
		client_receive(c);
	}
}

static void turn(int milliseconds)
{
	static struct epoll_event events[EVENTS];
	int count = epoll_wait(epoll, events, EVENTS, milliseconds);

	for (int i = 0; i < count; i++) {
		struct client *c = events[i].data.ptr;

		if (c->state != GONE)
			client_event(c);
	}
}

/* Opens them all, `at_once` at a time, and waits until they are ready or gone. */
static void connect_all(int at_once)
{
	int opened = 0;
	double last = now();

	epoch = now();
	while (ready_count + gone_count < client_count && now() - last < PATIENCE) {
		int before = ready_count;

		while (opened < client_count && opened - ready_count - gone_count < at_once)
			(void)client_open(&clients[opened++]);
		turn(100);
		if (ready_count != before)
			last = now();
	}
	for (int i = 0; i < opened; i++)
		if (clients[i].state < READY)
			client_gone(&clients[i], "waited in vain");
}

static int compare(const void *a, const void *b)
{
	float x = *(const float *)a, y = *(const float *)b;

	return (x > y) - (x < y);
}

static double percentile(const float *sorted, size_t count, double part)
{
	return count ? (double)sorted[(size_t)(part * (double)(count - 1))] : 0;
}

static void print_samples(void)
{
	qsort(samples, sample_count, sizeof(*samples), compare);
	printf("\"p50_ms\": %.3f, \"p99_ms\": %.3f, \"max_ms\": %.3f, ", percentile(samples, sample_count, 0.5),
	       percentile(samples, sample_count, 0.99), percentile(samples, sample_count, 1));
}

static void storm(void)
{
	connect_all(client_count);
	printf("{");
	print_samples();
	printf("\"clients\": %d, \"failed\": %d}\n", ready_count, gone_count);
}

static void hold(void)
{
	struct pollfd input = {.fd = STDIN_FILENO, .events = POLLIN};
	char line[64];

	connect_all(64);
	printf("{\"held\": %d, \"failed\": %d}\n", ready_count, gone_count);
	while (fflush(stdout), poll(&input, 1, -1) > 0 && read(STDIN_FILENO, line, sizeof(line)) > 0) {
		for (int i = 0; i < client_count; i++) {
			double until = now() + PATIENCE;

			if (clients[i].state != READY)
				continue;
			client_ask(&clients[i]);
			while (clients[i].state == BUSY && now() < until)
				turn(100);
		}
		printf("{\"held\": %d, \"failed\": %d}\n", ready_count, gone_count);
	}
}

static void load(double seconds)
{
	float *means = calloc((size_t)client_count, sizeof(*means));
	unsigned long rounds = 0;
	size_t n = 0;
	double end;

	connect_all(64);
	if (gone_count || !means)
		exit(1);
	sample_count = 0;
	epoch = now();
	end = epoch + seconds;
	again = true;
	for (int i = 0; i < client_count; i++)
		client_ask(&clients[i]);
	while (now() < end)
		turn(100);
	seconds = now() - epoch;
	for (int i = 0; i < client_count; i++) {
		struct client *c = &clients[i];

		rounds += c->rounds;
		if (c->state == BUSY) { /* who has waited all the time has a mean, too */
			c->total += now() - c->began;
			c->rounds++;
		}
		means[n++] = (float)(c->total / c->rounds * 1e3);
	}
	qsort(means, n, sizeof(*means), compare);
	printf("{\"queries\": %lu, \"seconds\": %.3f, ", rounds * (fixed ? 1 : depth), seconds);
	print_samples();
	printf("\"slowest_ms\": %.3f, \"median_ms\": %.3f, \"fastest_ms\": %.3f, \"failed\": %d}\n",
	       percentile(means, n, 1), percentile(means, n, 0.5), percentile(means, n, 0), gone_count);
}

static void request_make(const char *sql)
{
	size_t text = strlen(sql) + 1, one = text + 5;

	request_len = depth * one;
	request = malloc(request_len);
	if (!request)
		fail("clients");
	for (unsigned i = 0; i < depth; i++) {
		unsigned char head[5] = {'Q', (unsigned char)((text + 4) >> 24), (unsigned char)((text + 4) >> 16),
					 (unsigned char)((text + 4) >> 8), (unsigned char)(text + 4)};

		memcpy(request + i * one, head, 5);
		memcpy(request + i * one + 5, sql, text);
	}
}

static void prepare(int argc, char **argv)
{
	struct rlimit files;

	port = atoi(argv[2]);
	client_count = atoi(argv[3]);
	clients = calloc((size_t)client_count, sizeof(*clients));
	epoll = epoll_create1(0);
	if (!clients || epoll < 0)
		fail("clients");
	if (!getrlimit(RLIMIT_NOFILE, &files)) {
		files.rlim_cur = files.rlim_max;
		(void)setrlimit(RLIMIT_NOFILE, &files);
	}
	tls = argc > 4 && !strcmp(argv[4], "tls");
	if (tls) {
		context = SSL_CTX_new(TLS_client_method());
		if (!context)
			fail("clients: TLS");
		SSL_CTX_set_mode(context, SSL_MODE_RELEASE_BUFFERS);
	}
}

int main(int argc, char **argv)
{
	if (argc < 4) {
		fprintf(stderr, "usage: clients storm|hold PORT N [tls]\n       clients load PORT N SECONDS DEPTH SQL\n"
				"       clients fixed PORT N SECONDS BYTES\n");
		return 2;
	}
	prepare(argc, argv);
	if (!strcmp(argv[1], "storm")) {
		storm();
	} else if (!strcmp(argv[1], "hold")) {
		request_make("SELECT abalance FROM pgbench_accounts WHERE aid = 1");
		hold();
	} else if (!strcmp(argv[1], "load") && argc > 6) {
		depth = (unsigned)atoi(argv[5]);
		request_make(argv[6]);
		load(atof(argv[4]));
	} else if (!strcmp(argv[1], "fixed") && argc > 5) {
		fixed = true;
		depth = (unsigned)atoi(argv[5]);
		request = calloc(1, 40);
		request_len = 40;
		load(atof(argv[4]));
	} else {
		return 2;
	}
	return 0;
}
