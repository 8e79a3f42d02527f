/* What others let the control thread do. */
#include "server/proxy_priv.h"

#include "console/console.h"

void jobs_let_run(void *proxy, struct control_job *job)
{
	struct proxy *p = proxy;
	bool ended;

	job->next = NULL;
	pthread_mutex_lock(&p->jobs.lock);
	ended = p->jobs.ended;
	if (!ended) {
		*p->jobs.end = job;
		p->jobs.end = &job->next;
	}
	pthread_mutex_unlock(&p->jobs.lock);
	if (ended)
		job->over(job);
	else
		(void)pthread_kill(p->control, SIGNAL_MEMBERS);
}

static struct control_job *take_all(struct proxy *p, bool end)
{
	struct control_job *first;

	pthread_mutex_lock(&p->jobs.lock);
	first = p->jobs.first;
	p->jobs.first = NULL;
	p->jobs.end = &p->jobs.first;
	p->jobs.ended |= end;
	pthread_mutex_unlock(&p->jobs.lock);
	return first;
}

static void all_over(struct control_job *first)
{
	for (struct control_job *job = first, *next; job; job = next) {
		next = job->next;
		job->over(job);
	}
}

void jobs_init(struct proxy *p)
{
	pthread_mutex_init(&p->jobs.lock, NULL);
	p->jobs.end = &p->jobs.first;
}

/* Links of nodes that drain leave now. */
static void look_at_nodes(struct worker *w, void *argument)
{
	(void)argument;
	worker_drain_nodes(w);
}

void jobs_run(struct proxy *p)
{
	struct control_job *first = take_all(p, /* end= */ false);

	for (struct control_job *job = first; job; job = job->next)
		job->run(job);
	nodes_tick(p);
	if (first)
		workers_tell(p, look_at_nodes, NULL, NULL);
	all_over(first);
}

void jobs_end(struct proxy *p)
{
	all_over(take_all(p, /* end= */ true));
}
