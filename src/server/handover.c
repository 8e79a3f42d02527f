/* See handover.h. */
#include "server/handover.h"

#include "base/log.h"

#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <sys/wait.h>
#include <unistd.h>

static char binary[PATH_MAX];

void handover_init(void)
{
	ssize_t len = readlink("/proc/self/exe", binary, sizeof(binary) - 1);

	binary[len > 0 ? len : 0] = 0; /* the path, so that what is installed there later is what starts */
}

/* Between fork and exec: nothing but what is safe in a process that had threads. */
static void become_next(const struct listen_set *set, int ready_fd, char *const *argv, char *const *environment)
{
	sigset_t none;

	for (uint32_t i = 0; i < set->count; i++)
		(void)fcntl(set->sockets[i].fd, F_SETFD, 0);
	if (set->admin >= 0)
		(void)fcntl(set->admin, F_SETFD, 0);
	(void)fcntl(ready_fd, F_SETFD, 0);
	sigemptyset(&none);
	(void)sigprocmask(SIG_SETMASK, &none, NULL);
	execve(binary, argv, environment);
	_exit(127);
}

/* Ours with two more; the pointers live in the array, the two strings are the caller's. */
static char **extended_environment(char *sockets, char *ready)
{
	size_t count = 0;
	char **list;

	while (environ[count])
		count++;
	list = calloc(count + 3, sizeof(*list));
	if (!list)
		return NULL;
	memcpy(list, environ, count * sizeof(*list));
	list[count] = sockets;
	list[count + 1] = ready;
	return list;
}

int handover_start(struct handover *h, struct listen_set *set, char *const *argv)
{
	char *sockets = listen_set_describe(set), *variable = NULL, ready[64], **environment = NULL;
	int pipe_fds[2] = {-1, -1}, r = -ENOMEM;

	if (h->pid) {
		r = -EALREADY;
		goto out;
	}
	if (!sockets || asprintf(&variable, "%s=%s", LISTEN_ENVIRONMENT, sockets) < 0)
		goto out;
	if (pipe2(pipe_fds, O_CLOEXEC | O_NONBLOCK) < 0) {
		r = -errno;
		goto out;
	}
	snprintf(ready, sizeof(ready), "%s=%d", READY_ENVIRONMENT, pipe_fds[1]);
	environment = extended_environment(variable, ready);
	if (!environment)
		goto out;
	h->pid = fork();
	if (h->pid == 0)
		become_next(set, pipe_fds[1], argv, environment);
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
	free(environment);
	free(variable);
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
