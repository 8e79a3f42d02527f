/* What a client of the console lets the control thread do, and waits for. */
#include "console/console_priv.h"

static void job_unref(struct console_job *job)
{
	if (atomic_fetch_sub(&job->owners, 1) == 1)
		free(job);
}

static void run(struct control_job *control_job)
{
	struct console_job *job = container_of(control_job, struct console_job, job);

	job->result = job->work(job);
	job->was_run = true;
}

static void over(struct control_job *control_job)
{
	struct console_job *job = container_of(control_job, struct console_job, job);

	atomic_store(&job->is_over, true);
	job_unref(job);
}

static bool job_is_over(struct talk *t)
{
	struct console_job *job = t->job;

	if (!atomic_load(&job->is_over))
		return false;
	if (!job->was_run)
		talk_refuse(t, "the proxy shuts down");
	else
		job->tell(t, job);
	return true;
}

void console_job_begin(struct talk *t, struct console_job *job)
{
	const struct console_context *context = &t->console->context;

	job->job.run = run;
	job->job.over = over;
	job->console = t->console;
	atomic_init(&job->owners, 2);
	t->job = job;
	context->let_run(context->server, &job->job);
	talk_wait(t, job_is_over);
}

void console_job_leave(struct talk *t)
{
	if (t->job)
		job_unref(t->job);
	t->job = NULL;
}
