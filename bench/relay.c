/*
 * An ideal relay: what no proxy can beat that keeps a server connection for each client. It opens one when a client
 * comes, copies bytes both ways and looks at none of them.
 *
 *     relay PORT SERVER_PORT|/path/to/.s.PGSQL.5432 [THREADS]
 *     relay PORT answer BYTES                             no server: each packet is answered with so many bytes
 *
 * epoll, level-triggered: a read, a write and a share of an epoll_wait for each packet. It serves benchmarks only:
 * where something fails that does not on a healthy machine, it ends.
 */
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

enum { BUFFER = 256 * 1024, EVENTS = 256 };

/* One socket of a pair. What its socket would not take waits in `rest`, and meanwhile the other end is not read. */
struct end {
	int fd;
	bool closed;
	struct end *other;
	char *rest;
	size_t rest_len;
	struct end *next_closed;
};

static const char *server_path;
static int listen_port, server_port, answer_bytes;

static void fail(const char *what)
{
	perror(what);
	exit(1);
}

static struct sockaddr_in loopback(int port)
{
	return (struct sockaddr_in){
		.sin_family = AF_INET,
		.sin_port = htons((unsigned short)port),
		.sin_addr.s_addr = htonl(INADDR_LOOPBACK),
	};
}

static void set_no_delay(int fd)
{
	int on = 1;

	(void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
}

/* Blocks: on this machine's own addresses that takes no time, and only while a client connects. */
static int server_connect(void)
{
	struct sockaddr_un path = {.sun_family = AF_UNIX};
	struct sockaddr_in address = loopback(server_port);
	int fd = socket(server_path ? AF_UNIX : AF_INET, SOCK_STREAM, 0);

	if (server_path)
		snprintf(path.sun_path, sizeof(path.sun_path), "%s", server_path);
	if (fd < 0 || connect(fd, server_path ? (struct sockaddr *)&path : (struct sockaddr *)&address,
			      server_path ? sizeof(path) : sizeof(address))) {
		perror("relay: server");
		if (fd >= 0)
			close(fd);
		return -1;
	}
	if (!server_path)
		set_no_delay(fd);
	return fd;
}

static void watch(int epoll, struct end *e, unsigned events, int how)
{
	struct epoll_event event = {.events = events, .data.ptr = e};

	if (epoll_ctl(epoll, how, e->fd, &event))
		fail("relay: epoll_ctl");
}

/* Each end is read unless the other one is stuck. */
static void watch_pair(int epoll, struct end *e)
{
	watch(epoll, e, (e->other->rest ? 0 : EPOLLIN) | (e->rest ? EPOLLOUT : 0), EPOLL_CTL_MOD);
	watch(epoll, e->other, (e->rest ? 0 : EPOLLIN) | (e->other->rest ? EPOLLOUT : 0), EPOLL_CTL_MOD);
}

static struct end *end_add(int epoll, int fd)
{
	struct end *e = calloc(1, sizeof(*e));

	if (!e)
		fail("relay");
	e->fd = fd;
	watch(epoll, e, EPOLLIN, EPOLL_CTL_ADD);
	return e;
}

static void end_close(struct end *e, struct end **closed)
{
	if (!e || e->closed)
		return;
	e->closed = true;
	close(e->fd);
	free(e->rest);
	e->next_closed = *closed;
	*closed = e;
	end_close(e->other, closed);
}

static void client_accept(int epoll, int listener)
{
	int client = accept4(listener, NULL, NULL, SOCK_CLOEXEC), server;
	struct end *e;

	if (client < 0)
		return;
	set_no_delay(client);
	if (answer_bytes) {
		(void)end_add(epoll, client);
		return;
	}
	server = server_connect();
	if (server < 0) {
		close(client);
		return;
	}
	e = end_add(epoll, client);
	e->other = end_add(epoll, server);
	e->other->other = e;
}

/* Sends to `e`; what is left over waits, and its source is not read until it has gone. */
static bool end_send(int epoll, struct end *e, const char *data, size_t len)
{
	ssize_t sent = send(e->fd, data, len, MSG_DONTWAIT | MSG_NOSIGNAL);

	if (sent < 0 && errno != EAGAIN)
		return false;
	if (sent < 0)
		sent = 0;
	if ((size_t)sent == len)
		return true;
	e->rest_len = len - (size_t)sent;
	e->rest = malloc(e->rest_len);
	if (!e->rest)
		fail("relay");
	memcpy(e->rest, data + sent, e->rest_len);
	watch_pair(epoll, e);
	return true;
}

static bool end_flush(int epoll, struct end *e)
{
	ssize_t sent = send(e->fd, e->rest, e->rest_len, MSG_DONTWAIT | MSG_NOSIGNAL);

	if (sent < 0)
		return errno == EAGAIN;
	e->rest_len -= (size_t)sent;
	memmove(e->rest, e->rest + sent, e->rest_len);
	if (e->rest_len)
		return true;
	free(e->rest);
	e->rest = NULL;
	watch_pair(epoll, e);
	return true;
}

static bool end_event(int epoll, struct end *e, unsigned events, char *buffer)
{
	ssize_t got;

	if (e->rest && events & EPOLLOUT)
		return end_flush(epoll, e);
	if (!(events & EPOLLIN) || (e->other && e->other->rest))
		return !(events & (EPOLLERR | EPOLLHUP));
	got = recv(e->fd, buffer, BUFFER, MSG_DONTWAIT);
	if (got <= 0)
		return got < 0 && errno == EAGAIN;
	if (answer_bytes)
		return send(e->fd, buffer, (size_t)answer_bytes, MSG_DONTWAIT | MSG_NOSIGNAL) == answer_bytes;
	return end_send(epoll, e->other, buffer, (size_t)got);
}

static int listener_make(void)
{
	struct sockaddr_in address = loopback(listen_port);
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0), on = 1;

	if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)) ||
	    setsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &on, sizeof(on)) ||
	    bind(fd, (struct sockaddr *)&address, sizeof(address)) || listen(fd, 4096))
		fail("relay: listen");
	return fd;
}

static void *serve(void *unused)
{
	int epoll = epoll_create1(0), listener = listener_make(), count;
	struct epoll_event events[EVENTS], event = {.events = EPOLLIN};
	char *buffer = calloc(1, BUFFER);

	if (epoll < 0 || !buffer || epoll_ctl(epoll, EPOLL_CTL_ADD, listener, &event))
		fail("relay");
	for (;;) {
		struct end *closed = NULL;

		count = epoll_wait(epoll, events, EVENTS, -1);
		for (int i = 0; i < count; i++) {
			struct end *e = events[i].data.ptr;

			if (!e)
				client_accept(epoll, listener);
			else if (!e->closed && !end_event(epoll, e, events[i].events, buffer))
				end_close(e, &closed);
		}
		while (closed) { /* not earlier: another event of this round may name it */
			struct end *next = closed->next_closed;

			free(closed);
			closed = next;
		}
	}
	return unused;
}

int main(int argc, char **argv)
{
	struct rlimit files;
	int threads = 1;

	if (argc < 3) {
		fprintf(stderr, "usage: relay PORT SERVER_PORT|SOCKET [THREADS]\n       relay PORT answer BYTES\n");
		return 2;
	}
	listen_port = atoi(argv[1]);
	if (!strcmp(argv[2], "answer"))
		answer_bytes = argc > 3 ? atoi(argv[3]) : 100;
	else if (argv[2][0] == '/')
		server_path = argv[2];
	else
		server_port = atoi(argv[2]);
	if (argc > 3 && !answer_bytes)
		threads = atoi(argv[3]);
	if (!getrlimit(RLIMIT_NOFILE, &files)) {
		files.rlim_cur = files.rlim_max;
		(void)setrlimit(RLIMIT_NOFILE, &files);
	}
	for (int i = 1; i < threads; i++) {
		pthread_t id;

		if (pthread_create(&id, NULL, serve, NULL))
			fail("relay: thread");
	}
	serve(NULL);
	return 0;
}
