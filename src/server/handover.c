/* See handover.h. */
#include "server/handover.h"

#include "base/log.h"
#include "server/handed.h"

#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#define CANCEL_ENVIRONMENT "HELIOS_CANCEL_SOCKETS" /* names, separated by blanks; the youngest first */
#define CANCEL_BACKLOG     64

static char binary[PATH_MAX];

void handover_init(void)
{
	ssize_t len = readlink("/proc/self/exe", binary, sizeof(binary) - 1);

	binary[len > 0 ? len : 0] = 0; /* the path, so that what is installed there later is what starts */
}

/* Between fork and exec: nothing but what is safe in a process that had threads. */
static void become_next(const struct listen_set *set, int ready_fd, int state_fd, char *const *argv,
			char *const *environment)
{
	sigset_t none;

	for (uint32_t i = 0; i < set->count; i++)
		(void)fcntl(set->sockets[i].fd, F_SETFD, 0);
	for (uint32_t i = 0; i < set->admin_count; i++)
		(void)fcntl(set->admin[i].fd, F_SETFD, 0);
	(void)fcntl(ready_fd, F_SETFD, 0);
	(void)fcntl(state_fd, F_SETFD, 0);
	sigemptyset(&none);
	(void)sigprocmask(SIG_SETMASK, &none, NULL);
	execve(binary, argv, environment);
	_exit(127);
}

/* ---- cancels for clients of this process ---- */

/* An abstract socket, which leaves nothing behind; its name can be seen, so who connects must be of the same user. */
static int listen_for_cancels(char name[PREDECESSOR_NAME_MAX])
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	uint64_t random[2];
	int fd, r;

	if (getrandom(random, sizeof(random), 0) != sizeof(random))
		return -EIO;
	snprintf(name, PREDECESSOR_NAME_MAX, "heliosdb-proxy-%d-%016" PRIx64 "%016" PRIx64, (int)getpid(), random[0],
		 random[1]);
	memcpy(address.sun_path + 1, name, strlen(name));
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return -errno;
	if (bind(fd, (struct sockaddr *)&address,
		 (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 + strlen(name))) < 0 ||
	    listen(fd, CANCEL_BACKLOG) < 0) {
		r = -errno;
		close(fd);
		return r;
	}
	return fd;
}

/* "NAME=ours theirs...", malloc'd. The oldest is left out when there are too many. */
static char *describe_predecessors(const struct handover *h, const struct predecessors *before)
{
	uint32_t room = PREDECESSORS_MAX - (h->cancel_fd >= 0);
	char *text = NULL;
	size_t size;
	FILE *out = open_memstream(&text, &size);

	if (!out)
		return NULL;
	fprintf(out, CANCEL_ENVIRONMENT "=%s", h->cancel_fd >= 0 ? h->cancel_name : "");
	for (uint32_t i = 0; i < before->count && room > 0; i++) {
		if (atomic_load(&before->gone[i]))
			continue;
		fprintf(out, " %s", before->names[i]);
		room--;
	}
	return fclose(out) == 0 ? text : NULL;
}

void handover_take_predecessors(struct predecessors *ret)
{
	char *text = getenv(CANCEL_ENVIRONMENT) ? strdup(getenv(CANCEL_ENVIRONMENT)) : NULL;
	char *name, *rest = text;

	unsetenv(CANCEL_ENVIRONMENT);
	while (rest && ret->count < PREDECESSORS_MAX && (name = strsep(&rest, " ")))
		if (*name && strlen(name) < PREDECESSOR_NAME_MAX)
			snprintf(ret->names[ret->count++], PREDECESSOR_NAME_MAX, "%s", name);
	free(text);
}

void handover_close(struct handover *h)
{
	if (h->cancel_fd >= 0)
		close(h->cancel_fd);
	h->cancel_fd = -1;
}

/* ---- the next process ---- */

#define FRESH_COUNT 4

/* Ours with these; the pointers live in the array, the strings are the caller's. */
static char **extended_environment(char *const fresh[FRESH_COUNT])
{
	size_t count = 0;
	char **list;

	while (environ[count])
		count++;
	list = calloc(count + FRESH_COUNT + 1, sizeof(*list));
	if (!list)
		return NULL;
	memcpy(list, environ, count * sizeof(*list));
	memcpy(list + count, fresh, FRESH_COUNT * sizeof(*list));
	return list;
}

int handover_start(struct handover *h, struct listen_set *set, const struct predecessors *before, int state_fd,
		   char *const *argv)
{
	char *sockets = listen_set_describe(set), *variable = NULL, *cancels = NULL, ready[64], state[64],
	     **environment = NULL;
	int pipe_fds[2] = {-1, -1}, r = -ENOMEM;

	if (h->pid) {
		r = -EALREADY;
		goto out;
	}
	h->cancel_fd = listen_for_cancels(h->cancel_name);
	if (h->cancel_fd < 0)
		log_warn("clients of this process can't be cancelled once the next one serves",
			 kv_str("reason", strerror(-h->cancel_fd)));
	cancels = describe_predecessors(h, before);
	if (!sockets || !cancels || asprintf(&variable, "%s=%s", LISTEN_ENVIRONMENT, sockets) < 0)
		goto out;
	if (pipe2(pipe_fds, O_CLOEXEC | O_NONBLOCK) < 0) {
		r = -errno;
		goto out;
	}
	snprintf(ready, sizeof(ready), "%s=%d", READY_ENVIRONMENT, pipe_fds[1]);
	snprintf(state, sizeof(state), "%s=%d", HANDED_ENVIRONMENT, state_fd);
	environment = extended_environment((char *[]){variable, ready, cancels, state});
	if (!environment)
		goto out;
	h->pid = fork();
	if (h->pid == 0)
		become_next(set, pipe_fds[1], state_fd, argv, environment);
	r = h->pid < 0 ? -errno : 0;
	if (r < 0)
		h->pid = 0;
	else
		h->ready_fd = pipe_fds[0];
out:
	if (pipe_fds[1] >= 0)
		close(pipe_fds[1]);
	if (r < 0 && pipe_fds[0] >= 0)
		close(pipe_fds[0]);
	if (r < 0 && r != -EALREADY)
		handover_close(h);
	free(environment);
	free(variable);
	free(cancels);
	free(sockets);
	return r;
}

enum handover_state handover_poll(struct handover *h)
{
	char said;
	ssize_t n;

	if (!h->pid)
		return HANDOVER_NONE;
	n = read(h->ready_fd, &said, 1);
	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return HANDOVER_WAITING;
	close(h->ready_fd);
	h->ready_fd = -1;
	if (n == 1)
		return HANDOVER_DONE;
	(void)waitpid(h->pid, NULL, 0); /* it closed the pipe without a word: it has ended, or is about to */
	h->pid = 0;
	handover_close(h);
	return HANDOVER_FAILED;
}

void handover_tell_ready(void)
{
	const char *text = getenv(READY_ENVIRONMENT);
	int fd = text ? atoi(text) : -1;

	unsetenv(READY_ENVIRONMENT);
	if (fd < 3)
		return;
	if (write(fd, "1", 1) != 1)
		log_warn("could not tell the old process that this one is ready", kv_str("reason", strerror(errno)));
	close(fd);
}
