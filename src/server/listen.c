/* See listen.h. */
#include "server/listen.h"

#include "base/log.h"
#include "loop/loop.h"

#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>
#ifdef HAVE_SYSTEMD
#include <systemd/sd-daemon.h>
#endif

#define ADMIN_PREFIX  "admin "
#define ADMIN_BACKLOG 128
#define CLIENT_MODE   0777      /* everybody may connect; who may log in is another question */
#define SYSTEMD       "systemd" /* in the place of an address */

static bool is_unix(const char *address)
{
	return strncmp(address, "unix:", 5) == 0;
}

static bool add(struct listen_set *set, int fd, const char *address, bool shared, bool from_systemd)
{
	struct listen_socket *s = &set->sockets[set->count];

	if (set->count == LISTEN_SOCKETS_MAX)
		return false;
	*s = (struct listen_socket){.fd = fd, .shared = shared, .from_systemd = from_systemd};
	snprintf(s->address, sizeof(s->address), "%s", address);
	set->count++;
	return true;
}

/* "host:port", "[v6]:port", ":port", "port" */
static bool split(const char *address, char *host, size_t host_size, char *port, size_t port_size)
{
	const char *colon = strrchr(address, ':');
	size_t len;

	if (*address == '[') {
		const char *close = strchr(address, ']');

		if (!close || close[1] != ':')
			return false;
		snprintf(host, host_size, "%.*s", (int)(close - address - 1), address + 1);
		snprintf(port, port_size, "%s", close + 2);
		return true;
	}
	len = colon ? (size_t)(colon - address) : 0;
	if (len >= host_size)
		return false;
	snprintf(host, host_size, "%.*s", (int)len, address);
	snprintf(port, port_size, "%s", colon ? colon + 1 : address);
	return *port != 0;
}

static struct addrinfo *resolve(const char *address, char *why, size_t size)
{
	struct addrinfo hints = {.ai_flags = AI_PASSIVE, .ai_socktype = SOCK_STREAM}, *found = NULL;
	char host[256], port[16];
	int r;

	if (!split(address, host, sizeof(host), port, sizeof(port))) {
		snprintf(why, size, "%s is no address: write host:port, [v6]:port or unix:/path", address);
		return NULL;
	}
	r = getaddrinfo(*host && strcmp(host, "*") != 0 ? host : NULL, port, &hints, &found);
	if (r != 0) {
		snprintf(why, size, "cannot resolve %s: %s", address, gai_strerror(r));
		return NULL;
	}
	return found;
}

/* With SO_REUSEPORT a second proxy of the same user would silently share the port: find out, once, without it. */
static bool port_is_free(const struct addrinfo *at)
{
	int fd = socket(at->ai_family, SOCK_STREAM | SOCK_CLOEXEC, 0), on = 1;
	bool is_free;

	if (fd < 0)
		return true;
	(void)setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
	if (at->ai_family == AF_INET6)
		(void)setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &on, sizeof(on));
	is_free = bind(fd, at->ai_addr, at->ai_addrlen) == 0 || errno != EADDRINUSE;
	close(fd);
	return is_free;
}

/* A listening socket, or -errno. */
static int open_tcp(const struct addrinfo *at, int backlog)
{
	int fd = socket(at->ai_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0), on = 1, r = 0;

	if (fd < 0)
		return -errno;
	if (setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)) < 0 ||
	    setsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &on, sizeof(on)) < 0 ||
	    (at->ai_family == AF_INET6 && setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &on, sizeof(on)) < 0) ||
	    bind(fd, at->ai_addr, at->ai_addrlen) < 0 || listen(fd, backlog) < 0)
		r = -errno;
	if (r < 0)
		close(fd);
	return r < 0 ? r : fd;
}

static bool cannot_listen(const char *address, int error, char *why, size_t size)
{
	snprintf(why, size, "cannot listen on %s: %s%s", address, strerror(error),
		 error == EADDRINUSE ? "; another program has the port (ss -ltnp shows which)" : "");
	return false;
}

static int open_unix(const char *path, mode_t mode, int backlog, char *why, size_t size)
{
	struct sockaddr_un un = {.sun_family = AF_UNIX};
	int fd, probe;

	if (strlen(path) >= sizeof(un.sun_path)) {
		snprintf(why, size, "the path %s is too long for a unix socket", path);
		return -1;
	}
	memcpy(un.sun_path, path, strlen(path) + 1);
	/* a socket that nobody listens on is left over from a crash */
	probe = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (probe >= 0 && connect(probe, (struct sockaddr *)&un, sizeof(un)) < 0 && errno == ECONNREFUSED)
		unlink(path);
	if (probe >= 0)
		close(probe);
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (fd < 0 || bind(fd, (struct sockaddr *)&un, sizeof(un)) < 0 || chmod(path, mode) < 0 ||
	    listen(fd, backlog) < 0) {
		snprintf(why, size, "cannot listen on unix:%s: %s", path, strerror(errno));
		if (fd >= 0)
			close(fd);
		return -1;
	}
	return fd;
}

static bool too_many(char *why, size_t size)
{
	snprintf(why, size, "more listening sockets than %u", LISTEN_SOCKETS_MAX);
	return false;
}

/* A name may have several addresses (localhost: one of IPv6, one of IPv4). What the machine lacks of them is left out.
 */
static bool open_addresses(struct listen_set *set, const char *address, uint32_t workers, int backlog, char *why,
			   size_t size)
{
	struct addrinfo *found = resolve(address, why, size);
	uint32_t before = set->count;
	bool fine = found != NULL;
	int error = 0;

	for (const struct addrinfo *at = found; at && fine; at = at->ai_next) {
		if (!port_is_free(at))
			fine = cannot_listen(address, EADDRINUSE, why, size);
		for (uint32_t i = 0; i < workers && fine; i++) {
			int fd = open_tcp(at, backlog);

			if (fd == -EAFNOSUPPORT || fd == -EADDRNOTAVAIL) {
				error = -fd;
				break;
			}
			if (fd < 0)
				fine = cannot_listen(address, -fd, why, size);
			else if (!add(set, fd, address, false, false)) {
				close(fd);
				fine = too_many(why, size);
			}
		}
	}
	if (found)
		freeaddrinfo(found);
	return fine && set->count == before ? cannot_listen(address, error, why, size) : fine;
}

static bool open_address(struct listen_set *set, const char *address, uint32_t workers, int backlog, char *why,
			 size_t size)
{
	int fd;

	if (!is_unix(address))
		return open_addresses(set, address, workers, backlog, why, size);
	fd = open_unix(address + 5, CLIENT_MODE, backlog, why, size);
	if (fd >= 0 && !add(set, fd, address, /* shared= */ true, false)) {
		close(fd);
		return too_many(why, size);
	}
	return fd >= 0;
}

/* One socket is all it takes: of several addresses that of IPv4. */
static int open_admin_tcp(const char *address, char *why, size_t size)
{
	struct addrinfo *found = resolve(address, why, size);
	const struct addrinfo *at = found;
	int fd = -1;

	while (at && at->ai_family != AF_INET && at->ai_next)
		at = at->ai_next;
	if (at) {
		fd = port_is_free(at) ? open_tcp(at, ADMIN_BACKLOG) : -EADDRINUSE;
		freeaddrinfo(found);
		if (fd < 0)
			cannot_listen(address, -fd, why, size);
	}
	return fd;
}

static void add_admin(struct listen_set *set, int fd, const char *address)
{
	struct admin_socket *s = &set->admin[set->admin_count];

	if (set->admin_count == ADMIN_SOCKETS_MAX) {
		close(fd);
		return;
	}
	s->fd = fd;
	snprintf(s->address, sizeof(s->address), "%s", address);
	set->admin_count++;
}

/* ---- inherited ---- */

static void take_one(struct listen_set *set, const char *address, int fd)
{
	bool from_systemd = strcmp(address, SYSTEMD) == 0;

	if (fd < 3 || fcntl(fd, F_SETFD, FD_CLOEXEC) < 0)
		return;
	set->inherited = true;
	if (strncmp(address, ADMIN_PREFIX, strlen(ADMIN_PREFIX)) == 0) {
		add_admin(set, fd, address + strlen(ADMIN_PREFIX));
	} else {
		add(set, fd, address, from_systemd || is_unix(address), from_systemd);
	}
}

static void take_handed_over(struct listen_set *set)
{
	char *text = getenv(LISTEN_ENVIRONMENT) ? strdup(getenv(LISTEN_ENVIRONMENT)) : NULL;
	char *line, *rest = text;

	unsetenv(LISTEN_ENVIRONMENT);
	while (rest && (line = strsep(&rest, "\n"))) {
		char *space = strrchr(line, ' ');

		if (!space)
			continue;
		*space = 0;
		take_one(set, line, atoi(space + 1));
	}
	free(text);
}

static void take_from_systemd(struct listen_set *set)
{
#ifdef HAVE_SYSTEMD
	int count = sd_listen_fds(/* unset_environment= */ 1);

	for (int i = 0; i < count; i++) {
		int fd = SD_LISTEN_FDS_START + i;

		if (fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK) == 0)
			add(set, fd, SYSTEMD, /* shared= */ true, /* from_systemd= */ true);
	}
#else
	(void)set;
#endif
}

static bool has_address(const struct listen_set *set, const char *address)
{
	for (uint32_t i = 0; i < set->count; i++)
		if (strcmp(set->sockets[i].address, address) == 0)
			return true;
	return false;
}

/* What was handed over and is no longer configured. */
static void close_unconfigured(struct listen_set *set, const struct config_strings *addresses)
{
	for (uint32_t i = 0; i < set->count;) {
		bool wanted = set->sockets[i].from_systemd;

		for (uint32_t j = 0; j < addresses->count && !wanted; j++)
			wanted = strcmp(addresses->items[j], set->sockets[i].address) == 0;
		if (wanted) {
			i++;
			continue;
		}
		close(set->sockets[i].fd);
		set->sockets[i] = set->sockets[--set->count];
	}
}

static bool has_admin(const struct listen_set *set, const char *address)
{
	for (uint32_t i = 0; i < set->admin_count; i++)
		if (strcmp(set->admin[i].address, address) == 0)
			return true;
	return false;
}

static void close_unconfigured_admin(struct listen_set *set, const char *const addresses[ADMIN_SOCKETS_MAX])
{
	for (uint32_t i = 0; i < set->admin_count;) {
		const char *address = set->admin[i].address;

		if (strcmp(address, addresses[0]) == 0 || strcmp(address, addresses[1]) == 0) {
			i++;
			continue;
		}
		close(set->admin[i].fd);
		set->admin[i] = set->admin[--set->admin_count];
	}
}

/* What was handed over is taken where it is configured. */
static bool open_admin(struct listen_set *set, const struct config *config, char *why, size_t size)
{
	mode_t mode = (mode_t)strtoul(config->admin.socket_mode, NULL, 8);
	char path[sizeof(set->admin[0].address)] = "";
	const char *const addresses[ADMIN_SOCKETS_MAX] = {config->proxy.admin_address, path};

	if (config->admin.socket[0] &&
	    snprintf(path, sizeof(path), "unix:%s", config->admin.socket) >= (int)sizeof(path)) {
		snprintf(why, size, "the path %s is too long for a unix socket", config->admin.socket);
		return false;
	}
	close_unconfigured_admin(set, addresses);
	for (uint32_t i = 0; i < ADMIN_SOCKETS_MAX; i++) {
		const char *address = addresses[i];
		int fd;

		if (!*address || has_admin(set, address))
			continue;
		fd = is_unix(address) ? open_unix(address + 5, mode, ADMIN_BACKLOG, why, size)
				      : open_admin_tcp(address, why, size);
		if (fd < 0)
			return false;
		add_admin(set, fd, address);
	}
	return true;
}

bool listen_set_open(struct listen_set *set, const struct config *config, uint32_t workers, char *why, size_t size)
{
	const struct config_proxy *p = &config->proxy;

	*set = LISTEN_SET_INIT;
	take_handed_over(set);
	close_unconfigured(set, &p->listen_address);
	take_from_systemd(set);
	if (!has_address(set, SYSTEMD))
		for (uint32_t i = 0; i < p->listen_address.count; i++)
			if (!has_address(set, p->listen_address.items[i]) &&
			    !open_address(set, p->listen_address.items[i], workers, (int)p->listen_backlog, why, size))
				return false;
	listen_set_options(set, p);
	return open_admin(set, config, why, size);
}

void listen_set_options(const struct listen_set *set, const struct config_proxy *p)
{
	for (uint32_t i = 0; i < set->count; i++) {
		socket_set_options(set->sockets[i].fd, p->tcp_keepalive, p->tcp_user_timeout);
		socket_defer_accept(set->sockets[i].fd, p->tcp_defer_accept);
	}
}

void listen_set_close(struct listen_set *set, bool unlink_unix)
{
	for (uint32_t i = 0; i < set->count; i++) {
		close(set->sockets[i].fd);
		if (unlink_unix && is_unix(set->sockets[i].address))
			unlink(set->sockets[i].address + 5);
	}
	set->count = 0;
}

void listen_set_close_admin(struct listen_set *set, bool are_ours, bool unlink_unix)
{
	for (uint32_t i = 0; i < set->admin_count; i++) {
		if (are_ours)
			close(set->admin[i].fd);
		if (unlink_unix && is_unix(set->admin[i].address))
			unlink(set->admin[i].address + 5);
	}
	set->admin_count = 0;
}

char *listen_set_describe(struct listen_set *set)
{
	char *text = NULL;
	size_t size;
	FILE *out = open_memstream(&text, &size);

	if (!out)
		return NULL;
	for (uint32_t i = 0; i < set->count; i++)
		fprintf(out, "%s %d\n", set->sockets[i].address, set->sockets[i].fd);
	for (uint32_t i = 0; i < set->admin_count; i++)
		fprintf(out, ADMIN_PREFIX "%s %d\n", set->admin[i].address, set->admin[i].fd);
	return fclose(out) == 0 ? text : NULL;
}
